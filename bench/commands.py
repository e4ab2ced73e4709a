"""What each subcommand does. Heavy imports wait until a command needs them: `list` should answer at once."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.errors import BenchError, nearest

LISTED = {"datasets": "dataset", "tasks": "task", "solvers": "solver", "priors": "prior"}


def run(words: list[str]) -> int:
    return _hydra(words, multirun=False)


def sweep(words: list[str]) -> int:
    return _hydra(words, multirun=True)


def report(words: list[str]) -> int:
    from bench.report import report_command

    return report_command(words)


def train(words: list[str]) -> int:
    from bench.train import train_command

    return train_command(words)


def memory(words: list[str]) -> int:
    from bench.memory import memory_command

    return memory_command(words)


def fetch(words: list[str]) -> int:
    from bench.fetch import fetch_command

    return fetch_command(words)


def list_(words: list[str]) -> int:
    from bench.config import options

    unknown = [word for word in words if word not in LISTED]
    if unknown:
        raise BenchError(f"list {unknown[0]}: nothing of that name{nearest(unknown[0], LISTED)}")
    for kind in words or LISTED:
        print(f"{kind}: {', '.join(options(LISTED[kind]))}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "sweep": sweep,
    "run": run,
    "report": report,
    "memory": memory,
    "list": list_,
    "fetch": fetch,
    "train": train,
}


def _hydra(words: list[str], multirun: bool) -> int:
    """Check every cell of the sweep first, then hand over to Hydra, then report what its jobs left."""
    asks_only = any(word.startswith("-") and not word.startswith("--config-dir") for word in words)
    if not asks_only:
        _check_all(words, multirun)
    from bench import jobs
    from bench import run as application

    jobs.last_sweep = None
    # overrides first: Hydra's parser takes no flag between them. And hydra.mode, not --multirun: that may not
    # stand beside --cfg
    overrides = _overrides(words)
    flags = [word for word in words if word not in overrides]
    sys.argv = ["bench", *overrides, *(["hydra.mode=MULTIRUN"] if multirun else []), *flags]
    stopped = None
    try:
        application.main()
    except SystemExit as error:
        stopped = error
    if jobs.last_sweep is None:
        return int(stopped.code or 0) if stopped else 0
    from bench.report import report_jobs

    return report_jobs(jobs.finished_jobs(jobs.last_sweep), ended_early=stopped is not None)


def _overrides(words: list[str]) -> list[str]:
    """The words that are Hydra overrides, not flags or their values."""
    return [w for w in words if not w.startswith("-") and ("=" in w or w.startswith("~"))]


def _check_all(words: list[str], multirun: bool) -> None:
    """Compose and check every cell before the first one runs: a typo in the last should not cost a night."""
    from bench.cell import check, resolved, run_options
    from bench.config import composed, expanded
    from bench.records import check_writable

    config_dir = next((w.partition("=")[2] for w in words if w.startswith("--config-dir=")), None)
    overrides = _overrides(words)
    jobs = expanded(overrides)
    if not multirun and len(jobs) > 1:
        raise BenchError("run: several values were given; `run` does one cell, use `sweep`")
    if multirun:
        jobs = _with_defaults(jobs, overrides, config_dir)
    for job in jobs:
        config = resolved(composed(job, config_dir=config_dir))
        check_writable(run_options(config).results_dir)
        check(config)


def _with_defaults(jobs: list[list[str]], overrides: list[str], config_dir: str | None) -> list[list[str]]:
    """What `sweep` adds where neither task nor solver was named (hydra.sweeper.params of the configuration)."""
    from bench.config import default_sweep, expanded, parsed

    named = {override.get_key_element(): override for override in parsed(overrides)}
    experiment = named.get("experiment")
    if experiment and experiment.is_sweep_override():
        raise BenchError("experiment: several were given; one sweep runs one experiment")
    name = str(experiment.value()) if experiment else None
    for key, values in default_sweep(name, config_dir).items():
        if key not in named:
            jobs = [[*job, *extra] for job in jobs for extra in expanded([f"{key}={values}"])]
    return jobs
