"""The scripts behind results/reference: what they count and what they call, on networks of a few pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import save_random_prior
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.throughput import compare, model_flops, peak_flops


def load(folder: Path) -> Any:
    return UNet2DModel.from_pretrained(folder)


def test_model_flops_are_a_forward_pass_and_as_much_again(tmp_path: Path) -> None:
    """Of convolutions, the gradient to the input costs as much as the forward pass; that to the weights is none."""
    unet = load(save_random_prior(tmp_path, 16, attention=False))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.long))
    assert 1.9 < model_flops(dict(unet.config)) / counter.get_total_flops() < 2.1


def test_every_variant_is_timed_beside_the_official_loop(tiny_prior: Path) -> None:
    settings = {"precision": "fp32", "compile": False}
    variants = [{"batch": 1, **settings}, {"batch": 2, **settings, "precision": "bf16"}]
    rows = compare(lambda: load(tiny_prior), variants, inner=1, rounds=2, device=torch.device("cpu"))
    assert [(row["batch"], row["precision"]) for row in rows] == [(1, "fp32"), (2, "bf16")]
    assert all(float(row["images_per_hour"]) > 0 and row["utilisation"] == "n/a" for row in rows)


@pytest.mark.parametrize(("precision", "tera"), [("fp32", 67), ("tf32", 494.5), ("bf16_weights", 989.5)])
def test_peaks(precision: str, tera: float) -> None:
    assert peak_flops("NVIDIA H200", precision) == tera * 1e12
    assert peak_flops("cpu", precision) is None
