"""Where DMILO's inner loop spends its time; prints shares of the CPU time by operation.

    uv run python -m benchmarks.profile

results/reference/speed/profile.md keeps what it said before and after the inner loop was worked on.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from torch.profiler import profile

from bench.config import ROOT
from bench.seeds import ImageGenerators
from priors.loading import load_prior
from priors.sampler import DDIM
from solvers.inversion import InversionSettings, LayerInversion

KINDS = {
    "convolutions": ("conv",),
    "attention": ("scaled_dot_product", "softmax"),
    "linear layers": ("addmm", "bmm", "mm"),
    "normalisation, activation": ("norm", "silu"),
    "Adam": ("adam", "lerp", "addc"),
}


def kind_of(operation: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), "everything else")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--inner", type=int, default=5)
    arguments = parser.parse_args()
    prior = load_prior(ROOT / "priors" / "emoji")
    z0 = ImageGenerators(range(arguments.images)).normal(*prior.image_shape)
    layers = LayerInversion(DDIM(1, shifted=True).maps(prior), z0, InversionSettings(arguments.inner, 2e-2))
    target = torch.zeros_like(z0)
    layers.sweep(target, lambda x: x)  # warms up
    with profile() as profiled:
        layers.sweep(target, lambda x: x)
    shares: Counter[str] = Counter()
    for event in profiled.key_averages():
        shares[kind_of(event.key.lower())] += event.self_cpu_time_total
    total = shares.total()
    print(f"{total / 1e3 / arguments.inner:.0f} ms per step of {arguments.images} images")
    for kind, spent in shares.most_common():
        print(f"| {kind} | {spent / total:.0%} |")


if __name__ == "__main__":
    main()
