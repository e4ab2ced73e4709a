"""DCPS: divide-and-conquer posterior sampling (Janati et al.; arXiv 2403.11407, code Badr-MOUFAD/dcps).

The schedule is cut into blocks hi -> lo; in each, the likelihood is replaced by one at lo, N(sqrt(a_lo) y; A(x_lo),
sigma^2), and the block is sampled towards it. With the DDIM bridge l -> t (eta = 1; arXiv 2010.02502)

    std^2 = (1 - a_l/a_t)(1 - a_t)/(1 - a_l),  c = sqrt((1 - a_t - std^2)/(1 - a_l)),
    mean  = c x_l + (sqrt(a_t) - c sqrt(a_l)) x0(x_l, l)

a block does (1) `langevin_steps` tamed Langevin steps at hi and (2) for every t -> t' in it, a Gaussian variational
step: N(mu, e^2l) starts as the bridge's and takes `gradient_steps` normalised gradient steps on

    1/2 ||(sqrt(a_lo) y - A(w))/sigma||^2 + KL(N(mu, e^2l) || bridge),    w ~ bridge(q; t' -> lo),  q ~ N(mu, e^2l).

As in the release: alphas are prefixed by 1 (a_t = abar_{t-1}) while the network gets t, x0 is not clipped, y is
clipped to [-1, 1], and the answer is the sample at the second-lowest timestep, not denoised. Unlike it, x is detached
between Langevin steps (the release keeps their graphs alive).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bench.errors import at_least
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior
from solvers.base import Solver, image_sum, per_image


class DCPS(Solver):
    """Divide-and-conquer posterior sampling; see the module.

    Args:
        sigma: standard deviation of the measurement noise, on the [-1, 1] scale; must be positive.
        steps: bridge steps in all, shared evenly by the blocks (the very last one is left out).
        anchors: block boundaries, so `anchors - 1` blocks.
        gradient_steps, lr: of the variational step; the length of one gradient step on mu is `lr`.
        langevin_steps, gamma: of the tamed Langevin steps.
        denoise_last: answer with the denoised last sample. With few steps the last one is still noisy: it stands at
            the second-lowest timestep, 3 of 999 with the release's 300 steps but 41 with 24.
    """

    def __init__(
        self,
        sigma: float,
        steps: int = 300,
        anchors: int = 4,
        gradient_steps: int = 2,
        lr: float = 1.5,
        langevin_steps: int = 5,
        gamma: float = 1e-3,
        clip_measurement: bool = True,
        denoise_last: bool = False,
    ) -> None:
        at_least("solver.sigma", sigma, 1e-6)
        at_least("solver.anchors", anchors, 2)
        at_least("solver.steps", steps, 2 * (anchors - 1))
        for key, value in {"gradient_steps": gradient_steps, "langevin_steps": langevin_steps}.items():
            at_least(f"solver.{key}", value, 0)
        self.sigma, self.steps, self.anchors = sigma, steps, anchors
        self.gradient_steps, self.lr = gradient_steps, lr
        self.langevin_steps, self.gamma = langevin_steps, gamma
        self.clip_measurement, self.denoise_last = clip_measurement, denoise_last
        self.iterates = len(self.blocks())

    def blocks(self, train_steps: int = 1000) -> list[list[int]]:
        """The timesteps of each block, hi to lo; the last block ends one before 0."""
        edges = np.linspace(0, train_steps - 1, self.anchors).astype(int)
        per_block = self.steps // (self.anchors - 1)
        blocks = [np.linspace(lo, hi, per_block + 1).astype(int).tolist()[::-1] for lo, hi in pairwise(edges)]
        blocks[0].pop()
        return blocks[::-1]

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        if self.clip_measurement:
            y = y.clamp(-1, 1)
        shape = operator.image_shape
        x = rng.normal(*shape)
        edges = np.linspace(0, prior.train_steps - 1, self.anchors).astype(int).tolist()
        for block, lo in zip(self.blocks(prior.train_steps), reversed(edges[:-1]), strict=True):
            bridge = _Bridge(prior, lo)
            target = bridge.alpha(lo) ** 0.5 * y
            for _ in range(self.langevin_steps):
                x = self._langevin(x, block[0], target, operator, bridge, rng.normal(*shape))
            for t, earlier in pairwise(block):
                x = self._variational(x, t, earlier, target, operator, bridge, rng)
            if self.denoise_last and lo == 0:
                with torch.no_grad():
                    x = prior.x0(x, block[-1])
            yield x.clamp(-1, 1)

    def _misfit(self, target: Tensor, measured: Tensor) -> Tensor:
        return 0.5 * image_sum(((target - measured) / self.sigma).square())

    def _langevin(self, x: Tensor, hi: int, target: Tensor, operator: Operator, bridge: _Bridge, z: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        eps = bridge.prior.eps(x, hi)
        mean, _ = bridge(x, eps, hi, bridge.lo)
        (gradient,) = torch.autograd.grad(-self._misfit(target, operator(mean)).sum(), x)
        drift = -eps.detach() / (1 - bridge.alpha(hi)) ** 0.5 + gradient
        tamed = self.gamma / (1 + self.gamma * per_image(image_sum(drift.square()).sqrt(), drift))
        return x.detach() + tamed * drift + (2 * self.gamma) ** 0.5 * z

    def _variational(
        self, x: Tensor, t: int, earlier: int, target: Tensor, operator: Operator, bridge: _Bridge, rng: ImageGenerators
    ) -> Tensor:
        shape = operator.image_shape
        with torch.no_grad():
            mu0, std0 = bridge(x, bridge.prior.eps(x, t), t, earlier)
        log_std0 = float(np.log(std0))
        mu, log_std = mu0.clone(), torch.full_like(mu0, log_std0)
        for _ in range(self.gradient_steps):
            mu, log_std = mu.requires_grad_(True), log_std.requires_grad_(True)
            q = mu + log_std.exp() * rng.normal(*shape)
            mean, std = bridge(q, bridge.prior.eps(q, earlier), earlier, bridge.lo)
            misfit = self._misfit(target, operator(mean + std * rng.normal(*shape)))
            shift = log_std - log_std0
            kl = 0.5 * image_sum(-2 * shift + (2 * shift).exp() + ((mu - mu0) / std0).square())
            d_mu, d_log_std = torch.autograd.grad((misfit + kl).sum(), (mu, log_std))
            mu = mu.detach() - self.lr * _direction(d_mu)
            log_std = log_std.detach() - self.lr * _direction(d_log_std)
        return mu + log_std.exp() * rng.normal(*shape)


class _Bridge:
    """The DDIM bridge (eta = 1) on the prefixed alphas, towards a block's lower end `lo`."""

    def __init__(self, prior: Prior, lo: int) -> None:
        self.prior, self.lo = prior, lo

    def alpha(self, t: int) -> float:
        return min(max(self.prior.abar(t - 1), 1e-6), 1.0)

    def __call__(self, x: Tensor, eps: Tensor, source: int, to: int) -> tuple[Tensor, float]:
        """Mean and standard deviation of x_to given x_source = `x`."""
        a_l, a_t = self.alpha(source), self.alpha(to)
        variance = (1 - a_l / a_t) * (1 - a_t) / (1 - a_l)
        keep = max(1 - a_t - variance, 0.0) ** 0.5 / (1 - a_l) ** 0.5
        x0 = (x - (1 - a_l) ** 0.5 * eps) / a_l**0.5
        return keep * x + (a_t**0.5 - keep * a_l**0.5) * x0, variance**0.5


def _direction(gradient: Tensor) -> Tensor:
    return gradient / per_image(image_sum(gradient.square()).sqrt() + 1e-8, gradient)
