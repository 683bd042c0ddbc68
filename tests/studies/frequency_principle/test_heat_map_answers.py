"""What networks say of images with waves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from bandlimit.models.batches import MicroBatches, fold
from bandlimit.models.classifier import Classifier
from bandlimit.spectral.basis import half_plane
from bandlimit.studies.frequency_principle.image import heat_maps

SHAPE = (2, 8, 6)


class Network(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(SHAPE[0], 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * SHAPE[1] * SHAPE[2], 3)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.bn.running_mean = torch.randn(4, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.bn(self.conv(x))).flatten(1))


MEAN, STD = (0.4, 0.6), (0.2, 0.3)


def models(count: int = 2) -> dict[str, Classifier]:
    return {
        f"network {k}": Classifier(
            MicroBatches(fold(Network(k)), 64), mean=MEAN, std=STD, shape=SHAPE, classes=3
        )
        for k in range(count)
    }


def images(count: int):
    x = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))
    return [f"image {i}" for i in range(count)], torch.arange(count) % 3, x


def answers(size: int, pairs, norms=(1.5,), count: int = 7, **changes) -> pa.Table:
    ids, labels, x = images(count)

    def batches():
        for start in range(0, count, size):
            own = slice(start, start + size)
            yield ids[own], labels[own], x[own]

    given = {"norms": norms, "seed": 3, "dataset": "d", **changes}
    return pa.concat_tables(heat_maps.evaluate(models(), batches, pairs, **given))


def plain_wave(i: int, j: int) -> np.ndarray:
    """Return the wave by an inverse transform of a pair of opposite frequencies, of unit norm."""
    spectrum = np.zeros(SHAPE[1:], dtype=complex)
    spectrum[i % SHAPE[1], j % SHAPE[2]] += 0.5 + 0.5j
    spectrum[-i % SHAPE[1], -j % SHAPE[2]] += 0.5 - 0.5j
    wave = np.fft.ifft2(spectrum).real
    return wave / np.linalg.norm(wave)


def test_answers_are_those_of_a_plain_loop_over_waves_and_networks():
    pairs = half_plane(SHAPE[1:])
    found = answers(3, pairs, norms=(1.5, 4.0))
    assert found.schema == heat_maps.SCHEMA
    rows = found.to_pylist()
    assert len(rows) == 7 * 2 * 2
    ids, labels, x = images(7)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    place = 0
    for name, label, image in zip(ids, labels, x, strict=True):
        signs = heat_maps.signs(SHAPE, 3, "d", name)
        for norm in (1.5, 4.0):
            for k in range(2):
                network, row = Network(k).eval(), rows[place]
                place += 1
                assert (row["image_id"], row["norm"]) == (name, norm)
                assert (row["network"], row["label"]) == (f"network {k}", label)
                assert list(zip(row["down"], row["right"], strict=True)) == pairs
                assert row["clean"] == (network(((image - mean) / std)[None]).argmax() == label)
                shown = []
                for i, j in pairs:
                    r = signs[:, i % SHAPE[1], j % SHAPE[2], None, None]
                    wave = torch.from_numpy(norm * plain_wave(i, j)).float()
                    shown.append(((image + r * wave).clamp(0, 1) - mean) / std)
                expected = network(torch.stack(shown)).argmax(dim=1) == label
                assert row["correct"] == expected.tolist()
    # Both answers occur, so that equality says something.
    assert 0.1 < np.mean([row["correct"] for row in rows]) < 0.9


def test_answers_depend_on_no_batch_and_on_no_part_of_the_waves(monkeypatch):
    pairs = half_plane(SHAPE[1:])
    whole = answers(7, pairs)
    assert answers(2, pairs).equals(whole)
    monkeypatch.setattr(heat_maps, "WAVES", 5 * SHAPE[1] * SHAPE[2])
    assert answers(3, pairs).equals(whole)


def test_the_sign_of_a_frequency_is_the_same_whichever_are_shown():
    whole = answers(7, half_plane(SHAPE[1:])).to_pylist()
    some = heat_maps.frequencies(SHAPE[1:], stride=2)
    for row, own in zip(whole, answers(7, some).to_pylist(), strict=True):
        of = dict(zip(zip(row["down"], row["right"], strict=True), row["correct"], strict=True))
        assert own["correct"] == [of[pair] for pair in some]


def test_signs_belong_to_image_seed_and_dataset():
    first = heat_maps.signs(SHAPE, 1, "d", "a")
    assert set(first.unique().tolist()) == {-1, 1} and first.shape == SHAPE
    assert torch.equal(first, heat_maps.signs(SHAPE, 1, "d", "a"))
    for other in ((1, "d", "b"), (2, "d", "a"), (1, "e", "a")):
        assert not torch.equal(first, heat_maps.signs(SHAPE, *other))


def test_frequencies_are_cut_to_a_square_and_thinned():
    assert heat_maps.frequencies((8, 6)) == half_plane((8, 6))
    centre = heat_maps.frequencies((8, 6), bandwidth=3)
    assert set(centre) == {(0, 0), (0, 1), (1, -1), (1, 0), (1, 1)}
    assert set(heat_maps.frequencies((8, 6), stride=2, bandwidth=5)) == {
        *((0, 0), (0, 2), (2, -2), (2, 0), (2, 2))
    }
    with pytest.raises(ValueError, match="not symmetric"):
        heat_maps.frequencies((8, 6), bandwidth=4)


def test_an_answer_that_is_no_number_is_wrong():
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 3), float("nan"))

    ids, _, x = images(2)
    broken = Classifier(Broken(), mean=MEAN, std=STD, shape=SHAPE, classes=3)
    batch = (ids, torch.zeros(2, dtype=torch.int64), x)
    given = {"norms": [1], "seed": 0, "dataset": "d"}
    (table,) = heat_maps.evaluate({"broken": broken}, lambda: [batch], [(0, 1)], **given)
    assert table["clean"].to_pylist() == [False, False]
    assert table["correct"].to_pylist() == [[False], [False]]
