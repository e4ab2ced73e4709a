"""Which iterate counts.

`last` is the headline. `oracle` is the one with the best PSNR against the truth: what the DMILO and DMPlug releases
report. No user has the truth, so it is shown only beside the headline, and labelled.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Last:
    """The final iterate."""

    name = "last"

    def observe(self, iterate: int, estimate: Tensor, psnr: list[float]) -> None:
        self.estimate = estimate
        self.iterate = [iterate] * len(estimate)


class Oracle:
    """Per image, the iterate with the highest PSNR; it peeks at the truth."""

    name = "oracle"

    def __init__(self) -> None:
        self._best: list[float] = []

    def observe(self, iterate: int, estimate: Tensor, psnr: list[float]) -> None:
        if not self._best:
            self._best, self.iterate, self.estimate = list(psnr), [iterate] * len(psnr), estimate.clone()
            return
        better = [new > old for new, old in zip(psnr, self._best, strict=True)]
        mask = torch.tensor(better, device=estimate.device).view(-1, 1, 1, 1)
        self.estimate = torch.where(mask, estimate, self.estimate)
        for i in (i for i, is_better in enumerate(better) if is_better):
            self._best[i], self.iterate[i] = psnr[i], iterate


SELECTIONS = (Last, Oracle)
HEADLINE = Last.name
