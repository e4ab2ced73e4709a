"""Cells as jobs of their own, as on a cluster: one that dies takes no other with it, and the parent says so."""

from __future__ import annotations

import pytest
from conftest import Command

from bench.config import ROOT


def test_a_job_that_dies_is_reported_beside_the_others(
    bench: Command, smoke: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # where the dying solver is
    words = [*smoke, "--config-dir=tests/faults", "task=inpainting", "solver=dmplug,dies"]
    assert bench("sweep", *words, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5") == 1
    assert "dmplug" in bench.out
    said = " ".join(bench.err.split())
    assert "died: task=inpainting solver=dies" in said
    assert "what it printed is under" in said
    assert "the same command again continues it" in said
