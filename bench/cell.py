"""A cell: dataset x task x solver on a prior, built from a composed Hydra configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import BenchError, at_least
from bench.identity import code_hash, without_paths
from bench.measurement import Measurement, Noise, measure, solver_seeds
from bench.seeds import ImageGenerators
from datasets.images import ImageFiles, Sample
from operators.base import Operator
from priors.prior import Prior
from solvers.base import Solver

EXECUTION = ("precision", "checkpointing", "weight_gradients", "channels_last", "compile")
"""The keys that say how the network is run (`priors.execution.Execution`)."""


KERNELS = ("channels_last", "compile")
"""Those of them that choose other kernels, and so other rounding errors."""
AUTO = "auto"


@dataclass
class Cell:
    """Everything that determines the results of a cell, and `config`, the resolved configuration it came from."""

    dataset: ImageFiles
    task: dict[str, Any]
    operator: Operator
    noise: Noise
    solver: Solver
    solver_name: str
    prior: Prior
    seed: int
    config: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.dataset.name} / {self.task['name']} / {self.solver_name}"

    @property
    def identity(self) -> dict[str, Any]:
        config = self.config
        return {
            "dataset": without_paths(config["dataset"]),
            "task": without_paths(self.task),
            "solver": {**config["solver"], "name": self.solver_name},
            "prior": {"name": config["prior"]["name"], "weights": self.prior.fingerprint},
            "precision": self.prior.precision,
            "kernels": {key: config[key] for key in KERNELS},
            "seed": self.seed,
            "code": code_hash(self.solver, self.operator),
        }

    def measure(self, samples: Sequence[Sample], device: torch.device) -> Measurement:
        """The measurements of these images, the same for every solver."""
        return measure(samples, self.operator, self.noise, self.dataset.name, self.task, self.seed, device)

    def generators(self, samples: Sequence[Sample], device: torch.device) -> ImageGenerators:
        """What the solver may draw from: one generator per image, started alike for every solver."""
        ids = [sample.id for sample in samples]
        return ImageGenerators(solver_seeds(ids, self.dataset.name, self.task, self.seed), device)


@dataclass(frozen=True)
class RunOptions:
    """How a cell is run; nothing here changes a result. `batch_size` is None for as many images as fit."""

    results_dir: Path
    limit: int
    batch_size: int | None
    device: torch.device


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, interpolations followed.

    Raises:
        BenchError: an interpolation that leads nowhere, or a value of the wrong kind.
    """
    try:
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        cause = error.__cause__
        if isinstance(cause, BenchError):
            raise cause from error
        raise BenchError(f"configuration: {' '.join(str(error).split())}") from error
    return container  # pyright: ignore[reportReturnType]


def run_options(config: dict[str, Any]) -> RunOptions:
    """The options of a run, checked.

    Raises:
        BenchError: a limit or batch size below 1, or a device that this machine does not have.
    """
    batch = config["batch_size"]
    for key in ("limit", "batch_size"):
        if key == "batch_size" and batch == AUTO:
            continue
        if not isinstance(config[key], int) or isinstance(config[key], bool):
            raise BenchError(f"{key}={config[key]}: must be a whole number{' or auto' * (key == 'batch_size')}")
        at_least(key, config[key], 1)
    return RunOptions(
        results_dir=Path(config["results_dir"]).expanduser(),
        limit=config["limit"],
        batch_size=None if batch == AUTO else batch,
        device=_device(config["device"]),
    )


def build_cell(config: dict[str, Any], device: torch.device) -> Cell:
    """Instantiate a resolved configuration.

    Raises:
        BenchError: anything in it that is not right, in one line.
    """
    solver = dict(config["solver"])
    name = str(solver.pop("name", solver.get("_target_", "solver").rpartition(".")[2].lower()))
    prior = dict(config["prior"])
    prior.pop("name")
    task = config["task"]
    cell = Cell(
        dataset=make("dataset", config["dataset"]),
        task=task,
        operator=make("task.operator", task["operator"]),
        noise=make("task.noise", task["noise"]),
        solver=make("solver", solver),
        solver_name=name,
        prior=make("prior", prior, device=str(device), **{key: config[key] for key in EXECUTION}),
        seed=config["seed"],
        config=config,
    )
    modelled = cell.prior.image_shape[1]
    if cell.dataset.size != modelled:
        raise BenchError(f"dataset.size={cell.dataset.size}: prior={config['prior']['name']} models {modelled} pixels")
    return cell


def check(config: dict[str, Any]) -> None:
    """Instantiate all but the prior, which may be large: enough to find bad values before a sweep starts."""
    for key, node in (
        ("dataset", config["dataset"]),
        ("task.operator", config["task"]["operator"]),
        ("task.noise", config["task"]["noise"]),
        ("solver", {k: v for k, v in config["solver"].items() if k != "name"}),
    ):
        make(key, node)


def make(key: str, node: dict[str, Any], **extra: Any) -> Any:
    """`hydra.utils.instantiate`, with whatever goes wrong said in one line that names the key."""
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BenchError):
                raise cause from error
            cause = cause.__cause__
        reason = error.__cause__ or error
        raise BenchError(f"{key}={node.get('_target_')}: {' '.join(str(reason).split())}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BenchError(f"device={name}: no such device; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BenchError(f"device={name}: this machine has no CUDA device; use device=cpu")
    return device
