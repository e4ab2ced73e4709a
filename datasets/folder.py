"""Any folder of images, in the order of their names."""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError
from datasets.images import SUFFIXES, ImageFiles


class FolderDataset(ImageFiles):
    """Every image below `root`, sorted by path.

    Raises:
        BenchError: `root` is not a folder, or holds no image.
    """

    def __init__(self, root: str | Path, size: int, name: str = "folder", background: int = 236) -> None:
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise BenchError(f"dataset.root={root}: no such folder; give one that holds images")
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise BenchError(f"dataset.root={root}: holds no image ({', '.join(sorted(SUFFIXES))})")
        super().__init__(name, files, size, background)
