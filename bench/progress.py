"""Progress of one cell: a bar for its images and one for the iterates of the batch at hand, with time left."""

from __future__ import annotations

import logging
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.records import OK, Record

log = logging.getLogger(__name__)


class CellProgress:
    """Use as a context. On a terminal it draws bars; elsewhere it logs one line per batch."""

    def __init__(self, title: str, images: int, done: int) -> None:
        console = Console(stderr=True)
        self._live = console.is_terminal
        self._title, self._total, self._done, self._started = title, images, done, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not self._live, transient=True)
        self._images = self._progress.add_task(title, total=images, completed=done)
        self._iterates = self._progress.add_task("  iterates", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        if self._done:
            log.info("%s: %d of %d images were finished already", self._title, self._done, self._total)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start_batch(self, iterates: int | None) -> None:
        self._progress.reset(self._iterates, total=iterates)

    def iterate(self) -> None:
        self._progress.advance(self._iterates)

    def advance(self, images: int, records: list[Record] | None = None) -> None:
        self._done += images
        self._progress.advance(self._images, images)
        values = [r["metrics"]["last"]["psnr"] for r in records or () if r["status"] == OK]
        result = f"{sum(values) / len(values):.2f} dB" if values else "failed"
        if images < self._done:
            result += f" on the last {images}"
        elapsed = time.monotonic() - self._started
        log.info("%s: %d/%d images, %s, %.0f s", self._title, self._done, self._total, result, elapsed)
