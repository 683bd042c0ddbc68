"""What a run on one's own data would stumble on is told before any job."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bandlimit.config import overlays, run
from bandlimit.data import make
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.plan import cost, jobs, load

HOME = Path(__file__).parents[2]
NETWORK = {
    "path": "weights.th",
    "architecture": "cifar_resnet20",
    "classes": 3,
    "shape": [3, 8, 8],
    "mean": [0.3, 0.3, 0.3],
    "std": [0.35, 0.35, 0.35],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Local paths of a configuration start in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("weights.th").touch()
    for number, name in enumerate(("bag", "boot", "coat")):
        save(f"images/{name}/{number}.png")


def save(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)


def save_parquet(path, labels, splits):
    images = np.zeros((len(labels), 3, 8, 8), np.uint8)
    names = [f"i{row}" for row in range(len(labels))]
    store.write(path, make.table(names, labels, splits, images))


def loaded(*, look=True, model=None, shards=1, images=2, extra=None, **entry):
    own = {"loader": "imagefolder", "path": "images", "classes": 3} | entry
    examined = {"images": images} if images else {}
    config = {
        "datasets": {"own": own},
        "models": {"own": {**NETWORK, **(model or {})}},
        "only": ["own"],
        "experiments": {"own": {"dataset": "own", "model": "own", "shards": shards}},
        "bandlimiting": {"experiments": {"own": {"radius": 6}}},
        "robustness": {"experiments": {"own": examined}},
    }
    overlays.lay_over(config, extra or {})
    return load.load(overlays.read([HOME / "config.yaml"], config), HOME, look=look)


def refused(**given):
    with pytest.raises(UserError) as caught:
        loaded(**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_images_of_a_folder_are_counted():
    assert loaded().datasets["own"].count == 3
    unlooked = loaded(look=False).datasets["own"]
    assert (unlooked.count, unlooked.size) == (None, None)


def test_the_images_of_a_parquet_file_are_counted_by_split():
    save_parquet("own.parquet", [0, 1, 2, 0], ["train", "test", "test", "test"])
    given = {"loader": "parquet", "path": "own.parquet"}
    assert loaded(**given).datasets["own"].count == 4
    assert loaded(**given, split="test").datasets["own"].count == 3
    assert loaded(**given | {"path": "{split}.parquet"}).datasets["own"].count is None
    shutil.copy("own.parquet", "test.parquet")
    one = loaded(**given | {"path": "{split}.parquet"}, split="test")
    assert one.datasets["own"].count == 3


def test_a_look_changes_no_job():
    """The configuration means the same where its data is not, as to an audit."""
    seen, unseen = loaded(), loaded(look=False)
    wildcards = SimpleNamespace(dataset="own", model="own", shard="1of1", attack="pgd_minimal")
    for rule in ("make_dataset", "attack", "evaluate_undefended", "evaluate_claims"):
        assert jobs.identity(seen, rule, wildcards) == jobs.identity(unseen, rule, wildcards)
    assert seen.studies == unseen.studies


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"shards": 5}, ["experiments.own.shards must be from 1 to 3", "got 5"]),
        ({"images": 500}, ["robustness.experiments.own.images", "3", "got 500"]),
        # What config.yaml asks for; the way out is in one's own part.
        ({"images": 0}, ["eot_pgd_long.images", "got 25", "robustness.experiments.own.images"]),
    ],
)
def test_more_than_there_are_is_refused(given, parts):
    told = refused(**given)
    assert all(part in told for part in parts)
    loaded(look=False, **given)


def test_a_larger_subset_than_there_are_images_is_refused():
    with pytest.raises(UserError, match=r"datasets.own.images must be from 1 to 3, .*got 500"):
        _loaded_subset(500)
    assert _loaded_subset(2).datasets["own"].count == 2


def _loaded_subset(count):
    return loaded(extra={"datasets": {"own": {"images": count}}})


def test_a_folder_that_a_job_would_stumble_on_is_told():
    Path("images/bag/notes.txt").touch()
    assert "notes.txt' of the dataset 'own' is no image" in refused()


def test_labels_that_are_not_allowed_are_told():
    save_parquet("own.parquet", [0, 1, 3], ["test"] * 3)
    told = refused(loader="parquet", path="own.parquet")
    assert "'i2' of the dataset 'own' is 3; allowed: 0..2" in told


def test_a_damaged_file_is_told_without_advice_to_delete_it():
    save_parquet("own.parquet", [0, 1, 2], ["test"] * 3)
    content = Path("own.parquet").read_bytes()
    Path("own.parquet").write_bytes(content[: len(content) // 2])
    told = refused(loader="parquet", path="own.parquet")
    assert "own.parquet' can't be read as Parquet" in told
    assert "delete" not in told


def test_fewer_folders_than_the_model_has_classes_are_refused():
    """Whatever 'classes' says: labels 0, 1, 2 of a model of 5 classes would be a guess."""
    for classes in (3, 5):
        told = refused(classes=classes, model={"classes": 5})
        assert "has 3 class folders, where 5 are needed" in told and "classes.csv" in told
    Path("images/classes.csv").write_text("wnid,label\nbag,4\nboot,0\ncoat,2\n")
    assert loaded(model={"classes": 5}).datasets["own"].classes == 5


def test_wnids_are_mapped_where_the_model_has_the_classes_of_imagenet():
    for wnid in ("n01443537", "n02123394"):
        save(f"nouns/{wnid}/0.png")
    own = loaded(path="nouns", classes=2, model={"classes": 1000}).datasets["own"]
    identity = jobs.identity(
        loaded(path="nouns", classes=2, model={"classes": 1000}),
        "make_dataset",
        SimpleNamespace(dataset="own"),
    )
    assert (own.count, own.classes, identity["classes"]) == (2, 1000, 1000)


def test_a_dataset_of_models_with_other_classes_or_shapes_is_refused():
    def other(**changes):
        return {
            "only": ["own", "more"],
            "models": {"other": {**NETWORK, **changes}},
            "experiments": {"more": {"dataset": "own", "model": "other"}},
            "bandlimiting": {"experiments": {"more": {"radius": 6}}},
        }

    for changes, part in (
        ({"classes": 4}, "classes in the number 3 and 4"),
        ({"shape": [3, 9, 9]}, r"images of the shape (3, 8, 8) and (3, 9, 9)"),
    ):
        told = refused(extra=other(**changes))
        assert "'own' and 'more'" in told and part in told
    assert len(loaded(extra=other()).experiments) == 2


def test_pictures_are_read_with_the_channels_of_the_model():
    for channels in (1, 3):
        stats = {key: [0.3] * channels for key in ("mean", "std")}
        found = loaded(model={"shape": [channels, 8, 8], **stats})
        assert found.datasets["own"].shape == (channels, 8, 8)


def test_data_that_is_not_there_is_told_or_unknown():
    found = loaded(path="gone")
    assert found.datasets["own"].count is None
    (told,) = run.missing_paths(found, own=True)
    assert "datasets.own.path must be an existing file or folder, got 'gone'" in told
    assert run.missing_paths(loaded(), own=True) == []


def test_data_of_a_registered_source_that_is_not_there_is_another_thing():
    found = overlays.read([HOME / "config.yaml", HOME / "config/paper.yaml"])
    whole = load.load(found, HOME, files=False)
    told = run.missing_paths(whole, own=False)
    assert [sentence.split(" ")[0] for sentence in told] == ["datasets.imagenet_5000.path"]
    assert run.missing_paths(whole, own=True) == []


def test_data_that_a_network_is_trained_on_is_looked_at_too():
    extra = {
        "datasets": {"trained_on": {"loader": "imagefolder", "path": "gone", "classes": 3}},
        "training": {
            "net": {
                "dataset": "trained_on",
                "architecture": "cifar_resnet20",
                "epochs": 1,
                "batch_size": 4,
                "learning_rate": 0.1,
            }
        },
        "experiments": {"own": {"model": "net"}},
    }
    extra["datasets"]["trained_on"]["shape"] = [3, 8, 8]
    (told,) = run.missing_paths(loaded(extra=extra), own=True)
    assert "datasets.trained_on.path" in told


# What a run takes


def test_the_plan_counts_the_images_of_a_folder():
    lines = cost.report(loaded()).splitlines()
    assert not [line for line in lines if "?" in line]
    assert "| own | own | clean | 3 |" in "\n".join(lines)
    assert lines[-1].startswith("| **all** | | | 3 |")


def test_the_plan_says_what_it_does_not_know():
    lines = cost.report(loaded(path="gone")).splitlines()
    rows = [line for line in lines if line.startswith("| own ")]
    known = [line for line in rows if "| ? | ? | ? | ? | ? |" not in line]
    assert len(rows) > 5
    # What takes so many images as the configuration says is known.
    assert not [line for line in known if "?" in line]
    assert "| own | own | clean | ? | ? | ? | ? | ? |" in rows
    assert all(cell.endswith("+ ?") for cell in lines[-3].strip("| ").split(" | ")[-5:])
    assert lines[-1].startswith("How many images there are of 'own' is not known")


# One truth: a change is seen by the workflow too


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_change_in_place_of_the_same_size_is_another_job(kind):
    if kind == "folder":
        given, path = {}, Path("images/bag/0.png")
    else:
        save_parquet("own.parquet", [0, 1, 2], ["test"] * 3)
        given, path = {"loader": "parquet", "path": "own.parquet"}, Path("own.parquet")

    def digest():
        found = loaded(look=False, **given)
        return jobs.identity(found, "make_dataset", SimpleNamespace(dataset="own"))["files"]

    before = digest()
    assert before == digest()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert path.stat().st_size == len(content)
    assert digest() not in (before, None)
    path.write_bytes(content)
    assert digest() == before
    shutil.rmtree("images")
    Path("own.parquet").unlink(missing_ok=True)
    assert digest() is None
