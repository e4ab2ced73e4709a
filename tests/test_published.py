"""The paper's numbers stand beside ours, with the difference, for what it reports and nothing else."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.published import as_text, beside_published, published


def summary(dataset: str, solver: str) -> pd.DataFrame:
    common = {"dataset": dataset, "task": "motion_deblur", "solver": solver, "images": 7, "fid": None, "lpips": 0.1}
    return pd.DataFrame(
        [
            {**common, "selection": "last", "psnr": 33.0, "ssim": 0.9},
            {**common, "selection": "oracle", "psnr": 34.5, "ssim": 0.91},
        ]
    )


def test_differences() -> None:
    table = beside_published(summary("celeba", "dmilo")).set_index("metric")
    assert table.loc["psnr", "paper"] == 34.15
    assert table.loc["psnr", "ours - paper"] == pytest.approx(-1.15)
    assert table.loc["psnr", "oracle - paper"] == pytest.approx(0.35)
    assert table.loc["ssim", "images"] == 7
    shown = as_text(beside_published(summary("celeba", "dmilo"))).set_index("metric")
    assert list(shown.loc["psnr", ["paper", "ours", "ours - paper"]]) == ["34.15", "33.00", "-1.15"]
    assert list(shown.loc["fid", ["paper", "ours", "ours - paper"]]) == ["31.1", "n/a", "n/a"]


def test_nothing_where_the_paper_has_nothing() -> None:
    assert beside_published(summary("emoji", "dmilo")).empty
    assert beside_published(summary("celeba", "dmilo (lr_z=0.01)")).empty


def test_the_table_holds_the_known_numbers() -> None:
    table = published()
    assert len(table) == 30
    assert not table.duplicated(["dataset", "task", "solver", "metric"]).any()
    assert set(table["dataset"]) == {"celeba", "ffhq"}
