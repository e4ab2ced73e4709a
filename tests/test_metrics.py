"""Metrics against second implementations, and what happens where a network's weights are missing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from bench import metrics
from bench.results import half_width


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    return truth, (truth + 0.2 * torch.randn(truth.shape, generator=generator))


def test_psnr_is_on_zero_one_after_clamping() -> None:
    truth, estimate = pair()
    error = (estimate.clamp(-1, 1) / 2 - truth / 2).double().square().mean(dim=(1, 2, 3))
    assert metrics.psnr(estimate, truth) == pytest.approx((-10 * error.log10()).tolist(), abs=1e-4)
    assert metrics.psnr(truth, truth) == [math.inf, math.inf]


def test_ssim_is_written_out() -> None:
    """scikit-image's definition by hand: 7 x 7 uniform windows inside the image, sample covariance."""
    truth, estimate = pair()
    a, b = (metrics.to_unit(x).double() for x in (estimate, truth))
    windows = [torch.nn.functional.unfold(x.flatten(0, 1)[:, None], 7).view(2, 3, 49, -1) for x in (a, b)]
    mean = [w.mean(2) for w in windows]
    variance = [w.var(2) for w in windows]
    covariance = ((windows[0] - mean[0][:, :, None]) * (windows[1] - mean[1][:, :, None])).sum(2) / 48
    c1, c2 = 0.01**2, 0.03**2
    value = ((2 * mean[0] * mean[1] + c1) * (2 * covariance + c2)) / (
        (mean[0] ** 2 + mean[1] ** 2 + c1) * (variance[0] + variance[1] + c2)
    )
    assert metrics.ssim(estimate, truth) == pytest.approx(value.mean(dim=(1, 2)).tolist(), abs=1e-6)


def test_torchmetrics_ssim_is_another_one() -> None:
    """The reason for scikit-image: if this ever agrees to 1e-4, torchmetrics can take over."""
    truth, estimate = pair()
    other = structural_similarity_index_measure(
        metrics.to_unit(estimate),
        metrics.to_unit(truth),
        gaussian_kernel=False,
        kernel_size=7,
        data_range=1.0,
        reduction="none",
    )
    assert max(abs(np.array(metrics.ssim(estimate, truth)) - other.numpy())) > 1e-4


def test_missing_weights_are_one_warning_and_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(metrics.log, "warning", lambda message, *values: said.append(message % values))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for cached in (metrics.lpips_network, metrics._fid_metric):
        cached.cache_clear()
    truth, estimate = pair()
    for _ in range(2):
        assert [s["lpips"] for s in metrics.score(estimate, truth)] == [None, None]
        assert metrics.fid(estimate, truth) is None
    assert len(said) == 2
    assert str(tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth") in said[0]
    assert "weights-inception-2015-12-05-6726825d.pth" in said[1]


def test_interval_is_students() -> None:
    assert half_width([1.0]) is None
    assert half_width([0.0, 2.0]) == pytest.approx(12.706 * 2**0.5 / 2**0.5, rel=1e-3)
