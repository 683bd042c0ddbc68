import json
import os
import socket

import pytest

from bandlimit.errors import UserError
from bandlimit.files import folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in ("b/two.png", "a/one.png", "a/ten.png", ".cache/x.png", "a/.hidden.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"four")
    return root


def names(root):
    return [path.relative_to(root).as_posix() for path in folders.files_in(root)]


def test_all_files_are_found_sorted_and_hidden_ones_left_out(folder):
    assert names(folder) == ["a/one.png", "a/ten.png", "b/two.png"]


def test_what_lies_in_a_hidden_folder_is_left_out_at_any_depth(folder):
    """Notebooks keep copies of what they open in `.ipynb_checkpoints`."""
    before = folders.digest(folder)
    hidden = folder / "a/.ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "one-checkpoint.png").write_bytes(b"four")
    assert names(folder) == ["a/one.png", "a/ten.png", "b/two.png"]
    assert folders.digest(folder) == before


def test_links_are_followed_and_broken_ones_are_listed(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "far.png").write_bytes(b"far")
    (folder / "c").symlink_to(other)
    (folder / "near.png").symlink_to(other / "far.png")
    (folder / "gone.png").symlink_to(other / "gone.png")
    expected = ["a/one.png", "a/ten.png", "b/two.png", "c/far.png", "gone.png", "near.png"]
    assert names(folder) == expected
    before = folders.digest(folder)
    (other / "gone.png").write_bytes(b"here again")
    assert folders.digest(folder) != before


def test_a_socket_is_no_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as open_one:
        open_one.bind("a/s.png")
        assert names(folder) == ["a/one.png", "a/ten.png", "b/two.png"]


def test_a_link_in_a_circle_is_told(folder):
    (folder / "a/again").symlink_to(folder)
    with pytest.raises(UserError, match=r"a/again' leads back to a folder that it lies in"):
        folders.files_in(folder)


def test_a_folder_that_cant_be_listed_is_told(folder, monkeypatch):
    scandir = os.scandir

    def refusing(place):
        if str(place).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"pictures/a' can't be listed \(Permission denied\)"):
        folders.files_in(folder)


def test_what_is_missing_has_no_files_and_no_digest(tmp_path):
    assert folders.files_in(tmp_path / "gone") == []
    assert folders.digest(tmp_path / "gone") is None


def test_a_file_has_a_digest_of_its_content(folder):
    one, ten = folders.digest(folder / "a/one.png"), folders.digest(folder / "a/ten.png")
    assert one == ten is not None
    (folder / "a/one.png").write_bytes(b"FOUR")
    assert folders.digest(folder / "a/one.png") != one


def test_an_empty_folder_has_a_digest(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    found = folders.digest(tmp_path / "empty")
    assert found is not None
    assert found != folders.digest(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/new.png").write_bytes(b"four"),
        lambda root: (root / "a/one.png").unlink(),
        lambda root: (root / "a/one.png").rename(root / "a/uno.png"),
        lambda root: (root / "a/one.png").rename(root / "b/one.png"),
        lambda root: (root / "a/one.png").write_bytes(b"longer"),
        lambda root: (root / "a/one.png").write_bytes(b"FOUR"),
    ],
    ids=["added", "removed", "renamed", "moved", "resized", "changed in place"],
)
def test_a_digest_sees_names_and_contents(folder, change):
    before = folders.digest(folder)
    change(folder)
    assert folders.digest(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.utime(root / "a/one.png", (1, 1)),
        lambda root: (root / "a/.DS_Store").write_bytes(b"x"),
        lambda root: (root / "empty").mkdir(),
    ],
    ids=["time", "hidden", "empty folder"],
)
def test_a_digest_sees_nothing_else(folder, change):
    before = folders.digest(folder)
    change(folder)
    assert folders.digest(folder) == before


def test_a_digest_is_the_same_in_another_place(folder, tmp_path):
    before = folders.digest(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert folders.digest(moved) == before
    assert folders.digest(str(moved)) == before


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return the names of files that were read, in a working folder of the workflow."""
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "SETTLED", -1)
    found = []
    sha256 = folders._sha256

    def counting(path):
        found.append(path.name)
        return sha256(path)

    monkeypatch.setattr(folders, "_sha256", counting)
    return found


def test_what_has_not_changed_is_read_once(folder, read):
    before = folders.digest(folder)
    assert sorted(read) == ["one.png", "ten.png", "two.png"]
    assert folders.digest(folder) == before
    assert len(read) == 3


def test_a_change_of_the_same_size_and_time_is_seen(folder, read):
    """The time of a change of its state can't be set back, as that of a file can."""
    before = folders.digest(folder)
    path = folder / "a/one.png"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"FOUR")
    os.utime(path, ns=times)
    assert folders.digest(folder) != before
    assert read[3:] == ["one.png"]


def test_what_was_changed_a_moment_ago_is_read_again(folder, read, monkeypatch):
    monkeypatch.setattr(folders, "SETTLED", 3600 * 10**9)
    folders.digest(folder)
    folders.digest(folder)
    assert len(read) == 6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_what_is_no_list_of_hashes_is_not_trusted(folder, read, text):
    folders.KNOWN.write_text(text, encoding="ascii")
    folders.digest(folder)
    assert len(json.loads(folders.KNOWN.read_text(encoding="ascii"))) == len(read) == 3


def test_files_that_are_gone_are_forgotten(folder, read):
    folders.digest(folder)
    (folder / "a/one.png").unlink()
    folders.digest(folder)
    assert len(json.loads(folders.KNOWN.read_text(encoding="ascii"))) == 2


@pytest.mark.parametrize(
    "name", [".DS_Store", "._one.png", "Thumbs.db", "desktop.ini", ".~lock.t.csv#", "~$t.csv"]
)
def test_what_a_desktop_leaves_is_no_file_of_a_folder(folder, name):
    before = names(folder), folders.digest(folder)
    (folder / "a" / name).write_bytes(b"litter")
    assert (names(folder), folders.digest(folder)) == before
    assert folders.is_litter(name) and not folders.is_litter("one.png")
