"""Blur by a known kernel: y = k * x on the mirrored image (reflection without repeating the edge), same size.

As in the releases this is a cross-correlation (the kernel is not flipped). Unlike them the kernel is odd, so the
result has the image's size and is not shifted by half a pixel (see `kernels.odd_window`).
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError, at_least
from operators.base import LinearOperator
from operators.kernels import REFERENCE_SIDE, gaussian_kernel, motion_kernel, odd_window


def mirrored_blur(x: Tensor, kernel: Tensor) -> Tensor:
    """k * x, (B, C, H, W), for one odd kernel per image, (B, 1, k, k)."""
    batch, channels, height, width = x.shape
    kernel = kernel.repeat_interleave(channels, dim=0)
    pad = kernel.shape[-1] // 2
    # images and channels as groups of one convolution: every image meets its own kernel
    padded = F.pad(x.reshape(1, batch * channels, height, width), (pad,) * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=batch * channels).view_as(x)


class Blur(LinearOperator):
    """Blur with one kernel per image, (B, 1, k, k)."""

    def __init__(self, size: int = 64) -> None:
        self.size = size

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """A `size` x `size` kernel for images of `side` pixels."""
        raise NotImplementedError

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = image_shape[1]
        size = odd_window(self.size, side)
        if size // 2 >= side:
            raise BenchError(
                f"task.operator.size={self.size}: the kernel of {size} pixels exceeds the {side}-pixel image"
            )
        return {"kernel": self.kernel(size, side, rng)[None]}

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return mirrored_blur(x, self.drawn["kernel"])


class GaussianBlur(Blur):
    """A Gaussian of `std` pixels at 256 x 256, in proportion at other sizes but at least 1.2 pixels.

    In proportion alone, 32 x 32 images would get 0.4 pixels: nothing to undo.
    """

    def __init__(self, std: float = 3.0, size: int = 64, smallest_std: float = 1.2) -> None:
        at_least("task.operator.std", std, 0.1)
        super().__init__(size)
        self.std, self.smallest_std = std, smallest_std

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        return gaussian_kernel(size, max(self.std * side / REFERENCE_SIDE, self.smallest_std))


class MotionBlur(Blur):
    """A random camera shake, another for every image."""

    def __init__(self, intensity: float = 0.5, size: int = 64) -> None:
        super().__init__(size)
        self.intensity = intensity

    def kernel(self, size: int, side: int, rng: np.random.Generator) -> np.ndarray:
        return motion_kernel(size, self.intensity, rng)
