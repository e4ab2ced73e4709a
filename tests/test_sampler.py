"""Step lists of the releases, the schedule's check values, and the DDIM map against diffusers' own."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from bench.errors import BenchError
from priors.gaussian import GaussianPrior
from priors.sampler import DDIM, generate

SHAPE = (3, 4, 4)


@pytest.fixture
def prior() -> GaussianPrior:
    return GaussianPrior(SHAPE, torch.zeros(48), 0.25 * torch.eye(48))


@pytest.mark.parametrize(
    ("steps", "shifted", "expected"),
    [
        (3, False, [(666, 333), (333, 0), (0, -1)]),
        (3, True, [(999, 666), (666, 333), (333, 0)]),
        (4, False, [(750, 500), (500, 250), (250, 0), (0, -1)]),
        (4, True, [(999, 749), (750, 500), (500, 250), (250, 0)]),
        (5, False, [(800, 600), (600, 400), (400, 200), (200, 0), (0, -1)]),
        (1, True, [(999, -1)]),
    ],
)
def test_step_lists(steps: int, shifted: bool, expected: list[tuple[int, int]]) -> None:
    assert DDIM(steps, shifted).timesteps() == expected
    assert DDIM(steps, shifted, ends_clean=True).timesteps() == [*expected[:-1], (expected[-1][0], -1)]


def test_schedule(prior: GaussianPrior) -> None:
    values = {0: 0.9999, 250: 0.521423, 333: 0.318625, 666: 0.0109842, 999: 4.03583e-5}
    for t, expected in values.items():
        assert prior.abar(t) == pytest.approx(expected, rel=1e-5)
    assert prior.abar(-1) == 1


def test_map_equals_diffusers_ddim(prior: GaussianPrior) -> None:
    scheduler = DDIMScheduler(clip_sample=True, timestep_spacing="leading", steps_offset=0)
    scheduler.set_timesteps(4)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = x
    for t in scheduler.timesteps:
        eps = prior.eps(expected, int(t))
        expected = scheduler.step(eps, int(t), expected, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(generate(DDIM(4).maps(prior), x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_bad_step_counts(prior: GaussianPrior, steps: int) -> None:
    with pytest.raises(BenchError, match=rf"solver\.sampler\.steps={steps}"):
        DDIM(steps).maps(prior)
