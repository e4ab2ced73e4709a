"""What the bundled prior can and cannot do; writes results/reference/prior/.

    python -m bench sweep limit=16 && python -m bench fetch dataset=emoji && uv run python -m benchmarks.prior_evidence

- samples.png, samples_3step.png: unconditional samples, DDIM 50 steps and the 3-step G that the solvers invert
- neighbours.png: samples above their nearest training images; distances beside those of held-out images
- duplicates.png: the held-out images that lie closest to a training image, above it: a search for near-duplicates
- reconstructions.png: test reconstructions of DMILO, the truths and the training images nearest to each
- README.md: denoising PSNR per noise level beside non-local means, and the inversion limit: how well G with N steps
  can represent held-out images at all, with and without the sparse deviation, at equal network calls
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_nl_means
from torch import Tensor

from bench.config import ROOT
from bench.metrics import psnr, to_unit
from bench.records import all_cells
from bench.seeds import ImageGenerators, derive, numpy_generator
from datasets.emoji import BUNDLED, EmojiDataset, base_emoji
from datasets.images import ImageFiles
from operators.base import Operator
from priors.card import ddim_samples, save_pictures
from priors.loading import load_prior, load_unet
from priors.prior import Prior
from priors.sampler import DDIM, generate
from solvers.base import Solver
from solvers.dmilo import DMILO
from solvers.dmplug import DMPlug

OUT = ROOT / "results" / "reference" / "prior"
NOISE_STEPS = (20, 100, 200, 300, 450, 600, 800)
INVERSION_CALLS = 300
DUPLICATE = 0.05
"""Root-mean-square distance below which two images are taken for the same."""


class Identity(Operator):
    """A = identity: reconstructing the image itself shows what G can represent."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape, self.drawn = image_shape, {}

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return x


def stack(dataset: ImageFiles, count: int | None = None) -> Tensor:
    return torch.stack([dataset[i].image for i in range(count or len(dataset))])


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Root-mean-square distance to, and index of, the nearest training image or its mirror image."""
    flat = torch.cat([training, training.flip(-1)]).flatten(1)
    distances = torch.cdist(images.flatten(1), flat) / images[0].numel() ** 0.5
    values, indices = distances.min(1)
    return values, indices % len(training)


def reconstructions(results: Path, count: int) -> tuple[Tensor, Tensor]:
    """DMILO's motion-deblurred test images in [-1, 1], and their truths."""
    truth = {sample.id: sample.image for sample in map(EmojiDataset("test", 32).__getitem__, range(50))}
    for store in all_cells(results):
        cell = store.description()
        if (cell["dataset"], cell["task"], cell["solver"]) == ("emoji", "motion_deblur", "dmilo"):
            names = [name for name in truth if name in store.finished()][:count]
            found = [torch.from_numpy(store.reconstruction(name)["last"]).float() for name in names]
            return torch.stack(found), torch.stack([truth[name] for name in names])
    raise SystemExit(f"{results}: no motion_deblur / dmilo there; run `python -m bench sweep` first")


def denoising(prior: Prior, images: Tensor) -> list[str]:
    rows = []
    for t in NOISE_STEPS:
        abar = prior.abar(t)
        sigma = ((1 - abar) / abar) ** 0.5
        rng = numpy_generator("evidence", t)
        noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
        noisy = images + sigma * noise
        with torch.no_grad():
            ours = prior.x0(abar**0.5 * noisy, t)
        classical = [
            denoise_nl_means(
                x.permute(1, 2, 0).numpy(), patch_size=3, patch_distance=7, h=0.8 * sigma, sigma=sigma, channel_axis=2
            )
            for x in noisy
        ]
        theirs = torch.from_numpy(np.stack(classical)).permute(0, 3, 1, 2).float()
        means = [np.mean(psnr(x, images)) for x in (noisy, theirs, ours)]
        rows.append(f"| {t} | {sigma:.3f} | " + " | ".join(f"{m:.2f}" for m in means) + " |")
    return rows


def inversion(prior: Prior, images: Tensor, steps: int) -> dict[str, float]:
    """Best PSNR over iterates of fitting G to the images themselves, at INVERSION_CALLS backward calls each."""
    inner = max(1, INVERSION_CALLS // (4 * steps))
    plain = {"inner": inner, "lr_z": 2e-2, "z_penalty": 0.0}
    solvers: dict[str, Solver] = {
        "whole": DMPlug(DDIM(steps), INVERSION_CALLS // steps, 5e-2),
        "stepwise": DMILO(DDIM(steps, shifted=True), 4, **plain, sparse_deviation=False),
        "deviation": DMILO(DDIM(steps, shifted=True), 4, **plain),
    }
    best = {}
    for name, solver in solvers.items():
        rng = ImageGenerators([derive("evidence", i) for i in range(len(images))])
        iterates = solver.reconstruct(images, Identity(prior.image_shape), prior, rng)
        values = np.array([psnr(x, images) for x in iterates if isinstance(x, Tensor)])
        best[name] = float(values.max(0).mean())
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "emoji")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where `bench sweep` has run")
    parser.add_argument("--images", type=int, default=4, help="for the inversion limit")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    weights = ROOT / "priors" / "emoji"
    prior, size = load_prior(weights), 32
    not_trained = {line for line in (BUNDLED / "held-out.txt").read_text().splitlines() if line}
    trained = [file for file in sorted(arguments.data.glob("*.webp")) if file.name not in not_trained]
    training = stack(ImageFiles("trained", trained, size))
    held_out = torch.cat([stack(EmojiDataset(split, size)) for split in ("test", "validation")])

    bases = {base_emoji(file.name) for file in trained}
    held_out_bases = {
        base_emoji(file.name) for split in ("test", "validation") for file in EmojiDataset(split, size).files
    }

    samples = ddim_samples(load_unet(weights), 32)
    save_pictures(samples, OUT / "samples.png", columns=8)
    z = ImageGenerators([derive("evidence", i) for i in range(32)]).normal(*prior.image_shape)
    with torch.no_grad():
        three = to_unit(generate(DDIM(3).maps(prior), z))
    save_pictures(three, OUT / "samples_3step.png", columns=8)
    every, indices = nearest(samples * 2 - 1, training)
    held, held_indices = nearest(held_out, training)
    save_pictures(torch.cat([samples[:16], to_unit(training[indices[:16]])]), OUT / "neighbours.png", columns=16)
    closest = held.argsort()[:16]
    pairs = torch.cat([held_out[closest], training[held_indices[closest]]])
    save_pictures(to_unit(pairs), OUT / "duplicates.png", columns=16)
    restored, truths = reconstructions(arguments.results, 16)
    to_truth = (restored - truths).square().mean(dim=(1, 2, 3)).sqrt()
    to_training, near = nearest(restored, training)
    rows_of_three = torch.cat([restored, truths, training[near]])
    save_pictures(to_unit(rows_of_three), OUT / "reconstructions.png", columns=len(restored))

    rows = denoising(prior, stack(EmojiDataset("test", size), 32))
    limits = {n: inversion(prior, stack(EmojiDataset("test", size), arguments.images), n) for n in arguments.steps}
    lines = [
        "# What the bundled prior can do",
        "",
        "Made by `uv run python -m benchmarks.prior_evidence`. Distances and noise levels are on the [-1, 1] scale.",
        "",
        "Unconditional samples, DDIM with 50 steps (left) and the 3-step G that the solvers invert (right):",
        "",
        "![samples](samples.png) ![3-step samples](samples_3step.png)",
        "",
        "## Does it memorise?",
        "",
        "Samples (top) and their nearest training images (bottom):",
        "",
        "![neighbours](neighbours.png)",
        "",
        "| root-mean-square distance to the nearest training image or its mirror image | smallest | median |",
        "|---|---|---|",
        f"| 32 samples | {every.min():.3f} | {every.median():.3f} |",
        f"| {len(held_out)} held-out images | {held.min():.3f} | {held.median():.3f} |",
        "",
        f"Training images: {len(training)} of {len(bases)} base emoji. Held-out images: {len(held_out)}. Base",
        f"emoji in both: {len(bases & held_out_bases)}. These 16 held-out images (top) are the ones that lie",
        "closest to a training image (bottom):",
        "",
        "![closest](duplicates.png)",
        "",
        f"Held-out images closer than {DUPLICATE} to a training image: {int((held < DUPLICATE).sum())}.",
        "",
        "DMILO's reconstructions (motion deblurring), the truths, and the training images nearest to the first:",
        "",
        "![reconstructions](reconstructions.png)",
        "",
        f"Median distance to the truth {to_truth.median():.3f}, to a training image {to_training.median():.3f}; "
        f"nearer to the truth: {int((to_truth < to_training).sum())} of {len(restored)}.",
        "",
        "## Denoising, 32 test images, mean PSNR in dB",
        "",
        "| timestep | noise | noisy | non-local means, noise level given | prior |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"## The inversion limit, {arguments.images} test images, {INVERSION_CALLS} backward calls, best PSNR in dB",
        "",
        "How close G comes to held-out images when it is fitted to the images themselves: as one graph (as DMPlug",
        "does, lr 5e-2), step by step (as DMILO does, lr 2e-2), and step by step with the sparse deviation. 'Best' is",
        "over iterates and by the truth: a ceiling at this budget, not a result.",
        "",
        "| sampler steps | whole | step by step | with deviation |",
        "|---|---|---|---|",
        *[f"| {n} | {v['whole']:.2f} | {v['stepwise']:.2f} | {v['deviation']:.2f} |" for n, v in limits.items()],
        "",
    ]
    (OUT / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
