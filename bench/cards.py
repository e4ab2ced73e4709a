"""Where a checkpoint or a dataset comes from, and how to get it.

A card is part of what it describes (`prior.card`, `dataset.card`, `task.operator.card` in conf/). It never determines a
result, so it is no part of a cell's identity.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.download import download, file_sha256
from bench.errors import BenchError


class Fetchable:
    """What `python -m bench fetch` asks of a card."""

    def fetch(self, destination: Path) -> str | None:
        """Bring it to `destination` and say what was done; None if only a person can (see `need`)."""
        raise NotImplementedError

    def need(self, destination: Path) -> str:
        """What is to be done for it to be at `destination`: "must be fetched ..."."""
        raise NotImplementedError

    def check(self, destination: Path) -> None:
        """Raise BenchError if what lies at `destination` is known to be something else."""


@dataclass(frozen=True)
class Card(Fetchable):
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

    def need(self, destination: Path) -> str:
        if self.url:
            return f"must be fetched: python -m bench fetch (from {self.source}; {self.licence}; {self.size})"
        by_hand = f"{self.how}, and put it at {destination}"
        return f"must be fetched by hand: {self.source} ({self.licence}; {self.size}): {by_hand}"

    def check(self, destination: Path) -> None:
        if self.sha256 and destination.is_file() and file_sha256(destination) != self.sha256:
            raise BenchError(f"{destination}: sha256 is not {self.sha256}; remove the file and fetch it again")


@dataclass(frozen=True)
class HubCard(Fetchable):
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

    def need(self, destination: Path) -> str:
        return f"must be fetched: python -m bench fetch (from huggingface.co/{self.repository}, {self.licence})"


def present(destination: Path) -> bool:
    """A file, or a folder with something in it besides what a download left."""
    if destination.is_dir():
        return any(not path.name.endswith((".part", ".tag", ".zip")) for path in destination.iterdir())
    return destination.is_file()


def bring(card: Fetchable, destination: Path) -> tuple[bool, str]:
    """Fetch it unless it is there; whether it is there now, and a line that says so."""
    if present(destination):
        card.check(destination)
        return True, f"is at {destination}"
    done = card.fetch(destination)
    if done is None:
        return False, card.need(destination)
    return True, f"fetched, {done}; at {destination}"


def need(card: Fetchable | None, destination: Path) -> str:
    """What an error says of a thing that is not there."""
    return card.need(destination) if card else "must be put there"


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
