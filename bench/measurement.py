"""Drawing y = A(x) + noise: once per image, and the same for every solver.

Everything here happens in double precision on the CPU, image by image, from numpy generators seeded by
(dataset, image, task, seed). So y does not depend on the solver, the batch, the order, the device or the number of
threads, and its hash can be compared across machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.identity import without_paths
from bench.seeds import derive, numpy_generator
from datasets.images import Sample
from operators.base import Operator


class Noise(Protocol):
    """Adds noise to a clean measurement; `sigma` is on the [-1, 1] scale."""

    sigma: float

    def __call__(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...


@dataclass(frozen=True)
class Measurement:
    """A batch of measurements, ready for a solver.

    Attributes:
        y: (B, ...) float32 on the run's device.
        operator: A, drawn for these images, float32 on the run's device, as a solver may have it.
        true_operator: A with all that was drawn (a blind one's kernel, too): for scoring only.
        truth: (B, C, H, W) float32 on the CPU; no solver ever holds it.
        hashes: one per image, of its y.
        previews: (B, C, H, W), the measurements as images.
    """

    y: Tensor
    operator: Operator
    true_operator: Operator
    truth: Tensor
    hashes: list[str]
    previews: Tensor


def seed_parts(dataset: str, image: str, task: dict[str, Any], seed: int) -> tuple[object, ...]:
    """What a measurement's randomness depends on; the solver is not in it.

    With the task's `same_draw_for_all` the image is not in it either: one mask, kernel, noise and latent for all, as in
    the DMILO and DMPlug releases.
    """
    return (dataset, "" if task.get("same_draw_for_all") else image, without_paths(task), seed)


def measure(
    samples: Sequence[Sample],
    operator: Operator,
    noise: Noise,
    dataset: str,
    task: dict[str, Any],
    seed: int,
    device: torch.device,
) -> Measurement:
    """Measure `samples`; `task` is the task's configuration, which is part of every image's seed."""
    channels, height, width = samples[0].image.shape
    shape = (channels, height, width)
    seeds = [seed_parts(dataset, sample.id, task, seed) for sample in samples]
    measured = []
    for sample, parts in zip(samples, seeds, strict=True):
        one = operator.draw(shape, [numpy_generator("operator", *parts)]).to("cpu", torch.float64)
        with torch.no_grad():
            clean = one(sample.image[None].double()).numpy()
        measured.append(noise(clean, numpy_generator("noise", *parts)).astype(np.float32)[0])
    y = torch.from_numpy(np.stack(measured))
    drawn = operator.draw(shape, [numpy_generator("operator", *parts) for parts in seeds])
    on_cpu = drawn.to("cpu", torch.float32)
    on_device = drawn.to(device, torch.float32)
    return Measurement(
        y=y.to(device),
        operator=on_device.hidden(),
        true_operator=on_device,
        truth=torch.stack([sample.image for sample in samples]),
        hashes=[hashlib.sha256(one.tobytes()).hexdigest()[:16] for one in measured],
        previews=on_cpu.preview(y),
    )


def solver_seeds(ids: Sequence[str], dataset: str, task: dict[str, Any], seed: int) -> list[int]:
    """Seeds of what solvers draw: per image, and common to all solvers, so that they start from the same latents."""
    return [derive("solver", *seed_parts(dataset, image, task, seed)) for image in ids]
