"""A dataset and a recipe that take a second."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit import stopping
from bandlimit.files import store
from bandlimit.training import loop
from bandlimit.training.recipes import Recipe

RECIPE: dict[str, Any] = {
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


def train(dataset: Path, out: Path, **arguments: Any) -> loop.Trained:
    """Train; what is the recipe's goes there."""
    names = {own.name for own in fields(Recipe)}
    recipe = {name: value for name, value in arguments.items() if name in names}
    rest = {name: value for name, value in arguments.items() if name not in names}
    return loop.train(dataset, out, recipe=Recipe.of(recipe), **rest)


def striped(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy 8 x 8 images of 4 classes: the class is the number of bright rows, in pairs."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = draws.integers(0, 60, (count, 1, 8, 8)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, : 2 * label] += 150
    return images, labels


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


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("toy") / "toy.parquet", *striped(64))


@pytest.fixture
def kept_always(monkeypatch):
    """Keep the state of a training after each batch."""
    monkeypatch.setattr(stopping.Pace, "due", lambda self: True)


@pytest.fixture
def caller_state():
    """Restore what a test changes of the process, whatever the test does."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
