"""Saving a trained prior: a diffusers folder in half precision, with a model card and two pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only, no window
import matplotlib.pyplot as plt
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from datasets.images import ImageFiles
from priors.evaluation import BandLoss, denoising_loss
from priors.loading import load_prior
from priors.training import Trainer

DRAWS = 8
TRAINING_SUBSET = 512


def save_prior(
    trainer: Trainer, training: ImageFiles, validation: ImageFiles, facts: dict[str, str], folder: Path
) -> None:
    """Write the averaged weights, the schedule, README.md (the model card), samples.png and loss.png.

    Args:
        trainer: a finished run; its images are those of `training`, in their order.
    """
    network = trainer.averaged()
    save_half(network, folder)
    prior = load_prior(folder)  # what was written is what is evaluated
    held_out = torch.stack([validation[i].image for i in range(len(validation))])
    chosen = training.representatives()
    chosen = chosen[:: -(-len(chosen) // TRAINING_SUBSET)]  # evenly: the order may favour groups with many variants
    seen = trainer.images.cpu()[chosen].float() / 127.5 - 1
    losses = denoising_loss(prior, seen, DRAWS), denoising_loss(prior, held_out, DRAWS)
    parameters = sum(p.numel() for p in network.parameters())
    (folder / "README.md").write_text(_card(trainer, facts, parameters, losses))
    save_pictures(ddim_samples(network, 32), folder / "samples.png", columns=8)
    _loss_curve(trainer.progress.log, folder / "loss.png")


def save_half(network: UNet2DModel, folder: Path) -> None:
    """A diffusers folder in float16; `network` itself is left as it is."""
    copy: Any = UNet2DModel.from_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)  # a path of the machine that trained it
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    DDPMScheduler().save_pretrained(folder)


def ddim_samples(network: UNet2DModel, count: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Unconditional samples, (count, 3, H, W) in [0, 1]."""
    scheduler: Any = DDIMScheduler.from_config(DDPMScheduler().config)
    pipeline: Any = DDIMPipeline(network, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(batch_size=count, generator=generator, num_inference_steps=steps, output_type="np").images
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def save_pictures(images: Tensor, path: Path, columns: int, zoom: int = 3) -> None:
    """(N, 3, H, W) in [0, 1] as one PNG."""
    sheet = make_grid(images, nrow=columns, padding=1, pad_value=1.0).clamp(0, 1)
    picture = Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy())
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)


def _loss_curve(log: Sequence[dict[str, float]], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    axis.plot([e["step"] for e in log], [e["loss"] for e in log], linewidth=0.8)
    axis.set(xlabel="step", ylabel="weighted loss", yscale="log")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _card(
    trainer: Trainer, facts: dict[str, str], parameters: int, losses: tuple[list[BandLoss], list[BandLoss]]
) -> str:
    recipe = trainer.recipe
    rows = [
        f"| {seen.first}-{seen.last} | {seen.loss:.5f} ± {seen.error:.5f} | {unseen.loss:.5f} ± {unseen.error:.5f} |"
        for seen, unseen in zip(*losses, strict=True)
    ]
    return "\n".join(
        [
            "# A diffusion prior",
            "",
            f"A diffusers `UNet2DModel` of {parameters:,} parameters, epsilon prediction, DDPM's linear",
            "schedule (betas 1e-4 to 0.02, 1000 steps), averaged (EMA) weights in float16. Images are RGB in [-1, 1].",
            "",
            *[f"- {key}: {value}" for key, value in facts.items()],
            f"- training: {recipe.steps} steps of {recipe.batch_size} images, AdamW at {recipe.lr:g}, "
            f"{recipe.warmup} warm-up steps and cosine decay, min-SNR {recipe.min_snr_gamma:g}, "
            f"EMA {recipe.ema_decay:g}, seed {recipe.seed}",
            "",
            "Mean squared error of the predicted noise, ± its standard error over images. Of variants of one thing one",
            "training image counts, as in the validation split:",
            "",
            "| timesteps | training images | validation images |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
