"""`python -m bench fetch dataset=ffhq`: what a dataset, prior or task needs, downloaded or explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cards import bring
from bench.cell import make, resolved
from bench.config import composed, parsed
from bench.errors import BenchError

PLACES = ("checkpoint", "root", "weights")
"""The keys that say where a thing lies."""


def fetch_command(words: Sequence[str]) -> int:
    """Fetch what the named dataset (with its prior), prior or task needs; 1 if something is left to do by hand."""
    named = {override.get_key_element() for override in parsed(list(words))}
    config = resolved(composed(list(words)))
    nodes: dict[str, dict[str, Any]] = {
        "dataset": config["dataset"],
        "prior": config["prior"],
        "task": {**config["task"]["operator"], "name": config["task"]["name"]},
    }
    asked = [kind for kind in nodes if kind in named or (kind == "prior" and "dataset" in named)]
    if not asked:
        raise BenchError("fetch: say what, e.g. dataset=ffhq, prior=imagenet256 or task=nonlinear_deblur")
    complete = True
    found = 0
    for kind in asked:
        node = nodes[kind]
        if not node.get("card"):
            continue
        found += 1
        place = Path(next(node[key] for key in PLACES if node.get(key))).expanduser()
        card = make(f"{kind}.card", node["card"])
        there, line = bring(card, place)
        print(f"{kind}={node['name']} {line}")
        complete &= there
    if not found:
        print(f"nothing to fetch for {' '.join(words)}")
    return 0 if complete else 1
