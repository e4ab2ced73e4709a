"""Blur kernels: Gaussian, and the random camera shake of LeviBorodenko's `motionblur` generator.

The motion kernel follows that generator step by step (a random walk of ever-changing heading, drawn as a polyline,
smoothed and shrunk), on numpy's Generator instead of the global state.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from bench.errors import BenchError, at_least

REFERENCE_SIDE = 256
SMALLEST_WINDOW = 11


def window(size: int, side: int, odd: bool = True) -> int:
    """A kernel of `size` pixels for 256 x 256 images, in proportion for `side` x `side`; odd, and at least 11 pixels:

    smaller camera shakes are mostly points, with nothing to undo.

    Odd, because an even kernel has no centre: the releases' 64 shifts the image and makes it a pixel larger. Where
    that is wanted, `odd=False` rounds to even.
    """
    at_least("task.operator.size", size, 1)
    scaled = max(SMALLEST_WINDOW, round(size * side / REFERENCE_SIDE))
    return scaled - 1 + scaled % 2 if odd else scaled + scaled % 2


def gaussian_kernel(size: int, std: float) -> np.ndarray:
    """(size, size), sum 1: a unit impulse filtered by scipy's Gaussian, cut off at 4 standard deviations."""
    impulse = np.zeros((size, size))
    impulse[size // 2, size // 2] = 1
    kernel = gaussian_filter(impulse, std, truncate=4)
    return kernel / kernel.sum()


def motion_kernel(size: int, intensity: float, rng: np.random.Generator, canvas: int = 64) -> np.ndarray:
    """(size, size), sum 1: the path of a shaking camera.

    Args:
        size: pixels of the result.
        intensity: 0 (nearly straight) to 1 (a scribble).
        canvas: the path is drawn at twice this side, then shrunk to `size`; 64 is the releases' kernel.
    """
    if not 0 <= intensity <= 1:
        raise BenchError(f"task.operator.intensity={intensity}: must lie in [0, 1]")
    side = 2 * canvas
    diagonal = math.sqrt(2) * side
    steps = _step_lengths(diagonal, intensity, rng)
    path = np.cumsum(steps * np.exp(1j * _headings(len(steps), intensity, rng)))
    path = (path - path.mean()) * np.exp(1j * rng.uniform(0, math.pi)) + (side + 1j * side) / 2
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).line([(p.real, p.imag) for p in path], fill=255, width=int(diagonal / 150))
    picture = picture.filter(ImageFilter.GaussianBlur(int(0.01 * diagonal)))
    kernel = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float64)
    return kernel / kernel.sum()


def _step_lengths(diagonal: float, intensity: float, rng: np.random.Generator) -> np.ndarray:
    longest = 0.75 * diagonal * (rng.uniform() + rng.uniform(0, intensity**2))
    steps: list[float] = []
    while sum(steps) < longest:
        step = rng.beta(1, 30) * (1 - intensity + 0.1) * diagonal
        if step < longest:
            steps.append(step)
    return np.array(steps)


def _headings(count: int, intensity: float, rng: np.random.Generator) -> np.ndarray:
    """Absolute headings in radians: each takes the sign of the one before, flipped with probability `jitter`."""
    widest = rng.uniform(0, intensity * math.pi)
    jitter = rng.beta(2, 20)
    headings = [rng.uniform(-widest, widest)]
    for _ in range(count - 1):
        magnitude = rng.triangular(0, intensity * widest, widest + 0.1)
        sign = math.copysign(1, headings[-1])
        headings.append(magnitude * (-sign if rng.uniform() < jitter else sign))
    return np.array(headings)
