"""The picture grid: truth, measurement and every solver's answer, with the PSNR under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only, no window
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from bench.metrics import to_unit
from bench.results import CellResult
from bench.scoring import measured_again, reconstructions

CELL_INCHES = 1.35


def grid(cells: Sequence[CellResult], path: Path, images_per_task: int = 2) -> bool:
    """Draw the first images that all solvers of each experiment finished; False where there are none.

    A row per experiment and image, a column each for truth, measurement and solver.
    """
    experiments: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.finished:
            experiments.setdefault(cell.experiment, []).append(cell)
    rows = [row for group in experiments.values() for row in _rows(group, images_per_task)]
    if not rows:
        return False
    solvers = list(dict.fromkeys(label for _, pictures in rows for label in pictures if label))
    figure, axes = plt.subplots(
        len(rows),
        len(solvers),
        figsize=(CELL_INCHES * len(solvers), 1.2 * CELL_INCHES * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for axis_row, (title, pictures) in zip(axes, rows, strict=True):
        for axis, solver in zip(axis_row, solvers, strict=True):
            axis.set(xticks=[], yticks=[])
            if solver not in pictures:
                axis.axis("off")
                continue
            picture, caption = pictures[solver]
            axis.imshow(picture, interpolation="nearest")
            axis.set_xlabel(caption, fontsize=8)
        axis_row[0].set_ylabel(title, fontsize=8)
    for axis, solver in zip(axes[0], solvers, strict=True):
        axis.set_title(solver, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


Pictures = dict[str, tuple[np.ndarray, str]]


def _rows(group: list[CellResult], count: int) -> list[tuple[str, Pictures]]:
    shared = [i for i in group[0].records if all(i in {r["image"] for r in cell.finished} for cell in group)][:count]
    if not shared:
        return []
    measurement = measured_again(group[0].store, shared)
    answers = {cell.label: reconstructions(cell.store, shared, cell.headline) for cell in group}
    rows = []
    for i, image in enumerate(shared):
        own = group[0].records[image]["measurement_psnr"]
        pictures: Pictures = {
            "truth": (_picture(measurement.truth[i]), ""),
            "measurement": (_picture(measurement.previews[i]), f"{own:.2f} dB"),
        }
        for cell in group:
            value = cell.records[image]["metrics"][cell.headline]["psnr"]
            pictures[cell.label] = (_picture(answers[cell.label][i]), f"{value:.2f} dB")
        rows.append((group[0].task.replace("_", " "), pictures))
    return rows


def _picture(image: Tensor) -> np.ndarray:
    return to_unit(image).permute(1, 2, 0).numpy()
