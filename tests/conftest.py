"""Shared fixtures. Nothing here touches the network, and every run uses the smoke preset on a tiny random prior."""

from __future__ import annotations

import json
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch starts its threads: several processes share the cores
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

os.environ["BENCH_OFFLINE"] = "1"

from bench.__main__ import main
from bench.metrics import lpips_network
from bench.records import CellStore, Record, all_cells

SIDE = 16


def save_random_prior(folder: Path, side: int, attention: bool) -> Path:
    """A diffusers folder with a small random network for `side` x `side` images."""
    kind = "Attn" if attention else ""
    torch.manual_seed(0)
    UNet2DModel(
        sample_size=side,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", f"{kind}DownBlock2D"),
        up_block_types=(f"{kind}UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
    ).save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 16 x 16 network, attention included."""
    return save_random_prior(tmp_path_factory.mktemp("prior"), SIDE, attention=True)


@pytest.fixture
def smoke(tiny_prior: Path, tmp_path: Path) -> list[str]:
    """Overrides that make any cell take about a second."""
    lpips_network.cache_clear()  # each test sees the warning as a new process would
    return [
        "preset=smoke",
        "prior=folder",
        f"prior.weights={tiny_prior}",
        f"prior.image_size={SIDE}",
        f"results_dir={tmp_path / 'results'}",
    ]


class Command:
    """Runs `python -m bench ...` in this process; keeps what it printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        try:
            code = main(list(words))
        except SystemExit as error:
            code = int(error.code or 0)
        self.out, self.err = self._capfd.readouterr()
        return code


@pytest.fixture
def bench(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


def stores(results_dir: Path) -> dict[str, CellStore]:
    """Cells by `<dataset>-<task>-<solver>`."""
    return {store.folder.name.rpartition("-")[0]: store for store in all_cells(results_dir)}


def comparable(record: Record) -> Record:
    """A record without what may differ between two runs of the same cell: time, and how it was batched."""
    dropped = {"seconds", "time", "batch_size", "trajectory"}
    kept = {k: v for k, v in record.items() if k not in dropped}
    metrics = {name: {k: v for k, v in m.items() if k != "seconds"} for name, m in record.get("metrics", {}).items()}
    return json.loads(json.dumps(kept | {"metrics": metrics}))
