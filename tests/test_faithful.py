"""`faithful=true` follows the releases where they are odd; by default nothing of it is on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from conftest import Command, stores

from bench.config import ROOT
from bench.seeds import numpy_generator
from operators.blur import MotionBlur


def test_even_kernels_give_a_pixel_more() -> None:
    for side, expected in ((256, 257), (32, 33)):
        operator = MotionBlur(as_released=True).draw((3, side, side), [numpy_generator("t")]).to("cpu", torch.float32)
        y = operator(torch.zeros(1, 3, side, side))
        assert y.shape == (1, 3, expected, expected)
        assert operator.preview(y).shape == (1, 3, side, side)
    assert MotionBlur(as_released=True).draw((3, 256, 256), [numpy_generator("t")]).drawn["kernel"].shape[-1] == 64


@pytest.mark.parametrize("faithful", [False, True])
def test_draws_and_selection(bench: Command, smoke: list[str], faithful: bool) -> None:
    words = ["task=inpainting,motion_deblur,blind_deblur", "solver=dmilo", f"faithful={str(faithful).lower()}"]
    assert bench("sweep", *smoke, *words) == 0, bench.err
    results = Path(smoke[-1].partition("=")[2])
    assert ("dmilo [oracle]" in " ".join(bench.out.split())) == faithful
    folder = results / "records"
    for cell in folder.iterdir():
        noise = _noise_of(cell.name, results) if "inpainting" in cell.name else None
        if noise is not None:
            assert torch.allclose(noise[0], noise[1], atol=1e-6) == faithful, "one noise for every image"
    assert bench("report", "format=csv", f"results_dir={results}") == 0
    headlines = {row["selection"] for row in csv.DictReader(io.StringIO(bench.out)) if row["headline"] == "True"}
    assert headlines == {"oracle" if faithful else "last"}


def _noise_of(name: str, results: Path) -> torch.Tensor:
    """y - A x of each image of an inpainting cell, which is the noise."""
    from bench.scoring import measured_again

    store = stores(results)[name.rpartition("-")[0]]
    measurement = measured_again(store, sorted(store.records()))
    return measurement.y - measurement.true_operator(measurement.truth)


def test_every_switch_is_documented() -> None:
    text = (ROOT / "docs" / "faithful.md").read_text()
    for key in ("same_draw_for_all", "as_released", "ends_clean", "oracle", "weight_gradients"):
        assert key in text
