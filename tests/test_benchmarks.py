"""The scripts behind results/reference: what they count and what they call, on networks of a few pixels."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import save_random_prior
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tf32 import EmulatedTF32, rounded
from benchmarks.throughput import compare, model_flops, peak_flops
from priors.loading import load_prior


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
    rows = compare(dict(load(tiny_prior).config), variants, inner=1, rounds=2, device=torch.device("cpu"))
    assert [(row["batch"], row["precision"]) for row in rows] == [(1, "fp32"), (2, "bf16")]
    assert all(float(row["images_per_hour"]) > 0 and row["utilisation"] == "n/a" for row in rows)


@pytest.mark.parametrize(("precision", "tera"), [("fp32", 67), ("tf32", 494.5), ("bf16_weights", 989.5)])
def test_peaks(precision: str, tera: float) -> None:
    assert peak_flops("NVIDIA H200", precision) == tera * 1e12
    assert peak_flops("cpu", precision) is None


def test_tf32_keeps_ten_bits_of_the_mantissa() -> None:
    ulp = 2**-10
    values = torch.tensor([[1.0, 1 + ulp, 1 + 0.5 * ulp, 1 + 0.5001 * ulp, 1 + 1.5 * ulp, -3.14159, 0.0]])
    assert rounded(values).tolist() == [[1.0, 1 + ulp, 1.0, 1 + ulp, 1 + 2 * ulp, -3.140625, 0.0]]


def test_tf32_is_emulated_where_it_is_allowed(tiny_prior: Path) -> None:
    def evaluate(precision: str, emulated: bool) -> torch.Tensor:
        prior = load_prior(tiny_prior, precision=precision)
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
        with EmulatedTF32() if emulated else contextlib.nullcontext():
            prior.eps(x, 300).square().sum().backward()
        assert x.grad is not None
        return x.grad

    exact = evaluate("fp32", emulated=False)
    assert torch.equal(exact, evaluate("fp32", emulated=True))
    difference = (exact - evaluate("tf32", emulated=True)).abs().max() / exact.abs().max()
    assert 1e-5 < difference < 1e-2
