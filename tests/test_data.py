"""Images in, [-1, 1] out; and the emoji splits that must never mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.config import ROOT
from bench.errors import BenchError
from datasets.emoji import EmojiDataset, base_emoji, held_out
from datasets.folder import FolderDataset
from datasets.images import read_image


def test_splits_share_no_base_emoji() -> None:
    test, validation = (EmojiDataset(split, 32) for split in ("test", "validation"))
    assert (len(test), len(validation)) == (58, 33)  # 64 and 36, but for those that the prior has seen in another guise
    bases = [{base_emoji(f.name) for f in dataset.files} for dataset in (test, validation)]
    assert [len(b) for b in bases] == [58, 33]
    assert not bases[0] & bases[1]
    assert bases[0] | bases[1] <= held_out()


def test_variants_of_one_emoji_are_one_group() -> None:
    groups = [["1f3c3-1f3fb-200d-2640-fe0f", "1f3c3"], ["39-fe0f-20e3", "0039-fe0f-20e3"]]
    groups += [["1f468-200d-1f3ed", "1f9d1-1f3fd-200d-1f3ed", "1f469-200d-1f3ed"]]
    names = [{base_emoji(f"{name}.webp") for name in group} for group in groups]
    assert [len(group) for group in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3


def test_training_split_leaves_every_variant_of_a_held_out_emoji_out(tmp_path: Path) -> None:
    for name in ("1f3c3-1f3fb-200d-2640-fe0f", "1f600", "1f600-fe0f"):  # the first one's base is held out
        Image.new("RGBA", (8, 8)).save(tmp_path / f"{name}.webp")
    training = EmojiDataset("train", 8, root=tmp_path)
    assert {f.stem for f in training.files} == {"1f600", "1f600-fe0f"}
    assert len(training.representatives()) == 1


def test_missing_training_images_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="bench fetch dataset=emoji"):
        EmojiDataset("train", 32, root=tmp_path)


def test_first_images_are_a_mixture() -> None:
    first = [name for name in EmojiDataset("test", 32).ids[:8] if name.startswith("1f1")]
    assert len(first) < 4  # flags come first by name


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(array, mode).save(path)
    return path


def test_modes(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", np.full((9, 9), 255, np.uint8))
    deep = save(tmp_path / "deep.png", np.full((9, 9), 65535, np.uint16))
    clear = save(tmp_path / "clear.png", np.zeros((9, 9, 4), np.uint8))
    ink = tmp_path / "ink.jpg"
    Image.new("CMYK", (9, 9), (0, 0, 0, 0)).save(ink)
    assert all(float(read_image(p, 8).min()) == pytest.approx(1, abs=0.02) for p in (grey, deep, ink))
    assert float(read_image(clear, 8).mean()) == pytest.approx(236 / 127.5 - 1, abs=1e-6)


def test_centre_crop(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert float(read_image(save(tmp_path / "wide.png", wide), 8).min()) == 1


def test_folder_is_ordered_and_names_are_unique(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert FolderDataset(tmp_path, 8).ids == ["a", "b", "c"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert FolderDataset(tmp_path, 8).ids == ["a.jpg", "a.png", "b.png", "c.webp"]
    Image.new("RGB", (8, 8)).save(tmp_path / "sub" / "a.png")
    with pytest.raises(BenchError, match="same file name"):
        FolderDataset(tmp_path, 8)


def test_bundled_files_are_small_and_licensed() -> None:
    bundled = ROOT / "datasets" / "bundled"
    assert sum(f.stat().st_size for f in bundled.rglob("*") if f.is_file()) < 2e6
    assert "Microsoft" in (bundled / "emoji" / "LICENSE").read_text()
