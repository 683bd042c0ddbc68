import os

import pytest

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


def test_links_are_followed_and_broken_ones_left_out(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "far.png").write_bytes(b"far")
    (folder / "c").symlink_to(other)
    (folder / "near.png").symlink_to(other / "far.png")
    (folder / "gone.png").symlink_to(other / "gone.png")
    assert names(folder) == ["a/one.png", "a/ten.png", "b/two.png", "c/far.png", "near.png"]


def test_a_folder_that_is_missing_has_no_files_and_no_listing(tmp_path):
    assert folders.files_in(tmp_path / "gone") == []
    assert folders.listing(tmp_path / "gone") is None


def test_a_file_has_no_listing(folder):
    assert folders.listing(folder / "a/one.png") is None


def test_an_empty_folder_has_a_listing(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    found = folders.listing(tmp_path / "empty")
    assert found is not None
    assert found != folders.listing(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/new.png").write_bytes(b"four"),
        lambda root: (root / "a/one.png").unlink(),
        lambda root: (root / "a/one.png").rename(root / "a/uno.png"),
        lambda root: (root / "a/one.png").rename(root / "b/one.png"),
        lambda root: (root / "a/one.png").write_bytes(b"longer"),
    ],
    ids=["added", "removed", "renamed", "moved", "resized"],
)
def test_a_listing_sees_names_and_sizes(folder, change):
    before = folders.listing(folder)
    change(folder)
    assert folders.listing(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/one.png").write_bytes(b"FOUR"),
        lambda root: os.utime(root / "a/one.png", (1, 1)),
        lambda root: (root / "a/.DS_Store").write_bytes(b"x"),
        lambda root: (root / "empty").mkdir(),
    ],
    ids=["bytes", "time", "hidden", "empty folder"],
)
def test_a_listing_sees_nothing_else(folder, change):
    """It is asked at every start, so it reads no file; the job itself hashes what it reads."""
    before = folders.listing(folder)
    change(folder)
    assert folders.listing(folder) == before


def test_a_listing_is_the_same_in_another_place(folder, tmp_path):
    before = folders.listing(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert folders.listing(moved) == before
    assert folders.listing(str(moved)) == before


@pytest.mark.parametrize(
    "name", [".DS_Store", "._one.png", "Thumbs.db", "desktop.ini", ".~lock.t.csv#", "~$t.csv"]
)
def test_what_a_desktop_leaves_is_no_file_of_a_folder(folder, name):
    before = names(folder), folders.listing(folder)
    (folder / "a" / name).write_bytes(b"litter")
    assert (names(folder), folders.listing(folder)) == before
    assert folders.is_litter(name) and not folders.is_litter("one.png")
