"""A prior whose answers are known: x_0 ~ N(m, C), where the ideal noise predictor is linear.

With C = V diag(c) V', a = abar_t:   E[e | x_t] = sqrt(1-a) V diag(1 / (a c + 1 - a)) V' (x_t - sqrt(a) m).
The posterior under y = A x + sigma n is Gaussian too, so a solver can be checked against the truth (docs: testing).
"""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from priors.prior import Prior


class GaussianPrior(Prior):
    """N(mean, covariance) over images of `image_shape` = (C, H, W), D = C*H*W pixels.

    Args:
        mean: (D,).
        covariance: (D, D), symmetric positive semi-definite.
    """

    def __init__(self, image_shape: tuple[int, int, int], mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean.double(), covariance.double()
        values, self._vectors = torch.linalg.eigh(self.covariance)
        self._values = values.clamp_min(0)
        schedule = DDPMScheduler().alphas_cumprod
        self._alphas = schedule.double()
        super().__init__(self._ideal, schedule, image_shape, "gaussian")

    def _ideal(self, x: Tensor, timesteps: Tensor) -> Tensor:
        a = self._alphas[timesteps.cpu().long()][:, None]
        centred = x.flatten(1).double() - a.sqrt() * self.mean
        spectral = centred @ self._vectors * (1 - a).sqrt() / (a * self._values + 1 - a)
        return (spectral @ self._vectors.T).view_as(x)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` images, (count, C, H, W) float32."""
        z = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        return (self.mean + z * self._values.sqrt() @ self._vectors.T).float().view(count, *self.image_shape)

    def posterior(self, matrix: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and covariance (D, D) of x given y = matrix x + sigma n; matrix (M, D), y (B, M)."""
        matrix, y = matrix.double(), y.double()
        gain = torch.linalg.solve(
            matrix @ self.covariance @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=torch.float64),
            matrix @ self.covariance,
        ).T
        mean = self.mean + (y - self.mean @ matrix.T) @ gain.T
        return mean, self.covariance - gain @ matrix @ self.covariance
