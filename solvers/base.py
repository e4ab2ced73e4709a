"""What a solver is: a generator of iterates that sees the measurement, the operator and the prior, and nothing else.

Because it yields, progress bars, early stopping, trajectories and selection live in the runner, once, and the ground
truth cannot reach a solver. Three rules keep an image's result independent of the batch it is in: every loss is a
per-image mean summed over the batch (`image_mean(...).sum()`), every norm is per image, and every random draw comes
from `rng`, which holds one generator per image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior

Iterate = Tensor | tuple[Tensor, tuple[Tensor, ...]]
"""An estimate of x, or of (x, the operator's unknowns)."""


class Solver:
    """Base of all solvers.

    Attributes:
        needs: the kind of operator it works with; other pairs are skipped with a reason, not crashed.
        finds_unknowns: whether it can do with an operator of which a part is unknown.
        iterates: how many estimates `reconstruct` yields, if known (for the progress bar).
    """

    needs: ClassVar[type[Operator]] = Operator
    finds_unknowns: ClassVar[bool] = False
    iterates: int | None = None

    def reconstruct(self, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators) -> Iterator[Iterate]:
        """Yield estimates of x, (B, C, H, W) in [-1, 1], one per outer step; the last one is the answer.

        Where the operator has unknowns (`operator.unknowns(rng)` starts them, `operator(x, *unknowns)` takes them),
        yield (x, unknowns); `joint` does.

        Args:
            y: the measurements, (B, ...) as `operator` makes them.
            operator: A, drawn for these B images; `operator.image_shape` is (C, H, W).
            prior: denoiser and schedule; it counts its calls.
            rng: `rng.normal(*shape)` draws (B, *shape), each image from its own generator.
        """
        raise NotImplementedError

    def unsuitable(self, operator: Operator) -> str | None:
        """Why this solver cannot handle `operator`, or None."""
        if operator.blind and not self.finds_unknowns:
            return f"needs a known operator, {type(operator).__name__} is blind"
        if isinstance(operator, self.needs):
            return None
        return f"needs a {self.needs.__name__}, {type(operator).__name__} is none"


def joint(x: Tensor, unknowns: tuple[Tensor, ...]) -> Iterate:
    """What to yield: x alone where nothing else is unknown, else both, with unknowns as they are now."""
    return (x, tuple(unknown.detach().clone() for unknown in unknowns)) if unknowns else x


def apart(iterate: Iterate) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(x, unknowns) of what a solver yielded, without unknowns where it yielded x alone."""
    return iterate if isinstance(iterate, tuple) else (iterate, ())


def image_mean(x: Tensor) -> Tensor:
    """Mean over each image of a batch, (B, ...) to (B,)."""
    return x.flatten(1).mean(1)


def image_sum(x: Tensor) -> Tensor:
    """Sum over each image of a batch, (B, ...) to (B,)."""
    return x.flatten(1).sum(1)


def per_image(scale: Tensor, like: Tensor) -> Tensor:
    """(B,) shaped to multiply (B, ...)."""
    return scale.view(-1, *[1] * (like.dim() - 1))
