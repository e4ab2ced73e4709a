"""Running one cell: measure, reconstruct, watch the cost, score, record. Finished images are never done again."""

from __future__ import annotations

import contextlib
import datetime
import logging
import platform
import subprocess
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.cell import Cell, RunOptions
from bench.cost import Meter
from bench.errors import BenchError
from bench.lanes import side_by_side, warm_up
from bench.measurement import Measurement
from bench.memory import fitting_batch
from bench.metrics import psnr, score
from bench.progress import CellProgress
from bench.records import OK, CellStore, Record
from bench.selection import SELECTIONS, Seen
from datasets.images import Sample
from solvers.base import apart

log = logging.getLogger(__name__)

TRAJECTORY_POINTS = 200
PACKAGES = ("torch", "diffusers", "numpy", "pillow", "torchmetrics", "scikit-image")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: `ok`, `failed` (some image did not finish) or `skipped` (solver and operator do not fit)."""

    status: str
    reason: str
    folder: Path
    records: dict[str, Record]


class Diverged(Exception):
    """An estimate with NaN or infinity."""


def run_cell(cell: Cell, options: RunOptions) -> Outcome:
    """Reconstruct the first `options.limit` images that are not finished yet, a batch at a time.

    Raises:
        BenchError: the results cannot be written, or another process is writing this cell.
    """
    store = CellStore.for_identity(options.results_dir, cell.identity)
    with store.writing():
        unsuitable = cell.solver.unsuitable(cell.operator)
        store.describe(_description(cell, unsuitable))
        if unsuitable:
            return Outcome("skipped", unsuitable, store.folder, {})
        done = store.finished()
        wanted = cell.dataset.ids[: options.limit]
        if len(wanted) < options.limit:
            log.info("%s: limit=%d, but the dataset has %d images", cell.title, options.limit, len(wanted))
        pending = [i for i, image in enumerate(wanted) if image not in done]
        failure = ""
        batch = options.batch_size or len(wanted)
        if pending and options.batch_size is None:
            batch = fitting_batch(cell.config, options.device)
            log.info("%s: batch_size=auto takes %d images at a time", cell.title, batch)
        with CellProgress(cell.title, len(wanted), len(wanted) - len(pending)) as progress:
            for start in range(0, len(pending), batch):
                indices = pending[start : start + batch]
                failure = _run_batch(cell, options, store, indices, progress)
                if failure:
                    log.error("%s: %s; the rest of this cell is left out", cell.title, failure)
                    break
        records = {key: r for key, r in store.records().items() if key in wanted}
        bad = [f"{r['image']}: {r['reason']}" for r in records.values() if r["status"] != OK]
        reason = failure or "; ".join(bad[:3])
        return Outcome("failed" if reason else OK, reason, store.folder, records)


def _run_batch(
    cell: Cell, options: RunOptions, store: CellStore, indices: Sequence[int], progress: CellProgress
) -> str:
    """Run and record one batch. Returns why the cell cannot go on, or ''."""
    samples = [cell.dataset[i] for i in indices]
    common = {
        "batch_size": len(samples),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": provenance()["git"],
    }
    try:
        records, kept = _reconstruct(cell, options.device, samples, progress)
    except BenchError:
        raise
    except Exception as error:  # a solver may fail in any way; the sweep goes on
        status = "oom" if _is_out_of_memory(error) else "error"
        reason = _one_line(error)
        log.debug("%s", traceback.format_exc())
        with contextlib.suppress(Exception):
            torch.cuda.empty_cache()
        for sample in samples:
            trace = "" if status == "oom" else traceback.format_exc(limit=-6)
            store.append({"image": sample.id, "status": status, "reason": reason, "traceback": trace, **common})
        progress.advance(len(samples))
        return f"{status}: {reason}"
    for record, images in zip(records, kept, strict=True):
        store.append(record | common, images if record["status"] == OK else None)
    progress.advance(len(samples), records)
    return ""


def _reconstruct(
    cell: Cell, device: torch.device, samples: list[Sample], progress: CellProgress
) -> tuple[list[Record], list[dict[str, Tensor]]]:
    ids = [sample.id for sample in samples]
    warm_up(cell.prior, len(ids), device)
    measurement, rng = cell.measure(samples, device), cell.generators(samples, device)
    selections = [make() for make in SELECTIONS]
    trajectory: list[tuple[float, float, list[float]]] = []
    diverged_at: dict[int, int] = {}

    meter = Meter(cell.prior, len(samples), device)
    iterates = side_by_side(cell.solver, measurement.y, measurement.operator, cell.prior, rng)
    progress.start_batch(cell.solver.iterates)
    for k, raw in enumerate(meter.timed(iterates), start=1):
        x, unknowns = apart(raw)
        estimate = _checked(x, measurement)
        for i in (~estimate.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
            diverged_at.setdefault(i, k)
        values = psnr(estimate.nan_to_num(), measurement.truth)
        trajectory.append((meter.forward, meter.seconds / len(samples), values))
        cost = {"forward": meter.forward, "backward": meter.backward, "seconds": meter.seconds / len(samples)}
        misfit = _misfit(estimate, unknowns, measurement, cell.noise.sigma)
        errors = measurement.true_operator.unknown_errors(unknowns) if unknowns else {}
        seen = Seen(k, estimate, values, misfit, cost, {name: error.tolist() for name, error in errors.items()})
        for selection in selections:
            selection.observe(seen)
        progress.iterate()
    if not trajectory:
        raise ValueError(f"{cell.solver_name} yielded no estimate")

    scores = {s.name: score(s.estimate.nan_to_num(), measurement.truth) for s in selections}
    own = psnr(measurement.previews, measurement.truth)
    stride = -(-len(trajectory) // TRAJECTORY_POINTS)
    thinned = [*trajectory[stride - 1 : -1 : stride], trajectory[-1]]
    records = []
    for i, image in enumerate(ids):
        failed = i in diverged_at
        records.append(
            {
                "image": image,
                "status": "diverged" if failed else OK,
                "reason": f"estimate {diverged_at[i]} of {len(trajectory)} has NaN or infinity" if failed else "",
                "y_hash": measurement.hashes[i],
                "sigma": cell.noise.sigma,
                "noise_scale": "[-1, 1]",
                "measurement_psnr": own[i],
                "metrics": {s.name: {**scores[s.name][i], **s.picks[i]} for s in selections},
                "forward": meter.forward,
                "backward": meter.backward,
                "seconds": meter.seconds / len(samples),
                "peak_memory_gib": meter.peak_memory_gib,
                "trajectory": [[calls, round(s, 4), round(values[i], 4)] for calls, s, values in thinned],
            }
        )
    kept = [{s.name: s.estimate[i] for s in selections} for i in range(len(ids))]
    return records, kept


def _checked(estimate: Tensor, measurement: Measurement) -> Tensor:
    if estimate.shape != measurement.truth.shape:
        expected = tuple(measurement.truth.shape)
        raise ValueError(f"the solver yielded {tuple(estimate.shape)}, expected {expected}")
    return estimate.detach().float().cpu()


@torch.no_grad()
def _misfit(estimate: Tensor, unknowns: tuple[Tensor, ...], measurement: Measurement, sigma: float) -> Tensor:
    """Root-mean-square residual per image in units of sigma, for rules that stop by the data alone."""
    residual = measurement.operator(estimate.to(measurement.y.device), *unknowns) - measurement.y
    rms = residual.flatten(1).square().mean(1).sqrt().cpu()
    return rms / sigma if sigma else torch.full_like(rms, torch.inf)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _description(cell: Cell, skipped: str | None) -> dict[str, Any]:
    return {
        "dataset": cell.dataset.name,
        "task": cell.task["name"],
        "solver": cell.solver_name,
        "skipped": skipped,
        "identity": cell.identity,
        "config": cell.config,
        "provenance": provenance(),
    }


@cache
def provenance() -> dict[str, Any]:
    """Code, versions and machine of this process."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return {
        "git": git.stdout.strip() or None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
