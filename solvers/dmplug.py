"""DMPlug: optimise the seed of the whole sampler (Wang et al.; NeurIPS 2024, arXiv 2405.16749).

    z ~ N(0, I);  repeat E times:  x = clamp(G(z), -1, 1);  Adam step on z for  mean (A(x) - y)^2

All L sampler steps are in one graph: memory grows with L. Forward and backward calls per image: L E each. With
`checkpoint_steps` only the states between the steps are kept, and each step is computed again in the backward pass
(arXiv 1604.06174): constant memory like DMILO's, for 2 L E forward calls. Not in the release; it is the fair rival.

Where the operator has unknowns (a blur kernel's logits), they are optimised along with z at `lr_unknowns`, as in the
release's blind deblurring.
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
from solvers.base import Iterate, Solver, image_mean, joint


class DMPlug(Solver):
    """`epochs` Adam steps at `lr` on the seed. Each epoch's estimate is the one before its Adam step."""

    finds_unknowns = True

    def __init__(
        self,
        sampler: DDIM,
        epochs: int,
        lr: float = 1e-2,
        checkpoint_steps: bool = False,
        lr_unknowns: float = 0.1,
    ) -> None:
        at_least("solver.epochs", epochs, 1)
        at_least("solver.lr", lr, 0)
        at_least("solver.lr_unknowns", lr_unknowns, 0)
        self.sampler, self.epochs, self.lr = sampler, epochs, lr
        self.checkpoint_steps, self.lr_unknowns = checkpoint_steps, lr_unknowns
        self.iterates = epochs

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        maps: list[Map] = self.sampler.maps(prior)
        if self.checkpoint_steps:
            maps = [partial(checkpoint, step, use_reentrant=False, preserve_rng_state=False) for step in maps]
        z = rng.normal(*operator.image_shape).requires_grad_(True)
        unknowns = tuple(unknown.requires_grad_(True) for unknown in operator.unknowns(rng))
        groups = [{"params": [z], "lr": self.lr}]
        if unknowns:
            groups.append({"params": list(unknowns), "lr": self.lr_unknowns})
        adam = torch.optim.Adam(groups, fused=True)
        for _ in range(self.epochs):
            adam.zero_grad()
            x = generate(maps, z).clamp(-1, 1)
            image_mean((operator(x, *unknowns) - y).square()).sum().backward()
            now = joint(x.detach(), unknowns)
            adam.step()
            yield now
