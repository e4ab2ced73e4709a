"""Paper-style tables of a summary: one per dataset and task, best value bold, second best underlined."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.metrics import METRICS
from bench.published import SOURCE, as_text, beside_published
from bench.results import BASELINE
from bench.selection import Last

CAPTION = (
    "Mean over images, ± half of the 95 % interval. Noise levels are on the [-1, 1] scale. "
    f"'vs {BASELINE}' is the mean per-image PSNR difference on the same measurements, with its 95 % interval. "
    "Calls are network evaluations forward / backward per image; seconds are inside the solver only. "
    "'discrepancy' and 'es_wmv' rows stop by the data alone, at the cost shown; "
    "'oracle' rows pick the iterate by the ground truth and are no headline, but in faithful mode."
)


@dataclass(frozen=True)
class Markup:
    """How a format writes plain text, the best and the second-best value."""

    plain: Callable[[str], str]
    best: Callable[[str], str]
    second: Callable[[str], str]


MARKDOWN = Markup(lambda s: s.replace("|", "\\|"), lambda s: f"**{s}**", lambda s: f"<u>{s}</u>")
HTML = Markup(html.escape, lambda s: f"<b>{html.escape(s)}</b>", lambda s: f"<u>{html.escape(s)}</u>")
TERMINAL = Markup(escape, lambda s: f"[bold green]{escape(s)}[/]", lambda s: f"[underline]{escape(s)}[/]")
LATEX = Markup(
    lambda s: s.replace("_", r"\_").replace("±", r"$\pm$").replace("%", r"\%"),
    lambda s: rf"\textbf{{{s}}}".replace("±", r"$\pm$"),
    lambda s: rf"\underline{{{s}}}".replace("±", r"$\pm$"),
)


def notes(summary: pd.DataFrame) -> list[str]:
    """A line for every cell that did not end well: what is missing from its means, and why."""
    bad = {row["cell"]: row for row in summary.to_dict("records") if row["status"] != "ok"}
    return [f"{row['task']}, {row['solver']}: {row['status']}: {row['reason']}" for row in bad.values()]


def csv(summary: pd.DataFrame) -> str:
    return summary.to_csv(index=False, float_format="%.6g")


def markdown(summary: pd.DataFrame) -> str:
    shown = _tables(summary, MARKDOWN) + _published(summary, MARKDOWN)
    parts = [f"### {title}\n\n{table.to_markdown(index=False, disable_numparse=True)}\n" for title, table in shown]
    return "\n".join([*parts, *[f"- {note}" for note in notes(summary)], "", CAPTION, ""])


def as_html(summary: pd.DataFrame) -> str:
    parts = [
        f"<h3>{html.escape(title)}</h3>\n{table.to_html(index=False, escape=False, border=0)}"
        for title, table in _tables(summary, HTML) + _published(summary, HTML)
    ]
    lines = [*notes(summary), CAPTION]
    return "\n".join([*parts, *[f"<p>{html.escape(line)}</p>" for line in lines], ""])


def latex(summary: pd.DataFrame) -> str:
    """`booktabs` tables."""
    parts = []
    for experiment, (title, table) in zip(summary["experiment"].unique(), _tables(summary, LATEX), strict=True):
        table.columns = [
            LATEX.plain(c).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$") for c in table.columns
        ]
        caption = LATEX.plain(". ".join([title, *notes(summary.loc[summary["experiment"] == experiment, :]), CAPTION]))
        layout = "l" + "r" * (len(table.columns) - 1)
        parts.append(table.to_latex(index=False, escape=False, column_format=layout, caption=caption))
    for title, table in _published(summary, LATEX):
        layout = "llll" + "r" * (len(table.columns) - 4)
        parts.append(table.to_latex(index=False, escape=False, column_format=layout, caption=LATEX.plain(title)))
    return "\n".join(parts)


def terminal(summary: pd.DataFrame) -> list[Table]:
    """rich tables of the headlines, to print."""
    tables = []
    for title, frame in _tables(summary.loc[summary["headline"], :], TERMINAL) + _published(summary, TERMINAL):
        table = Table(title=title, title_justify="left", title_style="bold", header_style="")
        for i, column in enumerate(frame.columns):
            table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in frame.itertuples(index=False):
            table.add_row(*[Text.from_markup(cell) for cell in row])
        tables.append(table)
    return tables


def _published(summary: pd.DataFrame, markup: Markup) -> list[tuple[str, pd.DataFrame]]:
    """The paper's numbers beside ours, where it has any."""
    table = beside_published(summary)
    if not len(table):
        return []
    shown = as_text(table).map(markup.plain)
    return [(f"The paper's numbers ({SOURCE}, 100 images, best iterate by the truth) beside ours", shown)]


def _tables(summary: pd.DataFrame, markup: Markup) -> list[tuple[str, pd.DataFrame]]:
    """(title, table of strings) per experiment."""
    tables = []
    for _, group in summary.groupby("experiment", sort=False):
        first = group.iloc[0]
        measured = group["measurement_psnr"].dropna()
        title = f"{first['dataset']}, {first['task']}"
        title += f" (the measurement itself: {measured.iloc[0]:.2f} dB)" if len(measured) else ""
        columns = _columns(group)
        rows = [[text(row, markup) for _, text in columns] for _, row in group.iterrows()]
        tables.append((title, pd.DataFrame(rows, columns=[name for name, _ in columns])))
    return tables


Formatter = Callable[[Any, Markup], str]


def _columns(group: pd.DataFrame) -> list[tuple[str, Formatter]]:
    columns: list[tuple[str, Formatter]] = [("solver", _solver)]
    for metric in METRICS:
        if metric.optional and not len(group[metric.name].dropna()):
            continue
        values = group.loc[group["headline"], metric.name].dropna()
        ranked = sorted({round(v, metric.digits) for v in values}, reverse=metric.higher_is_better)
        columns.append((f"{metric.title} {'↑' if metric.higher_is_better else '↓'}", _ranked(metric, ranked)))
    columns += [
        (f"vs {BASELINE}, dB", lambda row, markup: markup.plain(_plus_minus(row["gain"], row["gain_ci"], "+.2f"))),
        ("calls", lambda row, markup: markup.plain(_pair(row["forward_per_image"], row["backward_per_image"]))),
        ("s / image", lambda row, markup: markup.plain(_number(row["seconds_per_image"], ".2f"))),
    ]
    if any(group["peak_memory_gib"].dropna()):
        columns.append(("peak GiB", lambda row, markup: markup.plain(_number(row["peak_memory_gib"], ".2f"))))
    columns.append(("images", lambda row, markup: str(row["images"])))
    if set(group["status"]) != {"ok"}:
        columns.append(("status", lambda row, markup: markup.plain(row["status"])))
    return columns


def _solver(row: Any, markup: Markup) -> str:
    return markup.plain(row["solver"] if row["selection"] == Last.name else f"{row['solver']} [{row['selection']}]")


def _ranked(metric: Any, ranked: list[float]) -> Formatter:
    def text(row: Any, markup: Markup) -> str:
        value = row[metric.name]
        width = row["psnr_ci"] if metric.name == "psnr" else None
        shown = _plus_minus(value, width, f".{metric.digits}f")
        if pd.isna(value) or not row["headline"]:
            return markup.plain(shown)
        place = ranked.index(round(value, metric.digits))
        return (markup.best, markup.second)[place](shown) if place < 2 else markup.plain(shown)

    return text


def _number(value: Any, form: str) -> str:
    return "n/a" if pd.isna(value) else format(value, form)


def _plus_minus(value: Any, width: Any, form: str) -> str:
    text = _number(value, form)
    return text if pd.isna(value) or pd.isna(width) else f"{text} ± {format(width, form.replace('+', ''))}"


def _pair(forward: Any, backward: Any) -> str:
    return "n/a" if pd.isna(forward) else f"{forward:.0f} / {backward:.0f}"
