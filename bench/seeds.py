"""Seeds derived from names, so that no draw depends on what was drawn before it.

A seed is the hash of what it is for: (dataset, image, task, noise, ...). The solver is left out on purpose
wherever solvers must share something; the batch, the order and the device are never part of it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor


def derive(*parts: object) -> int:
    """A 63-bit seed from any JSON-able parts, the same on every machine and in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts: object) -> np.random.Generator:
    return np.random.default_rng(derive(*parts))


def torch_generator(*parts: object) -> torch.Generator:
    """On the CPU whatever the device of the run: device generators differ from one another."""
    return torch.Generator().manual_seed(derive(*parts))


class ImageGenerators:
    """One generator per image of a batch: what an image draws does not depend on its neighbours."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._device = device

    def part(self, images: slice) -> Self:
        """The generators of some of the images: the same ones, so what is drawn here is drawn there."""
        some = copy.copy(self)
        some._generators = self._generators[images]
        return some

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (B, *shape) float32, image i's from generator i.

        From numpy, on the CPU: torch's generators differ between devices and its normals between processors.
        """
        drawn = np.stack([g.standard_normal(shape) for g in self._generators])
        return torch.from_numpy(drawn).float().to(self._device)
