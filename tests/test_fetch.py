"""`bench fetch` against a local server that breaks off, stalls, refuses and sends wrong bytes."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Command

from bench.cards import Card, bring
from bench.download import download
from bench.errors import BenchError

CONTENT = bytes(range(256)) * 800
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at any path; `faults` are taken one per request, then all goes well."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.ranges: list[str | None] = []
        self.content, self.etag, self.knows_ranges = CONTENT, '"1"', True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/file.pt"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        request.close_connection = True
        if fault.isdecimal():
            request.send_error(int(fault))
            return
        start = 0
        if asked and self.knows_ranges and request.headers.get("If-Range") == self.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        else:
            request.send_response(200)
        body = self.content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Type", "text/html" if fault == "page" else "application/octet-stream")
        request.send_header("ETag", self.etag)
        request.end_headers()
        if fault in ("break", "stall"):
            body = body[: len(body) // 3]
        request.wfile.write(body)
        request.wfile.flush()
        if fault == "stall":
            time.sleep(1.5)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.close()


def fetch(server: Server, folder: Path, sha256: str | None = SHA256) -> Path:
    target = folder / "file.pt"
    download(server.url, target, sha256, stall_s=0.5, pause_s=0.01)
    return target


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["file.pt"]


@pytest.mark.parametrize("fault", ["break", "stall", "503"])
def test_goes_on_where_it_broke_off(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = [fault, fault]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 3
    if fault != "503":
        third = len(CONTENT) // 3
        assert server.ranges[1] == f"bytes={third}-"
    assert leftovers(tmp_path) == ["file.pt"]


@pytest.mark.parametrize(("fault", "said"), [("break", "came|closed"), ("stall", "stalled for 0.5 s")])
def test_gives_up_and_continues_with_the_next_command(server: Server, tmp_path: Path, fault: str, said: str) -> None:
    server.faults = [fault] * 4
    with pytest.raises(BenchError, match=said) as raised:
        fetch(server, tmp_path)
    assert "the same command continues" in str(raised.value)
    assert not (tmp_path / "file.pt").exists()
    kept = (tmp_path / "file.pt.part").stat().st_size
    assert f"{kept} bytes are kept" in str(raised.value)
    assert 0 < kept < len(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={kept}-"


def test_another_file_at_the_same_address_is_not_mixed_in(server: Server, tmp_path: Path) -> None:
    server.faults = ["break"] * 4
    with pytest.raises(BenchError):
        fetch(server, tmp_path)
    server.content, server.etag = CONTENT[::-1], '"2"'
    assert fetch(server, tmp_path, None).read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.faults, server.knows_ranges = ["break"], False
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_part_longer_than_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.pt.part").write_bytes(CONTENT + b"x")
    (tmp_path / "file.pt.part.tag").write_text('"1"')
    server.faults = ["416"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "said"), [("404", "answers 404 Not Found"), ("403", "answers 403 Forbidden"), ("page", "a web page")]
)
def test_refused(server: Server, tmp_path: Path, fault: str, said: str) -> None:
    server.faults = [fault]
    with pytest.raises(BenchError, match=said):
        fetch(server, tmp_path)
    assert leftovers(tmp_path) == []
    assert len(server.ranges) == 1, "no second try where the answer will be the same"


def test_wrong_bytes(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(BenchError, match=f"must be {SHA256}; nothing was kept"):
        fetch(server, tmp_path)
    assert leftovers(tmp_path) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="4 times; 0 bytes are kept"):
        download("http://127.0.0.1:9/file.pt", tmp_path / "file.pt", stall_s=0.5, pause_s=0.01)


def test_zip_is_unpacked(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("images/a.png", "a")
    server.content = packed.getvalue()
    url = server.url.replace("file.pt", "images.zip")
    card = Card(source="a page", licence="none", url=url, unpack=True)
    there, line = bring(card, tmp_path / "data")
    assert there
    assert "sha256 of the archive" in line
    assert (tmp_path / "data" / "images" / "a.png").read_text() == "a"
    assert leftovers(tmp_path / "data") == ["images"]
    server.ranges.clear()
    assert bring(card, tmp_path / "data") == (True, f"is at {tmp_path / 'data'}")
    assert server.ranges == []


def test_a_damaged_zip_leaves_nothing(server: Server, tmp_path: Path) -> None:
    card = Card(source="a page", licence="none", url=server.url.replace("file.pt", "images.zip"), unpack=True)
    with pytest.raises(BenchError, match="is no zip file"):
        bring(card, tmp_path / "data")
    assert leftovers(tmp_path / "data") == []


def test_command(server: Server, tmp_path: Path, bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    words = ["fetch", "prior=imagenet256", f"prior.card.url={server.url}"]
    assert bench(*words, f"prior.card.sha256={SHA256}") == 0
    assert (tmp_path / "checkpoints" / "imagenet256.pt").read_bytes() == CONTENT
    assert bench(*words) == 0
    assert "prior=imagenet256 is at" in bench.out
    assert bench(*words, "prior.card.sha256=abcd") == 1
    assert "remove the file and fetch it again" in bench.err


def test_command_explains_what_only_a_person_can_fetch(
    tmp_path: Path, bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert bench("fetch", "dataset=ffhq") == 1
    for expected in ("dataset=ffhq must be fetched by hand: github.com/NVlabs", "ffhq_10m.pt", "CC BY-NC-SA"):
        assert expected in bench.out
    assert bench("fetch", "task=nonlinear_deblur") == 1
    assert re.search(r"GOPRO_wVAE\.pth from .*put it at .*checkpoints/GOPRO_wVAE\.pth", bench.out)
    assert bench("fetch", "solver=dmilo") == 1
    assert "fetch: say what" in bench.err
