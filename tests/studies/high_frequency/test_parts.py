"""What a network says of parts of images, and the tables of it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from bandlimit.files import store
from bandlimit.spectral.components import component
from bandlimit.studies.high_frequency import component_rates, components, components_records

SIDE = 12


def network() -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.Tanh(), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made.eval().requires_grad_(False)


def images(count: int):
    x = torch.rand((count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    return [f"image {i}" for i in range(count)], torch.arange(count) % 3, x


def rows(model, batches, radii=(2.0, 4.0)) -> pd.DataFrame:
    return pa.concat_tables(components.evaluate(model, batches, radii)).to_pandas()


def test_each_image_has_a_row_for_each_part():
    found = rows(network(), [images(5)])
    parts = 1 + 2 * 2 * (len(components_records.CONVENTIONS) + 1)
    assert len(found) == 5 * parts
    assert found.groupby("image_id").size().eq(parts).all()
    image = found[found["kind"] == "image"]
    assert (image["l2"] == 0).all() and (image["energy"] == 1).all()


def test_a_row_says_what_the_network_says_of_the_part():
    model, (ids, labels, x) = network(), images(4)
    found = rows(model, [(ids, labels, x)])
    low = component(x.double(), part="low", radius=4.0, scale="maximum")
    probabilities = torch.softmax(model(low.float()).double(), dim=1)
    own = found.query("kind == 'fourier' and part == 'low' and radius == 4")
    own = own[own["convention"] == "maximum"]
    assert own["probability"].tolist() == pytest.approx(probabilities.amax(1).tolist())
    assert own["correct"].tolist() == (probabilities.argmax(1) == labels).tolist()
    away = (low - x.double()).flatten(1)
    assert own["l2"].tolist() == pytest.approx(away.norm(dim=1).tolist())
    assert own["linf"].tolist() == pytest.approx(away.abs().amax(1).tolist())


def test_conventions_differ_as_they_say():
    ids, labels, x = images(3)
    found = rows(network(), [(ids, labels, x)]).query("kind == 'fourier' and radius == 4")
    by = {name: found[found["convention"] == name] for name in components_records.CONVENTIONS}
    # Radius 4 has frequencies on its border, which belong to the low part in the text alone.
    low = {name: rows[rows["part"] == "low"]["energy"].to_numpy() for name, rows in by.items()}
    assert (low["strict"] < low["text"]).all()
    assert (by["clipped"]["l2"].to_numpy() != by["text"]["l2"].to_numpy()).any()


def test_singular_values_are_compared_at_the_energy_of_the_frequencies():
    ids, labels, x = images(24)
    found = rows(network(), [(ids, labels, x)])
    squared = torch.linalg.svdvals(x[:, 0].double()).square().numpy()
    shares = np.cumsum(np.pad(squared, ((0, 0), (1, 0))), axis=1) / squared.sum(1, keepdims=True)
    low = found[(found["part"] == "low") & (found["convention"] == "text")]
    for _, own in low.groupby("radius"):
        fourier, singular = (
            own[own["kind"] == kind].set_index("image_id").loc[ids, "energy"].to_numpy()
            for kind in ("fourier", "svd")
        )
        away = singular - fourier
        assert np.abs(away) == pytest.approx(np.abs(shares - fourier[:, None]).min(axis=1))
        # Neither part is the stronger one throughout.
        assert (away > 0).any() and (away < 0).any()


def test_an_image_has_the_same_rows_in_every_batch():
    ids, labels, x = images(7)
    whole = rows(network(), [(ids, labels, x)])
    cut = [(ids[i : i + 2], labels[i : i + 2], x[i : i + 2]) for i in range(0, 7, 2)]
    keys = ["image_id", "kind", "part", "radius", "convention"]
    parts = rows(network(), cut)
    merged = whole.merge(parts, on=keys, suffixes=("", "_other"))
    assert len(merged) == len(whole) == len(parts)
    for column in ("prediction", "correct", "l2", "linf", "energy"):
        assert (merged[column] == merged[f"{column}_other"]).all()


# Tables


IDS = [f"image {i}" for i in range(10)]


def record(path, answers, away=1.0):
    """Write rows of a network: by kind, part and convention, which images are right."""
    found = []
    for (kind, part, convention), right in answers.items():
        found += [
            {
                "image_id": image_id,
                "label": 0,
                "kind": kind,
                "part": part,
                "radius": None if kind == "image" else 4.0,
                "convention": convention,
                "prediction": 0 if image_id in right else 1,
                "probability": 0.9,
                "correct": image_id in right,
                "l2": away * (1 + place),
                "linf": 0.1,
                "energy": 0.5,
            }
            for place, image_id in enumerate(IDS)
        ]
    store.write(path, pa.Table.from_pylist(found, schema=components_records.SCHEMA))
    return str(path)


def answers(image, low, high, leading, trailing):
    found = {("image", None, None): image, ("svd", "low", "text"): leading}
    found["svd", "high", "text"] = trailing
    for convention in components_records.CONVENTIONS:
        found["fourier", "low", convention] = low
        found["fourier", "high", convention] = high
    return found


@pytest.fixture
def found(tmp_path):
    """Two seeds: by frequencies 3 and 1 images are right but for their low part, by SVD 1 each."""
    first = answers(IDS[:6], IDS[3:6], IDS, IDS[1:6], IDS)
    second = answers(IDS[:6], IDS[1:6], IDS, IDS[1:6], IDS)
    files = [record(tmp_path / f"{k}.parquet", one) for k, one in enumerate((first, second))]
    told = {
        "dataset": "d",
        "model": "m",
        "document": None,
        "stand_in": True,
        "shards": 1,
        "networks": [{"name": "m", "seeds": 2}],
    }
    return component_rates.frames(files, [told])


def test_images_that_are_right_but_for_their_low_part_are_counted(found):
    (row,) = found["counts"].to_dict("records")
    assert (row["least"], row["greatest"], row["share"]) == (1, 3, 0.2)
    assert row["right"] == 0.6 and row["right_hfc"] == 1 and row["right_lfc"] == 0.4
    assert row["share_low"] < 0.2 < row["share_high"]


def test_wrong_low_frequencies_are_adversarial_examples_at_their_distance(found):
    rows = found["corollary_1"].set_index("convention")
    # Images 0 to 2 of the first seed, image 0 of the second.
    assert rows["adversarial"].to_dict() == {"text": 4, "clipped": 4}
    assert rows.loc["text", "l2_50"] == pytest.approx(np.median([1, 2, 3, 1]))
    assert rows.loc["text", "linf_95"] == pytest.approx(0.1)


def test_singular_values_stand_beside_frequencies(found):
    (row,) = found["svd"].to_dict("records")
    assert (row["fourier"], row["svd"], row["ratio"]) == (0.2, 0.1, 0.5)
    assert row["difference"] == pytest.approx(0.1)
    assert row["half_less"] == pytest.approx(0)
    assert row["half_less_low"] < 0 < row["half_less_high"]


def test_each_convention_is_shown(found):
    assert found["conventions"]["convention"].tolist() == list(components_records.CONVENTIONS)


def test_without_such_images_there_is_no_distance(tmp_path):
    file = record(tmp_path / "x.parquet", answers(IDS, IDS, IDS, IDS, IDS))
    told = {
        **{"dataset": "d", "model": "m", "document": None, "stand_in": True, "shards": 1},
        "networks": [{"name": "m", "seeds": 1}],
    }
    found = component_rates.frames([file], [told])
    assert math.isnan(found["corollary_1"]["l2_50"].iloc[0])
    assert math.isnan(found["svd"]["ratio"].iloc[0]) and found["counts"]["share"].iloc[0] == 0
