"""Which iterate counts.

`last` is the headline. `discrepancy` and `es_wmv` stop by the data alone, as a user could have, and their rows show
what that saves. `oracle` is the iterate with the best PSNR against the truth: what the DMILO and DMPlug releases
report. No user has the truth, so it is shown only beside the headline, and labelled.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """One iterate of a batch, and what it took to get there.

    Attributes:
        iterate: its number, from 1.
        estimate: (B, C, H, W) in [-1, 1].
        psnr: against the truth, per image; only `Oracle` looks at it.
        misfit: (B,) root-mean-square of A(x) - y in units of the noise's sigma; infinite where there is no noise.
        cost: per image, until here: `forward` and `backward` calls, `seconds`.
        errors: of a blind operator's unknowns, per image, by the metric's name.
    """

    iterate: int
    estimate: Tensor
    psnr: list[float]
    misfit: Tensor
    cost: dict[str, float]
    errors: dict[str, list[float]] = field(default_factory=dict)


class Selection:
    """Picks one iterate per image. A subclass says which images it would rather have from the newest one.

    Attributes:
        estimate: the picked iterates, (B, C, H, W).
        picks: per image `iterate`, and the cost after which the choice was final.
    """

    name: ClassVar[str]

    def observe(self, seen: Seen) -> None:
        first = seen.iterate == 1
        if first:
            self.estimate = seen.estimate.clone()
            self.picks: list[dict[str, float]] = [{} for _ in seen.psnr]
            self.running = torch.ones(len(seen.psnr), dtype=torch.bool)
        was_running = self.running.clone()
        takes = (self.takes(seen) | first) & was_running
        self.estimate = torch.where(takes.view(-1, 1, 1, 1), seen.estimate, self.estimate)
        for i, pick in enumerate(self.picks):
            if takes[i]:
                pick["iterate"] = seen.iterate
                pick |= {name: values[i] for name, values in seen.errors.items()}
            if was_running[i]:
                pick |= seen.cost

    def takes(self, seen: Seen) -> Tensor:
        """(B,) bool; may also clear `self.running` for images that it has seen enough of."""
        raise NotImplementedError


class Last(Selection):
    """The final iterate."""

    name = "last"

    def takes(self, seen: Seen) -> Tensor:
        return torch.ones(len(seen.psnr), dtype=torch.bool)


class Discrepancy(Selection):
    """The first iterate that fits y about as well as the truth does (Morozov): misfit at most `factor` sigma."""

    name = "discrepancy"
    factor = 1.1

    def takes(self, seen: Seen) -> Tensor:
        self.running = self.running & (seen.misfit > self.factor)
        return torch.ones(len(seen.psnr), dtype=torch.bool)


class WindowedVariance(Selection):
    """ES-WMV (arXiv 2112.06074): the iterate at which the variance of the last `window` ones was least.

    It stops when that has not become less for `patience` iterates. Before `window` iterates, the newest one.
    """

    name = "es_wmv"
    window, patience = 10, 20

    def __init__(self) -> None:
        self._recent: deque[Tensor] = deque(maxlen=self.window)

    def takes(self, seen: Seen) -> Tensor:
        self._recent.append(seen.estimate)
        batch = len(seen.psnr)
        if len(self._recent) < self.window:
            return torch.ones(batch, dtype=torch.bool)
        if len(self._recent) == self.window and not hasattr(self, "_least"):
            self._least, self._waited = torch.full((batch,), torch.inf), torch.zeros(batch)
        variance = torch.stack(list(self._recent)).var(0, correction=0).flatten(1).mean(1)
        less = variance < self._least
        self._least = torch.where(less, variance, self._least)
        self._waited = torch.where(less, 0, self._waited + 1)
        self.running = self.running & (self._waited < self.patience)
        return less


class Oracle(Selection):
    """Per image, the iterate with the highest PSNR; it peeks at the truth."""

    name = "oracle"

    def takes(self, seen: Seen) -> Tensor:
        psnr = torch.tensor(seen.psnr)
        best = getattr(self, "_best", torch.full_like(psnr, -torch.inf))
        self._best = torch.maximum(best, psnr)
        return psnr > best


SELECTIONS = (Last, Discrepancy, WindowedVariance, Oracle)
