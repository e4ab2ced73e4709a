"""A nonlinear blur that needs no checkpoint: a Gaussian blur seen by a sensor that saturates.

    y = tanh(gain * (k * x)) / tanh(gain),  k * x the mirrored blur of `blur.py`

Smooth, monotone and within [-1, 1]; the larger the gain, the harder dark and light are compressed towards -1 and 1, so
that the blur there can hardly be undone. It is no stand-in for the paper's nonlinear deblurring (`bkse.py`), and is
not called so: a second nonlinear task with the same interface.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from bench.errors import at_least
from operators.base import Operator
from operators.blur import GaussianBlur, mirrored_blur


class SaturatingBlur(Operator):
    """`GaussianBlur`'s arguments and a `gain` above 0."""

    def __init__(self, gain: float = 2.0, std: float = 3.0, size: int = 64) -> None:
        at_least("task.operator.gain", gain, 1e-3)
        self.gain = gain
        self._blur = GaussianBlur(std, size)

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self._blur.parameters(image_shape, rng)

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return (self.gain * mirrored_blur(x, self.drawn["kernel"])).tanh() / math.tanh(self.gain)
