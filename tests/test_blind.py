"""Blind deblurring: the kernel stays hidden, its error is shift-invariant, and solvers find it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command, stores

from bench.errors import BenchError
from bench.identity import object_settings
from bench.seeds import ImageGenerators
from operators.blind import BlindBlur, kernel_error, softmax_kernel, zero_blur
from operators.blur import GaussianBlur

SHAPE = (3, 32, 32)


def drawn(kernel: str = "motion", as_released: bool = False) -> BlindBlur:
    rngs = [np.random.default_rng(i) for i in range(2)]
    return BlindBlur(kernel, as_released=as_released).draw(SHAPE, rngs).to("cpu", torch.float32)


def test_a_solver_s_operator_holds_no_kernel() -> None:
    operator = drawn()
    hidden = operator.hidden()
    x = torch.rand(2, *SHAPE)
    assert hidden.drawn == {}
    assert "kernel" in operator.drawn, "the runner keeps its own"
    secret = object_settings(operator.drawn["kernel"])
    assert secret not in str(object_settings(hidden))
    with pytest.raises(ValueError, match="the blur kernel is unknown"):
        hidden(x)
    logits = operator.drawn["kernel"].clamp(min=1e-30).log().flatten(1)
    assert torch.allclose(hidden(x, logits), operator(x), atol=1e-6)


def test_unknowns_start_from_each_image_s_own_generator() -> None:
    (both,) = drawn().hidden().unknowns(ImageGenerators([1, 2]))
    (second,) = drawn().hidden().unknowns(ImageGenerators([2]))
    assert both.shape == (2, 11 * 11)
    assert torch.equal(both[1:], second)
    kernel = softmax_kernel(both)
    assert (kernel >= 0).all()
    assert torch.allclose(kernel.sum((1, 2, 3)), torch.ones(2))


def test_a_gaussian_kernel_is_the_known_operator_s() -> None:
    x = torch.rand(2, *SHAPE)
    known = GaussianBlur().draw(SHAPE, [np.random.default_rng(0)] * 2).to("cpu", torch.float32)
    assert torch.equal(drawn("gaussian")(x), known(x))


def test_zero_boundaries_of_the_release() -> None:
    operator = drawn(as_released=True)
    assert operator.drawn["kernel"].shape[-1] == 12
    ones = operator(torch.ones(2, *SHAPE))
    assert ones.shape == (2, *SHAPE)
    assert torch.allclose(ones[..., 16, 16], torch.ones(2, 3), atol=1e-5)
    assert (ones[..., 0, 0] < 0.99).all(), "the dark outside shows"
    point = torch.zeros(1, 1, 8, 8)
    point[..., 4, 4] = 1
    even = torch.zeros(1, 1, 4, 4)
    even[..., 1, 1] = 1  # the entry that stays in place: one row before it, two after
    assert torch.equal(zero_blur(point, even), point)


def test_kernel_error() -> None:
    kernel = torch.zeros(1, 1, 11, 11)
    kernel[..., 4:7, 5] = 1 / 3
    assert kernel_error(kernel, kernel).item() == pytest.approx(0, abs=1e-6)
    assert kernel_error(kernel.roll((2, -3), (2, 3)), kernel).item() == pytest.approx(0, abs=1e-6)
    assert kernel_error(kernel.transpose(2, 3), kernel).item() == pytest.approx((4 / 3) ** 0.5, rel=1e-6)
    cut = torch.zeros_like(kernel)
    cut[..., 0:2, 5] = 0.5  # nothing wraps around the edge
    shifts = [float((cut.roll((i, j), (2, 3)) - kernel).square().sum()) for i in range(-1, 9) for j in range(-5, 6)]
    assert kernel_error(cut, kernel).item() == pytest.approx(min(shifts) ** 0.5 / 3**-0.5, rel=1e-5)


def test_unknown_kernel() -> None:
    with pytest.raises(BenchError, match=r"task.operator.kernel=motoin: no such kernel.*motion"):
        BlindBlur("motoin")


def test_sweep(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, "task=blind_deblur", "task.operator.kernel=gaussian,motion") == 0, bench.err
    results = Path(smoke[-1].partition("=")[2])
    assert "needs a known operator" in bench.out
    assert "kernel error" in (results / "report" / "table.md").read_text()
    for name, store in stores(results).items():
        for record in store.records().values():
            errors = [metrics["kernel_error"] for metrics in record["metrics"].values()]
            assert all(0 < error < 2 for error in errors), name


def test_given_the_image_gradient_steps_find_the_kernel() -> None:
    """What the joint optimisation stands on: the logits' gradient leads to the kernel, up to nothing but steps."""
    operator = drawn()
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = operator(x)
    hidden = operator.hidden()
    (logits,) = hidden.unknowns(ImageGenerators([1, 2]))
    logits.requires_grad_(True)
    adam = torch.optim.Adam([logits], lr=0.1)
    before = operator.unknown_errors((logits.detach(),))["kernel_error"]
    for _ in range(300):
        adam.zero_grad()
        (hidden(x, logits) - y).square().mean().backward()
        adam.step()
    after = operator.unknown_errors((logits.detach(),))["kernel_error"]
    assert (before > 0.5).all()
    assert (after < 0.1).all()
