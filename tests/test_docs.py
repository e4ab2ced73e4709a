"""The documentation's example, run as it is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import Command, stores

import solvers
from bench.config import ROOT


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "add-a-solver.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def test_bring_your_own_solver(
    bench: Command, smoke: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, call = blocks("python")
    (settings,) = blocks("yaml")
    package, config = tmp_path / "package", tmp_path / "config"
    (package).mkdir()
    (config / "solver").mkdir(parents=True)
    (package / "guided_ddim.py").write_text(code)
    (config / "solver" / "guided_ddim.yaml").write_text(settings)
    monkeypatch.setattr(solvers, "__path__", [*solvers.__path__, str(package)])

    words = ["task=inpainting", "solver=guided_ddim,dmplug", f"--config-dir={config}"]
    assert bench("sweep", *smoke, *words) == 0, bench.err
    record = next(iter(stores(Path(smoke[-1].partition("=")[2]))["emoji-inpainting-guided_ddim"].records().values()))
    assert (record["forward"], record["backward"]) == (50, 0)

    scope: dict[str, object] = {}
    exec(compile(call, "docs", "exec"), scope)
    table = scope["table"]
    assert len(table) == 2
    assert (table["psnr"] > table["measurement_psnr"]).all()
    sys.modules.pop("solvers.guided_ddim")


def test_readme_names_commands_that_exist() -> None:
    from bench.commands import COMMANDS

    named = set(re.findall(r"python -m bench (\w+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= set(COMMANDS)
