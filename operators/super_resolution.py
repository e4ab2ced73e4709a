"""Super-resolution: y = A1 x A1', antialiased bicubic downsampling along each axis.

A1's rows are Keys' cubic kernel (a = -0.5; Keys 1981) stretched by the factor, sampled at the fine pixels around
each coarse pixel's centre and normalised to sum 1, with half-sample symmetric boundaries (MATLAB's `imresize`, the
`Resizer` of the DMPlug and DMILO releases). A1 is small and well conditioned, so adjoint and pseudo-inverse are exact.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError, at_least
from operators.base import PinvOperator


class SuperResolution(PinvOperator):
    """Downsampling by an integer `factor` in both directions: (B, C, H, W) to (B, C, H/factor, W/factor)."""

    def __init__(self, factor: int = 4) -> None:
        at_least("task.operator.factor", factor, 1)
        self.factor = factor

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        rows, columns = (self._matrix(n, x) for n in x.shape[-2:])
        return rows @ x @ columns.T

    def adjoint(self, y: Tensor) -> Tensor:
        rows, columns = (self._matrix(n, y) for n in self.image_shape[1:])
        return rows.T @ y @ columns

    def pinv(self, y: Tensor) -> Tensor:
        rows, columns = (torch.linalg.pinv(self._matrix(n, y)) for n in self.image_shape[1:])
        return rows @ y @ columns.T

    def preview(self, y: Tensor) -> Tensor:
        """Bicubic upsampling, the usual picture of a low-resolution image."""
        size = self.image_shape[1:]
        return torch.nn.functional.interpolate(y, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)

    def _matrix(self, size: int, like: Tensor) -> Tensor:
        if size % self.factor:
            raise BenchError(f"task.operator.factor={self.factor}: the image side {size} is no multiple of it")
        return bicubic_matrix(size, self.factor).to(like.device, like.dtype)


@cache
def bicubic_matrix(size: int, factor: int) -> Tensor:
    """A1, (size / factor, size) float64."""
    coarse = size // factor
    matrix = np.zeros((coarse, size))
    for row in range(coarse):
        centre = factor * row + (factor - 1) / 2
        taps = np.arange(int(np.ceil(centre - 2 * factor)), int(np.floor(centre + 2 * factor)) + 1)
        weights = _cubic((taps - centre) / factor)
        np.add.at(matrix[row], _reflect(taps, size), weights / weights.sum())
    return torch.from_numpy(matrix)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """... 1 0 | 0 1 2 ... size-1 | size-1 ...: the edge pixel is repeated."""
    folded = index % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)
