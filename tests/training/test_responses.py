"""Outputs recorded along a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from toy import RECIPE, train

from bandlimit.errors import UserError
from bandlimit.models.classifier import load
from bandlimit.training import responses, states
from bandlimit.training.responses import Responses

pytest_plugins = ["toy"]

IDS = [f"image {i}" for i in range(70)]


def recorded(**change):
    images, _ = toy.striped(70, seed=1)
    return Responses(**{"image_ids": IDS, "images": torch.from_numpy(images), "every": 2} | change)


RECIPE_3 = RECIPE | {"architecture": "small_cnn", "epochs": 3, "seeds": 2}
STEPS = [0, 1, 2, 4, 8, 12]
"""Of 4 steps to an epoch: powers of two, the end of the first epoch, each second one, the end."""


@pytest.fixture(scope="module")
def measured(dataset, tmp_path_factory):
    """Tables by one thread and by two, and the model files, equal to those without a record."""
    folder = tmp_path_factory.mktemp("responses")
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
        found = train(dataset, files["end"], **recipe, threads=threads, recorded=recorded())
        tables.append(found.responses)
        assert {name: path.read_bytes() for name, path in files.items()} == without
    return tables, files


def test_recording_changes_neither_the_training_nor_with_the_threads(measured):
    one, two = measured[0]
    assert one.equals(two)
    assert one.schema == responses.SCHEMA


def test_each_network_is_recorded_early_and_regularly(measured):
    frame = measured[0][0].to_pandas()
    assert list(zip(frame["seed"], frame["step"], frame["image_id"], strict=True)) == [
        (seed, step, name) for seed in (1, 2) for step in STEPS for name in IDS
    ]
    assert (frame["epoch"] == frame["step"] / 4).all()


@pytest.mark.parametrize(
    ("name", "seed", "step"), [("start", 1, 0), ("two", 1, 8), ("end", 1, 12), ("other", 2, 12)]
)
def test_outputs_are_the_probabilities_of_the_saved_network(measured, name, seed, step):
    """Bit for bit, since both are measured in passes of one size."""
    tables, files = measured
    logits = load(files[name])(recorded().images.float() / 255).double()
    frame = tables[0].to_pandas()
    own = frame[(frame["seed"] == seed) & (frame["step"] == step)]
    found = np.stack(own["outputs"].to_list())
    assert np.array_equal(found, logits.softmax(1).numpy().astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_under_the_squared_error_outputs_are_logits(dataset, tmp_path):
    given = RECIPE | {"loss": "mse", "learning_rate": 0.01}
    found = train(dataset, tmp_path / "toy", **given, recorded=recorded(loss="mse"))
    frame = found.responses.to_pandas()
    last = np.stack(frame[frame["step"] == frame["step"].max()]["outputs"].to_list())
    logits = load(tmp_path / "toy")(recorded().images.float() / 255)
    assert np.array_equal(last, logits.numpy())


@pytest.mark.usefixtures("kept_always")
def test_a_stopped_training_has_the_same_record(dataset, measured, tmp_path, monkeypatch):
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
        train(dataset, tmp_path / "toy", **given, recorded=recorded())
    found = train(dataset, tmp_path / "toy", **given, recorded=recorded())
    assert found.responses.equals(measured[0][0])


def test_a_state_with_another_record_is_not_taken_up():
    changed = recorded().images.clone()
    changed[0, 0, 0, 0] ^= 1
    identities = [
        recorded(**change).as_mapping()
        for change in (
            {},
            {"every": 1},
            {"loss": "mse"},
            {"images": changed},
            {"image_ids": IDS[::-1]},
        )
    ]
    assert all(one != other for i, one in enumerate(identities) for other in identities[:i])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(70, 1, 8, 8)}, "must be uint8, N x C x H x W, .* are float32"),
        ({"image_ids": IDS[:3]}, r"with N ids, at least 1; they are .*, with 3 ids"),
        ({"every": 0}, "'responses.every' must be a whole number of at least 1; 0 was given"),
    ],
)
def test_mistakes_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        recorded(**change)


def test_images_of_another_size_are_refused(dataset, tmp_path):
    large = torch.zeros(70, 1, 9, 9, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"images of responses must be like those in .*\(1, 8, 8\)"):
        train(dataset, tmp_path / "toy", **RECIPE, recorded=recorded(images=large))
