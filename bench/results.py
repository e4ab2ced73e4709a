"""Records as pandas tables: one row per image, and one row per cell and selection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.errors import BenchError
from bench.identity import content_hash
from bench.metrics import METRICS, PER_IMAGE
from bench.records import OK, CellStore, Record
from bench.scoring import cell_fid
from bench.selection import Last, Oracle

BASELINE = "dmplug"
CONFIDENCE = 0.95
EXPERIMENT = ("dataset", "task", "seed")
"""The parts of a cell's identity that determine its measurements."""
COST_COLUMNS = {
    "forward": "forward_per_image",
    "backward": "backward_per_image",
    "seconds": "seconds_per_image",
}


@dataclass(frozen=True)
class CellResult:
    """A cell read back from disk, restricted to some of its images.

    Attributes:
        task: the task's name, with what tells it from its namesakes, e.g. `blind_deblur (operator.kernel=motion)`.
        label: the same of the solver, e.g. `dmilo (lr_z=0.01)`.
        experiment: hash of dataset, task and seed; cells of one experiment saw the same measurements.
        headline: the selection whose rows are the cell's result: the last iterate, or in faithful mode the oracle's.
    """

    store: CellStore
    dataset: str
    task: str
    label: str
    experiment: str
    records: dict[str, Record]
    skipped: str | None
    headline: str = Last.name

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records.values() if record["status"] == OK]

    @property
    def status(self) -> str:
        """`ok`, `n/a` (solver and operator do not fit), or what went wrong."""
        if self.skipped:
            return "n/a"
        bad = Counter(r["status"] for r in self.records.values() if r["status"] != OK)
        if not self.records:
            return "empty"
        return ", ".join(f"{count} {status}" for status, count in bad.items()) or OK

    @property
    def reason(self) -> str:
        return self.skipped or next((r["reason"] for r in self.records.values() if r["status"] != OK), "")


def read_cells(stores: Iterable[CellStore], images: Sequence[str] | None = None) -> list[CellResult]:
    """Cells from disk, only `images` of them if given. Of cells that differ in code alone the newest counts.

    Raises:
        BenchError: two cells of one experiment hold different measurements of an image.
    """
    found = _newest_code([(store, store.description()) for store in stores])
    tasks, solvers = _labels([description for _, description in found])
    cells = []
    for (store, description), task, solver in zip(found, tasks, solvers, strict=True):
        records = store.records()
        if images is not None:
            records = {image: records[image] for image in images if image in records}
        identity = description["identity"]
        cells.append(
            CellResult(
                store=store,
                dataset=description["dataset"],
                task=task,
                label=solver,
                experiment=content_hash([identity[key] for key in EXPERIMENT]),
                headline=Oracle.name if description["config"].get("faithful") else Last.name,
                records=records,
                skipped=description["skipped"],
            )
        )
    _refuse_different_measurements(cells)
    return cells


def summarise(cells: Sequence[CellResult], with_fid: bool = True) -> pd.DataFrame:
    """One row per cell and selection: means over the finished images, intervals, cost, and the paired comparison.

    `psnr_ci` is the half width of the 95 % t-interval over images. `gain` is the mean per-image PSNR difference to the
    baseline (DMPlug) of the same experiment and selection over the images that both finished, `gain_ci` its half
    width, `gain_p` the paired t-test's p-value.
    """
    rows = [row for cell in cells for row in _rows(cell, cells, with_fid)]
    return pd.DataFrame(rows)


def _rows(cell: CellResult, cells: Sequence[CellResult], with_fid: bool) -> list[dict[str, Any]]:
    base = {"dataset": cell.dataset, "task": cell.task, "solver": cell.label}
    end = {"status": cell.status, "reason": cell.reason, "experiment": cell.experiment, "cell": cell.store.folder.name}
    finished = cell.finished
    selections = list(finished[0]["metrics"]) if finished else [cell.headline]
    baseline = next((c for c in cells if c.experiment == cell.experiment and _is_baseline(c)), None)
    rows = []
    for selection in selections:
        row: dict[str, Any] = {**base, "selection": selection, "images": len(finished)}
        row["headline"] = selection == cell.headline
        values = _psnr(cell, selection)
        row |= {m.name: _mean(r["metrics"][selection][m.name] for r in finished) for m in PER_IMAGE}
        row |= {m.name: _mean(r["metrics"][selection].get(m.name) for r in finished) for m in METRICS if m.optional}
        row["psnr_ci"] = half_width(list(values.values()))
        row["fid"] = cell_fid(cell.store, selection, list(values)) if with_fid else None
        row["measurement_psnr"] = _mean(r["measurement_psnr"] for r in finished)
        # a rule that stops early costs what it took to stop; records before such rules know the totals alone
        for key, column in COST_COLUMNS.items():
            row[column] = _mean(r["metrics"][selection].get(key, r[key]) for r in finished)
        row["peak_memory_gib"] = max((r["peak_memory_gib"] or 0 for r in finished), default=0) or None
        row |= _compare(values, _psnr(baseline, selection) if baseline and baseline is not cell else {})
        rows.append(row | end)
    return rows


def _is_baseline(cell: CellResult) -> bool:
    return cell.label == BASELINE or cell.label.startswith(f"{BASELINE} (")


def _psnr(cell: CellResult, selection: str) -> dict[str, float]:
    return {r["image"]: r["metrics"][selection]["psnr"] for r in cell.finished}


def _compare(values: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, float | None]:
    differences = [values[image] - baseline[image] for image in values if image in baseline]
    if len(differences) < 2:
        return {"gain": _mean(differences), "gain_ci": None, "gain_p": None}
    p_value: Any = stats.ttest_1samp(differences, 0.0)[1]
    return {"gain": _mean(differences), "gain_ci": half_width(differences), "gain_p": float(p_value)}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def half_width(values: Sequence[float]) -> float | None:
    """Of the 95 % t-interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)


def _refuse_different_measurements(cells: Sequence[CellResult]) -> None:
    seen: dict[tuple[str, str], tuple[str, CellResult]] = {}
    for cell in cells:
        for image, record in cell.records.items():
            if "y_hash" not in record:  # it failed before there was a result
                continue
            y_hash, other = seen.setdefault((cell.experiment, image), (record["y_hash"], cell))
            if y_hash != record["y_hash"]:
                raise BenchError(
                    f"{cell.store.folder}: its measurement of {image} is not the one of {other.store.folder.name}; "
                    "they cannot be compared, delete one of the two"
                )


def _newest_code(found: list[tuple[CellStore, dict[str, Any]]]) -> list[tuple[CellStore, dict[str, Any]]]:
    newest: dict[str, tuple[CellStore, dict[str, Any]]] = {}
    for store, description in sorted(found, key=lambda pair: (pair[0].folder / "cell.json").stat().st_mtime):
        identity = {key: value for key, value in description["identity"].items() if key != "code"}
        newest[content_hash(identity)] = (store, description)
    return list(newest.values())


def _labels(descriptions: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The names of tasks and of solvers; where cells share a name but not the settings, with those that differ."""
    identities = [d["identity"] for d in descriptions]
    experiments = [{key: identity[key] for key in EXPERIMENT} for identity in identities]
    tasks = _told_apart(
        [d["task"] for d in descriptions], [(d["dataset"], d["task"]) for d in descriptions], experiments, "task"
    )
    rest = [{k: v for k, v in identity.items() if k not in (*EXPERIMENT, "code")} for identity in identities]
    groups = [(content_hash(e), d["solver"]) for e, d in zip(experiments, descriptions, strict=True)]
    return tasks, _told_apart([d["solver"] for d in descriptions], groups, rest, "solver")


def _told_apart(
    names: Sequence[str], groups: Sequence[tuple[str, str]], settings: Sequence[dict[str, Any]], prefix: str
) -> list[str]:
    """Each name, with the settings in which it differs from others of its group; `prefix` goes from their keys."""
    flat = [_flatten(setting) for setting in settings]
    labels = []
    for name, group, own in zip(names, groups, flat, strict=True):
        twins = [other for other_group, other in zip(groups, flat, strict=True) if other_group == group]
        differing = [key for key in own if len({json.dumps(t.get(key), default=str) for t in twins}) > 1]
        shown = ", ".join(f"{key.removeprefix(f'{prefix}.')}={own[key]}" for key in differing)
        labels.append(f"{name} ({shown})" if shown else name)
    return labels


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in _flatten(value, f"{prefix}.{key}".strip(".")).items()}
