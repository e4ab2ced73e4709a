"""The forward operator A of y = A(x) + noise.

An operator is configured once and then *drawn* for the images of a batch: whatever is random about it (mask, kernel)
comes from each image's own generator, so it is the same for every solver, batch and device.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from bench.seeds import ImageGenerators


class Operator:
    """Base of all operators. A subclass writes `parameters` (if anything is drawn) and `__call__`.

    Attributes:
        image_shape: (C, H, W) of x, set by `draw`.
        drawn: what was drawn, stacked over the batch: name to (B, ...).
        blind: whether a part of A is to be found along with x.
    """

    blind: ClassVar[bool] = False

    image_shape: tuple[int, int, int] = (0, 0, 0)
    drawn: dict[str, Tensor]

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What one image's A needs besides the configuration; drawn once per image."""
        return {}

    def draw(self, image_shape: tuple[int, int, int], rngs: Sequence[np.random.Generator]) -> Self:
        """A copy of this operator for a batch: image i's random parts from `rngs[i]`."""
        bound = copy.copy(self)
        bound.image_shape = image_shape
        each = [self.parameters(image_shape, rng) for rng in rngs]
        bound.drawn = {key: torch.stack([torch.as_tensor(p[key]).double() for p in each]) for key in each[0]}
        return bound

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        moved = copy.copy(self)
        moved.drawn = {key: value.to(device, dtype) for key, value in self.drawn.items()}
        return moved

    def part(self, images: slice) -> Self:
        """This operator for some of its images."""
        some = copy.copy(self)
        some.drawn = {key: value[images] for key, value in self.drawn.items()}
        return some

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        """A(x) for x (B, C, H, W) in [-1, 1]; differentiable in everything."""
        raise NotImplementedError

    def unknowns(self, rng: ImageGenerators) -> tuple[Tensor, ...]:
        """Initial values of what else is to be found (the kernel's logits in blind deblurring); else nothing."""
        return ()

    def hidden(self) -> Self:
        """This operator as a solver may have it: without what it is to find."""
        return self

    def unknown_errors(self, unknowns: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """How far `unknowns` are from the truth: metric name to (B,). Only the runner holds an operator that knows."""
        return {}

    def preview(self, y: Tensor) -> Tensor:
        """The measurement as an image, (B, C, H, W): for pictures, and for the measurement's own PSNR."""
        return y


class LinearOperator(Operator):
    """An operator with an adjoint. The default one is exact: the vector-Jacobian product of A."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A'y, (B, C, H, W)."""
        x = torch.zeros(y.shape[0], *self.image_shape, device=y.device, dtype=y.dtype, requires_grad=True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self(x), x, y)
        return gradient


class PinvOperator(LinearOperator):
    """A linear operator whose pseudo-inverse is cheap."""

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y, (B, C, H, W): the least-norm x with the least ||Ax - y||."""
        raise NotImplementedError
