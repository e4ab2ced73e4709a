"""Loading a diffusers `UNet2DModel` folder (or Hub id) as a prior: strictly, and in float32 whatever the file holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from bench.cards import Fetchable
from bench.errors import BenchError
from priors.execution import Execution
from priors.prior import Prior

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_prior(
    weights: str | Path, image_size: int | None = None, card: Fetchable | None = None, **execution: Any
) -> Prior:
    """The prior in the diffusers folder `weights`.

    A `scheduler_config.json` beside the weights gives the schedule; without one it is DDPM's linear schedule.
    `image_size`, if given, must be the network's; `card` says where it comes from.
    `execution`: see `priors.execution.Execution`.

    Raises:
        BenchError: no such folder, an unreadable file, or weights whose keys or shapes do not fit the config.
    """
    settings = Execution(**execution)
    unet: Any = load_unet(weights)
    fingerprint = _fingerprint(unet)
    channels = unet.config["in_channels"]  # learned-sigma networks return 2C channels, the first C are the noise
    side = unet.config["sample_size"] or image_size
    if side is None or side != (image_size or side):
        raise BenchError(f"prior.image_size={image_size}: the network in {weights} is for {side} x {side} images")
    network = settings.prepare(unet, channels)
    return Prior(network, _schedule(weights), (channels, side, side), fingerprint, settings.precision)


def load_unet(weights: str | Path) -> UNet2DModel:
    """The network in float32. A missing, extra or wrongly shaped tensor is an error, never a random weight."""
    local = Path(weights)
    if local.is_dir():
        for needed in ("config.json", WEIGHTS):
            if not (local / needed).is_file():
                raise BenchError(f"prior.weights={weights}: has no {needed}; give a diffusers UNet2DModel folder")
    elif local.is_absolute() or str(weights).count("/") != 1:
        raise BenchError(f"prior.weights={weights}: no such folder; give a diffusers UNet2DModel folder or a Hub id")
    try:
        loaded: Any = UNet2DModel.from_pretrained(
            str(weights), torch_dtype=torch.float32, output_loading_info=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(f"prior.weights={weights}: cannot be loaded ({reason})") from error
    unet, info = loaded
    problems = [
        f"{len(info[kind])} {kind.replace('_', ' ')} ({', '.join(map(str, sorted(info[kind])[:3]))})"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info[kind]
    ]
    if problems:
        raise BenchError(f"prior.weights={weights}: does not fit its config.json: {'; '.join(problems)}")
    return unet


def _schedule(weights: str | Path) -> Tensor:
    folder = Path(weights)
    if folder.is_dir() and not (folder / "scheduler_config.json").is_file():
        return DDPMScheduler().alphas_cumprod
    scheduler: Any = DDPMScheduler.from_pretrained(str(weights))
    return scheduler.alphas_cumprod


def _fingerprint(unet: UNet2DModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(unet.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
