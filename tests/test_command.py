"""Bad input: one clear line that names the key, the value and what would be right; exit code not zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Command
from PIL import Image


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solver=dmlio"], "solver=dmlio: no such solver; did you mean 'dmilo'"),
        (["task=motion_blur"], "task=motion_blur: no such task; did you mean 'motion_deblur'"),
        (["dataset=emojis"], "dataset=emojis: no such dataset; did you mean 'emoji'"),
        (["preset=papre"], "preset=papre: no such preset; did you mean 'paper'"),
        (["limit=0"], "limit=0: must be at least 1"),
        (["limit=many"], "limit=many: must be a whole number"),
        (["batch_size=0"], "batch_size=0: must be at least 1"),
        (["solver.sampler.steps=0"], "solver.sampler.steps=0: must be at least 1"),
        (["task.noise.sigma=-0.1"], "task.noise.sigma=-0.1: must be at least 0"),
        (["solver=dcps", "task.noise.sigma=0"], "solver.sigma=0: must be at least 1e-06"),
        (["device=tpu9"], "device=tpu9: no such device"),
        (["precision=fp7"], "precision=fp7: no such precision; did you mean"),
        (["dataset.split=tset"], "dataset.split=tset: no such split; did you mean 'test'"),
        (["solver.lr_zz=1"], "lr_zz"),
        (["+solver.lr_zz=1"], "lr_zz"),
        (["solver.lr_z=[1"], "solver.lr_z=[1"),
        (["dataset=folder"], "dataset.root"),
        (["dataset=folder", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["dataset.size=20"], "dataset.size=20"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_bad_values(bench: Command, smoke: list[str], command: str, words: list[str], message: str) -> None:
    assert bench(command, *smoke, "task=inpainting", *words) != 0
    said = " ".join(bench.err.split())
    assert message in said
    assert "Traceback" not in said


def test_the_last_cell_of_a_sweep_is_checked_before_the_first_one_runs(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, "task=inpainting", "solver=dmilo", "task.noise.sigma=0.1,-1") == 1
    assert "task.noise.sigma=-1" in bench.err
    assert not Path(smoke[-1].partition("=")[2], "records").exists()


def test_run_takes_one_cell(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, "solver=dmilo,dcps") == 1
    assert "use `sweep`" in bench.err


def test_results_dir_that_cannot_be_written(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert bench("run", *smoke[:-1], f"results_dir={tmp_path / 'file' / 'results'}") == 1
    assert "cannot be written" in bench.err
    assert bench("run", *smoke[:-1], "results_dir=/proc/results") == 1
    assert "cannot be written" in bench.err


def test_folder_without_images(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert bench("run", *smoke, "dataset=folder", f"dataset.root={empty}") == 1
    assert "holds no image" in bench.err


def test_corrupt_image(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:50])
    assert bench("run", *smoke, "dataset=folder", f"dataset.root={folder}") == 1
    assert "b.png: cannot be read" in bench.err.replace("\n", "")
    assert "Traceback" not in bench.err


def test_help_list_and_unknown_commands(bench: Command) -> None:
    assert bench("--help") == 0
    assert "sweep" in bench.out
    assert bench() == 0
    assert bench("sweeep") == 2
    assert "did you mean 'sweep'" in bench.err
    assert bench("list") == 0
    assert "dmilo_pgd" in bench.out
    assert bench("list", "tasks") == 0
    assert bench.out.startswith("tasks: blind_deblur, gaussian_deblur")
    assert bench("list", "cats") == 1


def test_hydras_own_flags(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, "--cfg", "job") == 0
    assert "preset:" in bench.out
    assert bench("sweep", "--help") == 0


def test_report_of_nothing(bench: Command, tmp_path: Path) -> None:
    assert bench("report", f"results_dir={tmp_path}") == 1
    assert "run `python -m bench sweep` first" in bench.err
    assert bench("report", "fromat=csv") == 1
    assert "did you mean 'format'" in bench.err
    assert bench("report", "format=cvs") == 1
    assert "did you mean 'csv'" in bench.err
