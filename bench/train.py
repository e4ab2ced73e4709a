"""`python -m bench train prior=emoji`: train a prior on a dataset and save it as a diffusers folder with a model card.

The same command again continues from the last checkpoint, to the bit; when it is finished it only writes the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bench.cell import make, resolved
from bench.config import composed
from bench.errors import BenchError
from bench.identity import content_hash
from datasets.images import ImageFiles
from priors.card import save_prior
from priors.loading import load_unet
from priors.training import Trainer


def train_command(words: Sequence[str]) -> int:
    config = resolved(composed(list(words), "train"))
    console = Console(stderr=True)
    folder = Path(config["results_dir"]) / "train" / config["name"]
    recipe = make("recipe.training", config["recipe"]["training"])
    training, validation = _datasets(config)
    trainer = Trainer(
        _network(config),
        _pixels(training, console),
        recipe,
        folder,
        device=None if config["device"] == "auto" else config["device"],
        tracker="wandb" if config["tracking"]["name"] == "wandb" else None,
    )
    start = trainer.progress.step
    steps = track(
        trainer.run(),
        description=f"training {config['name']}",
        total=recipe.steps - start,
        console=console,
        disable=not console.is_terminal,
    )
    for step in steps:
        if not console.is_terminal and step % 100 == 0:
            print(f"step {step}/{recipe.steps}: loss {trainer.progress.log[-1]['loss']:.4f}", file=sys.stderr)
    facts = {
        "data": f"{training.name}, {len(training)} images, composited on grey {training.background}",
        "split": content_hash(sorted(training.ids)),
        "command": f"python -m bench train {' '.join(words)}".strip(),
        "device": str(trainer.accelerator.device),
        "start": config["recipe"]["init"] or "random weights",
    }
    save_prior(trainer, training, validation, facts, folder / "prior")
    print(f"{folder / 'prior'}: weights, model card, samples.png, loss.png")
    return 0


def _datasets(config: dict[str, Any]) -> tuple[ImageFiles, ImageFiles]:
    """Training and validation images: the dataset's own splits, or else a share of its files."""
    node = config["dataset"]
    if "split" in node:
        return make("dataset", {**node, "split": "train"}), make("dataset", {**node, "split": "validation"})
    every = make("dataset", node)
    by_hash = sorted(every.files, key=lambda file: content_hash(file.name))
    held = round(config["holdout"] * len(by_hash))
    if not 0 < held < len(by_hash):
        raise BenchError(f"holdout={config['holdout']}: of {len(by_hash)} images this leaves none on one side")
    parts = by_hash[held:], by_hash[:held]
    first, second = (ImageFiles(every.name, files, every.size, every.background) for files in parts)
    return first, second


def _network(config: dict[str, Any]) -> UNet2DModel:
    init = config["recipe"]["init"]
    if init:
        return load_unet(init)
    torch.manual_seed(config["recipe"]["training"]["seed"])
    return UNet2DModel(**config["recipe"]["network"])


def _pixels(dataset: ImageFiles, console: Console) -> Tensor:
    """(N, 3, H, W) uint8: small images are cheaper to keep than to decode again."""
    indices = track(range(len(dataset)), "reading images", console=console, disable=not console.is_terminal)
    return torch.stack([((dataset[i].image + 1) * 127.5).round().to(torch.uint8) for i in indices])
