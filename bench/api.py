"""Benchmark a solver from Python, without the command: `evaluate(my_solver, task="motion_deblur")`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pandas as pd

from bench.cell import build_cell, resolved, run_options
from bench.config import composed
from bench.errors import BenchError
from bench.identity import object_settings
from bench.records import OK
from bench.runner import run_cell
from solvers.base import Solver


def evaluate(
    solver: Solver,
    task: str = "motion_deblur",
    dataset: str = "emoji",
    *overrides: str,
    name: str | None = None,
    results_dir: str | Path | None = None,
) -> pd.DataFrame:
    """Run `solver` on a task exactly as the command would, and return a row per image.

    The measurements, seeds and metrics are those of every other solver, so the rows compare with the command's.

    Args:
        solver: any object with `Solver`'s `reconstruct`.
        task, dataset: names, as on the command line.
        overrides: more of them, e.g. `"limit=8"`, `"task.noise.sigma=0.05"`.
        name: what the records call it; by default the class's name.
        results_dir: keep records there, resume from them, and have them in `python -m bench report`; None keeps none.

    Returns:
        Columns image, psnr, ssim, lpips, measurement_psnr, forward, backward, seconds.

    Raises:
        BenchError: bad input, or an image that the solver failed on.
    """
    with contextlib.ExitStack() as stack:
        folder = results_dir or stack.enter_context(tempfile.TemporaryDirectory())
        config = resolved(composed([f"dataset={dataset}", f"task={task}", *overrides, f"results_dir={folder}"]))
        options = run_options(config)
        cell = build_cell(config, options.device)
        cell.solver = solver
        cell.solver_name = name or type(solver).__name__
        cell.config = {**config, "solver": object_settings(solver)}
        outcome = run_cell(cell, options)
    if outcome.status != OK:
        raise BenchError(f"{cell.title}: {outcome.status}: {outcome.reason}")
    columns = ("image", "measurement_psnr", "forward", "backward", "seconds")
    rows = [{**{c: r[c] for c in columns}, **r["metrics"]["last"]} for r in outcome.records.values()]
    order = ["image", "psnr", "ssim", "lpips", "measurement_psnr", "forward", "backward", "seconds"]
    return pd.DataFrame(rows, columns=order)
