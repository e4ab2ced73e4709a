"""Training a pixel diffusion prior on a folder of small images.

The objective is DDPM's epsilon regression (arXiv 2006.11239, eq. 14) with the min-SNR weight (arXiv 2303.09556):

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e,     loss = E  min(snr_t, gamma) / snr_t * mean (net(x_t, t) - e)^2

Everything that step k draws (images, flips, timesteps, noise) is a function of (seed, k). So a run that was killed
continues to the bit from its last checkpoint, which need not hold any generator's state.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor

from bench.errors import BenchError, at_least
from bench.seeds import torch_generator


@dataclass
class Recipe:
    """What determines a training run, besides the images and the network."""

    steps: int
    batch_size: int = 32
    lr: float = 1e-3
    warmup: int = 100
    ema_decay: float = 0.999
    min_snr_gamma: float = 5.0
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    flip: bool = True
    seed: int = 0
    mixed_precision: str = "no"
    save_every: int = 100
    log_every: int = 10

    def __post_init__(self) -> None:
        for key, minimum in {"steps": 1, "batch_size": 1, "save_every": 1, "log_every": 1, "warmup": 0}.items():
            at_least(f"recipe.{key}", getattr(self, key), minimum)
        if not 0 <= self.ema_decay < 1:
            raise BenchError(f"recipe.ema_decay={self.ema_decay}: must lie in [0, 1)")


@dataclass
class Progress:
    """The part of the state that no library object holds; accelerate saves it with the rest."""

    step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.log = state["step"], state["log"]


def batch_indices(step: int, batch_size: int, images: int, seed: int) -> Tensor:
    """The images of step `step`: consecutive slices of one seeded permutation per epoch, the remainder dropped."""
    size = min(batch_size, images)
    epoch, position = divmod(step, images // size)
    order = torch.randperm(images, generator=torch_generator("epoch", seed, epoch))
    return order[position * size : (position + 1) * size]


def training_loss(
    network: Callable[..., Any], scheduler: DDPMScheduler, images: Tensor, recipe: Recipe, step: int
) -> Tensor:
    """The weighted loss of one step on (B, 3, H, W) images in [-1, 1]; a scalar."""
    draw = torch_generator("step", recipe.seed, step)
    batch = images.shape[0]
    if recipe.flip:
        flipped = torch.rand(batch, generator=draw) < 0.5
        images = torch.where(flipped[:, None, None, None].to(images.device), images.flip(-1), images)
    t = torch.randint(0, scheduler.config["num_train_timesteps"], (batch,), generator=draw).to(images.device)
    noise = torch.randn(images.shape, generator=draw).to(images.device)
    predicted = network(scheduler.add_noise(images, noise, t), t).sample  # pyright: ignore[reportArgumentType]
    snr = compute_snr(scheduler, t)
    weight = snr.clamp(max=recipe.min_snr_gamma) / snr
    return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()


class Trainer:
    """Trains `network` in `folder`, from the last checkpoint there if there is one.

    Args:
        network: the model; its weights are where a first run starts.
        images: (N, 3, H, W) uint8, all training images.
        recipe: see `Recipe`.
        folder: checkpoints, log, and the finished prior.
        device: `cpu`, `cuda` or None for what accelerate finds.
        tracker: `wandb` or None.
    """

    def __init__(
        self,
        network: UNet2DModel,
        images: Tensor,
        recipe: Recipe,
        folder: Path,
        device: str | None = None,
        tracker: str | None = None,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self.accelerator = Accelerator(
            cpu=device == "cpu", mixed_precision=recipe.mixed_precision, log_with=tracker, project_dir=folder
        )
        if tracker:
            self.accelerator.init_trackers("bench-train", config=asdict(recipe))
        self.images = images.to(self.accelerator.device)
        self.scheduler = DDPMScheduler()  # its defaults are DDPM's linear schedule, 1e-4 to 0.02 over 1000 steps
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
        self.ema = EMAModel(network.parameters(), decay=recipe.ema_decay)
        self.ema.to(self.accelerator.device)
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.schedule, self.ema, self.progress)
        self._resume()

    def run(self) -> Iterator[int]:
        """Train to the end, yielding after every step; checkpoints on the way."""
        recipe, progress = self.recipe, self.progress
        self.network.train()
        recent = torch.zeros((), device=self.accelerator.device)  # summed on the device: no sync per step
        while progress.step < recipe.steps:
            step = progress.step
            chosen = batch_indices(step, recipe.batch_size, len(self.images), recipe.seed)
            images = self.images[chosen.to(self.images.device)].float() / 127.5 - 1
            torch.manual_seed(step)  # dropout, where a network has it, is a function of the step too
            loss = training_loss(self.network, self.scheduler, images, recipe, step)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.network.parameters(), recipe.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            self.ema.step(self.network.parameters())
            recent += loss.detach()
            progress.step += 1
            if progress.step % recipe.log_every == 0:
                self._log(loss=recent.item() / recipe.log_every, lr=float(self.schedule.get_last_lr()[0]))
                recent.zero_()
            if progress.step % recipe.save_every == 0 or progress.step == recipe.steps:
                self._save()
            yield progress.step
        self.accelerator.end_training()

    def averaged(self) -> UNet2DModel:
        """A copy of the network on the CPU with the averaged (EMA) weights."""
        trained = self.accelerator.unwrap_model(self.network)
        copy: Any = UNet2DModel.from_config(trained.config)
        self.ema.copy_to(copy.parameters())
        return copy.cpu().eval()

    def _log(self, **values: float) -> None:
        self.progress.log.append({"step": self.progress.step, **values})
        self.accelerator.log(values, step=self.progress.step)

    @property
    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def _save(self) -> None:
        """One folder per checkpoint, renamed into place when complete, so that a kill never leaves half of one."""
        final = self.folder / "checkpoints" / f"step-{self.progress.step:07d}"
        partial = final.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.save_state(str(partial))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in self._checkpoints[:-2]:
            shutil.rmtree(old)
        lines = [json.dumps(entry) for entry in self.progress.log]
        (self.folder / "log.jsonl").write_text("\n".join(lines) + "\n")

    def _resume(self) -> None:
        recipe_file = self.folder / "recipe.json"
        recipe = json.dumps(asdict(self.recipe), indent=1)
        if recipe_file.exists() and recipe_file.read_text() != recipe:
            raise BenchError(f"{recipe_file}: this folder was trained with another recipe; choose another `name`")
        self.folder.mkdir(parents=True, exist_ok=True)
        recipe_file.write_text(recipe)
        if not self._checkpoints:
            return
        with contextlib.redirect_stdout(None):
            self.accelerator.load_state(str(self._checkpoints[-1]))
