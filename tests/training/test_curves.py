"""Accuracy on images and their components along a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from toy import RECIPE, train

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import load
from bandlimit.spectral.components import component
from bandlimit.training import curves, states
from bandlimit.training.curves import Curves

pytest_plugins = ["toy"]

RADII, TRAIN_RADII = (1, 3), (2,)


def images_of(dataset):
    table = store.read(dataset).slice(0, 30)
    return (
        torch.from_numpy(store.images_of(table).copy()),
        torch.from_numpy(table["label"].to_numpy().copy()),
    )


def followed(dataset, **change):
    images, labels = toy.striped(70, seed=1)
    train_images, train_labels = images_of(dataset)
    given = {
        "images": torch.from_numpy(images),
        "labels": torch.from_numpy(labels),
        "train_images": train_images,
        "train_labels": train_labels,
        "radii": RADII,
        "train_radii": TRAIN_RADII,
        "every": 2,
        "strict": True,
    }
    return Curves(**given | change)


RECIPE_3 = RECIPE | {"architecture": "small_cnn", "epochs": 3, "seeds": 2, "dropout": 0.5}


@pytest.fixture(scope="module")
def measured(dataset, tmp_path_factory):
    """Tables by one thread and by two, the model files, and the bytes without curves."""
    folder = tmp_path_factory.mktemp("curves")
    files = {name: folder / f"{name}.safetensors" for name in ("start", "two", "end", "other")}
    recipe = RECIPE_3 | {
        "checkpoints": {"start": 0, "two": 2},
        "out_checkpoints": {name: files[name] for name in ("start", "two")},
        "out_seeds": [files["other"]],
    }
    train(dataset, files["end"], **recipe)
    without = {name: path.read_bytes() for name, path in files.items()}
    tables = []
    for threads in (1, 2):
        found = train(dataset, files["end"], **recipe, threads=threads, followed=followed(dataset))
        tables.append(found.curves)
        assert {name: path.read_bytes() for name, path in files.items()} == without
    return tables, files


def test_following_changes_neither_the_training_nor_with_the_threads(measured):
    one, two = measured[0]
    assert one.equals(two)
    assert one.schema == curves.SCHEMA


def test_each_network_is_measured_at_both_ends_and_between_on_each_set(measured):
    frame = measured[0][0].to_pandas()
    sets = [("train", "full", None), ("train", "low", 2.0), ("train", "high", 2.0)]
    sets += [("test", "full", None)]
    sets += [("test", part, radius) for part in ("low", "high") for radius in (1.0, 3.0)]
    found = [
        (row.seed, row.step, row.images, row.part, None if np.isnan(row.radius) else row.radius)
        for row in frame.itertuples()
    ]
    assert found == [
        (seed, step, *one) for seed in (1, 2) for step in (0, 4, 8, 12) for one in sets
    ]
    assert (frame["epoch"] == frame["step"] / 4).all()
    assert (frame["count"] == np.where(frame["images"] == "train", 30, 70)).all()


@pytest.mark.parametrize(
    ("name", "seed", "step"), [("start", 1, 0), ("two", 1, 8), ("end", 1, 12), ("other", 2, 12)]
)
def test_a_row_is_what_the_saved_network_says(dataset, measured, name, seed, step):
    """Bit for bit, since both are measured in passes of one size."""
    tables, files = measured
    classifier = load(files[name])
    given = followed(dataset)
    frame = tables[0].to_pandas()
    frame = frame[(frame["seed"] == seed) & (frame["step"] == step)]
    assert len(frame) == 8
    for row in frame.itertuples():
        images = given.images if row.images == "test" else given.train_images
        labels = given.labels if row.images == "test" else given.train_labels
        pixels = images.float() / 255
        if row.part != "full":
            pixels = component(pixels, part=row.part, radius=row.radius, strict=True)
        logits = classifier(pixels).double()
        assert row.accuracy == (logits.argmax(1) == labels).double().mean().item()
        assert row.loss == F.cross_entropy(logits, labels).item()


def test_no_image_is_right_where_logits_are_not_finite(dataset):
    """The greatest of NaN is the first class, that of a quarter of the images."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    torch.nn.init.constant_(network[1].weight, torch.nan)
    sets = curves.Sets(followed(dataset), [0.5], [0.25], torch.device("cpu"))
    rows = sets.measured(MicroBatches(network.eval(), sets.size), map)
    assert {row["accuracy"] for row in rows} == {0.0}


def test_the_network_learns_the_bright_rows(measured):
    frame = measured[0][0].to_pandas().query("images == 'test' and part == 'full' and seed == 1")
    first, *_, last = frame["loss"]
    assert last < first / 2


@pytest.mark.usefixtures("kept_always")
def test_a_stopped_training_has_the_same_curves(dataset, measured, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    given = RECIPE_3 | {"out_seeds": [tmp_path / "other"], "resume": tmp_path / "state"}
    saved = states.save

    def save(path, identity, progress, tensors):
        saved(path, identity, progress, tensors)
        if (progress.seed, progress.epochs, progress.batches) == (2, 1, 1):
            raise Stopped

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(states, "save", save)
        train(dataset, tmp_path / "toy", **given, followed=followed(dataset))
    found = train(dataset, tmp_path / "toy", **given, followed=followed(dataset))
    assert found.curves.equals(measured[0][0])


def test_a_state_with_other_curves_is_not_taken_up(dataset):
    identities = [
        followed(dataset, **change).as_mapping()
        for change in ({}, {"every": 1}, {"radii": (1,)}, {"strict": False}, {"scale": "none"})
    ]
    changed = followed(dataset).images.clone()
    changed[0, 0, 0, 0] ^= 1
    identities.append(followed(dataset, images=changed).as_mapping())
    assert all(one != other for i, one in enumerate(identities) for other in identities[:i])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(70, 1, 8, 8)}, "must be uint8, N x C x H x W, .* are float32"),
        ({"labels": torch.zeros(3)}, r"with N labels, at least 1; they are .*, with 3 labels"),
        ({"train_images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8)}, "with 30 labels"),
        ({"every": 0}, "'curves.every' must be a whole number of at least 1; 0 was given"),
        ({"train_radii": [-1]}, "radius' must be a number of at least 0; -1 was given"),
        ({"scale": "mean"}, "scale 'mean'; allowed: 'maximum', 'none'"),
    ],
)
def test_mistakes_are_refused(dataset, change, message):
    with pytest.raises(UserError, match=message):
        followed(dataset, **change)


def test_images_of_another_size_are_refused(dataset, tmp_path):
    large = {name: torch.zeros(70, 1, 9, 9, dtype=torch.uint8) for name in ("images",)}
    with pytest.raises(UserError, match=r"images of curves must be like those in .*, \(1, 8, 8\)"):
        train(dataset, tmp_path / "toy", **RECIPE, followed=followed(dataset, **large))
