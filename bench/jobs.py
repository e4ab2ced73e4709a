"""A sweep that outlives its failing jobs: each job writes its own result.json, the parent reads them all.

A job never raises (a raised error would end the sweep under some launchers, and not every error can be pickled);
a file still saying `running` at the end belongs to a process that died.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bench.errors import BenchError

log = logging.getLogger(__name__)

Job = dict[str, Any]

last_sweep: Path | None = None
"""Folder of the sweep or single run of this process; set in the parent, also where jobs run in other processes."""


class RememberSweep(Callback):
    """Tells the parent where its jobs write."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _remember(config.hydra.sweep.dir)

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _remember(config.hydra.run.dir)


def _remember(folder: str) -> None:
    global last_sweep
    last_sweep = Path(folder).absolute()


def guarded(work: Callable[[DictConfig], Job], cfg: DictConfig) -> None:
    """Run one job and write what became of it; only Ctrl-C passes through."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    job: Job = {"number": hydra.job.num if hydra.mode and hydra.mode.name == "MULTIRUN" else None}
    job |= {"overrides": list(hydra.overrides.task), "status": "running", "pid": os.getpid()}
    _write(folder, job)
    try:
        job |= work(cfg)
    except BenchError as error:
        log.error("%s", error)
        job |= {"status": "failed", "reason": str(error)}
    except (Exception, SystemExit) as error:
        log.exception("this job failed")
        job |= {"status": "failed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    _write(folder, job)


def finished_jobs(folder: Path) -> list[Job]:
    """What every job of a sweep left, in order."""
    logs = folder / ".submitit"
    where = f"; what it printed is under {logs}" if logs.is_dir() else ""
    jobs = [json.loads(path.read_text()) for path in folder.glob("**/result.json")]
    for job in jobs:
        if job["status"] == "running":
            job |= {"status": "died", "reason": f"process {job['pid']} ended without a result{where}"}
    return sorted(jobs, key=lambda job: job["number"] or 0)


def _write(folder: Path, job: Job) -> None:
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(job, indent=1))
    partial.replace(folder / "result.json")
