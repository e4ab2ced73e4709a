"""Intermediate layer optimisation of a diffusion sampler: the part that DMILO and DMILO-PGD share.

arXiv 2505.20789: G = g_L-1 o ... o g_0 is inverted one step at a time, from the output side, each step with a sparse
deviation nu_i that lets it leave the range of the model:

    (z_i, nu_i) = argmin  mean (B(g_i(z) + nu) - target)^2 + lambda mean |nu| + rho mean z^2

B is the operator and the target the measurement for the last step; for the others B is the identity and the target
is the z_{i+1} just found. Only one step's graph is alive at a time, so memory does not grow with L. The z^2 penalty is
in the release's code (rho = 1e-4), not in its abstract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.errors import at_least
from priors.sampler import Map
from solvers.base import image_mean


@dataclass(frozen=True)
class InversionSettings:
    """How each step is inverted: `inner` Adam steps at `lr_z` and `lr_nu`.

    `sparse_deviation=False` removes nu; `sparsity` is lambda, `z_penalty` rho. `lr_unknowns` is for what an operator
    leaves open (a blur kernel's logits).
    """

    inner: int
    lr_z: float
    lr_nu: float = 1e-3
    sparsity: float = 0.1
    z_penalty: float = 1e-4
    sparse_deviation: bool = True
    lr_unknowns: float = 0.1

    def __post_init__(self) -> None:
        at_least("solver.inner", self.inner, 1)
        for key in ("lr_z", "lr_nu", "sparsity", "z_penalty", "lr_unknowns"):
            at_least(f"solver.{key}", getattr(self, key), 0)


class LayerInversion:
    """The states z_0 .. z_L and deviations nu_0 .. nu_{L-1} of one batch, kept across outer iterations."""

    def __init__(self, maps: list[Map], z0: Tensor, settings: InversionSettings) -> None:
        self._maps, self._settings = maps, settings
        self._z = [z0, *[torch.zeros_like(z0)] * len(maps)]
        self._nu = [torch.zeros_like(z0) for _ in maps]
        self.roll_out()

    def sweep(self, target: Tensor, operator: Callable[..., Tensor], unknowns: tuple[Tensor, ...] = ()) -> None:
        """Fit every step, last to first, so that the output's `operator` image comes to `target`.

        `unknowns`, `operator`'s further arguments, are fitted along with the last step, in place.
        """
        for i in reversed(range(len(self._maps))):
            self._fit(i, target, operator, unknowns)
            target, operator, unknowns = self._z[i], _identity, ()

    @torch.no_grad()
    def roll_out(self) -> Tensor:
        """Run the whole sampler from z_0 with the deviations; the output, unclamped. Warm-starts the next sweep."""
        for i, step in enumerate(self._maps):
            self._z[i + 1] = step(self._z[i]) + self._nu[i]
        return self._z[-1]

    def _fit(self, i: int, target: Tensor, operator: Callable[..., Tensor], unknowns: tuple[Tensor, ...]) -> None:
        s, step = self._settings, self._maps[i]
        z = self._z[i].clone().requires_grad_(True)
        nu = self._nu[i].clone().requires_grad_(s.sparse_deviation)
        found = [unknown.detach().requires_grad_(True) for unknown in unknowns]  # they share memory
        groups = [{"params": [z], "lr": s.lr_z}]
        if s.sparse_deviation:
            groups.append({"params": [nu], "lr": s.lr_nu})
        if found:
            groups.append({"params": found, "lr": s.lr_unknowns})
        adam = torch.optim.Adam(groups, fused=True)
        for _ in range(s.inner):
            adam.zero_grad()
            loss = image_mean((operator(step(z) + nu, *found) - target).square())
            loss = loss + s.sparsity * image_mean(nu.abs()) + s.z_penalty * image_mean(z.square())
            loss.sum().backward()
            adam.step()
        self._z[i], self._nu[i] = z.detach(), nu.detach()


def _identity(x: Tensor) -> Tensor:
    return x
