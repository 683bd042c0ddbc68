from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.models import architectures
from bandlimit.models.classifier import load
from bandlimit.training.loop import augment, learning_rate_at, train

RECIPE = {
    "architecture": "cifar_resnet20",
    "classes": 4,
    "mean": [0.5],
    "std": [0.25],
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "augmentation": {"flip": True, "shift": 1},
    "seed": 1,
    "model_name": "toy",
}


def write_dataset(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    table = pa.table(
        {
            "image_id": [f"toy-{row}" for row in range(len(labels))],
            "label": pa.array(labels, pa.int64()),
            "split": ["train"] * len(labels),
            "image": store.image_column(images),
        }
    )
    store.write(path, table)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 noisy 8 x 8 images of 4 classes: the class is the number of bright rows, in pairs."""
    draws = np.random.default_rng(0)
    labels = np.arange(64) % 4
    images = draws.integers(0, 60, (64, 1, 8, 8)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, : 2 * label] += 150
    return write_dataset(tmp_path_factory.mktemp("toy") / "toy.parquet", images, labels)


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, pa.Table]:
    out = tmp_path_factory.mktemp("reference") / "toy.safetensors"
    history = train(dataset, out, **RECIPE)
    return out.read_bytes(), history


@pytest.fixture
def caller_state():
    """Restore what a test changes of the process, whatever the test does."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.mark.parametrize(("callers_threads", "threads"), [(1, 2), (2, 1), (3, 4)])
def test_equal_bytes_whatever_the_caller_has_set(
    dataset, reference, tmp_path, caller_state, callers_threads, threads
):
    torch.set_num_threads(callers_threads)
    torch.manual_seed(callers_threads)
    expected_draw = torch.rand(3)
    torch.manual_seed(callers_threads)
    out = tmp_path / "toy.safetensors"
    history = train(dataset, out, **RECIPE, threads=threads)
    assert out.read_bytes() == reference[0]
    assert history.equals(reference[1])
    assert torch.get_num_threads() == callers_threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected_draw)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"model_name": "other"},
        {"augmentation": {"flip": True}},
        {"augmentation": {"shift": 1}},
        {"weight_decay": 0.1},
        {"momentum": 0.0},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_recipe_reaches_the_weights(dataset, reference, tmp_path, change):
    out = tmp_path / "toy.safetensors"
    train(dataset, out, **RECIPE | change)
    assert out.read_bytes() != reference[0]


def test_settings_are_restored_after_an_error(dataset, tmp_path, caller_state):
    torch.set_num_threads(1)
    with pytest.raises(UserError, match="no architecture"):
        train(dataset, tmp_path / "toy.safetensors", **RECIPE | {"architecture": "cifar_resnet2"})
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_learns_and_saves_what_it_learned(dataset, tmp_path, caplog):
    out = tmp_path / "toy.safetensors"
    recipe = RECIPE | {"epochs": 8, "augmentation": {"flip": True}}
    with caplog.at_level(logging.INFO, logger="bandlimit.training.loop"):
        history = train(dataset, out, **recipe, certificate={"rule": "train"}).to_pandas()
    assert list(history.columns) == ["epoch", "learning_rate", "loss", "accuracy"]
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 2
    assert history["accuracy"].iloc[-1] > 0.9
    own = [record for record in caplog.records if record.name == "bandlimit.training.loop"]
    assert [record.getMessage().split(":")[0] for record in own] == [
        f"model toy, epoch {epoch} of 8" for epoch in range(1, 9)
    ]

    classifier = load(out)
    assert classifier.shape == (1, 8, 8)
    assert classifier.classes == 4
    assert classifier.mean.item() == 0.5
    assert classifier.std.item() == 0.25
    table = store.read(dataset)
    logits = classifier(torch.from_numpy(store.images_of(table) / np.float32(255)))
    right = logits.argmax(1).numpy() == table["label"].to_numpy()
    assert right.mean() > 0.9
    assert contents.certificate(out)["rule"] == "train"


def test_one_step_is_nesterovs_on_the_mean_gradient_of_two_halves(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    lr, momentum, decay = 0.3, 0.5, 0.01
    recipe = RECIPE | {"learning_rate": lr, "momentum": momentum, "weight_decay": decay}
    train(dataset, out, **recipe | {"batch_size": 64, "augmentation": {}})

    table = store.read(dataset)
    order = torch.randperm(64, generator=keys.generator(1, "training", "toy", 0))
    inputs = (torch.from_numpy(store.images_of(table) / np.float32(255)) - 0.5)[order] / 0.25
    labels = torch.from_numpy(table["label"].to_numpy().copy())[order]
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        network = architectures.build("cifar_resnet20", classes=4, channels=1).train()
    halves = [network, copy.deepcopy(network)]
    for half, x, y in zip(halves, inputs.split(32), labels.split(32), strict=True):
        (torch.nn.functional.cross_entropy(half(x), y) / 2).backward()
    saved = safetensors.torch.load_file(out)
    rate = 0.1 * lr  # of the first step
    for name, weight in network.named_parameters():
        gradient = weight.grad + halves[1].get_parameter(name).grad + decay * weight.detach()
        expected = weight.detach() - rate * (1 + momentum) * gradient
        torch.testing.assert_close(saved[name], expected, rtol=1e-4, atol=1e-5)
    for name in ("bn1.running_mean", "layer3.2.bn2.running_var"):
        expected = (network.get_buffer(name) + halves[1].get_buffer(name)) / 2
        torch.testing.assert_close(saved[name], expected)
        assert not torch.allclose(saved[name], network.get_buffer(name), rtol=1e-4)


def test_history_counts_only_full_batches(dataset, tmp_path):
    # 64 images, 3 batches of 20: 60 images are seen, and accuracies are multiples of 1/60.
    history = train(dataset, tmp_path / "toy.safetensors", **RECIPE | {"batch_size": 20})
    (accuracy,) = history["accuracy"].to_pylist()
    assert accuracy * 60 == pytest.approx(round(accuracy * 60))
    assert history["learning_rate"].to_pylist() == [pytest.approx(learning_rate_at(2, 3, 0.05))]


def test_divergence_is_named_and_leaves_no_file(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    with pytest.raises(UserError, match=r"'toy' diverged.* in epoch \d of 3.*1e\+30 was given"):
        train(dataset, out, **RECIPE | {"epochs": 3, "learning_rate": 1e30})
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "'epochs' must be a whole number of at least 1; 0 was given"),
        ({"epochs": 1.5}, "'epochs' must be a whole number"),
        ({"epochs": True}, "'epochs' must be a whole number"),
        ({"batch_size": 3}, "'batch_size' must be a whole number of at least 4"),
        ({"batch_size": 65}, "at most the number of training images, 64 in .*; 65 was given"),
        ({"learning_rate": 0}, "'learning_rate' must be a number above 0; 0 was given"),
        ({"learning_rate": float("nan")}, "'learning_rate' must be a number above 0; nan"),
        ({"learning_rate": float("inf")}, "'learning_rate' must be a number above 0; inf"),
        ({"learning_rate": "0.1"}, "'learning_rate' must be a number above 0; '0.1'"),
        ({"momentum": 1}, "'momentum' must be a number of at least 0 and below 1; 1 was"),
        ({"weight_decay": -1e-4}, "'weight_decay' must be a number of at least 0; -0.0001"),
        ({"threads": 0}, "'threads' must be a whole number of at least 1"),
        ({"augmentation": {"flips": True}}, "no augmentation 'flips'.*did you mean 'flip'"),
        ({"augmentation": {"flip": 1}}, "'flip' must be true or false; 1 was given"),
        ({"augmentation": {"shift": -1}}, "'shift' must be a whole number of pixels"),
        ({"augmentation": {"shift": 8}}, "'shift' must be less than the image's side, 8 pixels"),
        ({"architecture": "cifar_resnet21"}, "no architecture 'cifar_resnet21'.*did you mean"),
        ({"classes": 3}, r"labels of .* must lie in 0 to 2 \(classes: 3\); .* from 0 to 3"),
        ({"mean": [0.5, 0.5, 0.5]}, "mean must have one number per channel, 1 in"),
        ({"std": [0.0]}, "std of each channel must be above 0"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(dataset, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train(dataset, tmp_path / "toy.safetensors", **RECIPE | change)


def test_datasets_that_cannot_be_trained_on_are_refused(tmp_path):
    out = tmp_path / "toy.safetensors"
    images = np.zeros((16, 1, 8, 8), np.uint8)
    some = write_dataset(tmp_path / "some.parquet", images, np.zeros(16))
    none = tmp_path / "none.parquet"
    store.write(none, store.read(some).slice(0, 0))
    with pytest.raises(UserError, match="has no rows"):
        train(none, out, **RECIPE)
    floats = write_dataset(tmp_path / "f.parquet", images.astype(np.float32), np.zeros(16))
    with pytest.raises(UserError, match="must be uint8, N x C x H x W; they are float32"):
        train(floats, out, **RECIPE)


def test_learning_rate_rises_for_a_quarter_and_falls_to_zero():
    rates = [learning_rate_at(step, 100, 0.2) for step in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[25] == max(rates) == pytest.approx(0.2)
    assert rates[100] == 0
    assert np.allclose(np.diff(rates, 2)[:24], 0)
    assert np.allclose(np.diff(rates, 2)[25:], 0)
    # No step of a run, however short, stands still.
    assert all(learning_rate_at(step, n, 0.2) > 0 for n in range(1, 9) for step in range(n))


def test_augment_moves_each_image_by_its_own_draw():
    images = torch.arange(1, 25, dtype=torch.uint8).reshape(2, 2, 2, 3)
    still = torch.tensor([[1, 1], [1, 1]])
    no = torch.tensor([False, False])
    assert torch.equal(augment(images, no, still, 1), images)
    moved = augment(images, torch.tensor([False, True]), torch.tensor([[2, 1], [1, 0]]), 1)
    assert moved[0].tolist() == [[[4, 5, 6], [0, 0, 0]], [[10, 11, 12], [0, 0, 0]]]
    # Moved right by one (0 13 14), then mirrored.
    assert moved[1].tolist() == [[[14, 13, 0], [17, 16, 0]], [[20, 19, 0], [23, 22, 0]]]
    assert torch.equal(augment(images, no, torch.zeros(2, 2, dtype=torch.int64), 0), images)
