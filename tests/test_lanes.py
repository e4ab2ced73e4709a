"""Lanes: as the solver alone, whatever the number of threads, and gone when nobody waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.lanes import side_by_side
from bench.seeds import ImageGenerators
from operators.base import Operator
from operators.blind import BlindBlur
from operators.inpainting import RandomInpainting
from priors.loading import load_prior
from priors.prior import Prior
from priors.sampler import DDIM
from solvers.base import Iterate, Solver
from solvers.dmilo import DMILO

SHAPE = (3, 16, 16)


def drawn(operator: Operator, images: int) -> Operator:
    return operator.draw(SHAPE, [np.random.default_rng(i) for i in range(images)]).to("cpu", torch.float32)


def last(iterates: Iterator[Iterate]) -> tuple[Tensor, ...]:
    *_, answer = iterates
    return (answer,) if isinstance(answer, Tensor) else (answer[0], *answer[1])


@pytest.mark.parametrize(
    "operator", [RandomInpainting(0.5), BlindBlur("gaussian", size=64)], ids=["inpainting", "blind"]
)
def test_an_image_is_the_same_in_any_batch_on_any_number_of_threads(tiny_prior: Path, operator: Operator) -> None:
    prior, solver = load_prior(tiny_prior), DMILO(DDIM(2, shifted=True), outer=2, inner=2, lr_z=1e-2)

    def solve(images: slice, threads: int | None) -> tuple[Tensor, ...]:
        whole = drawn(operator, 9)
        y = whole(torch.ones(9, *SHAPE))[images]
        rng = ImageGenerators(range(100, 109)).part(images)
        bound = whole.part(images)
        prior.reset_counts()
        if threads is None:
            found = last(solver.reconstruct(y, bound.hidden(), prior, rng))
        else:
            found = last(side_by_side(solver, y, bound.hidden(), prior, rng, threads))
        assert prior.forward_images == len(y) * (2 + 2 * (2 * 2 + 2))
        assert prior.backward_images == len(y) * 2 * 2 * 2
        return found

    expected = solve(slice(0, 9), threads=3)
    for images, threads in ((slice(0, 9), 1), (slice(0, 4), 2), (slice(3, 9), 2), (slice(8, 9), 2)):
        assert all(torch.equal(a, b[images]) for a, b in zip(solve(images, threads), expected, strict=True))
    alone = solve(slice(0, 9), None)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(alone, expected, strict=True))


class FailsInTheSecondLane(Solver):
    """The first lane never comes to an end by itself."""

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        while not y.any():
            prior.eps(y, 5)
        raise ZeroDivisionError("on purpose")
        yield y


class Counts(Solver):
    """Yields as often as its largest measurement says."""

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        for k in range(int(y.max())):
            yield torch.full((len(y), *SHAPE), float(k + 1))


def test_nothing_runs_on_when_one_lane_failed(tiny_prior: Path) -> None:
    before, operator = threading.active_count(), drawn(RandomInpainting(0.5), 8)
    y = torch.cat([torch.zeros(4, *SHAPE), torch.ones(4, *SHAPE)])
    prior, rng = load_prior(tiny_prior), ImageGenerators(range(8))
    with pytest.raises(ZeroDivisionError):
        next(side_by_side(FailsInTheSecondLane(), y, operator, prior, rng, threads=2))
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == before


class YieldsWithoutGradients(Solver):
    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        x = y.clone().requires_grad_(True)
        prior.eps(x, 5).sum().backward()
        with torch.no_grad():
            yield x
            yield x


def test_what_one_lane_switched_on_is_not_on_in_another(tiny_prior: Path) -> None:
    operator, rng = drawn(RandomInpainting(0.5), 12), ImageGenerators(range(12))
    y = torch.zeros(12, *SHAPE)
    assert len(list(side_by_side(YieldsWithoutGradients(), y, operator, load_prior(tiny_prior), rng, threads=1))) == 2
    assert torch.is_grad_enabled()


def test_a_lane_that_ends_stays_with_its_last_estimate(tiny_prior: Path) -> None:
    operator, y = drawn(RandomInpainting(0.5), 6), torch.arange(1.0, 7).view(6, 1, 1, 1)
    iterates = side_by_side(Counts(), y, operator, load_prior(tiny_prior), ImageGenerators(range(6)), threads=2)
    means = [x.mean((1, 2, 3)).tolist() for x in iterates if isinstance(x, Tensor)]
    assert means[3] == [4.0] * 6
    assert means[-1] == [4.0] * 4 + [6.0] * 2
