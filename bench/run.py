"""The Hydra application behind `run` and `sweep`: one job is one cell."""

from __future__ import annotations

import logging
from typing import Any

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.logging import RichHandler

from bench.cell import build_cell, resolved, run_options
from bench.config import CONF
from bench.runner import run_cell
from bench.tracking import track


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> None:
    """Launchers pickle this function by value, so it only imports and calls."""
    from bench.jobs import guarded
    from bench.run import work

    guarded(work, cfg)


def work(cfg: DictConfig) -> dict[str, Any]:
    """Run one cell; its status, reason and folder."""
    set_up_logging()
    config = resolved(cfg)
    options = run_options(config)
    cell = build_cell(config, options.device)
    outcome = run_cell(cell, options)
    track(config["tracking"], cell, outcome)
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "folder": str(outcome.folder.absolute()),
        "images": cell.dataset.ids[: options.limit],
    }


def set_up_logging() -> None:
    """Messages go to standard error; standard output is for results."""
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = Console(stderr=True, soft_wrap=True)
    logger.handlers = [RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")]
