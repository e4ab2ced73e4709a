"""`evaluate`: the command's measurements and records, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Command, stores

from bench.api import evaluate
from bench.errors import BenchError
from priors.sampler import DDIM
from solvers.dmplug import DMPlug


def test_same_answer_as_the_command_and_it_resumes(bench: Command, smoke: list[str]) -> None:
    results = Path(smoke[-1].partition("=")[2])
    assert bench("run", *smoke, "task=inpainting", "solver=dmplug") == 0
    (from_command,) = stores(results).values()
    expected = {image: r["metrics"]["last"]["psnr"] for image, r in from_command.records().items()}

    for _ in range(2):
        table = evaluate(DMPlug(DDIM(2), 4, 1e-2), "inpainting", "emoji", *smoke[:-1], name="mine", results_dir=results)
        assert dict(zip(table["image"], table["psnr"], strict=True)) == expected
    mine = stores(results)["emoji-inpainting-mine"]
    assert len((mine.folder / "records.jsonl").read_text().splitlines()) == 2


def test_failures_are_raised(smoke: list[str]) -> None:
    class Wrong(DMPlug):
        def reconstruct(self, y, operator, prior, rng):
            yield y[:, :1]

    with pytest.raises(BenchError, match="expected"):
        evaluate(Wrong(DDIM(2), 1), "inpainting", "emoji", *smoke[:-1])
    with pytest.raises(BenchError, match="did you mean 'inpainting'"):
        evaluate(DMPlug(DDIM(2), 1), "inpaiting")
