"""The paper's datasets as people have them on disk, and the images of them that a table uses.

Understood below `root`: image files in any depth (a flat folder, torchvision's `img_align_celeba/` or `val/n01440764/`,
FFHQ's `00000/00000.png`), or LSUN's LMDB (a `data.mdb` with one encoded image per key).

The papers use 100 images and do not say which. Here: a seeded choice among all names in sorted order, so that everyone
with the same files gets the same images; records name them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from torch import Tensor

from bench.cards import Fetchable, need
from bench.errors import BenchError, at_least
from bench.seeds import numpy_generator
from datasets.images import SUFFIXES, ImageFiles, read_image


class CollectionDataset(ImageFiles):
    """`images` images of the collection below `root`, chosen by `choice_seed`.

    Args:
        name: of the dataset; part of the choice's seed.
        root: the folder.
        size: side in pixels of what is returned (centre crop, Lanczos).
        images: how many; 0 for all, in order of their names.
        card: where the files come from, for the error message.

    Raises:
        BenchError: nothing at `root`, or fewer images than asked for.
    """

    def __init__(
        self, name: str, root: str | Path, size: int, card: Fetchable, images: int = 100, choice_seed: int = 0
    ) -> None:
        at_least("dataset.images", images, 0)
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise BenchError(f"dataset.root={root}: no such folder; {name} {need(card, folder)}")
        database = next((file.parent for file in sorted(folder.rglob("data.mdb"))), None)
        self._database = _opened(database) if database else None
        every = self._database.names() if self._database else _image_files(folder)
        if len(every) < max(images, 1):
            raise BenchError(
                f"dataset.root={root}: holds {len(every)} images, dataset.images={images or 1} are asked for"
            )
        super().__init__(name, _chosen(every, images, (name, choice_seed)), size)

    def _read(self, file: Path) -> Tensor:
        if self._database is None:
            return super()._read(file)
        return read_image(file, self.size, self.background, io.BytesIO(self._database.read(file.name)))


def _image_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _chosen(every: Sequence[Path], count: int, seed: tuple[Any, ...]) -> list[Path]:
    if not count:
        return list(every)
    indices = numpy_generator("choice", *seed).choice(len(every), count, replace=False)
    return [every[i] for i in np.sort(indices)]


@cache
def _opened(folder: Path) -> _LMDB:
    """LMDB allows a process to open a database once, and a sweep builds its dataset anew for every cell."""
    return _LMDB(folder)


class _LMDB:
    """An LSUN category: keys to encoded images."""

    def __init__(self, folder: Path) -> None:
        try:
            self._environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise BenchError(f"{folder}: cannot be read as LMDB ({error}); unpack it again") from error

    def names(self) -> list[Path]:
        with self._environment.begin() as transaction:
            return [Path(key.decode()) for key in transaction.cursor().iternext(keys=True, values=False)]

    def read(self, key: str) -> bytes:
        with self._environment.begin() as transaction:
            return bytes(transaction.get(key.encode()) or b"")
