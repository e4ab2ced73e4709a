"""Random inpainting: y = m * x, a share of the pixels unseen in all channels.

The noise of the measurement lands on the unseen pixels too, as in the releases: a harmless constant for least
squares, but a residual norm has to leave those pixels out.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bench.errors import BenchError
from operators.base import PinvOperator


class RandomInpainting(PinvOperator):
    """Exactly floor(H*W*missing) pixels, drawn without replacement, are set to 0 (mid grey)."""

    def __init__(self, missing: float = 0.7) -> None:
        if not 0 <= missing < 1:
            raise BenchError(f"task.operator.missing={missing}: must lie in [0, 1)")
        self.missing = missing

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        _, height, width = image_shape
        mask = np.ones(height * width)
        mask[rng.choice(height * width, int(height * width * self.missing), replace=False)] = 0
        return {"mask": mask.reshape(1, height, width)}

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return self.drawn["mask"] * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.drawn["mask"] * y

    pinv = adjoint

    def preview(self, y: Tensor) -> Tensor:
        return self.drawn["mask"] * y
