"""What a reconstruction costs: seconds inside the solver only, network calls, peak memory.

The clock runs while the solver's generator runs and stands still while the runner scores, selects and writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from priors.prior import Prior
from solvers.base import Iterate

GIB = 2**30


def now(device: torch.device) -> float:
    """Seconds on a clock that waits for `device` to have done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Meter:
    """Watches one batch. Iterate over `timed(iterates)`, then read the attributes.

    Attributes:
        seconds: time inside the solver, synchronised with the device.
    """

    def __init__(self, prior: Prior, batch: int, device: torch.device) -> None:
        self._prior, self._batch, self._device = prior, batch, device
        self.seconds = 0.0
        prior.reset_counts()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def timed(self, iterates: Iterator[Iterate]) -> Iterator[Iterate]:
        while True:
            start = now(self._device)
            estimate = next(iterates, None)
            self.seconds += now(self._device) - start
            if estimate is None:
                return
            yield estimate

    @property
    def forward(self) -> float:
        """Network evaluations per image."""
        return self._prior.forward_images / self._batch

    @property
    def backward(self) -> float:
        """Vector-Jacobian products through the network per image."""
        return self._prior.backward_images / self._batch

    @property
    def peak_memory_gib(self) -> float | None:
        """Highest memory in use on the CUDA device, weights included; None elsewhere, where nothing measures it."""
        if self._device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._device) / GIB
