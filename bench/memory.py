"""`python -m bench memory`: will it fit on my card, and at which batch size?

Estimated everywhere (see `footprint.py`), and measured where there is CUDA, with random weights: memory does not ask
what the numbers are. Choices multiply: `prior=celebahq,imagenet256 steps=1,2,3,4 batch_size=1,4 precision=fp32,bf16`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only, no window
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler, UNet2DModel
from rich.console import Console
from rich.table import Table

from bench.cell import EXECUTION, make, resolved
from bench.config import composed, expanded, parsed
from bench.cost import GIB, Meter
from bench.errors import BenchError, nearest
from bench.footprint import ACTIVATIONS, GRADIENTS, OPERATOR, OPTIMISER, WEIGHTS, Footprint, footprint
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.execution import Execution
from priors.prior import Prior
from solvers.base import Solver

DEFAULTS = {"prior": "imagenet256", "solver": "dmilo,dmilo_pgd,dmplug", "steps": "1,2,3,4", "batch_size": "1"}
FORMATS = ("terminal", "csv")
COLUMNS = ["solver", "steps", "batch_size", "precision", "checkpointing", "weights_gib", "peak_gib", "source"]
CARDS_GIB = (8, 16, 24, 80)
PAPER = {
    "dmplug": (10.53, 15.72, 20.83),
    "dmilo": (10.53, 10.53, 10.53, 10.54),
    "dmilo_pgd": (10.53, 10.54, 10.54, 10.54),
}
"""On an RTX 4090 by sampling steps, arXiv 2505.20789, in GiB as CUDA's tools count them, the CUDA context included;
DMPlug runs out of memory at 4."""


def memory_command(words: Sequence[str]) -> int:
    """`memory [steps=...] [format=csv]` and any key of `sweep`; prints the table, writes it and a plot."""
    overrides = parsed(list(words))
    named = {override.get_key_element() for override in overrides}
    form = next((str(o.value()) for o in overrides if o.get_key_element() == "format"), "terminal")
    if form not in FORMATS:
        raise BenchError(f"format={form}: no such format{nearest(form, FORMATS)}")
    asked = [word for word in words if not word.startswith("format=")]
    jobs = expanded([f"{key}={value}" for key, value in DEFAULTS.items() if key not in named] + asked)
    rows: list[dict[str, Any]] = []
    results_dir = ""
    for job in jobs:
        steps = next(word.partition("=")[2] for word in job if word.startswith("steps="))
        if not steps.isdecimal() or int(steps) < 1:
            raise BenchError(f"steps={steps}: must be whole numbers of at least 1")
        config = resolved(composed(["preset=smoke", *[w for w in job if not w.startswith("steps=")]]))
        sampler = config["solver"].get("sampler")
        if sampler:
            sampler["steps"] = int(steps)
        print(" ".join(job), file=sys.stderr)
        rows += _rows(config, int(steps))
        results_dir = config["results_dir"]
    table = pd.DataFrame(rows)
    folder = Path(results_dir) / "memory"
    write(table, folder)
    if form == "csv":
        print(table.to_csv(index=False), end="")
    else:
        _print(table)
        print(f"{folder}: memory.csv and memory.png")
    return 0


def network_config(prior: dict[str, Any]) -> dict[str, Any]:
    """The `UNet2DModel` configuration of a prior's node, read without its weights.

    Raises:
        BenchError: the node has no `network`, and its `weights` is no folder with a config.json.
    """
    if "network" in prior:
        return prior["network"]
    file = Path(prior["weights"]) / "config.json"
    if not file.is_file():
        raise BenchError(f"prior.weights={prior['weights']}: has no config.json, so the network's shape is unknown")
    return {key: value for key, value in json.loads(file.read_text()).items() if not key.startswith("_")}


def estimate(config: dict[str, Any], batch: int) -> Footprint:
    """The footprint of a resolved configuration's solver on `batch` images."""
    return footprint(network_config(config["prior"]), _solver(config), _operator(config), batch, **_execution(config))


def _solver(config: dict[str, Any]) -> Solver:
    return make("solver", {key: value for key, value in config["solver"].items() if key != "name"})


def _operator(config: dict[str, Any]) -> Operator:
    return make("task.operator", config["task"]["operator"])


def _execution(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in EXECUTION if key != "compile"}


def _rows(config: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    batch = config["batch_size"]
    estimated = estimate(config, batch)
    common = {
        "solver": config["solver"]["name"],
        "steps": steps,
        "batch_size": batch,
        "precision": config["precision"],
        "checkpointing": config["checkpointing"],
        "weights_gib": round(estimated.peak[WEIGHTS] / GIB, 3),
    }
    context = {"prior": config["prior"]["name"], "weight_gradients": config["weight_gradients"]}
    kinds = (ACTIVATIONS, GRADIENTS, OPTIMISER, OPERATOR)
    split = {f"{kind}_gib": round(estimated.peak[kind] / GIB, 3) for kind in kinds}
    peak = round(estimated.peak_bytes / GIB, 3)
    rows = [{**common, "peak_gib": peak, "source": "estimated", **context, **split}]
    if torch.cuda.is_available():
        rows.append({**common, "peak_gib": round(measured(config), 3), "source": "measured", **context})
    return rows


def measured(config: dict[str, Any]) -> float:
    """Peak GiB of one reconstruction on the CUDA device, with random weights."""
    device, batch = torch.device("cuda"), config["batch_size"]
    torch.cuda.empty_cache()
    with device:
        unet: Any = UNet2DModel(**network_config(config["prior"]))
    shape = (unet.config["in_channels"], unet.config["sample_size"], unet.config["sample_size"])
    predict = Execution("cuda", **_execution(config)).prepare(unet, shape[0])
    prior = Prior(predict, DDPMScheduler().alphas_cumprod, shape)
    drawn = _operator(config).draw(shape, [np.random.default_rng(i) for i in range(batch)]).to(device, torch.float32)
    y = drawn(torch.zeros(batch, *shape, device=device))
    meter = Meter(prior, batch, device)
    for _ in meter.timed(iter(_solver(config).reconstruct(y, drawn, prior, ImageGenerators(range(batch), device)))):
        pass
    assert meter.peak_memory_gib is not None
    return meter.peak_memory_gib


def fitting_batch(config: dict[str, Any], device: torch.device, most: int = 16) -> int:
    """The largest batch, at most `most`, whose estimated memory is within 90 % of what `device` has free; at least 1.

    Memory is a constant plus a share per image, so two estimates tell.
    """
    one, two = (estimate(config, batch).peak_bytes for batch in (1, 2))
    return max(1, min(most, 1 + int((0.9 * _free_bytes(device) - one) // (two - one))))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write(table: pd.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "memory.csv", index=False)
    settings = ["prior", "batch_size", "precision", "checkpointing", "weight_gradients"]
    varying = [column for column in settings if len(set(table[column])) > 1]
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for _, group in table.groupby(["solver", "source", *varying]):
        first = group.iloc[0]
        label = ", ".join([first["solver"], first["source"], *(f"{key}={first[key]}" for key in varying)])
        axis.plot(group["steps"], group["peak_gib"], marker="o", label=label)
    for name in set(table["solver"]) & set(PAPER):
        values = PAPER[name]
        axis.scatter(range(1, len(values) + 1), values, marker="x", label=f"{name}, paper (553M network, RTX 4090)")
    top = axis.get_ylim()[1]
    for card in CARDS_GIB:
        if card <= 1.3 * top:
            axis.axhline(card, color="grey", linewidth=0.8, linestyle=":")
            axis.annotate(f"{card} GiB card", (axis.get_xlim()[0], card), fontsize=7, va="bottom")
    axis.set(xlabel="sampler steps", ylabel="peak memory, GiB", ylim=(0, None))
    axis.set_xticks(sorted(set(table["steps"])))
    axis.legend(fontsize=7)
    figure.savefig(folder / "memory.png", dpi=120)
    plt.close(figure)


def _print(table: pd.DataFrame) -> None:
    shown = [c for c in table.columns if c in COLUMNS or len(set(table[c])) > 1 or c.endswith("_gib")]
    printed = Table(title="peak memory, GiB")
    for column in shown:
        printed.add_column(column.removesuffix("_gib"), justify="left" if column == "solver" else "right")
    for row in table[shown].astype(str).replace("nan", "").itertuples(index=False):
        printed.add_row(*row)
    console = Console()
    if not console.is_terminal:  # a log file has no width; do not fold the columns
        console.width = 160
    console.print(printed)
