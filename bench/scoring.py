"""Scoring without solving: the truths and measurements of finished cells, drawn again and checked by their hashes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from bench.cell import make
from bench.errors import BenchError
from bench.identity import content_hash
from bench.measurement import Measurement, measure
from bench.metrics import fid, score
from bench.records import OK, CellStore, Record
from datasets.images import ImageFiles


def measured_again(store: CellStore, images: Sequence[str]) -> Measurement:
    """Truth and measurement of these images, as this cell's solver got them.

    Raises:
        BenchError: the data set or the task no longer give the recorded measurements.
    """
    config, records = store.description()["config"], store.records()
    dataset = _dataset(json.dumps(config["dataset"]))
    lookup = {image: i for i, image in enumerate(dataset.ids)}
    missing = [image for image in images if image not in lookup]
    if missing:
        raise BenchError(f"{store.folder}: dataset {dataset.name} has no image {missing[0]} any more")
    measurement = measure(
        [dataset[lookup[image]] for image in images],
        make("task.operator", config["task"]["operator"]),
        make("task.noise", config["task"]["noise"]),
        dataset.name,
        config["task"],
        config["seed"],
        torch.device("cpu"),
    )
    for image, drawn in zip(images, measurement.hashes, strict=True):
        if drawn != records[image]["y_hash"]:
            raise BenchError(
                f"{store.folder}: the measurement of {image} is not the recorded one; was the data changed?"
            )
    return measurement


def reconstructions(store: CellStore, images: Sequence[str], selection: str) -> Tensor:
    """(N, C, H, W) in [-1, 1]."""
    return torch.stack([torch.from_numpy(store.reconstruction(image)[selection]) for image in images])


def cell_fid(store: CellStore, selection: str, images: Sequence[str]) -> float | None:
    """FID over these images; computed once and kept beside the records."""
    path = store.folder / "fid.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    key = f"{selection}-{content_hash(sorted(images))}"
    if key not in known:
        value = fid(reconstructions(store, images, selection), measured_again(store, images).truth) if images else None
        if value is None:
            return None
        known[key] = value
        path.write_text(json.dumps(known))
    return known[key]


def rescore(store: CellStore) -> int:
    """Compute the per-image metrics of every finished image again from its reconstruction; how many."""
    finished = [r for r in store.records().values() if r["status"] == OK]
    if not finished:
        return 0
    images = [record["image"] for record in finished]
    truth = measured_again(store, images).truth
    with store.writing():
        scores = {name: score(reconstructions(store, images, name), truth) for name in finished[0]["metrics"]}
        for i, record in enumerate(finished):
            metrics = {name: {**old, **scores[name][i]} for name, old in record["metrics"].items()}
            updated: Record = record | {"metrics": metrics}
            store.append(updated)
    return len(finished)


@cache
def _dataset(settings: str) -> ImageFiles:
    return make("dataset", json.loads(settings))
