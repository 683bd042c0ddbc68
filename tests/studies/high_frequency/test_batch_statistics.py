"""BatchNorm by running statistics and by those of the batch."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit.data import source
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models import architectures, classifier, weights
from bandlimit.spectral.components import component
from bandlimit.statistics import crossed
from bandlimit.studies.high_frequency.batch_statistics import (
    batch_statistics,
    batch_statistics_table,
)
from bandlimit.studies.high_frequency.tables import table

SHAPE = (1, 12, 12)
MEAN, STD = 0.3, 0.2


def made(path, architecture="small_cnn", seed=0):
    """Write a model whose running statistics are far from those of images, and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architectures.build(architecture, classes=3, channels=1, sides=SHAPE[1:])
        for name, buffer in network.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + 0.1 * name.endswith("var"))
    weights.save(
        path,
        network.state_dict(),
        architecture=architecture,
        mean=[MEAN],
        std=[STD],
        shape=SHAPE,
        classes=3,
    )
    return network


def images(count):
    return torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))


def in_training(network, x):
    """Return what the network says in training, where BatchNorm takes the batch's statistics."""
    with torch.no_grad():
        return network.double().train()((x.double() - MEAN) / STD)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.safetensors"
    return path, made(path)


def test_each_batch_is_normalised_by_itself(model):
    path, network = model
    x = images(14)
    found = batch_statistics(path, x, size=5)
    # Three batches are needed: of 5, 5 and 4.
    wanted = torch.cat([in_training(network, batch) for batch in (x[:5], x[5:10], x[10:])])
    assert found.dtype == torch.float64 and torch.allclose(found, wanted, atol=1e-9)
    assert not torch.allclose(found, classifier.load(path)(x).double(), atol=1e-2)


def test_batches_are_as_equal_as_can_be(model):
    path, network = model
    x = images(11)
    wanted = torch.cat([in_training(network, batch) for batch in (x[:4], x[4:8], x[8:])])
    assert torch.allclose(batch_statistics(path, x, size=5), wanted, atol=1e-9)


def test_the_model_is_left_as_it_was(model):
    path, _ = model
    x = images(6)
    before = path.read_bytes()
    first = batch_statistics(path, x)
    assert torch.equal(batch_statistics(path, x), first)
    assert path.read_bytes() == before


def test_threads_change_no_answer(model):
    path, _ = model
    x = images(20)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(batch_statistics(path, x, size=10))
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(*found, atol=1e-10, rtol=0)


def test_a_network_without_batchnorm_is_refused(tmp_path):
    path = tmp_path / "plain.safetensors"
    made(path, "small_cnn_no_batchnorm")
    with pytest.raises(ValueError, match=r"plain\.safetensors.* has no BatchNorm"):
        batch_statistics(path, images(3))


def test_a_size_below_one_is_refused(model):
    with pytest.raises(ValueError, match="size is 0, at least 1"):
        batch_statistics(model[0], images(3), size=0)


# The table


COUNT = 30


def written(path, pixels):
    """Write images, N x C x H x W, as a dataset."""
    count = len(pixels)
    rows = {
        "image_id": [f"image {i}" for i in range(count)],
        "label": [i % 3 for i in range(count)],
        "split": ["test"] * count,
        "image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
    }
    store.write(path, pa.table({name: rows[name] for name in source.COLUMNS}))
    return str(path)


@pytest.fixture
def dataset(tmp_path):
    pixels = (images(COUNT) * 255).round().to(torch.uint8).numpy()
    path = written(tmp_path / "d.parquet", pixels)
    return path, torch.arange(COUNT) % 3, torch.from_numpy(pixels.astype(np.float32) / 255)


def told(**changes):
    plain = {"name": "plain", "batchnorm": False, "seeds": 2}
    return {
        **{"dataset": "d", "model": "plain", "document": None, "stand_in": True},
        **{"radii": [2.0, 4.0], "images": None},
        "networks": [plain, {"name": "normal", "batchnorm": True, "seeds": 2}],
        **changes,
    }


@pytest.fixture
def models(tmp_path):
    paths = [str(tmp_path / f"{seed}.safetensors") for seed in (1, 2)]
    return paths, [made(path, seed=seed) for seed, path in enumerate(paths, start=1)]


def test_networks_with_batchnorm_have_a_row_for_each_part(models, dataset):
    paths, networks = models
    path, labels, x = dataset
    frame = batch_statistics_table(paths, [path], [told()], seed=0, size=10)
    assert frame["network"].unique().tolist() == ["normal"]
    assert frame["part"].tolist() == ["full", "low", "high", "low", "high"]
    assert math.isnan(frame["radius"][0]) and frame["radius"][1:].tolist() == [2, 2, 4, 4]
    assert (frame["seeds"] == 2).all() and (frame["images"] == COUNT).all()
    assert (frame["batch_size"] == 10).all()
    low = component(x.double(), part="low", radius=4.0, scale="none").float()
    for row, shown in ((frame.iloc[0], x), (frame.iloc[3], low)):
        running = np.stack(
            [(classifier.load(m)(shown).argmax(1) == labels).numpy().astype(float) for m in paths]
        )
        batch = np.stack(
            [
                np.concatenate(
                    [
                        in_training(network, shown[i : i + 10]).argmax(1) == labels[i : i + 10]
                        for i in range(0, COUNT, 10)
                    ]
                ).astype(float)
                for network in networks
            ]
        )
        assert row["running"] == running.mean() and row["batch"] == batch.mean()
        mean, error, below, above = crossed(batch - running)
        assert [row[f"difference{end}"] for end in ("", "_error", "_low", "_high")] == (
            pytest.approx([mean, error, below, above])
        )
    assert frame["difference"].abs().max() > 0.05


def test_each_network_has_its_own_files(models, dataset):
    paths = models[0]
    networks = [{"name": name, "batchnorm": True, "seeds": 1} for name in ("one", "two")]
    both = told(networks=networks)
    frame = batch_statistics_table(paths, [dataset[0]], [both], seed=0, size=10)
    assert frame["network"].tolist() == ["one"] * 5 + ["two"] * 5
    for path, network in zip(paths, networks, strict=True):
        alone = told(networks=[network])
        wanted = batch_statistics_table([path], [dataset[0]], [alone], seed=0, size=10)
        own = frame[frame["network"] == network["name"]].reset_index(drop=True)
        assert own.equals(wanted)
    assert frame["batch"][:5].tolist() != frame["batch"][5:].tolist()


def test_chosen_images_alone_are_in_the_batches(models, dataset):
    frame = batch_statistics_table(models[0], [dataset[0]], [told(images=12)], seed=0, size=5)
    assert (frame["images"] == 12).all() and (frame["batch_size"] == 4).all()


def test_the_table_shows_what_was_measured(models, dataset):
    frame = batch_statistics_table(models[0], [dataset[0]], [told(radii=[2.0])], seed=0)
    shown = table("batch_statistics", frame)
    assert set(shown.columns) <= set(frame.columns)
    bounds = {b for column in shown.columns.values() for b in column.interval or ()}
    assert bounds <= set(frame.columns)


def test_images_of_another_shape_are_refused(models, tmp_path):
    path = written(tmp_path / "small.parquet", np.zeros((3, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(UserError, match="but the model takes"):
        batch_statistics_table(models[0], [path], [told()], seed=0)
