"""Estimated memory: what is counted, the paper's claim, and the knobs that change memory but no result."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Command, stores

from bench.cell import resolved
from bench.config import ROOT, composed
from bench.cost import GIB
from bench.footprint import ACTIVATIONS, GRADIENTS, OPTIMISER, WEIGHTS, FakeTensorMode, Footprint
from bench.memory import estimate, fitting_batch
from priors.execution import ENDS
from priors.loading import load_unet


def config(prior: str | Path, solver: str, steps: int, *words: str) -> dict[str, Any]:
    named = [f"prior={prior}"]
    if isinstance(prior, Path):
        named = ["prior=folder", f"prior.weights={prior}", "prior.image_size=16"]
    words = (*named, f"solver={solver}", f"solver.sampler.steps={steps}", "preset=smoke", *words)
    return resolved(composed(list(words)))


def peak(*arguments: Any) -> float:
    return estimate(config(*arguments), 1).peak_bytes / GIB


def test_storages_are_counted_once_and_until_they_die() -> None:
    with FakeTensorMode(), Footprint() as watch:
        a = torch.empty(256, 1024)  # 1 MiB
        view = a[:10].t()
        b = a + 1
        assert watch.live.total() == 2**21
        del a
        assert watch.live.total() == 2**21, "the view keeps the storage"
        del view, b
        assert watch.live.total() == 0
        torch.empty(3)
        assert watch.peak_bytes == 2**21


def test_dmilo_does_not_grow_with_the_steps_and_dmplug_does() -> None:
    one, ten = (peak("emoji", "dmilo", steps) for steps in (1, 10))
    assert one == pytest.approx(ten, rel=0.02)  # a small network; of the large one, latents are less than 0.1 %
    first, second, third = (peak("emoji", "dmplug", steps) for steps in (1, 2, 3))
    assert third - second == pytest.approx(second - first, rel=0.05)
    assert second - first > 0.5 * (first - 0.011)


def test_checkpointing_over_sampling_steps_makes_dmplug_constant_too(tiny_prior: Path) -> None:
    two, six = (peak(tiny_prior, "dmplug", steps, "solver.checkpoint_steps=true") for steps in (2, 6))
    assert two == pytest.approx(six, rel=0.02)
    assert six < 0.5 * peak(tiny_prior, "dmplug", 6)


def test_parts_are_what_they_are_called() -> None:
    weights = 2_786_403 * 4
    plain = estimate(config("emoji", "dmilo", 1), 1)
    assert plain.peak[WEIGHTS] == pytest.approx(weights, rel=0.01)
    assert plain.peak[GRADIENTS] == 0
    assert plain.peak[OPTIMISER] == pytest.approx(4 * 3 * 32 * 32 * 4, rel=0.6)  # two moments each for z and nu
    released = estimate(config("emoji", "dmilo", 1, "weight_gradients=true"), 1)
    assert released.peak[GRADIENTS] == pytest.approx(weights, rel=0.01)
    assert released.peak[ACTIVATIONS] > plain.peak[ACTIVATIONS]
    halved = estimate(config("emoji", "dmilo", 1, "precision=bf16_weights"), 1)
    unet = load_unet(ROOT / "priors" / "emoji")
    kept = 4 * sum(weight.numel() for name in ENDS for weight in getattr(unet, name).parameters())
    assert halved.peak[WEIGHTS] == pytest.approx((weights + kept) / 2, rel=0.01)


def test_the_large_network_of_the_paper() -> None:
    assert peak("imagenet256", "dmilo", 1) < 6.9
    assert peak("imagenet256", "dmilo", 1, "checkpointing=true") < 4.4
    assert peak("imagenet256", "dmilo", 1, "checkpointing=true", "precision=bf16_weights") < 2.7


def test_slope_of_dmplug_is_the_papers() -> None:
    one, two = (peak("imagenet256", "dmplug", steps, "weight_gradients=true") for steps in (1, 2))
    paper_gb_per_step = (20.83 - 10.53) / 2
    assert two - one == pytest.approx(paper_gb_per_step, rel=0.03)  # the paper's GB are GiB, as nvidia-smi's are


def test_batch_that_fits(monkeypatch: pytest.MonkeyPatch, tiny_prior: Path) -> None:
    cell = config(tiny_prior, "dmilo", 1)
    one, two = (estimate(cell, batch).peak_bytes for batch in (1, 2))
    enough = (one + 4 * (two - one)) / 0.9
    monkeypatch.setattr("bench.memory._free_bytes", lambda device: int(enough * 1.001))
    assert fitting_batch(cell, torch.device("cpu")) == 5
    assert fitting_batch(cell, torch.device("cpu"), most=2) == 2


def test_command_prints_the_table(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    words = [*smoke, "solver=dmilo,dmplug", "steps=1,2", "format=csv", f"results_dir={tmp_path}"]
    assert bench("memory", *words) == 0
    table = pd.read_csv(io.StringIO(bench.out))
    expected = ["solver", "steps", "batch_size", "precision", "checkpointing", "weights_gib", "peak_gib", "source"]
    assert list(table.columns)[:8] == expected
    assert set(zip(table["solver"], table["steps"], strict=True)) == {
        (s, n) for s in ("dmilo", "dmplug") for n in (1, 2)
    }
    assert (table["source"] == "estimated").all() or torch.cuda.is_available()
    assert (tmp_path / "memory" / "memory.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps=0"], "steps=0: must be whole numbers"),
        (["format=cvs"], "format=cvs: no such format; did you mean 'csv'"),
        (["prior=folder", "prior.weights=/nowhere", "prior.image_size=8"], "has no config.json"),
    ],
)
def test_bad_input(bench: Command, words: list[str], message: str) -> None:
    assert bench("memory", *words) != 0
    assert message in bench.err


@pytest.mark.parametrize("solver", ["dmilo", "dcps"])
def test_knobs_change_no_result(bench: Command, smoke: list[str], tmp_path: Path, solver: str) -> None:
    psnr = []
    for index, knobs in enumerate(
        (["batch_size=auto"], ["batch_size=1", "checkpointing=true"], ["weight_gradients=true"])
    ):
        words = [*smoke, f"solver={solver}", *knobs, f"results_dir={tmp_path / str(index)}"]
        assert bench("run", *words) == 0, bench.err
        psnr.append(
            [
                r["metrics"]["last"]["psnr"]
                for store in stores(tmp_path / str(index)).values()
                for r in store.records().values()
            ]
        )
    assert psnr[0] == pytest.approx(psnr[1], abs=1e-4)
    assert psnr[0] == pytest.approx(psnr[2], abs=1e-4)
