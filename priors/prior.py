"""A diffusion prior: a frozen noise predictor and its schedule, with its calls counted.

With x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e (DDPM, arXiv 2006.11239), the network predicts e, and Tweedie's
formula gives the denoised image  x0(x, t) = (x - sqrt(1 - abar_t) eps(x, t)) / sqrt(abar_t).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""(B, C, H, W) float32 and (B,) timesteps to the predicted noise, (B, C, H, W)."""


class Prior:
    """What a solver sees of a diffusion model.

    Args:
        network: the noise predictor, its parameters frozen.
        alphas_cumprod: abar, (T,).
        image_shape: (C, H, W) of the images it models.
        fingerprint: hash of the weights; part of what identifies a result.
        precision: what the network computes in; part of what identifies a result.

    Attributes:
        forward_images, backward_images: network evaluations and vector-Jacobian products so far, each counted
            once per image of its batch.
    """

    def __init__(
        self,
        network: Network,
        alphas_cumprod: Tensor,
        image_shape: tuple[int, int, int],
        fingerprint: str = "",
        precision: str = "fp32",
    ) -> None:
        self.network = network
        self._abar: list[float] = alphas_cumprod.double().tolist()
        self.image_shape = image_shape
        self.fingerprint = fingerprint
        self.precision = precision
        self.forward_images = 0
        self.backward_images = 0
        self._warmed_up: set[int] = set()

    @property
    def train_steps(self) -> int:
        return len(self._abar)

    def abar(self, t: int) -> float:
        """Cumulative alpha at index t; exactly 1 for t < 0, the clean image."""
        return 1.0 if t < 0 else self._abar[t]

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Predicted noise in x_t = `x`, (B, C, H, W), at timestep `t`; float32 whatever the precision."""
        timesteps = torch.full((x.shape[0],), t, device=x.device)
        out = self.network(x, timesteps).float()
        self.forward_images += x.shape[0]
        if out.requires_grad:
            out.register_hook(self._count_backward)
        return out

    def x0(self, x: Tensor, t: int) -> Tensor:
        """Posterior mean E[x_0 | x_t = `x`], unclipped."""
        return self.x0_from_eps(x, self.eps(x, t), t)

    def x0_from_eps(self, x: Tensor, eps: Tensor, t: int) -> Tensor:
        abar = self.abar(t)
        return (x - (1 - abar) ** 0.5 * eps) / abar**0.5

    def reset_counts(self) -> None:
        self.forward_images = self.backward_images = 0

    def warm_up(self, batch: int, device: torch.device) -> None:
        """Uncounted passes with and without gradients, so that no solver pays for lazy initialisation or compilation.

        Nothing for a `batch` that was seen before; another size may choose, or compile, other kernels.
        """
        if batch in self._warmed_up:
            return
        x = torch.zeros(batch, *self.image_shape, device=device, requires_grad=True)
        self.eps(x, 0).sum().backward()
        with torch.no_grad():
            self.eps(x, 0)
        self.reset_counts()
        self._warmed_up.add(batch)

    def _count_backward(self, grad: Tensor) -> None:
        self.backward_images += grad.shape[0]
