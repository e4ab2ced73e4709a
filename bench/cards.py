"""Where a checkpoint or a dataset comes from, and how to get it.

A card is part of what it describes (`prior.card`, `dataset.card`, `task.operator.card` in conf/). It never determines a
result, so it is no part of a cell's identity.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.download import download, file_sha256
from bench.errors import BenchError


class Fetchable(Protocol):
    """What `python -m bench fetch` asks of a card."""

    def fetch(self, destination: Path) -> str | None:
        """Bring it to `destination` and say what was done; None if only a person can (see `instructions`)."""

    def instructions(self, destination: Path) -> str:
        """What to do by hand."""
        ...


@dataclass(frozen=True)
class Card:
    """A file, or a zip of a folder (`unpack`).

    Attributes:
        source: the page that offers it.
        licence: what its owners say of its use.
        size: as far as known.
        url: a direct link, if it may be downloaded without an account or a browser.
        sha256: of the file behind `url`, if anyone has published it.
        how: what to do by hand, where there is no `url`.
    """

    source: str
    licence: str
    size: str = "unknown"
    url: str | None = None
    sha256: str | None = None
    unpack: bool = False
    how: str = "get it there"

    def fetch(self, destination: Path) -> str | None:
        if self.url is None:
            return None
        if not self.unpack:
            return f"sha256 {download(self.url, destination, self.sha256)}"
        archive = destination / self.url.rpartition("/")[2]
        digest = download(self.url, archive, self.sha256)
        _unpack(archive, destination)
        return f"sha256 of the archive {digest}"

    def instructions(self, destination: Path) -> str:
        return f"{self.source} ({self.licence}; {self.size}): {self.how}, and put it at {destination}"


@dataclass(frozen=True)
class HubCard:
    """A model on the Hugging Face Hub, kept in its own cache, which diffusers reads."""

    repository: str
    licence: str

    def fetch(self, destination: Path) -> str:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            files = ["*.json", "*.safetensors"]
            return f"in {snapshot_download(self.repository, allow_patterns=files)}"
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BenchError(f"fetch {self.repository}: the Hub does not give it ({reason})") from error

    def instructions(self, destination: Path) -> str:
        return f"huggingface.co/{self.repository} ({self.licence})"


def present(destination: Path) -> bool:
    """A file, or a folder with something in it besides what a download left."""
    if destination.is_dir():
        return any(not path.name.endswith((".part", ".tag", ".zip")) for path in destination.iterdir())
    return destination.is_file()


def bring(card: Fetchable, destination: Path, known_sha256: str | None = None) -> tuple[bool, str]:
    """Fetch it unless it is there; whether it is there now, and a line that says so."""
    if present(destination):
        if known_sha256 and destination.is_file() and file_sha256(destination) != known_sha256:
            raise BenchError(f"{destination}: sha256 is not {known_sha256}; remove the file and fetch it again")
        return True, f"is at {destination}"
    done = card.fetch(destination)
    if done is None:
        return False, f"must be fetched by hand: {card.instructions(destination)}"
    return True, f"fetched, {done}; at {destination}"


def need(card: Fetchable | None, destination: Path) -> str:
    """What an error says of a thing that is not there."""
    if card is None:
        return "must be put there"
    if getattr(card, "url", None):
        return f"must be fetched: python -m bench fetch (from {card.instructions(destination)})"
    return f"must be fetched by hand: {card.instructions(destination)}"


def _unpack(archive: Path, destination: Path) -> None:
    scratch = destination / "unpacking.part"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(scratch)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise BenchError(f"{archive}: is no zip file ({error}); it was removed, fetch it again") from error
    for path in scratch.iterdir():
        path.replace(destination / path.name)
    scratch.rmdir()
    archive.unlink()
