"""The paper's numbers beside ours (arXiv 2505.20789; published.csv holds those that are known here, and no others).

They are means over 100 images of the iterate that is best by the truth, as the release selects; so the difference to
compare is the one of our `oracle` rows, and the headline's shows what that selection is worth.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.metrics import METRICS
from bench.selection import Last, Oracle

SOURCE = "arXiv 2505.20789"
KEYS = ["dataset", "task", "solver"]
NUMBERS = ("paper", "ours", "ours - paper", "oracle", "oracle - paper")


@cache
def published() -> pd.DataFrame:
    """Columns dataset, task, solver, metric, value."""
    return pd.read_csv(Path(__file__).with_suffix(".csv"))


def beside_published(summary: pd.DataFrame) -> pd.DataFrame:
    """A row per metric of `summary`'s cells that the paper reports too; empty if there are none.

    Columns: dataset, task, solver, metric, paper, ours (`last`) and its difference, oracle and its difference, images.
    """
    rows = []
    for _, cell in summary.groupby(KEYS, sort=False):
        names = cell[KEYS].iloc[:1]
        known = published().merge(names, on=KEYS)
        by_selection = {row["selection"]: row for row in cell.to_dict("records")}
        for entry in known.to_dict("records"):
            row = {**{key: entry[key] for key in [*KEYS, "metric"]}, "paper": entry["value"]}
            for name, selection in (("ours", Last.name), ("oracle", Oracle.name)):
                value = by_selection.get(selection, {}).get(entry["metric"])
                row[name] = value
                row[f"{name} - paper"] = None if value is None else value - entry["value"]
            rows.append({**row, "images": cell["images"].max()})
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Rounded as each metric is, signs on the differences."""
    digits = {metric.name: metric.digits for metric in METRICS}
    rows = table.to_dict("records")
    for row in rows:
        for column in NUMBERS:
            sign = "+" if "-" in column else ""
            value: Any = row[column]
            row[column] = "n/a" if pd.isna(value) else f"{value:{sign}.{digits[row['metric']]}f}"
    return pd.DataFrame(rows).astype(str)
