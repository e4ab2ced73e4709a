"""What each knob does to speed, memory and PSNR; writes results/reference/knobs/.

    uv run python -m benchmarks.knobs            # on the CPU; --device cuda where there is one

DMILO with the bundled prior and the demo's settings, motion deblurring. The variants take turns, round by round, so
that whatever else the machine does hits them all; a ratio is taken within its round. The memory column is the estimate
for the 553M-parameter network at 256 x 256 (`bench memory prior=imagenet256`), where it matters. Without CUDA, TF32's
rounding is emulated (`tf32.py`), so that its PSNR is known, but not its speed.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.cell import build_cell, resolved
from bench.config import ROOT, composed
from bench.cost import GIB, Meter
from bench.lanes import side_by_side, warm_up
from bench.memory import estimate
from bench.metrics import psnr
from bench.results import half_width
from benchmarks.tf32 import EmulatedTF32

OUT = ROOT / "results" / "reference" / "knobs"
BASE = "default"
KNOBS: dict[str, list[str]] = {
    BASE: [],
    "one image at a time": ["batch_size=1"],
    "weight_gradients": ["weight_gradients=true"],
    "checkpointing": ["checkpointing=true"],
    "tf32": ["precision=tf32"],
    "bf16": ["precision=bf16"],
    "bf16_weights": ["precision=bf16_weights"],
    "channels_last": ["channels_last=true"],
    "compile": ["compile=true"],
    "dmplug": ["solver=dmplug"],
    "dmplug checkpoint_steps": ["solver=dmplug", "solver.checkpoint_steps=true"],
}
LARGE = ["prior=imagenet256", "preset=smoke", "batch_size=1"]


class Variant:
    """A cell with its measurements, built once and run again and again."""

    def __init__(self, words: list[str], images: int, device: torch.device) -> None:
        config = resolved(composed(["task=motion_deblur", "solver=dmilo", f"batch_size={images}", *words]))
        self.cell, self.device, self.batch = build_cell(config, device), device, int(config["batch_size"])
        self.emulated = device.type == "cpu" and config["precision"] == "tf32"
        self.samples = [self.cell.dataset[i] for i in range(images)]
        warm_up(self.cell.prior, self.batch, device)  # lazy initialisation, compilation

    def run(self) -> tuple[float, list[float]]:
        """Seconds inside the solver, and the PSNR of every image."""
        cell, seconds, values = self.cell, 0.0, []
        for start in range(0, len(self.samples), self.batch):
            samples = self.samples[start : start + self.batch]
            m, rng = cell.measure(samples, self.device), cell.generators(samples, self.device)
            meter = Meter(cell.prior, len(samples), self.device)
            if self.emulated:  # a mode of this thread, which lanes would leave
                with EmulatedTF32():
                    *_, answer = meter.timed(iter(cell.solver.reconstruct(m.y, m.operator, cell.prior, rng)))
            else:
                *_, answer = meter.timed(side_by_side(cell.solver, m.y, m.operator, cell.prior, rng))
            seconds += meter.seconds
            assert isinstance(answer, Tensor)  # nothing else is unknown in this task
            values += psnr(answer.cpu(), m.truth)
        return seconds, values


def memory_gib(words: list[str]) -> float:
    """Of the large network; three sampler steps, which only DMPlug's memory knows."""
    ours = [word for word in words if not word.startswith(("batch_size", "compile"))]
    config = resolved(composed([*LARGE, "task=super_resolution", "solver=dmilo", *ours]))
    config["solver"]["sampler"]["steps"] = 3
    return estimate(config, 1).peak_bytes / GIB


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", help="of the table's file; the device's by default")
    parser.add_argument("--only", nargs="+", choices=KNOBS, default=list(KNOBS))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    variants = {name: Variant(KNOBS[name], arguments.images, device) for name in arguments.only}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    values: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, variant in variants.items():
            taken, values[name] = variant.run()
            seconds[name].append(taken)
            print(f"{name}: {taken:.1f} s, {np.mean(values[name]):.3f} dB", flush=True)
    rows = []
    for name, variant in variants.items():
        ratios = np.array(seconds[BASE]) / np.array(seconds[name])
        change = np.array(values[name]) - np.array(values[BASE])
        rows.append(
            {
                "variant": name,
                "images_per_hour": f"{3600 * arguments.images / np.median(seconds[name]):.0f}",
                "speed": f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})",
                **({"images_per_hour": "emulated", "speed": "emulated"} if variant.emulated else {}),
                "psnr": f"{np.mean(values[name]):.2f}",
                "change_db": f"{change.mean():+.3f} ± {half_width(change):.3f}",
                "largest_change_db": f"{np.abs(change).max():.3f}",
            }
        )
    table = pd.DataFrame(rows)
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{arguments.name or device.type}.csv"
    table.to_csv(file, index=False)
    print(table.to_markdown(index=False, disable_numparse=True), flush=True)
    table["memory_553M_gib"] = [f"{memory_gib(KNOBS[name]):.2f}" for name in variants]
    table.to_csv(file, index=False)
    print(table.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
