"""Image quality. Metrics see [0, 1] (x clamped to [-1, 1] and mapped); nothing is quantised to 8 bits.

- PSNR and SSIM: scikit-image, data range 1, as the DMILO and DMPlug releases report them. SSIM has its defaults (7 x 7
  uniform window, sample covariance, the border left out); torchmetrics has no sample covariance and differs by more
  than 1e-4.
- LPIPS: the lpips package, AlexNet, inputs in [-1, 1].
- FID: torchmetrics (torch-fidelity's Inception), over all images of a cell; biased for few images.

LPIPS and FID need the weights of a backbone. Where they are neither on disk nor to be downloaded, the value is absent
and one warning says which file goes where; no other network stands in under the same name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import urllib.error
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

log = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT_S = 10


@dataclass(frozen=True)
class Metric:
    """A column: its name in records, how it is headed and rounded, and which way is better.

    An `optional` one is shown only where there are values: the kernel's error, of blind deblurring.
    """

    name: str
    title: str
    higher_is_better: bool
    digits: int
    optional: bool = False


METRICS = (
    Metric("psnr", "PSNR", True, 2),
    Metric("ssim", "SSIM", True, 3),
    Metric("lpips", "LPIPS", False, 3),
    Metric("fid", "FID", False, 1),
    Metric("kernel_error", "kernel error", False, 3, optional=True),
)
PER_IMAGE = METRICS[:3]


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped."""
    return x.clamp(-1, 1) / 2 + 0.5


def psnr(estimate: Tensor, truth: Tensor) -> list[float]:
    """Per image, in dB, of (B, C, H, W) in [-1, 1]; infinite for equal images."""
    pairs = zip(_channels_last(truth), _channels_last(estimate), strict=True)
    return [float(peak_signal_noise_ratio(a, b, data_range=1.0)) for a, b in pairs]


def ssim(estimate: Tensor, truth: Tensor) -> list[float]:
    """Per image, scikit-image's definition, of (B, C, H, W) in [-1, 1]."""
    pairs = zip(_channels_last(estimate), _channels_last(truth), strict=True)
    values = [structural_similarity(a, b, data_range=1.0, channel_axis=2) for a, b in pairs]
    return [float(v) for v in values]  # pyright: ignore[reportArgumentType]


def lpips(estimate: Tensor, truth: Tensor) -> list[float | None]:
    """Per image, AlexNet, of (B, C, H, W) in [-1, 1]; None where the weights are missing."""
    network = lpips_network()
    if network is None:
        return [None] * len(estimate)
    with torch.no_grad():
        return [float(v) for v in network(estimate.clamp(-1, 1), truth.clamp(-1, 1)).flatten()]


def score(estimate: Tensor, truth: Tensor) -> list[dict[str, float | None]]:
    """All per-image metrics of (B, C, H, W) in [-1, 1], a dict per image."""
    columns = (psnr(estimate, truth), ssim(estimate, truth), lpips(estimate, truth))
    return [dict(zip((m.name for m in PER_IMAGE), row, strict=True)) for row in zip(*columns, strict=True)]


def fid(estimates: Tensor, truths: Tensor) -> float | None:
    """Fréchet Inception distance of two sets of (N, C, H, W) in [-1, 1]; None for fewer than 2 images or no weights."""
    metric = _fid_metric() if len(estimates) > 1 else None
    if metric is None:
        return None
    metric.reset()
    metric.update(to_unit(truths), real=True)
    metric.update(to_unit(estimates), real=False)
    return float(metric.compute())


@cache
def lpips_network() -> Any | None:
    """The LPIPS network, or None (with one warning) where AlexNet's weights cannot be had."""
    import lpips as package

    with _weights("lpips", "alexnet-owt-7be5be79.pth") as have:
        if have:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torchvision's notes on the constructor that lpips uses
                return package.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    return None


@cache
def _fid_metric() -> Any | None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    with _weights("fid", "weights-inception-2015-12-05-6726825d.pth") as have:
        if have:
            return FrechetInceptionDistance(feature=2048, normalize=True)
    return None


@contextlib.contextmanager
def _weights(column: str, file_name: str) -> Iterator[bool]:
    """Let the library find or download `file_name`; where it cannot, swallow that failure and warn once."""
    target = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if not target.is_file() and os.environ.get("BENCH_OFFLINE"):
        _warn(column, target, "BENCH_OFFLINE is set")
        yield False
        return
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield True
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        _warn(column, target, str(error).splitlines()[0] if str(error) else type(error).__name__)
    finally:
        socket.setdefaulttimeout(timeout)


def _warn(column: str, target: Path, reason: str) -> None:
    log.warning("%s is n/a: its network's weights cannot be had (%s); put them at %s", column, reason, target)


def _channels_last(x: Tensor) -> np.ndarray:
    return to_unit(x).permute(0, 2, 3, 1).double().cpu().numpy()
