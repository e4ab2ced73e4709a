"""Records: one line of JSON per image, appended with fsync, beside the reconstruction it speaks of.

    results/records/<dataset>-<task>-<solver>-<hash>/cell.json            what was run, with which versions
                                                     records.jsonl        one line per image; the last one counts
                                                     reconstructions/     <image>.npz, one array per selection

The order (reconstruction first, renamed into place; then the line; then fsync) makes a line a promise. A torn last line
is ignored and cut off before the next append. Only images whose line says `ok` are finished; a failure is recorded and
tried again by the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from bench.errors import BenchError
from bench.identity import content_hash

Record = dict[str, Any]

OK = "ok"


class CellStore:
    """The folder of one cell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def for_identity(cls, results_dir: Path, identity: dict[str, Any]) -> CellStore:
        names = "-".join(re.sub(r"[^\w.]+", "_", identity[key]["name"]) for key in ("dataset", "task", "solver"))
        return cls(results_dir / "records" / f"{names}-{content_hash(identity)}")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the cell for writing; every failure to write becomes one clear line.

        Raises:
            BenchError: another process holds it, or the folder cannot be written.
        """
        with _clear_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a+")  # closed below
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = _read_owner(lock)
                raise BenchError(
                    f"{self.folder}: another process ({owner}) is writing this cell; wait for it"
                ) from None
            with _clear_errors(self.folder):
                lock.truncate(0)
                lock.write(f"pid {os.getpid()} on {os.uname().nodename}")
                lock.flush()
                self._cut_torn_line()
            yield

    def describe(self, description: dict[str, Any]) -> None:
        with _clear_errors(self.folder):
            self._replace("cell.json", json.dumps(description, indent=1, default=str).encode())

    def description(self) -> dict[str, Any]:
        return json.loads((self.folder / "cell.json").read_text())

    def records(self) -> dict[str, Record]:
        """The newest record of every image, failures included; a torn last line is ignored."""
        newest: dict[str, Record] = {}
        for line in self._lines():
            with contextlib.suppress(json.JSONDecodeError):
                record = json.loads(line)
                newest[record["image"]] = record
        return newest

    def finished(self) -> set[str]:
        """Images with an `ok` record whose reconstruction is there."""
        done = [image for image, record in self.records().items() if record["status"] == OK]
        return {image for image in done if self._reconstruction(image).is_file()}

    def append(self, record: Record, reconstructions: dict[str, Tensor] | None = None) -> None:
        """Keep one image's reconstructions, (C, H, W) each by selection, and then its record."""
        with _clear_errors(self.folder):
            if reconstructions is not None:
                arrays = {name: image.cpu().numpy() for name, image in reconstructions.items()}
                path = self._reconstruction(record["image"])
                path.parent.mkdir(exist_ok=True)
                with _replacing(path) as file:
                    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
            with open(self.folder / "records.jsonl", "ab") as file:
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def reconstruction(self, image: str) -> dict[str, np.ndarray]:
        """(C, H, W) float32 in [-1, 1] by selection."""
        with np.load(self._reconstruction(image)) as arrays:
            return dict(arrays)

    def _reconstruction(self, image: str) -> Path:
        return self.folder / "reconstructions" / f"{image}.npz"

    def _lines(self) -> list[bytes]:
        path = self.folder / "records.jsonl"
        return path.read_bytes().splitlines() if path.is_file() else []

    def _cut_torn_line(self) -> None:
        path = self.folder / "records.jsonl"
        if not path.is_file():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)

    def _replace(self, name: str, content: bytes) -> None:
        with _replacing(self.folder / name) as file:
            file.write(content)


def all_cells(results_dir: Path) -> list[CellStore]:
    return [CellStore(path.parent) for path in sorted((results_dir / "records").glob("*/cell.json"))]


def check_writable(results_dir: Path) -> None:
    """Fail before the work, not after it."""
    with _clear_errors(results_dir):
        results_dir.mkdir(parents=True, exist_ok=True)
        probe = results_dir / f".writable-{os.getpid()}"
        probe.write_text("x")
        probe.unlink()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BenchError(
            f"results_dir: {folder} cannot be written ({error.strerror or error}); finished images are kept, "
            "free space or choose another results_dir and run the same command again"
        ) from error


def _read_owner(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"
