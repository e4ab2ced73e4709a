"""Quality against cost: the mean PSNR of every iterate against the network calls and the seconds spent until then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only, no window
import matplotlib.pyplot as plt
import numpy as np

from bench.results import CellResult

COSTS = ("forward calls per image", "seconds per image")


def mean_trajectory(cell: CellResult) -> np.ndarray:
    """(iterates, 3): forward calls, seconds and PSNR, means over the finished images."""
    each = [np.array(record["trajectory"]) for record in cell.finished]
    longest = max(map(len, each))  # a solver that stops early on some images stays where it stopped
    return np.mean([np.vstack([t, np.repeat(t[-1:], longest - len(t), axis=0)]) for t in each], axis=0)


def trajectories(cells: Sequence[CellResult], path: Path) -> bool:
    """Draw a row per experiment; False where there is nothing to draw."""
    experiments: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.finished:
            experiments.setdefault(cell.experiment, []).append(cell)
    if not experiments:
        return False
    figure, axes = plt.subplots(
        len(experiments), 2, figsize=(9, 2.6 * len(experiments)), squeeze=False, layout="constrained"
    )
    for row, group in zip(axes, experiments.values(), strict=True):
        for column, (axis, cost) in enumerate(zip(row, COSTS, strict=True)):
            for cell in group:
                points = mean_trajectory(cell)
                axis.plot(points[:, column], points[:, 2], marker=".", label=cell.label)
            own = np.mean([record["measurement_psnr"] for record in group[0].finished])
            axis.axhline(own, color="grey", linestyle=":", linewidth=1, label="measurement")
            axis.set(xlabel=cost, ylabel="PSNR, dB")
        row[0].set_title(f"{group[0].dataset}, {group[0].task}", fontsize=9)
        row[1].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
