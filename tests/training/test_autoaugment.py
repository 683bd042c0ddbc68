"""AutoAugment: whose draws, on which images, and what it leaves of them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from toy import RECIPE, striped, train, write_dataset

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models import architectures
from bandlimit.training.autoaugment import autoaugment
from bandlimit.training.recipes import Recipe

HOME = Path(__file__).parents[2]
COLOUR = RECIPE | {"architecture": "small_cnn", "mean": [0.5] * 3, "std": [0.25] * 3}
SEEDS = [keys.derive(1, "test", row) for row in range(64)]


@pytest.fixture(scope="module")
def images():
    draws = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (64, 3, 8, 8), generator=draws, dtype=torch.uint8)


@pytest.fixture(scope="module")
def colourful(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("colour") / "colour.parquet"
    return write_dataset(path, images.numpy(), np.arange(64) % 4)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_an_image_and_its_draw_decide_in_any_batch_order_and_thread(images, policy):
    together = autoaugment(images, policy, SEEDS)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    shuffled = autoaugment(images[order], policy, [SEEDS[row] for row in order.tolist()])
    assert torch.equal(shuffled, together[order])
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(
            lambda rows: autoaugment(images[rows], policy, SEEDS[rows]),
            [slice(start, start + 4) for start in range(0, 64, 4)],
        )
        assert torch.equal(torch.cat(list(parts)), together)


def test_each_policy_is_that_of_its_name(images):
    for policy, own in (
        ("cifar10", AutoAugmentPolicy.CIFAR10),
        ("imagenet", AutoAugmentPolicy.IMAGENET),
    ):
        found = autoaugment(images, policy, SEEDS)
        for image, seed, changed in zip(images, SEEDS, found, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                assert torch.equal(changed, AutoAugment(own)(image))
    assert not torch.equal(found, autoaugment(images, "cifar10", SEEDS))


def test_most_images_change_and_stay_8_bit_ones_and_draws_matter(images):
    found = autoaugment(images, "cifar10", SEEDS)
    assert found.dtype == torch.uint8 and found.shape == images.shape
    changed = (found != images).flatten(1).any(1)
    # Operations are skipped at times, so that some images stay.
    assert 32 < changed.sum() < 64
    assert not torch.equal(found, autoaugment(images, "cifar10", SEEDS[::-1]))


def test_the_global_generator_is_left_as_it_was(images):
    before = torch.get_rng_state()
    autoaugment(images[:4], "imagenet", SEEDS[:4])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_takes_images_changed_by_draws_of_epoch_and_row(colourful, tmp_path):
    """One step on all images, computed anew: weights tell of the pixels that it took."""
    recipe = COLOUR | {
        "batch_size": 64,
        "schedule": "constant",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "architecture": "small_cnn_no_batchnorm",
        "augmentation": {"autoaugment": "cifar10"},
    }
    out = tmp_path / "toy.safetensors"
    train(colourful, out, **recipe)
    table = store.read(colourful, ["image", "label"])
    raw = torch.from_numpy(store.images_of(table).copy())
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    seeds = [keys.derive(1, "autoaugment", "toy", 0, row) for row in range(64)]

    def step(pixels):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
            network = architectures.build(
                recipe["architecture"], classes=4, channels=3, sides=(8, 8)
            )
        F.cross_entropy(network((pixels.float() / 255 - 0.5) / 0.25), labels).backward()
        return {name: own.detach() - 0.05 * own.grad for name, own in network.named_parameters()}

    saved = safetensors.torch.load_file(out)
    expected, without = step(autoaugment(raw, "cifar10", seeds)), step(raw)
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, atol=1e-6, rtol=1e-4)
    assert any(not torch.allclose(saved[name], without[name], atol=1e-5) for name in without)


def test_threads_never_show(colourful, tmp_path):
    recipe = COLOUR | {
        "epochs": 2,
        "mixup": {},
        "augmentation": {"flip": True, "shift": 1, "autoaugment": "cifar10"},
    }
    found = []
    for threads in (1, 2):
        out = tmp_path / f"{threads}.safetensors"
        train(colourful, out, **recipe, threads=threads)
        found.append(out.read_bytes())
    assert found[0] == found[1]


def test_grey_images_are_refused(tmp_path):
    dataset = write_dataset(tmp_path / "grey.parquet", *striped(64))
    with pytest.raises(UserError, match="needs colour images of 3 channels; .* have 1"):
        train(dataset, tmp_path / "out", **RECIPE | {"augmentation": {"autoaugment": "cifar10"}})


@pytest.mark.parametrize("policy", ["svhn", "cifar", None, True])
def test_other_policies_are_refused(policy):
    with pytest.raises(UserError, match="There is no augmentation.autoaugment .*cifar10"):
        Recipe(epochs=1, batch_size=8, learning_rate=0.1, augmentation={"autoaugment": policy})


def test_components_are_refused():
    with pytest.raises(UserError, match="either the augmentation 'autoaugment' or 'component'"):
        Recipe(
            epochs=1,
            batch_size=8,
            learning_rate=0.1,
            augmentation={"autoaugment": "cifar10"},
            component={"part": "low", "radius": 4},
        )


def test_torchvision_is_imported_only_where_it_is_used():
    code = "import sys, bandlimit.training.loop; sys.exit('torchvision' in sys.modules)"
    where = os.environ | {"PYTHONPATH": str(HOME)}
    assert subprocess.run([sys.executable, "-c", code], env=where, check=False).returncode == 0
