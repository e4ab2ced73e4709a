"""Reading an image file into the suite's one image format: float32, (3, H, W), in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.errors import BenchError, at_least

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class Sample(NamedTuple):
    """One image and the name that its records, seeds and files carry."""

    id: str
    image: Tensor


class ImageFiles:
    """A fixed, ordered list of image files.

    Args:
        name: what records and tables call it.
        files: the images, in the order in which `limit` takes them.
        size: side in pixels of what `__getitem__` returns.
        background: grey level, 0..255, under transparent pixels.
    """

    def __init__(self, name: str, files: Sequence[Path], size: int, background: int = 236) -> None:
        at_least("dataset.size", size, 8)
        if not files:
            raise BenchError(f"dataset {name}: no images found")
        self.name, self.files, self.size, self.background = name, list(files), size, background
        stems = [f.stem for f in self.files]
        # two files of one stem (a.png, a.jpg) keep their suffix, or they would share a record
        self.ids = stems if len(set(stems)) == len(stems) else [f.name for f in self.files]
        if len(set(self.ids)) < len(self.ids):
            raise BenchError(f"dataset {name}: two images have the same file name; rename one")

    def __len__(self) -> int:
        return len(self.files)

    def representatives(self) -> list[int]:
        """Indices of one image per group of variants; all of them, where files have no groups.

        Where a group is held out as one image, what is measured on seen images must count groups once, too.
        """
        return list(range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self._read(self.files[index]))

    def _read(self, file: Path) -> Tensor:
        return read_image(file, self.size, self.background)


def read_image(path: Path, size: int, background: int = 236, content: IO[bytes] | None = None) -> Tensor:
    """The image as (3, size, size) float32 in [-1, 1]; from `content`, if given, and then `path` only names it.

    Centre-cropped to a square and resized with Lanczos (Pillow's is antialiased). Transparency is composited on
    a grey of level `background`; grey becomes RGB; 16-bit grey is scaled to 8 bits; CMYK is converted.

    Raises:
        BenchError: the file is missing, truncated or no image.
    """
    try:
        with Image.open(content or path) as opened:
            picture = _to_rgb(opened, background)
    except (OSError, ValueError, SyntaxError) as error:
        raise BenchError(f"image {path}: cannot be read ({error}); replace or remove the file") from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if picture.size != (side, side):
        picture = picture.crop((left, top, left + side, top + side))
    if side != size:
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def _to_rgb(picture: Image.Image, background: int) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips instead of scaling
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (background, background, background, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return picture.convert("RGB")
