"""Every dataset, in the files people have, with every task and every solver: runs in smoke at 64 x 64."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from conftest import Command, save_random_prior, stores
from PIL import Image

from bench.config import options
from operators.bkse import KernelWizard

ALL = "BENCH_FULL_GRID" in os.environ
SOLVERS = options("solver")
TASKS = [task for task in options("task") if task != "nonlinear_deblur"]  # its network needs 128 pixels: below


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8))


def files(pattern: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for i in range(2):
            file = root / pattern.format(i)
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(i).save(file)

    return make


def database(root: Path) -> None:
    with lmdb.open(str(root / "bedroom_val_lmdb"), map_size=2**22) as base, base.begin(write=True) as transaction:
        for i in range(2):
            encoded = io.BytesIO()
            picture(i).save(encoded, "WEBP")
            transaction.put(f"{i:040x}".encode(), encoded.getvalue())


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "celeba": files("img_align_celeba/{:06d}.jpg"),
    "ffhq": files("00000/{:05d}.png"),
    "imagenet": files("val/n0144000{0}/ILSVRC2012_val_{0:08d}.JPEG"),
    "lsun_bedroom": database,
    "folder": files("{}.webp"),
}


def random_prior(folder: Path, side: int) -> list[str]:
    save_random_prior(folder, side, attention=False)
    return ["prior=folder", f"prior.weights={folder}", f"prior.image_size={side}", "preset=smoke", "limit=1"]


def where(dataset: str, root: Path) -> list[str]:
    if dataset == "emoji":
        return ["dataset=emoji"]
    root.mkdir(parents=True, exist_ok=True)
    LAYOUTS[dataset](root)
    images = [] if dataset == "folder" else ["dataset.images=2"]
    return [f"dataset={dataset}", f"dataset.root={root}", *images]


def check(bench: Command, words: list[str], results: Path, dataset: str, task: str, chosen: list[str]) -> None:
    assert bench("sweep", *words, f"task={task}", f"solver={','.join(chosen)}", f"results_dir={results}") == 0, (
        bench.err
    )
    for solver in chosen:
        records = stores(results)[f"{dataset}-{task}-{solver}"].records()
        cannot = (task, solver) == ("blind_deblur", "dcps")
        assert [record["status"] for record in records.values()] == ([] if cannot else ["ok"])


@pytest.mark.parametrize("dataset", options("dataset"))
def test_every_task_and_solver(bench: Command, tmp_path: Path, dataset: str) -> None:
    """All solvers on the bundled dataset; elsewhere another one for each task, unless BENCH_FULL_GRID is set."""
    words = where(dataset, tmp_path / "images") + random_prior(tmp_path / "prior", 64)
    turn = options("dataset").index(dataset)
    for i, task in enumerate(TASKS):
        one = [SOLVERS[(i + turn) % len(SOLVERS)]]
        check(bench, words, tmp_path / "results", dataset, task, SOLVERS if ALL or dataset == "emoji" else one)


def test_nonlinear_deblurring(bench: Command, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(KernelWizard().state_dict(), tmp_path / "GOPRO_wVAE.pth")
    words = where("celeba", tmp_path / "images") + random_prior(tmp_path / "prior", 128)
    words += [f"task.operator.checkpoint={tmp_path / 'GOPRO_wVAE.pth'}"]
    check(bench, words, tmp_path / "results", "celeba", "nonlinear_deblur", SOLVERS if ALL else ["dmilo"])


def test_nonlinear_deblurring_without_its_checkpoint_says_which_file_goes_where(
    bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    words = where("celeba", tmp_path / "images") + random_prior(tmp_path / "prior", 128)
    assert bench("run", *words, "task=nonlinear_deblur", f"results_dir={tmp_path / 'results'}") == 1
    assert "GOPRO_wVAE.pth" in bench.err
    assert f"put it at {tmp_path / 'checkpoints' / 'GOPRO_wVAE.pth'}" in bench.err.replace("\n", " ")
