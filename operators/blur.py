"""Blur by a known kernel: y = k * x on the mirrored image (reflection without repeating the edge), same size.

As in the releases this is a cross-correlation (the kernel is not flipped). Unlike in them the kernel is odd, so the
result has the image's size and is not shifted by half a pixel. With `as_released` it is even, 64 for 256 x 256 images,
and the result has a row and a column more: 257 x 257.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError, at_least
from bench.invariance import in_groups
from operators.base import LinearOperator
from operators.kernels import REFERENCE_SIDE, gaussian_kernel, motion_kernel, window


def mirrored_blur(x: Tensor, kernel: Tensor) -> Tensor:
    """k * x for one kernel per image, (B, 1, k, k): (B, C, H, W) if k is odd, a row and a column more if it is even."""
    padded = F.pad(x, (kernel.shape[-1] // 2,) * 4, mode="reflect")
    return own_convolution(padded, kernel)


def own_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Every image, (B, C, H, W), with its own kernel, (B, 1, k, k); no padding: (B, C, H - k + 1, W - k + 1)."""
    return in_groups(_grouped, 1, x, kernel)


def _grouped(x: Tensor, kernel: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    # images and channels as groups of one convolution
    groups = batch * channels
    out = F.conv2d(x.reshape(1, groups, height, width), kernel.repeat_interleave(channels, dim=0), groups=groups)
    return out.view(batch, channels, *out.shape[-2:])


class Blur(LinearOperator):
    """Blur with one kernel per image, (B, 1, k, k)."""

    def __init__(self, size: int = 64, as_released: bool = False) -> None:
        self.size, self.as_released = size, as_released

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """A `size` x `size` kernel for images of `side` pixels."""
        raise NotImplementedError

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = image_shape[1]
        size = window(self.size, side, odd=not self.as_released)
        if size // 2 >= side:
            raise BenchError(
                f"task.operator.size={self.size}: the kernel of {size} pixels exceeds the {side}-pixel image"
            )
        return {"kernel": self.kernel(size, side, rng)[None]}

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return mirrored_blur(x, self.drawn["kernel"])

    def preview(self, y: Tensor) -> Tensor:
        _, height, width = self.image_shape
        return y[..., :height, :width]


class GaussianBlur(Blur):
    """A Gaussian of `std` pixels at 256 x 256, in proportion at other sizes but at least 1.2 pixels.

    In proportion alone, 32 x 32 images would get 0.4 pixels: nothing to undo.
    """

    def __init__(self, std: float = 3.0, size: int = 64, smallest_std: float = 1.2, as_released: bool = False) -> None:
        at_least("task.operator.std", std, 0.1)
        super().__init__(size, as_released)
        self.std, self.smallest_std = std, smallest_std

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        return gaussian_kernel(size, max(self.std * side / REFERENCE_SIDE, self.smallest_std))


class MotionBlur(Blur):
    """A random camera shake, another for every image."""

    def __init__(self, intensity: float = 0.5, size: int = 64, as_released: bool = False) -> None:
        super().__init__(size, as_released)
        self.intensity = intensity

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        return motion_kernel(size, self.intensity, rng)
