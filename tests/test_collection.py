"""The paper's datasets in the layouts that people have, in small files of exactly those formats."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from bench.cards import Card
from bench.errors import BenchError
from datasets.collection import CollectionDataset
from datasets.images import read_image


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


def collection(root: Path, **settings: int) -> CollectionDataset:
    return CollectionDataset("some", root, 16, Card(source="a page", licence="none"), **settings)


@pytest.mark.parametrize(
    "pattern",
    ["img_align_celeba/{:06d}.jpg", "00000/{:05d}.png", "val/n0144{0:04d}/ILSVRC2012_val_{0:08d}.JPEG", "{:03d}.webp"],
)
def test_layouts_of_files(tmp_path: Path, pattern: str) -> None:
    for i in range(12):
        file = tmp_path / pattern.format(i)
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(file)
    (tmp_path / "list_attr_celeba.txt").write_text("not an image")
    everything = collection(tmp_path, images=0)
    assert len(everything) == 12
    some = collection(tmp_path, images=5)
    assert some.ids == collection(tmp_path, images=5).ids
    assert some.ids == [name for name in everything.ids if name in some.ids], "in the order of their names"
    assert set(some.ids) != set(collection(tmp_path, images=5, choice_seed=1).ids)
    assert some[0].image.shape == (3, 16, 16)


def test_lsun_database(tmp_path: Path) -> None:
    folder = tmp_path / "bedroom_val_lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for i in range(6):
            encoded = io.BytesIO()
            picture(i).save(encoded, "WEBP", lossless=True)
            transaction.put(f"{i:040x}".encode(), encoded.getvalue())
    dataset, again = collection(tmp_path, images=0), collection(tmp_path, images=0)  # as the cells of a sweep do
    assert dataset.ids == again.ids == [f"{i:040x}" for i in range(6)]
    picture(3).save(tmp_path / "same.png")
    assert torch.equal(dataset[3].image, read_image(tmp_path / "same.png", 16))


def test_damaged_database_and_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database")
    with pytest.raises(BenchError, match="cannot be read as LMDB"):
        collection(tmp_path, images=0)
    (tmp_path / "data.mdb").unlink()
    with lmdb.open(str(tmp_path), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"broken", b"RIFF1234WEBP")
    with pytest.raises(BenchError, match="image broken: cannot be read"):
        collection(tmp_path, images=0)[0]


def test_too_few_and_none(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(BenchError, match=r"holds 1 images, dataset.images=100 are asked for"):
        collection(tmp_path)
    with pytest.raises(BenchError, match="no such folder; some must be fetched by hand: a page"):
        collection(tmp_path / "absent")
