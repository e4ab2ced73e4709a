"""Every dataset x task x solver x preset composes and instantiates, and the demo is a fair fight."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from PIL import Image

from bench.cell import check, resolved, run_options
from bench.config import composed, default_sweep, expanded, options

TASKS, SOLVERS, PRESETS = options("task"), options("solver"), options("preset")


@pytest.fixture(scope="module")
def one_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_all_compose_and_instantiate(preset: str, solver: str, one_image: Path) -> None:
    for dataset, task in itertools.product(options("dataset"), TASKS):
        root = [] if dataset == "emoji" else [f"dataset.root={one_image}"]
        root += ["dataset.images=1"] if dataset not in ("emoji", "folder") else []
        words = [f"dataset={dataset}", f"task={task}", f"solver={solver}", f"preset={preset}", *root]
        config = resolved(composed(words))
        run_options(config)
        check(config)
        assert (config["dataset"]["name"], config["task"]["name"], config["solver"]["name"]) == (dataset, task, solver)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_experiments_compose(experiment: str, one_image: Path) -> None:
    sweep = default_sweep(experiment)
    assert sweep["solver"].startswith("dmilo,")
    assert set(sweep["dataset"].split(",")) <= {"celeba", "ffhq", "lsun_bedroom", "imagenet"}
    sweep["dataset"] = sweep["dataset"].partition(",")[0]
    choices = expanded([f"{key}={value}" for key, value in sweep.items()])
    root = [f"dataset.root={one_image}", "dataset.images=1"]
    for words in choices:
        config = resolved(composed([f"experiment={experiment}", *words, *root]))
        check(config)
        assert config["preset"]["name"] == ("smoke" if experiment == "memory" else "paper")
        assert config["weight_gradients"] == (experiment == "memory")


def calls(solver: str, task: str) -> tuple[int, int]:
    """Forward and backward calls by the formulas in the solvers' docstrings."""
    s = resolved(composed([f"task={task}", f"solver={solver}"]))["solver"]
    steps = s["sampler"]["steps"]
    if solver == "dmplug":
        return steps * s["epochs"], steps * s["epochs"]
    inner = steps * s["inner"] * s["outer"]
    return steps + inner + steps * s["outer"], inner


@pytest.mark.parametrize("task", default_sweep()["task"].split(","))
def test_demo_gives_dmplug_as_many_calls_as_its_rivals(task: str) -> None:
    rival = calls("dmplug", task)
    for solver in ("dmilo", "dmilo_pgd"):
        forward, backward = calls(solver, task)
        assert abs(forward - rival[0]) <= 3
        assert backward <= rival[1]


def test_default_sweep_stays_within_its_budget() -> None:
    sweep = default_sweep()
    total = 0
    for solver, task in itertools.product(sweep["solver"].split(","), sweep["task"].split(",")):
        config = resolved(composed([f"task={task}", f"solver={solver}"]))
        batches = -(-config["limit"] // config["batch_size"])
        s = config["solver"]
        dcps = 3 * s["steps"] + 3 * s.get("langevin_steps", 0) + 1 if solver == "dcps" else 0
        total += batches * (dcps or calls(solver, task)[0])
    assert total <= 4000


def test_dataset_brings_its_prior_and_preset_unless_told_otherwise() -> None:
    assert composed([]).preset.name == "demo"
    assert composed(["preset=paper"]).preset.name == "paper"
    assert composed(["dataset=emoji", "preset=smoke"]).tuned.default.steps == 2
