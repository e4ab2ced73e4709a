"""How good a prior is: its denoising loss per noise level, with the same noise for every prior and every image set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.seeds import numpy_generator
from priors.prior import Prior

BANDS = ((0, 50), (50, 200), (200, 400), (400, 600), (600, 800), (800, 1000))
"""Bands of timesteps; a loss that is averaged over all of them hides the high noise levels."""


@dataclass(frozen=True)
class BandLoss:
    """Mean over images and draws of the mean squared error of the predicted noise, within one band of timesteps.

    `error` is the standard error of `loss` over images.
    """

    first: int
    last: int
    loss: float
    error: float


@torch.no_grad()
def denoising_loss(prior: Prior, images: Tensor, draws: int, seed: int = 0, batch: int = 64) -> list[BandLoss]:
    """Per band, over `draws` stratified timesteps and noises for each of the (N, C, H, W) images in [-1, 1]."""
    results = []
    for first, end in BANDS:
        per_image = torch.zeros(len(images), draws)
        for draw in range(draws):
            # one timestep per draw, spread evenly over the band: the same ones for every image set
            t = first + int((draw + 0.5) * (end - first) / draws)
            abar = prior.abar(t)
            for start in range(0, len(images), batch):
                x = images[start : start + batch]
                rng = numpy_generator("denoising", seed, first, draw, start)
                noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
                error = prior.eps(abar**0.5 * x + (1 - abar) ** 0.5 * noise, t) - noise
                per_image[start : start + batch, draw] = error.square().mean(dim=(1, 2, 3))
        means = per_image.mean(1)
        results.append(BandLoss(first, end - 1, float(means.mean()), float(means.std() / len(means) ** 0.5)))
    return results
