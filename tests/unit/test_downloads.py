"""Mirrors, checksums and archives, against a server on this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bandlimit import downloads
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


def tar_of(path: Path, *members: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def tar_file(name: str, size: int = 3, **values: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for key, value in values.items():
        setattr(member, key, value)
    return member


def zip_of(path: Path, name: str, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as pack:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        pack.writestr(member, "xxx")
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked(tmp_path: Path, mode: str) -> None:
    archive = tar_of(tmp_path / "a", tar_file("folder/name ü.png"), tar_file("b..c"), mode=mode)
    folder = downloads.extract(archive, tmp_path / "out" / "deep")
    assert (folder / "folder" / "name ü.png").read_bytes() == b"xxx"
    assert (folder / "b..c").read_bytes() == b"xxx"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]


def test_a_zip_is_unpacked_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    downloads.extract(zip_of(tmp_path / "a.zip", "folder/name.png"), tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "name.png").read_bytes() == b"xxx"


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (tar_file("../evil"), "leads out"),
        (tar_file("a/../../evil"), "leads out"),
        (tar_file("a\\..\\..\\evil"), "leads out"),
        (tar_file("/evil/evil"), "absolute"),
        (tar_file("C:\\evil"), "absolute"),
        (tar_file("link", 0, type=tarfile.SYMTYPE, linkname="../../evil"), "a link"),
        (tar_file("link", 0, type=tarfile.LNKTYPE, linkname="/evil"), "a link"),
        (tar_file("null", 0, type=tarfile.CHRTYPE, devmajor=1, devminor=3), "a device"),
        (tar_file("pipe", 0, type=tarfile.FIFOTYPE), "a device"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_a_tar_that_leads_out_is_refused_whole(
    tmp_path: Path, member: tarfile.TarInfo, reason: str
) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", tar_file("good"), member)
    with pytest.raises(UserError, match=reason):
        downloads.extract(archive, tmp_path / "in" / "out")
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../evil", 0o100644, "leads out"),
        ("a/../../evil", 0o100644, "leads out"),
        ("/evil/evil", 0o100644, "absolute"),
        ("link", 0o120777, "a link"),
        ("null", 0o020666, "a device"),
    ],
)
def test_a_zip_that_leads_out_is_refused_whole(
    tmp_path: Path, name: str, mode: int, reason: str
) -> None:
    archive = zip_of(tmp_path / "a.zip", name, mode)
    with pytest.raises(UserError, match=reason):
        downloads.extract(archive, tmp_path / "in" / "out")
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "in").iterdir()) == []


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def damaged(path: Path) -> Path:
    """Change a byte of the data of a zip, so that its CRC differs."""
    content = bytearray(path.read_bytes())
    content[content.index(b"xxx")] = ord("y")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: cut(tar_of(path, tar_file("a", 10**6))), "can't be unpacked"),
        (lambda path: cut(tar_of(path, tar_file("a", 10**6), mode="w")), "can't be unpacked"),
        (lambda path: cut(tar_of(path, tar_file("a", 10**6), mode="w:xz")), "can't be unpacked"),
        (lambda path: cut(zip_of(path, "a")), "damaged"),
        (lambda path: damaged(zip_of(path, "a")), "CRC"),
        (lambda path: path.write_bytes(HTML), "an HTML page"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: None, "does not exist"),
    ],
    ids=["gz", "tar", "xz", "zip", "crc", "html", "empty", "missing"],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, make: object, reason: str) -> None:
    make(tmp_path / "archive")  # type: ignore[operator]
    with pytest.raises(UserError, match=reason):
        downloads.extract(tmp_path / "archive", tmp_path / "in" / "out")
    assert list(tmp_path.glob("in/*")) == []


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(UserError, match="empty or a new folder"):
        downloads.extract(tar_of(tmp_path / "a", tar_file("b")), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
