"""wandb, offline: a run per cell, its files in the cell's folder."""

from __future__ import annotations

from pathlib import Path

from conftest import Command, stores


def test_offline_run_holds_the_records(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, "task=inpainting", "solver=dmplug", "tracking=wandb") == 0, bench.err
    (store,) = stores(Path(smoke[-1].partition("=")[2])).values()
    (run,) = store.folder.glob("wandb/offline-run-*/*.wandb")
    content = run.read_bytes()
    assert b"denoiser_calls" in content
    assert b"ssim" in content
