"""Composing configurations: Hydra's compose, the resolvers that conf/ uses, and errors as one clear line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import BenchError, nearest

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"


def _tuned(key: str, *, _root_: DictConfig) -> Any:
    """The active preset's value of `key` for this task, else its default."""
    table = OmegaConf.select(_root_, "tuned") or {}
    for section in (_root_.task.name, "default"):
        if key in (table.get(section) or {}):
            return table[section][key]
    raise BenchError(
        f"preset={_root_.preset.name}: has no solver.{key} for task={_root_.task.name}; "
        f"give solver.{key}=... or another preset"
    )


OmegaConf.register_new_resolver("tuned", _tuned, replace=True)
OmegaConf.register_new_resolver("repo_path", lambda path: str(ROOT / path), replace=True)
OmegaConf.register_new_resolver(
    "data_path", lambda path: str(Path(os.environ.get("BENCH_DATA", ROOT / "data")) / path), replace=True
)


def composed(
    overrides: list[str], config_name: str = "config", config_dir: str | None = None, hydra: bool = False
) -> DictConfig:
    """The configuration for these overrides, as the command would compose it; with Hydra's own node if `hydra`.

    Raises:
        BenchError: an unknown group option (the nearest names are offered), an unknown key, or a malformed override.
    """
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return compose(config_name, [*search, *overrides], return_hydra_config=hydra)
    except MissingConfigException as error:
        raise _unknown_option(error) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise BenchError(" ".join(str(error).split())) from error


def expanded(overrides: list[str]) -> list[list[str]]:
    """The single jobs of a sweep: choices (`a,b`, `range(...)`) multiplied out, in Hydra's order.

    A continuous interval (for an optimising sweeper) has no single jobs; it is left out here.
    """
    jobs: list[list[str]] = [[]]
    for override in parsed(overrides):
        if override.is_sweep_override() and not override.is_discrete_sweep():
            continue
        if override.is_sweep_override():
            values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        else:
            values = [override.input_line or ""]
        jobs = [[*job, value] for job in jobs for value in values]
    return jobs


def parsed(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise BenchError(f"{error.override}: {' '.join(str(error).split())}") from error


def options(group: str) -> list[str]:
    """The names in a configuration group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _unknown_option(error: MissingConfigException) -> BenchError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or error.options is None:
        return BenchError(" ".join(str(error).split()))
    return BenchError(f"{group}={name}: no such {group}{nearest(name, error.options)}")


def default_sweep(experiment: str | None = None, config_dir: str | None = None) -> dict[str, str]:
    """What a sweep covers where nothing is said: hydra.sweeper.params of conf/config.yaml and of the experiment."""
    words = [f"experiment={experiment}"] if experiment else []
    return dict(composed(words, config_dir=config_dir, hydra=True).hydra.sweeper.params)
