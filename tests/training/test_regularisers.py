"""Dropout, mixup, and training on components."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from toy import RECIPE, train

from bandlimit import keys
from bandlimit.files import store
from bandlimit.models import architectures
from bandlimit.spectral.components import component
from bandlimit.training import loop

pytest_plugins = ["toy"]

# One step of plain gradient descent over the whole dataset tells the gradient.
STEP = RECIPE | {
    "architecture": "small_cnn_no_batchnorm",
    "batch_size": 64,
    "schedule": "constant",
    "learning_rate": 0.01,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "augmentation": {},
}
LOW = {"part": "low", "radius": 2}


def start():
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        return architectures.build(STEP["architecture"], classes=4, channels=1, sides=(8, 8))


def data(dataset):
    table = store.read(dataset)
    images = torch.from_numpy(store.images_of(table) / np.float32(255))
    return images, torch.from_numpy(table["label"].to_numpy().copy())


def order():
    return torch.randperm(64, generator=keys.generator(1, "training", "toy", 0))


def check_step(saved, loss, network):
    """Compare saved weights with a step along the gradient of a loss."""
    weights = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        torch.testing.assert_close(saved[name], weight - 0.01 * gradient, rtol=1e-4, atol=1e-6)


def trained(dataset, tmp_path, **change):
    out = tmp_path / "toy.safetensors"
    history = train(dataset, out, **STEP | change).history.to_pylist()
    return safetensors.torch.load_file(out), history


def test_dropout_zeroes_features_before_the_last_layer_and_scales_the_others(dataset, tmp_path):
    saved, _ = trained(dataset, tmp_path, dropout=0.25)
    network = start()
    images, labels = data(dataset)
    draws = keys.generator(1, "dropout", "toy", 0)
    kept = torch.rand(64, network.linear.in_features, generator=draws) >= 0.25
    assert 0.6 < kept.float().mean() < 0.9
    seen = []
    handle = network.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network((images - 0.5) / 0.25)
    handle.remove()
    logits = F.linear(seen[0] * kept / 0.75, network.linear.weight, network.linear.bias)
    check_step(saved, F.cross_entropy(logits, labels), network)


@pytest.mark.parametrize("per", ["batch", "image"])
@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
def test_mixup_mixes_images_and_losses(dataset, tmp_path, per, kind):
    saved, history = trained(dataset, tmp_path, mixup={"alpha": 2, "per": per}, loss=kind)
    network = start()
    images, labels = data(dataset)
    rows = order()
    others = rows[torch.randperm(64, generator=keys.generator(1, "mixup_partners", "toy", 0))]
    rng = np.random.default_rng(keys.derive(1, "mixup_shares", "toy", 0))
    shares = torch.tensor(rng.beta(2, 2, 64)).float()
    shares = shares[rows] if per == "image" else shares[:1].expand(64)
    assert per == "batch" or len(set(shares.tolist())) == 64
    own = shares.view(-1, 1, 1, 1)
    logits = network((own * images[rows] + (1 - own) * images[others] - 0.5) / 0.25)

    def each(labels):
        if kind == "mse":
            return (logits - torch.eye(4)[labels]).square().sum(1)
        return -logits.log_softmax(1)[range(64), labels]

    loss = (shares * each(labels[rows]) + (1 - shares) * each(labels[others])).mean()
    check_step(saved, loss, network)
    (row,) = history
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    larger = torch.where(shares > 0.5, labels[rows], labels[others])
    assert row["accuracy"] == (logits.argmax(1) == larger).float().mean().item()


def test_a_component_takes_the_place_of_each_image(dataset, tmp_path):
    saved, _ = trained(dataset, tmp_path, component={"part": "high", "radius": 2, "strict": True})
    images, labels = data(dataset)
    images = component(images, part="high", radius=2, strict=True)
    assert images.min() < 0
    network = start()
    check_step(saved, F.cross_entropy(network((images - 0.5) / 0.25), labels), network)


def test_noise_has_a_deviation_of_its_own_for_each_image_and_is_clipped(dataset, tmp_path):
    saved, _ = trained(dataset, tmp_path, augmentation={"noise": 0.5})
    images, labels = data(dataset)
    deviations, noisy = [], []
    for row, image in enumerate(images):
        draws = keys.generator(1, "gaussian_augmentation", "toy", 0, row)
        deviations.append(0.5 * torch.rand(1, generator=draws).item())
        noisy.append(image + deviations[-1] * torch.randn(1, 8, 8, generator=draws))
    assert min(deviations) < 0.05 and max(deviations) > 0.45 and max(deviations) <= 0.5
    noisy = torch.stack(noisy)
    assert noisy.min() < 0 and noisy.max() > 1
    network = start()
    logits = network((noisy.clamp(0, 1) - 0.5) / 0.25)
    check_step(saved, F.cross_entropy(logits, labels), network)


def test_a_square_of_frequencies_takes_the_place_of_each_image(dataset, tmp_path):
    saved, _ = trained(dataset, tmp_path, component={"part": "low", "bandwidth": 3})
    images, labels = data(dataset)
    network = start()
    shown = component(images, part="low", bandwidth=3)
    check_step(saved, F.cross_entropy(network((shown - 0.5) / 0.25), labels), network)


def test_draws_of_an_image_do_not_depend_on_batches():
    """Dropped features, an image's own share, and the order are the same in all batches."""
    found = []
    for size in (8, 16):
        recipe = loop.Recipe(
            epochs=1,
            batch_size=size,
            learning_rate=0.1,
            dropout=0.5,
            mixup={"alpha": 0.5, "per": "image"},
        )
        training = loop._Training(
            start(),
            torch.zeros(64, 1, 8, 8, dtype=torch.uint8),
            torch.zeros(64, dtype=torch.int64),
            recipe=recipe,
            mean=[0.5],
            std=[0.25],
            seed=1,
            model_name="toy",
            run=map,
            observers={},
            progress=loop.states.Progress(),
            kept={},
        )
        draws = training._drawn(0)
        # A partner is of the same batch, and each image is one's partner once.
        for rows in draws.order.split(size):
            assert sorted(draws.partners[rows].tolist()) == sorted(rows.tolist())
        found.append(draws)
    one, two = found
    assert torch.equal(one.kept, two.kept) and torch.equal(one.shares, two.shares)
    assert torch.equal(one.order, two.order)


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": 0.5},
        {"augmentation": {"noise": 0.2, "flip": True}},
        {"mixup": {}},
        {"mixup": {"per": "image"}, "dropout": 0.3, "component": LOW},
        {"optimizer": "adagrad"},
        {"optimizer": "adadelta"},
        {"optimizer": "rmsprop", "learning_rate": 1e-3},
    ],
    ids=str,
)
def test_threads_never_show(dataset, tmp_path, change, caller_state):
    recipe = RECIPE | {"architecture": "small_cnn", "epochs": 2} | change
    found = []
    for threads in (1, 2):
        torch.set_num_threads(3 - threads)
        out = tmp_path / f"{threads}.safetensors"
        history = train(dataset, out, **recipe, threads=threads).history.to_pylist()
        found.append((out.read_bytes(), history))
    assert found[0] == found[1]
