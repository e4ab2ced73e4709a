"""Weights & Biases, if asked for (`tracking=wandb`; offline by default): one run per cell."""

from __future__ import annotations

import os
from statistics import mean
from typing import Any

from bench.cell import Cell
from bench.metrics import PER_IMAGE
from bench.records import OK
from bench.runner import Outcome


def track(tracking: dict[str, Any], cell: Cell, outcome: Outcome) -> None:
    """Log a cell's records: a row per image, means in the summary, settings in the config."""
    if tracking["name"] == "none":
        return
    # beside the records, or a later `wandb sync` elsewhere would miss the tables' files
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ.setdefault(variable, str(outcome.folder / "wandb"))
    import wandb

    run = wandb.init(
        project=tracking["project"],
        mode=tracking["mode"],
        dir=str(outcome.folder),
        name=cell.title.replace(" / ", "-"),
        group=f"{cell.dataset.name}-{cell.task['name']}",
        config=cell.config,
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_machine_info=True),
    )
    done = [r for r in outcome.records.values() if r["status"] == OK]
    names = [m.name for m in PER_IMAGE]
    rows: list[Any] = [
        [r["image"], *(r["metrics"]["last"][n] for n in names), r["forward"], r["backward"], r["seconds"]] for r in done
    ]
    run.log({"images": wandb.Table(columns=["image", *names, "forward", "backward", "seconds"], data=rows)})
    run.define_metric("psnr/*", step_metric="denoiser_calls")
    for record in done:
        for calls, _, value in record["trajectory"]:
            run.log({"denoiser_calls": calls, f"psnr/{record['image']}": value})
    for name in names:
        values = [r["metrics"]["last"][name] for r in done if r["metrics"]["last"][name] is not None]
        if values:
            run.summary[name] = mean(values)
    run.summary["status"] = outcome.status
    run.finish(exit_code=0 if outcome.status != "failed" else 1)
