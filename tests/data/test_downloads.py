"""Mirrors, checksums and archives, against a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bandlimit.data import downloads
from bandlimit.errors import UserError

GOOD = b"the right bytes" * 1000
WRONG = b"other bytes" * 1000
HTML = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
SHA = hashlib.sha256(GOOD).hexdigest()
WRONG_SHA = hashlib.sha256(WRONG).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves /good, /wrong, /html, /short (closes early) and /flaky (fails once, then good)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path[1:]
        self.server.asked[name] += 1
        body = {"good": GOOD, "wrong": WRONG, "html": HTML, "short": GOOD}.get(name)
        if name == "flaky" and self.server.asked[name] > 1:
            body = GOOD
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name == "short" else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running: Server) -> Server:
    running.asked.clear()
    return running


@pytest.mark.parametrize(
    ("mirrors", "sha256"),
    [
        (["good"], SHA),
        (["good"], SHA[:8]),
        (["good"], None),
        (["wrong", "good"], SHA),
        (["wrong", "good"], SHA[:8]),
        (["html", "good"], SHA),
        (["html", "good"], None),
        (["missing", "good"], SHA),
        (["short", "good"], SHA),
        (["short", "good"], None),
    ],
)
def test_the_first_right_mirror_gives_the_file(
    server: Server, tmp_path: Path, mirrors: list[str], sha256: str | None
) -> None:
    target = tmp_path / "with space ü" / "file.bin"
    urls = [server.url(name) for name in mirrors]
    assert downloads.fetch([*urls, server.url("never")], sha256, target, retries=0) == target
    assert target.read_bytes() == GOOD
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    assert server.asked == Counter(mirrors)


def test_all_mirrors_wrong_names_both_hashes_and_leaves_nothing(
    server: Server, tmp_path: Path
) -> None:
    target = tmp_path / "weights.pth"
    names = ["wrong", "html", "missing", "short"]
    with pytest.raises(UserError) as caught:
        downloads.fetch([server.url(name) for name in names], SHA, target, retries=0)
    text = str(caught.value)
    assert repr(str(target)) in text
    for name in names:
        assert server.url(name) in text
    assert f"{server.url('wrong')}: its sha256 is {WRONG_SHA}, expected {SHA};" in text
    assert f"{hashlib.sha256(HTML).hexdigest()}, expected {SHA} (the server sent an HTML" in text
    assert "404" in text
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_fails_is_tried_again(server: Server, tmp_path: Path) -> None:
    downloads.fetch([server.url("flaky")], SHA, tmp_path / "file", retries=1)
    assert server.asked["flaky"] == 2


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_is_replaced(
    server: Server, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    target.write_bytes(GOOD)
    downloads.fetch([server.url("good")], SHA, target)
    assert not server.asked
    target.write_bytes(WRONG)
    downloads.fetch([server.url("good")], SHA, target)
    assert target.read_bytes() == GOOD
    assert server.asked["good"] == 1


def test_a_wrong_file_stays_if_no_mirror_is_right(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(WRONG)
    with pytest.raises(UserError, match="can't be fetched"):
        downloads.fetch([server.url("missing")], SHA, target, retries=0)
    assert target.read_bytes() == WRONG


@pytest.mark.parametrize("sha256", ["", "abc", SHA.upper(), SHA + "0", SHA[:16]])
def test_a_checksum_that_is_none_is_refused(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        downloads.fetch(["http://127.0.0.1:1/never"], sha256, tmp_path / "file")


def test_no_urls_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no URL"):
        downloads.fetch([], SHA, tmp_path / "file")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="Can't write to the folder"):
        downloads.fetch(["http://127.0.0.1:1/never"], SHA, tmp_path / "occupied" / "file")


def test_verify(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(GOOD)
    downloads.verify(file, SHA)
    downloads.verify(file, SHA[:8])
    for wanted in (WRONG_SHA, WRONG_SHA[:8]):
        with pytest.raises(UserError, match=f"is {SHA}, expected {wanted}"):
            downloads.verify(file, wanted)
    with pytest.raises(UserError, match="does not exist"):
        downloads.verify(tmp_path / "none", SHA)
