"""Blind deblurring: y = k * x with k unknown, too.

The kernel is sought as k = softmax(kappa): non-negative with sum 1 for any logits kappa, which start as standard
normal numbers (DMPlug, arXiv 2405.16749, its release's blind deblurring). A solver gets this operator without the
kernel that was drawn and calls it as operator(x, kappa).

x and k are only known up to opposite shifts. The kernel's error is therefore taken at its best shift; the image's
metrics are not, as in the release.
"""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError, nearest
from bench.seeds import ImageGenerators
from operators.base import Operator
from operators.blur import Blur, GaussianBlur, MotionBlur, mirrored_blur, own_convolution

KERNELS = ("gaussian", "motion")


class BlindBlur(Operator):
    """A `kernel` (`gaussian` of `std` pixels or `motion` of `intensity`) that the solver does not get.

    Boundaries are mirrored as in `Blur`; with `as_released` they are zero and the kernel even, as in DMPlug's release.
    """

    blind = True

    def __init__(
        self, kernel: str, std: float = 3.0, intensity: float = 0.5, size: int = 64, as_released: bool = False
    ) -> None:
        blurs: dict[str, Blur] = {
            "gaussian": GaussianBlur(std, size, as_released=as_released),
            "motion": MotionBlur(intensity, size, as_released=as_released),
        }
        if kernel not in blurs:
            raise BenchError(f"task.operator.kernel={kernel}: no such kernel{nearest(kernel, KERNELS)}")
        self._blur, self.as_released = blurs[kernel], as_released
        self._size = 0

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self._blur.parameters(image_shape, rng)

    def hidden(self) -> Self:
        without = copy.copy(self)
        without._size = self.drawn["kernel"].shape[-1]
        without.drawn = {}
        return without

    def unknowns(self, rng: ImageGenerators) -> tuple[Tensor, ...]:
        """(kappa,), (B, k * k)."""
        size = self._size or self.drawn["kernel"].shape[-1]
        return (rng.normal(size * size),)

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        if unknowns:
            kernel = softmax_kernel(unknowns[0])
        elif self.drawn:
            kernel = self.drawn["kernel"]
        else:
            raise ValueError("the blur kernel is unknown: call operator(x, *unknowns), see operator.unknowns(rng)")
        return zero_blur(x, kernel) if self.as_released else mirrored_blur(x, kernel)

    def unknown_errors(self, unknowns: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"kernel_error": kernel_error(softmax_kernel(unknowns[0]), self.drawn["kernel"])}


def softmax_kernel(logits: Tensor) -> Tensor:
    """(B, k * k) to (B, 1, k, k), non-negative with sum 1."""
    side = round(logits.shape[1] ** 0.5)
    return logits.softmax(1).view(-1, 1, side, side)


def zero_blur(x: Tensor, kernel: Tensor) -> Tensor:
    """k * x with zeros outside of x, (B, C, H, W); an even kernel has one more row and column after the pixel."""
    before, after = (kernel.shape[-1] - 1) // 2, kernel.shape[-1] // 2
    return own_convolution(F.pad(x, (before, after, before, after)), kernel)


def kernel_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """min over shifts s of ||shift_s(estimate) - truth|| / ||truth||, per image of (B, 1, k, k): (B,).

    ||shift_s(a) - b||^2 = ||a||^2 + ||b||^2 - 2 <shift_s(a), b>, and all the products at once are a correlation, by FFT
    on twice the side so that nothing wraps around.
    """
    size = (2 * truth.shape[-1],) * 2
    spectrum = torch.fft.rfft2(truth.double(), s=size) * torch.fft.rfft2(estimate.double(), s=size).conj()
    best = torch.fft.irfft2(spectrum, s=size).flatten(1).max(1).values
    a, b = (kernel.double().square().flatten(1).sum(1) for kernel in (estimate, truth))
    return ((a + b - 2 * best).clamp(min=0) / b).sqrt()
