"""The generator G = g_1 o ... o g_N as a list of one-step maps: deterministic DDIM (arXiv 2010.02502, eq. 12).

    x0 = clip((x - sqrt(1 - abar_t) eps(x, t)) / sqrt(abar_t), -1, 1)
    e  = (x - sqrt(abar_t) x0) / sqrt(1 - abar_t)           re-derived from the clipped x0
    g(x) = sqrt(abar_s) x0 + sqrt(1 - abar_s) e

The clip stays in the graph: where it saturates, the gradient flows through e alone.

Step lists (the DMPlug and DMILO releases): with stride r = 1000 // N, `shifted=false` is DMPlug's
(N-1)r, ..., r, 0, the last step landing on abar = 1. `shifted=true` is DMILO's, every timestep r higher and a first
entry of exactly 1000 lowered to 999; its last step lands on index 0, abar = 0.9999, where the output still carries a
hundredth of e: 0.99995 x0 + 0.01 e. With `ends_clean` it lands on abar = 1.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from bench.errors import BenchError, at_least
from priors.prior import Prior

Map = Callable[[Tensor], Tensor]
"""One step of the generator, (B, C, H, W) to (B, C, H, W), differentiable."""


class DDIM:
    """`steps` deterministic DDIM steps; see the module for `shifted` and `ends_clean`."""

    def __init__(self, steps: int, shifted: bool = False, ends_clean: bool = False) -> None:
        at_least("solver.sampler.steps", steps, 1)
        self.steps, self.shifted, self.ends_clean = steps, shifted, ends_clean

    def timesteps(self, train_steps: int = 1000) -> list[tuple[int, int]]:
        """(t, s) of every map in the order of generation; s = -1 stands for the clean image."""
        if self.steps > train_steps:
            raise BenchError(f"solver.sampler.steps={self.steps}: the schedule has {train_steps} steps")
        stride = train_steps // self.steps
        starts = [k * stride + (stride if self.shifted else 0) for k in reversed(range(self.steps))]
        if starts[0] == train_steps:
            starts[0] -= 1
        pairs = [(t, max(t - stride, -1)) for t in starts]
        return [*pairs[:-1], (pairs[-1][0], -1)] if self.ends_clean else pairs

    def maps(self, prior: Prior) -> list[Map]:
        return [_ddim_map(prior, t, s) for t, s in self.timesteps(prior.train_steps)]


def _ddim_map(prior: Prior, t: int, s: int) -> Map:
    a_t, a_s = prior.abar(t), prior.abar(s)

    def step(x: Tensor) -> Tensor:
        x0 = prior.x0(x, t).clamp(-1, 1)
        eps = (x - a_t**0.5 * x0) / (1 - a_t) ** 0.5
        return a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps

    return step


def generate(maps: list[Map], z: Tensor) -> Tensor:
    """G(z): all maps in turn."""
    for step in maps:
        z = step(z)
    return z
