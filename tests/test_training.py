"""Training: a kill costs nothing but time, and what is held out stays out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Command
from diffusers import UNet2DModel
from PIL import Image

from bench.errors import BenchError
from priors.loading import load_prior
from priors.training import Recipe, Trainer, batch_indices


def network() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        dropout=0.1,
    )


def images() -> torch.Tensor:
    return torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trainer(folder: Path, **changes: float) -> Trainer:
    recipe = Recipe(**{"steps": 100, "batch_size": 4, "warmup": 5, "save_every": 10, **changes})
    return Trainer(network(), images(), recipe, folder, device="cpu")


def weights(t: Trainer) -> dict[str, torch.Tensor]:
    return t.averaged().state_dict()


def test_resume_is_exact(tmp_path: Path) -> None:
    straight = trainer(tmp_path / "straight")
    list(straight.run())
    for step in trainer(tmp_path / "killed").run():
        if step == 56:  # between two checkpoints, as a kill would be
            break
    resumed = trainer(tmp_path / "killed")
    assert resumed.progress.step == 50
    list(resumed.run())
    assert resumed.progress == straight.progress
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[key]), key


def test_a_partial_checkpoint_is_not_taken(tmp_path: Path) -> None:
    run = trainer(tmp_path).run()
    for _ in range(10):
        next(run)
    (tmp_path / "checkpoints" / "partial").mkdir()
    assert trainer(tmp_path).progress.step == 10


def test_another_recipe_needs_another_folder(tmp_path: Path) -> None:
    trainer(tmp_path)
    with pytest.raises(BenchError, match="another recipe"):
        trainer(tmp_path, lr=1.0)


def test_every_image_once_per_epoch() -> None:
    seen = torch.cat([batch_indices(step, 4, 20, seed=1) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(20))
    assert not torch.equal(batch_indices(0, 4, 20, 1), batch_indices(5, 4, 20, 1))


def test_train_command_makes_a_prior_that_a_sweep_can_use(bench: Command, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        Image.effect_noise((20, 20), 50 + 10 * i).convert("RGB").save(folder / f"{i}.png")
    words = [
        "dataset=folder", f"dataset.root={folder}", "dataset.size=8", "holdout=0.25", "name=tiny", "device=cpu",
        "recipe.training.steps=3", "recipe.training.batch_size=4", "recipe.network.sample_size=8",
        "recipe.network.block_out_channels=[8,8,8]", "recipe.network.norm_num_groups=4",
        "recipe.network.attention_head_dim=4", f"results_dir={tmp_path}",
    ]  # fmt: skip
    assert bench("train", *words) == 0, bench.err
    prior = tmp_path / "train" / "tiny" / "prior"
    card = (prior / "README.md").read_text()
    assert "folder, 9 images" in card
    assert "| 0-49 |" in card
    assert {"samples.png", "loss.png", "config.json", "scheduler_config.json"} <= {f.name for f in prior.iterdir()}
    assert load_prior(prior).image_shape == (3, 8, 8)
    assert bench("train", *words) == 0  # finished: only writes the folder again
    assert bench("train", "recipe.training.steps=0") == 1
    assert "recipe.steps=0" in bench.err
