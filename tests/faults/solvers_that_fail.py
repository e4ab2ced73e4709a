"""Solvers that fail in every way, for the tests of the runner."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.seeds import ImageGenerators
from datasets.emoji import EmojiDataset
from operators.base import Operator, PinvOperator
from priors.prior import Prior
from solvers.base import Solver


class Diverges(Solver):
    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        x = rng.normal(*operator.image_shape)
        yield x
        yield x / 0


class Raises(Solver):
    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        yield rng.normal(*operator.image_shape)
        raise ZeroDivisionError("on purpose")


class OutOfMemory(Solver):
    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        yield y


class Dies(Solver):
    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        os._exit(9)  # as a process that the system kills: nothing is caught, nothing is written
        yield y


class NeedsPinv(Solver):
    needs = PinvOperator

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        assert isinstance(operator, PinvOperator)
        yield operator.pinv(y)


class Spy(Solver):
    """Fails if any object that can be reached from what it was given is one of the dataset's images."""

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Tensor]:
        dataset = EmojiDataset("test", operator.image_shape[1])
        truths = [dataset[i].image for i in range(2)]
        frontier: list[object] = [y, operator, prior, rng]
        seen: set[int] = set()
        while frontier:
            item = frontier.pop()
            if id(item) in seen or isinstance(item, type(sys)):
                continue
            seen.add(id(item))
            if isinstance(item, (Tensor, np.ndarray)) and item.ndim >= 3 and item.shape[-3:] == truths[0].shape:
                for image in torch.as_tensor(item).reshape(-1, *truths[0].shape):
                    assert not any(torch.allclose(image.float(), truth, atol=1e-3) for truth in truths)
            if isinstance(item, (Operator, Prior, ImageGenerators, dict, list, tuple)):
                frontier += gc.get_referents(item)
        yield torch.zeros(len(y), *operator.image_shape)
