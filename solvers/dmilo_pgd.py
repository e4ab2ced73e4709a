"""DMILO-PGD: projected gradient descent whose projection is DMILO's inversion (ICML 2025, arXiv 2505.20789).

    x = 0;  repeat T times:  x = data_step(x)  towards A(x) = y
                             fit the sampler so that A(output) = A(x)     (projection="measurement", the paper's)
                                              or that output = x          (projection="distance", its ablation)
                             x = the sampler's output, clamped to [-1, 1]

y enters through the data step alone. Two data steps, as in the release: `squared`, one or more gradient steps on
||A(x) - y||^2 (inpainting, super-resolution), and `norm`, many on the un-squared ||A(x) - y|| (deblurring), whose
gradient A'r / ||r|| has the same length however small the residual; an epsilon keeps it finite at r = 0, where the
release gets NaN.

Where the operator has unknowns (a blur kernel's logits), the data step moves them too, by Adam, and the projection
takes A with the ones just found. The paper reports that such steps suit kernels badly; DMILO is the one to take there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.errors import BenchError, at_least, nearest
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior
from priors.sampler import DDIM
from solvers.base import Iterate, Solver, image_sum, joint
from solvers.inversion import InversionSettings, LayerInversion

EPSILON = 1e-12


def squared(residual: Tensor) -> Tensor:
    return image_sum(residual.square())


def norm(residual: Tensor) -> Tensor:
    return (image_sum(residual.square()) + EPSILON).sqrt()


DATA_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"squared": squared, "norm": norm}
PROJECTIONS = ("measurement", "distance")


class DMILOPGD(Solver):
    """`outer` rounds of `data_steps` gradient steps at `lr_x` on `data_loss`, then one projection."""

    finds_unknowns = True

    def __init__(
        self,
        sampler: DDIM,
        outer: int,
        data_loss: str,
        data_steps: int,
        lr_x: float,
        projection: str = "measurement",
        **inversion: float,
    ) -> None:
        at_least("solver.outer", outer, 1)
        at_least("solver.data_steps", data_steps, 1)
        for key, value, known in (
            ("data_loss", data_loss, DATA_LOSSES),
            ("projection", projection, PROJECTIONS),
        ):
            if value not in known:
                raise BenchError(f"solver.{key}={value}: no such choice{nearest(value, known)}")
        self.sampler, self.outer = sampler, outer
        self.data_loss, self.data_steps, self.lr_x = data_loss, data_steps, lr_x
        self.projection = projection
        self.inversion = InversionSettings(**inversion)  # pyright: ignore[reportArgumentType]
        self.iterates = outer

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        z0, unknowns = rng.normal(*operator.image_shape), operator.unknowns(rng)
        layers = LayerInversion(self.sampler.maps(prior), z0, self.inversion)
        adam = torch.optim.Adam(unknowns, lr=self.inversion.lr_unknowns, fused=True) if unknowns else None
        x = torch.zeros_like(z0)
        for _ in range(self.outer):
            x = self._data_step(x, y, operator, unknowns, adam)
            if self.projection == "measurement":
                with torch.no_grad():
                    target = operator(x, *unknowns)
                layers.sweep(target, lambda image: operator(image, *unknowns))
            else:
                layers.sweep(x, lambda image: image)
            x = layers.roll_out().clamp(-1, 1)
            yield joint(x, unknowns)

    def _data_step(
        self, x: Tensor, y: Tensor, operator: Operator, unknowns: tuple[Tensor, ...], adam: torch.optim.Adam | None
    ) -> Tensor:
        loss = DATA_LOSSES[self.data_loss]
        for _ in range(self.data_steps):
            x = x.detach().requires_grad_(True)
            found = [unknown.detach().requires_grad_(True) for unknown in unknowns]
            gradient, *others = torch.autograd.grad(loss(operator(x, *found) - y).sum(), (x, *found))
            x = (x.detach() - self.lr_x * gradient).clamp(-1, 1)
            if adam:
                for unknown, other in zip(unknowns, others, strict=True):
                    unknown.grad = other
                adam.step()
        return x
