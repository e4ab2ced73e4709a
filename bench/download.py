"""Downloading one large file: resumed, checked, and at its final path only when whole.

What has come is kept in `<name>.part`, and continued with a range request if the server's validator (ETag or date) is
still the one noted in `<name>.part.tag`; otherwise it starts anew, since two halves of different files would make a
third. Our own code, since pooch and torch.hub do not resume, and huggingface_hub does for its own hub only.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from bench.errors import BenchError

TRIES = 4
STALL_S = 30.0
PAUSE_S = 2.0


class _BrokeOff(Exception):
    """The transfer ended early; it may be tried again."""


def download(
    url: str, destination: Path, sha256: str | None = None, stall_s: float = STALL_S, pause_s: float = PAUSE_S
) -> str:
    """Fetch `url` to `destination`, which is made whole or not at all; the file's sha256.

    Args:
        sha256: what it must be; None if nobody has published it.
        stall_s: seconds without a byte after which the connection is given up.
        pause_s: before the second try; twice as long before each further one.

    Raises:
        BenchError: the server refuses, breaks off or stalls again and again, sends a web page or other bytes than
            those of `sha256`, or the disk is full.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            _transfer(url, part, stall_s)
            break
        except httpx.TimeoutException:
            reason = f"stalled for {stall_s:g} s"
        except (httpx.TransportError, _BrokeOff) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        except OSError as error:
            raise BenchError(f"fetch {url}: {part} cannot be written ({error.strerror or error})") from error
    else:
        have = part.stat().st_size if part.exists() else 0
        raise BenchError(f"fetch {url}: {reason}, {TRIES} times; {have} bytes are kept, the same command continues")
    found = file_sha256(part)
    if sha256 and found != sha256:
        _discard(part)
        raise BenchError(f"fetch {url}: sha256 is {found}, must be {sha256}; nothing was kept, try again later")
    os.replace(part, destination)
    _discard(part)
    return found


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer(url: str, part: Path, stall_s: float) -> None:
    tag_file = part.with_name(part.name + ".tag")
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer could not be continued
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag_file.read_text()}
    timeout = httpx.Timeout(stall_s, pool=None)
    with httpx.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            _discard(part)
            raise _BrokeOff("the part on disk is longer than the file")
        if answer.status_code >= 500:
            raise _BrokeOff(f"the server answers {answer.status_code} {answer.reason_phrase}")
        if answer.status_code not in (200, 206):
            raise BenchError(f"fetch {url}: the server answers {answer.status_code} {answer.reason_phrase}")
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise BenchError(f"fetch {url}: the server answers with a web page, not with the file; fetch it by hand")
        continued = answer.status_code == 206
        if continued and not answer.headers.get("content-range", "").startswith(f"bytes {have}-"):
            _discard(part)
            raise _BrokeOff("the server continued at another place than asked")
        tag = answer.headers.get("etag") or answer.headers.get("last-modified")
        if tag:
            tag_file.write_text(tag)
        else:
            tag_file.unlink(missing_ok=True)
        start = have if continued else 0
        length = answer.headers.get("content-length")
        _write(answer, part, start, start + int(length) if length else None)


def _write(answer: httpx.Response, part: Path, start: int, total: int | None) -> None:
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(part.stem, total=total, completed=start)
        with open(part, "ab" if start else "wb") as file:
            for piece in answer.iter_raw():
                file.write(piece)
                progress.advance(bar, len(piece))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if total is not None and size != total:
        raise _BrokeOff(f"{size} of {total} bytes came")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)
