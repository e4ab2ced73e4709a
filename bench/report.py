"""The report: tables and pictures are views of the records, made anew whenever asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench import tables
from bench.errors import BenchError, nearest
from bench.figures import grid
from bench.jobs import Job
from bench.records import CellStore, all_cells
from bench.results import CellResult, read_cells, summarise
from bench.scoring import rescore
from bench.trajectories import trajectories

FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "csv": tables.csv,
    "markdown": tables.markdown,
    "latex": tables.latex,
    "html": tables.as_html,
}
FILTERS = ("dataset", "task", "solver")
KEYS = ("format", "results_dir", "rescore", *FILTERS)


def report_command(words: Sequence[str]) -> int:
    """`report [format=...] [results_dir=...] [rescore=true] [dataset=|task=|solver=a,b]`, over all that was run."""
    pairs = [word.partition("=") for word in words]
    settings = {key: value for key, _, value in pairs}
    for key in settings:
        if key not in KEYS:
            raise BenchError(f"report {key}: no such key{nearest(key, KEYS)}")
    form = settings.get("format", "terminal")
    if form not in (*FORMATS, "terminal"):
        raise BenchError(f"format={form}: no such format{nearest(form, [*FORMATS, 'terminal'])}")
    results_dir = Path(settings.get("results_dir", "results"))
    stores = [store for store in all_cells(results_dir) if _matches(store, settings)]
    if not stores:
        raise BenchError(f"results_dir={results_dir}: no records there match; run `python -m bench sweep` first")
    if settings.get("rescore", "false").lower() == "true":
        for store in stores:
            print(f"{store.folder.name}: {rescore(store)} images scored again", file=sys.stderr)
    cells = read_cells(stores)
    summary = summarise(cells)
    if form == "terminal":
        _print(summary)
        write_report(cells, summary, results_dir / "report")
    else:
        print(FORMATS[form](summary), end="")
    return 0


def report_jobs(jobs: Sequence[Job], ended_early: bool) -> int:
    """The report of one sweep: its cells, then what went wrong. The exit code says whether anything did."""
    folders = [Path(job["folder"]) for job in jobs if job.get("folder")]
    if folders:
        images = next((job["images"] for job in jobs if job.get("images")), None)
        cells = read_cells([CellStore(folder) for folder in dict.fromkeys(folders)], images)
        summary = summarise(cells)
        _print(summary)
        write_report(cells, summary, folders[0].parents[1] / "report")
    bad = [job for job in jobs if job["status"] not in ("ok", "skipped")]
    for job in bad:
        print(f"{job['status']}: {' '.join(job['overrides'])}: {job.get('reason', '')}", file=sys.stderr)
    if ended_early:
        print("the sweep ended early; the same command again continues it", file=sys.stderr)
    return 1 if bad or ended_early or not jobs else 0


def write_report(cells: Sequence[CellResult], summary: pd.DataFrame, folder: Path) -> None:
    """table.csv, table.md, table.tex, table.html, grid.png and trajectories.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, form in {"csv": "csv", "md": "markdown", "tex": "latex", "html": "html"}.items():
        (folder / f"table.{suffix}").write_text(FORMATS[form](summary))
    drawn = grid(cells, folder / "grid.png") and trajectories(cells, folder / "trajectories.png")
    pictures = "; grid.png, trajectories.png" if drawn else ""
    print(f"{folder}: table.csv, .md, .tex, .html{pictures}", file=sys.stderr)


def _print(summary: pd.DataFrame) -> None:
    console = Console()
    if not console.is_terminal:  # a log file has no width; do not fold the columns
        console.width = 120
    for table in tables.terminal(summary):
        console.print(table)
    for note in tables.notes(summary):
        console.print(note, markup=False, soft_wrap=True)
    console.print(
        "Rows of early stopping (discrepancy, es_wmv) and the oracle (best by the truth) are in the files, labelled.",
        style="dim",
    )


def _matches(store: CellStore, settings: dict[str, str]) -> bool:
    description = store.description()
    return all(description[key] in settings[key].split(",") for key in FILTERS if key in settings)
