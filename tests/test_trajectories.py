"""The mean of trajectories, where solvers stop at different iterates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.records import CellStore
from bench.results import CellResult
from bench.trajectories import mean_trajectory, trajectories


def cell(*tracks: list[list[float]]) -> CellResult:
    records = {
        str(i): {"status": "ok", "trajectory": track, "measurement_psnr": 10.0} for i, track in enumerate(tracks)
    }
    return CellResult(CellStore(Path("nowhere")), "emoji", "inpainting", "mine", "x", records, None)


def test_mean_holds_the_last_value_of_a_solver_that_stopped() -> None:
    mean = mean_trajectory(cell([[10, 1.0, 20.0], [20, 2.0, 22.0]], [[10, 1.0, 30.0]]))
    assert mean == pytest.approx(np.array([[10, 1.0, 25.0], [15, 1.5, 26.0]]))


def test_draws_what_there_is(tmp_path: Path) -> None:
    assert trajectories([cell([[10, 1.0, 20.0]])], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert not trajectories([cell()], tmp_path / "b.png")
