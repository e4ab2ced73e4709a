"""Measurement noise. Levels are on the [-1, 1] scale of the images: sigma = 0.01 here is 0.005 on [0, 1]."""

from __future__ import annotations

import numpy as np

from bench.errors import at_least


class GaussianNoise:
    """Additive white Gaussian noise of standard deviation `sigma`."""

    def __init__(self, sigma: float) -> None:
        at_least("task.noise.sigma", sigma, 0)
        self.sigma = sigma

    def __call__(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`clean` with noise; numpy's generator, whose normals are the same bits on every machine."""
        return clean + self.sigma * rng.standard_normal(clean.shape)
