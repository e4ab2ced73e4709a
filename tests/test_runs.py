"""Runs through the command: same seed, same records, whatever the batch, the order, or an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, comparable, stores

from bench.config import ROOT
from bench.records import CellStore

CELL = ["task=motion_deblur", "solver=dmilo_pgd"]


def results_of(smoke: list[str]) -> Path:
    return Path(smoke[-1].partition("=")[2])


def only_cell(results_dir: Path) -> CellStore:
    (store,) = stores(results_dir).values()
    return store


def moved(smoke: list[str], folder: Path) -> list[str]:
    return [*smoke[:-1], f"results_dir={folder}"]


def records_of(results_dir: Path) -> dict[str, dict[str, object]]:
    return {
        name: {image: comparable(record) for image, record in store.records().items()}
        for name, store in stores(results_dir).items()
    }


def test_every_solver_on_every_task(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke) == 0, bench.err
    cells = stores(results_of(smoke))
    assert len(cells) == 16
    y_hashes: dict[str, set[str]] = {}
    for name, store in cells.items():
        records = store.records()
        assert len(records) == 2
        for image, record in records.items():
            assert record["status"] == "ok"
            assert record["forward"] > 0
            assert set(record["metrics"]) == {"last", "discrepancy", "es_wmv", "oracle"}
            assert record["metrics"]["oracle"]["psnr"] >= record["metrics"]["last"]["psnr"]
            assert record["noise_scale"] == "[-1, 1]"
            y_hashes.setdefault(f"{name.split('-')[1]} {image}", set()).add(record["y_hash"])
    assert all(len(hashes) == 1 for hashes in y_hashes.values()), "solvers saw different measurements"
    assert len(set.union(*y_hashes.values())) == len(y_hashes), "images or tasks share a measurement"
    report = results_of(smoke) / "report"
    tables = {"table.csv", "table.md", "table.tex", "table.html"}
    assert {p.name for p in report.iterdir()} == {*tables, "grid.png", "trajectories.png"}
    assert "motion_deblur" in bench.out
    assert bench.err.count("lpips is n/a") == 1
    assert "alexnet-owt-7be5be79.pth" in bench.err.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_changes_nothing(bench: Command, smoke: list[str], tmp_path: Path, batch_size: int) -> None:
    words = ["limit=3", "task=inpainting,motion_deblur"]
    assert bench("sweep", *smoke, *words, "batch_size=2") == 0
    other = tmp_path / "other"
    assert bench("sweep", *moved(smoke, other), *words, f"batch_size={batch_size}") == 0
    assert records_of(results_of(smoke)) == records_of(other)


def test_order_of_solvers_changes_nothing(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    assert bench("sweep", *smoke, "task=inpainting", "solver=dmilo,dcps") == 0
    other = tmp_path / "other"
    assert bench("sweep", *moved(smoke, other), "task=inpainting", "solver=dcps,dmilo") == 0
    assert records_of(results_of(smoke)) == records_of(other)


def test_finished_images_are_not_done_again(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, *CELL, "limit=2") == 0
    store = only_cell(results_of(smoke))
    before = (store.folder / "records.jsonl").read_text()
    assert bench("run", *smoke, *CELL, "limit=3") == 0
    after = (store.folder / "records.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 3


def test_killed_in_the_middle_and_resumed(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    words = [*smoke, *CELL, "limit=6", "batch_size=1"]
    process = subprocess.Popen([sys.executable, "-m", "bench", "run", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    lines = 0
    while lines < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
        found = list(results_of(smoke).glob("records/*/records.jsonl"))
        lines = len(found[0].read_text().splitlines()) if found else 0
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = only_cell(results_of(smoke))
    assert 2 <= len(store.finished()) < 6, "the kill came too late to test anything"
    with open(store.folder / "records.jsonl", "ab") as file:  # as if the kill had come in the middle of a write
        file.write(b'{"image": "torn", "sta')
    assert bench("run", *words) == 0
    whole = tmp_path / "whole"
    assert bench("run", *moved(words[:-4], whole), *words[-4:]) == 0
    assert records_of(results_of(smoke)) == records_of(whole)
    assert len(store.finished()) == 6


def test_ctrl_c_says_how_to_go_on(smoke: list[str]) -> None:
    words = [*smoke, *CELL, "limit=40", "batch_size=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "run", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(results_of(smoke).glob("records/*/records.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command continues" in err
    assert "Traceback" not in err


def test_second_writer_is_refused(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, *CELL) == 0
    store = only_cell(results_of(smoke))
    with store.writing():
        assert bench("run", *smoke, *CELL) == 1
    assert f"another process (pid {os.getpid()}" in bench.err
    assert bench("run", *smoke, *CELL) == 0


def test_edited_solver_settings_are_another_cell(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, *CELL, "solver.lr_z=1e-2,2e-2") == 0
    assert len(list((results_of(smoke) / "records").iterdir())) == 2
    assert "dmilo_pgd (lr_z=0.01)" in bench.out
    assert "dmilo_pgd (lr_z=0.02)" in bench.out


def test_paths_and_batching_do_not_name_a_cell(bench: Command, smoke: list[str], tmp_path: Path) -> None:
    assert bench("run", *smoke, *CELL) == 0
    assert bench("run", *moved(smoke, tmp_path / "b"), *CELL, "batch_size=1", "limit=1") == 0
    first, second = only_cell(results_of(smoke)), only_cell(tmp_path / "b")
    assert first.folder.name == second.folder.name


def test_a_failing_cell_is_recorded_and_the_sweep_goes_on(bench: Command, smoke: list[str]) -> None:
    """NaN, an error and running out of memory, each in a cell of its own, between two that work."""
    code = bench(
        "sweep", *smoke, "--config-dir=tests/faults", "task=inpainting", "solver=dmplug,diverges,raises,oom,dmilo"
    )
    assert code == 1
    cells = stores(results_of(smoke))
    statuses = {name.rpartition("-")[2]: {r["status"] for r in s.records().values()} for name, s in cells.items()}
    assert statuses == {
        "dmplug": {"ok"},
        "diverges": {"diverged"},
        "raises": {"error"},
        "oom": {"oom"},
        "dmilo": {"ok"},
    }
    (reason,) = {r["reason"] for r in cells["emoji-inpainting-raises"].records().values()}
    assert reason == "ZeroDivisionError: on purpose"
    assert "2 diverged" in bench.out
    assert "2 oom" in bench.out
    table = (results_of(smoke) / "report" / "table.csv").read_text()
    assert "estimate 2 of 2 has NaN or infinity" in table
    assert "solver=raises" in bench.err


def test_an_unsuitable_pair_is_skipped_with_its_reason(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, "--config-dir=tests/faults", "task=motion_deblur", "solver=needs_pinv,dmplug") == 0
    assert "n/a" in bench.out
    assert "needs a PinvOperator, MotionBlur is none" in " ".join(bench.out.split())


def test_solver_cannot_reach_the_truth(bench: Command, smoke: list[str]) -> None:
    """A solver that searches everything it can reach from what it is handed for the true image."""
    assert bench("run", *smoke, "--config-dir=tests/faults", "task=motion_deblur", "solver=spy") == 0, bench.err


def test_reconstructions_can_be_scored_again(bench: Command, smoke: list[str]) -> None:
    assert bench("run", *smoke, *CELL) == 0
    store = only_cell(results_of(smoke))
    before = {image: comparable(record) for image, record in store.records().items()}
    assert store.reconstruction(next(iter(before)))["last"].dtype == np.float32
    assert bench("report", smoke[-1], "rescore=true") == 0
    assert {image: comparable(record) for image, record in store.records().items()} == before
    assert len((store.folder / "records.jsonl").read_text().splitlines()) == 4


def test_report_formats(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, "task=inpainting", "solver=dmilo,dmplug") == 0
    assert bench("report", smoke[-1], "format=csv") == 0
    header, *rows = bench.out.splitlines()
    columns = header.split(",")
    required = "dataset,task,solver,selection,images,status,psnr,psnr_ci,ssim,lpips,fid,forward_per_image"
    assert set(f"{required},backward_per_image,seconds_per_image,peak_memory_gib".split(",")) <= set(columns)
    assert len(rows) == 8
    cells = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    assert {(c["solver"], c["selection"]) for c in cells} == {
        (solver, selection)
        for solver in ("dmilo", "dmplug")
        for selection in ("last", "discrepancy", "es_wmv", "oracle")
    }
    records = stores(results_of(smoke))["emoji-inpainting-dmilo"].records().values()
    psnr = np.mean([r["metrics"]["last"]["psnr"] for r in records])
    assert float(cells[0]["psnr"]) == pytest.approx(psnr, rel=1e-5)
    assert bench("report", smoke[-1], "format=markdown") == 0
    assert "**" in bench.out
    assert "dmilo [oracle]" in bench.out
    assert bench("report", smoke[-1], "format=latex") == 0
    assert r"\textbf" in bench.out
    assert bench("report", smoke[-1], "format=html", "solver=dmilo") == 0
    assert "dmplug<" not in bench.out


def test_records_of_different_measurements_are_refused(bench: Command, smoke: list[str]) -> None:
    assert bench("sweep", *smoke, "task=inpainting", "solver=dmilo,dmplug") == 0
    store = stores(results_of(smoke))["emoji-inpainting-dmilo"]
    path = store.folder / "records.jsonl"
    lines = [json.loads(line) | {"y_hash": "forged"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert bench("report", smoke[-1]) == 1
    assert "cannot be compared" in bench.err


def test_full_disk_is_one_line_and_nothing_finished_is_lost(bench: Command, smoke: list[str]) -> None:
    """A file-size limit fails writes as a full disk does."""
    assert bench("run", *smoke, *CELL, "limit=2") == 0
    store = only_cell(results_of(smoke))
    size = (store.folder / "records.jsonl").stat().st_size
    program = (
        "import resource, sys; from bench.__main__ import main; import bench.run;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, {size + 100})); sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", *smoke, *CELL, "limit=4", "batch_size=1"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be written" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert len(store.finished()) >= 2
    assert bench("run", *smoke, *CELL, "limit=4") == 0
    assert len(store.finished()) == 4
