"""DMPlug: optimise the seed of the whole sampler (Wang et al.; NeurIPS 2024, arXiv 2405.16749).

    z ~ N(0, I);  repeat E times:  x = clamp(G(z), -1, 1);  Adam step on z for  mean (A(x) - y)^2

All L sampler steps are in one graph: memory grows with L. Forward and backward calls per image: L E each. With
`checkpoint_steps` only the states between the steps are kept, and each step is computed again in the backward pass
(arXiv 1604.06174): constant memory like DMILO's, for 2 L E forward calls. Not in the release; it is the fair rival.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bench.errors import at_least
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior
from priors.sampler import DDIM, Map, generate
from solvers.base import Solver, image_mean


class DMPlug(Solver):
    """`epochs` Adam steps at `lr` on the seed. Each epoch's estimate is the one before its Adam step."""

    def __init__(self, sampler: DDIM, epochs: int, lr: float = 1e-2, checkpoint_steps: bool = False) -> None:
        at_least("solver.epochs", epochs, 1)
        at_least("solver.lr", lr, 0)
        self.sampler, self.epochs, self.lr = sampler, epochs, lr
        self.checkpoint_steps = checkpoint_steps
        self.iterates = epochs

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        maps: list[Map] = self.sampler.maps(prior)
        if self.checkpoint_steps:
            maps = [partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False) for step in maps]
        z = rng.normal(*operator.image_shape).requires_grad_(True)
        adam = torch.optim.Adam([z], lr=self.lr)
        for _ in range(self.epochs):
            adam.zero_grad()
            x = generate(maps, z).clamp(-1, 1)
            image_mean((operator(x) - y).square()).sum().backward()
            adam.step()
            yield x.detach()
