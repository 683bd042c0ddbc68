"""Folders with a folder for each class: which files count, and what labels they have."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pytest

from bandlimit.data import class_folders
from bandlimit.data.wnids import WNIDS
from bandlimit.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def tree(folder: Path, *names: str) -> Path:
    """Write empty files; only their names count here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def labels(folder: Path, classes: int | None) -> dict[str, int]:
    return class_folders.read(folder, "own", classes).classes


def refused(folder: Path, classes: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        class_folders.read(folder, "own", classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Which files


def test_copies_in_hidden_folders_are_no_images(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png", "cat/.ipynb_checkpoints/a-checkpoint.png", "dog/.x/b.png")
    tree(tmp_path, "dog/c.png", ".git/d.png")
    found = class_folders.read(tmp_path, "own", 2)
    assert found.names == ["cat/a.png", "dog/c.png"]
    assert found.labels == [0, 1]


def test_a_folder_of_links_is_read_like_one_of_files(tmp_path: Path) -> None:
    far = tree(tmp_path / "far", "a.png", "deep/b.png")
    own = tree(tmp_path / "own", "dog/c.png")
    (own / "cat").symlink_to(far)
    assert class_folders.read(own, "own", 2).names == ["cat/a.png", "cat/deep/b.png", "dog/c.png"]


@pytest.mark.parametrize("place", ["cat/gone.png", "cat/gone", "gone", "gone.png"])
def test_a_link_to_nothing_is_told(tmp_path: Path, place: str) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / place).symlink_to(tmp_path / "nowhere")
    assert f"{place}' of the dataset 'own' leads to nothing" in refused(tmp_path)


def test_an_image_beside_the_class_folders_is_told(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png", "README.md", "c.JPG")
    assert "c.JPG' of the dataset 'own' lies beside the class folders" in refused(tmp_path)


@pytest.mark.parametrize("name", [b"cat/M\xfcnchen.png", b"M\xfc/a.png"])
def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path, name: bytes) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png")
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    told = refused(tmp_path)
    assert "is not UTF-8" in told and "rename it" in told
    assert "M\\udcfc" in told
    told.encode()


# Labels


def test_wnids_are_the_1000_classes_of_imagenet_in_order() -> None:
    assert len(WNIDS) == len(set(WNIDS)) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    # Of the list as it is published with the models, a wnid a line.
    text = "".join(f"{wnid}\n" for wnid in WNIDS)
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"
    )
    # Tench, goldfish, cock, Persian cat, ear.
    known = {0: "n01440764", 1: "n01443537", 7: "n01514668", 283: "n02123394", 998: "n13133613"}
    assert {label: WNIDS[label] for label in known} == known


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images beside the repository are absent")
def test_wnids_have_the_labels_of_real_data() -> None:
    with open(SHARED / "imagenet/classes.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert WNIDS[int(row["label"])] == row["wnid"]


def test_wnids_have_their_labels_where_there_are_1000_classes(tmp_path: Path) -> None:
    tree(tmp_path, "n02123394/a.png", "n01443537/b.png")
    assert labels(tmp_path, 1000) == {"n01443537": 1, "n02123394": 283}
    # Of a network that was trained on these two.
    assert labels(tmp_path, 2) == {"n01443537": 0, "n02123394": 1}


def test_what_classes_csv_states_goes_before_wnids(tmp_path: Path) -> None:
    tree(tmp_path, "n02123394/a.png", "n01443537/b.png")
    (tmp_path / "classes.csv").write_text("wnid,label\nn02123394,5\nn01443537,3\n")
    assert labels(tmp_path, 1000) == {"n01443537": 3, "n02123394": 5}


def test_fewer_folders_than_classes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png")
    told = refused(tmp_path, 10)
    assert "has 2 class folders, where 10 are needed" in told
    assert "a classes.csv in the folder, with the columns wnid,label" in told
    assert "wnid of ImageNet" not in told
    tree(tmp_path, "n01443537/c.png")
    assert "'cat' is no wnid of ImageNet" in refused(tmp_path, 1000)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1", "2", "10"], "'10' comes before '2'"),
        (["0_plane", "1_car", "10_lorry", "2_bird"], "'10_lorry' comes before '1_car'"),
        (["cat", "dog"], None),
        (["01", "02", "10"], None),
        (["3", "5"], None),
        (["1", "2", "ten"], None),
    ],
)
def test_numbers_whose_order_as_text_is_another_are_refused(
    tmp_path: Path, names: list[str], said: str | None
) -> None:
    tree(tmp_path, *(f"{name}/a.png" for name in names))
    if said is None:
        assert labels(tmp_path, len(names)) == {n: i for i, n in enumerate(sorted(names))}
    else:
        told = refused(tmp_path, len(names))
        assert said in told and "must state them" in told


def test_a_folder_that_classes_csv_lists_twice_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "classes.csv").write_text("wnid,label\ncat,3\ndog,5\ncat,9\n")
    told = refused(tmp_path, 10)
    assert "two rows of the folder 'cat', with the labels 3 and 9" in told


def test_a_classes_csv_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.png")
    (tmp_path / "classes.csv").write_bytes(b"wnid,label\nM\xfcnchen,1\n")
    assert "classes.csv' can't be read" in refused(tmp_path, 10)
