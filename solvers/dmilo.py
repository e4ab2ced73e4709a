"""DMILO: diffusion-model inversion by intermediate layer optimisation (Zheng, Li, Liu; ICML 2025, arXiv 2505.20789).

    repeat T times: fit the sampler's steps from the last to the first, so that A(output) = y (see `inversion.py`);
                    x = the sampler's output from the new z_0, with the deviations, clamped to [-1, 1]

Where the operator has unknowns (a blur kernel's logits), they are fitted along with the last step.

Forward calls per image: L + T (L inner + L); backward calls: T L inner, with L sampler steps.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from bench.errors import at_least
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior
from priors.sampler import DDIM
from solvers.base import Iterate, Solver, joint
from solvers.inversion import InversionSettings, LayerInversion


class DMILO(Solver):
    """`outer` sweeps of `inner` Adam steps per sampler step; the other settings are `InversionSettings`'s."""

    finds_unknowns = True

    def __init__(self, sampler: DDIM, outer: int, **inversion: float) -> None:
        at_least("solver.outer", outer, 1)
        self.sampler, self.outer = sampler, outer
        self.inversion = InversionSettings(**inversion)  # pyright: ignore[reportArgumentType]
        self.iterates = outer

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        z0, unknowns = rng.normal(*operator.image_shape), operator.unknowns(rng)
        layers = LayerInversion(self.sampler.maps(prior), z0, self.inversion)
        for _ in range(self.outer):
            layers.sweep(y, operator, unknowns)
            yield joint(layers.roll_out().clamp(-1, 1), unknowns)
