"""Tables and figures of heat maps, from answers that are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.colors import Normalize

from bandlimit.files import store
from bandlimit.spectral.basis import half_plane
from bandlimit.statistics import crossed
from bandlimit.studies.frequency_principle.image import heat_maps_figures as figures
from bandlimit.studies.frequency_principle.image import heat_maps_rates as rates
from bandlimit.studies.frequency_principle.image.heat_maps import SCHEMA
from bandlimit.studies.frequency_principle.image.heat_maps_tables import TABLES, table

SIDES = (24, 24)
PAIRS = half_plane(SIDES)
IMAGES, NORMS = 10, (2.0, 4.0)


def network(name: str, seeds: int, training: str, natural: str | None) -> dict:
    return {
        "name": name,
        "models": [name, *(f"{name}_seed_{k}" for k in range(2, seeds + 1))],
        "batchnorm": False,
        "training": training,
        "trained": True,
        "natural": natural,
    }


EXPERIMENT = {
    "dataset": "d",
    "model": "plain",
    "document": "CIFAR-10",
    "stand_in": True,
    "sides": list(SIDES),
    "norm": 4.0,
    "norms": list(NORMS),
    "shards": 2,
    "stride": 1,
    "bandwidth": None,
    "networks": [network("plain", 3, "natural", None), network("noisy", 2, "gaussian", "plain")],
}
MODELS = [name for own in EXPERIMENT["networks"] for name in own["models"]]


@pytest.fixture(scope="module")
def wrong() -> np.ndarray:
    """Return whether models are wrong, models x norms x images x waves, and of clean images."""
    draws = np.random.default_rng(0)
    return draws.random((len(MODELS), len(NORMS), IMAGES, len(PAIRS) + 1)) < 0.4


def in_shards(wrong, folder, shards) -> dict[str, pd.DataFrame]:
    """Return the tables of these answers, stored in so many shards."""
    files = []
    down, right = zip(*PAIRS, strict=True)
    for shard in range(shards):
        rows = [
            {
                "image_id": f"image {n}",
                "label": 0,
                "network": name,
                "norm": norm,
                "clean": not wrong[m, 0, n, -1],
                "down": down,
                "right": right,
                "correct": (~wrong[m, v, n, :-1]).tolist(),
            }
            for n in range(shard, IMAGES, shards)
            for v, norm in enumerate(NORMS)
            for m, name in enumerate(MODELS)
        ]
        files.append(str(folder / f"{shard}.parquet"))
        store.write(files[-1], pa.Table.from_pylist(rows, schema=SCHEMA), {})
    return rates.frames(files, [{**EXPERIMENT, "shards": shards}])


@pytest.fixture(scope="module")
def frames(wrong, tmp_path_factory) -> dict[str, pd.DataFrame]:
    return in_shards(wrong, tmp_path_factory.mktemp("sensitivity"), 2)


@pytest.mark.parametrize(("shards", "batch"), [(1, 128), (3, 128), (12, 128), (2, 3)])
def test_tables_are_the_same_to_the_last_bit_for_any_shards_and_batches(
    frames, wrong, tmp_path, monkeypatch, shards, batch
):
    """Of 12 shards, two have no images."""
    monkeypatch.setattr(rates, "BATCH", batch)
    found = in_shards(wrong, tmp_path, shards)
    assert set(found) == set(frames)
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(found[name], frame, check_exact=True)


ORDER = [*range(0, IMAGES, 2), *range(1, IMAGES, 2)]
"""Images as shards have them."""


def whole_plane(values: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the values of all frequencies, those of opposite ones by symmetry."""
    found = {}
    for place, (i, j) in enumerate(PAIRS):
        opposite = tuple((-of + 12) % 24 - 12 for of in (i, j))
        found[i, j] = found[opposite] = values[..., place]
    assert len(found) == math.prod(SIDES)
    return found


@pytest.mark.parametrize(
    ("region", "radius", "chosen"),
    [
        ("lowest", None, lambda r: r <= 2),
        ("others", None, lambda r: r > 2),
        ("high", None, lambda r: r >= 10),
        ("all", None, lambda r: True),
        ("ring", 3, lambda r: 2.5 < r < 3.5),
        ("ring", 17, lambda r: r > 16.5),
    ],
)
def test_the_error_of_a_region_is_the_mean_over_the_whole_plane(
    frames, wrong, region, radius, chosen
):
    rows = frames["heat_maps"].query("region == @region and network == 'plain' and main")
    (row,) = (
        rows[rows["radius"] == radius].to_dict("records") if radius else rows.to_dict("records")
    )
    plane = whole_plane(wrong[:3, 1][:, ORDER, :-1])
    own = [values for (i, j), values in plane.items() if chosen(math.hypot(i, j))]
    errors = np.mean(own, axis=0)
    assert row["frequencies"] == len(own)
    mean, _, low, high = crossed(errors)
    assert (row["error"], row["error_low"], row["error_high"]) == pytest.approx((mean, low, high))
    rise = crossed(errors - wrong[:3, 0][:, ORDER, -1])
    assert (row["rise"], row["rise_low"]) == pytest.approx((rise[0], rise[2]))


def test_networks_are_compared_seed_by_seed_on_the_same_images(frames, wrong):
    rows = frames["heat_map_comparisons"]
    (row,) = rows.query("region == 'high' and norm == 2").to_dict("records")
    assert (row["network"], row["against"], row["seeds"]) == ("noisy", "plain", 2)
    assert row["least"] and not row["main"]
    plane = whole_plane(wrong[:, 0][:, ORDER, :-1])
    errors = np.mean([v for pair, v in plane.items() if math.hypot(*pair) >= 10], axis=0)
    mean, _, low, high = crossed(errors[:2] - errors[3:])
    found = (row["difference"], row["difference_low"], row["difference_high"])
    assert found == pytest.approx((mean, low, high))
    own = rows[rows["comparison"] == rates.OTHERS_LESS_LOWEST]
    assert sorted(own["network"]) == ["noisy", "noisy", "plain", "plain"]


def test_the_worst_wave_is_counted_on_images_that_did_not_choose_it(frames, wrong):
    (row,) = frames["waves_as_attack"].query("network == 'noisy' and main").to_dict("records")
    own = wrong[3:, 1][:, ORDER, :-1]
    worst = own.sum(axis=(0, 1)).argmax()
    assert (row["down"], row["right"]) == PAIRS[worst]
    assert row["worst"] == pytest.approx(own[:, :, worst].mean())
    of_image = np.array([rates.half(f"image {n}") for n in ORDER])
    halves = own[:, of_image == 0], own[:, of_image == 1]
    assert min(len(half[0]) for half in halves) > 1
    chosen = [half.sum(axis=(0, 1)).argmax() for half in halves]
    held = [halves[0][:, :, chosen[1]], halves[1][:, :, chosen[0]]]
    mean, _, low, high = crossed(np.concatenate(held, axis=1))
    assert row["held_out"] == pytest.approx(mean)
    assert (row["held_out_low"], row["held_out_high"]) == pytest.approx((max(low, 0), high))
    assert row["worst"] > row["held_out"]
    assert row["any_wave"] == 1 and row["tries"] == len(PAIRS)


def test_each_frequency_has_its_counts(frames, wrong):
    rows = frames["heat_map_frequencies"].query("network == 'plain' and norm == 2")
    assert list(zip(rows["down"], rows["right"], strict=True)) == PAIRS
    assert rows["wrong"].tolist() == wrong[:3, 0, :, :-1].sum(axis=(0, 1)).tolist()
    assert (rows["count"] == 30).all()


def test_tables_have_the_columns_that_are_shown(frames):
    assert set(frames) == set(TABLES)
    for name, frame in frames.items():
        shown = table(name, frame)
        assert set(shown.columns) <= set(frame.columns)


def test_a_network_alone_is_compared_with_none(frames, wrong, tmp_path):
    alone = {**EXPERIMENT, "networks": EXPERIMENT["networks"][:1], "shards": 1, "norms": [4.0]}
    rows = pa.Table.from_pylist(
        [
            {
                **{"image_id": "a", "label": 0, "network": name, "norm": 4.0, "clean": True},
                **{"down": [0], "right": [3], "correct": [False]},
            }
            for name in MODELS[:3]
        ],
        schema=SCHEMA,
    )
    store.write(tmp_path / "one.parquet", rows, {})
    found = rates.frames([str(tmp_path / "one.parquet")], [alone])
    assert found["heat_map_comparisons"].empty
    assert tuple(found["heat_map_comparisons"].columns) == rates.COMPARED


def test_the_map_shows_the_whole_plane_with_frequency_0_in_its_centre(frames):
    rows = frames["heat_map_frequencies"].query("network == 'plain' and main")
    down, right, found = figures.plane(rows, EXPERIMENT)
    assert down.tolist() == right.tolist() == list(range(-12, 12))
    error = rows.set_index(["down", "right"])["error"]
    assert found[12, 12] == error[0, 0]
    assert found[12 + 3, 12 - 5] == found[12 - 3, 12 + 5] == error[3, -5]
    # The highest frequency of an even side is its own opposite.
    assert found[0, 12 + 4] == found[0, 12 - 4]
    assert np.isfinite(found).all()
    thin = {**EXPERIMENT, "stride": 2, "bandwidth": 9}
    down, _, few = figures.plane(rows, thin)
    assert down.tolist() == [-4, -2, 0, 2, 4] and few[2, 2] == error[0, 0]


def test_heat_maps_have_one_scale_and_one_colour_bar(frames):
    figure = figures.draw_maps(frames["heat_map_frequencies"], [EXPERIMENT])
    *maps, bar = figure.axes
    assert [axes.get_title().splitlines()[0] for axes in maps] == [
        "natural, no BatchNorm",
        "Gaussian noise, no BatchNorm",
    ]
    assert bar.get_ylabel() == "error rate"
    scales = [axes.images[0].norm for axes in maps]
    assert all(isinstance(scale, Normalize) for scale in scales)
    assert scales[0].vmin == scales[1].vmin and scales[0].vmax == scales[1].vmax
    main = frames["heat_map_frequencies"].query("main")["error"]
    assert scales[0].vmin <= main.min() and main.max() <= scales[0].vmax
    assert maps[0].images[0].get_extent() == [-12.5, 11.5, 11.5, -12.5]
    assert "cycles per image" in maps[0].get_xlabel()


def test_lines_by_radius_have_bands_and_a_panel_of_differences(frames):
    figure = figures.draw_radii(frames["heat_maps"], frames["heat_map_comparisons"], [EXPERIMENT])
    errors, differences = figure.axes
    assert [len(axes.collections) for axes in (errors, differences)] == [2, 1]
    assert differences.get_ylabel() == "error rate, natural less other"
    rows = frames["heat_map_comparisons"].query("region == 'ring' and main")
    assert differences.lines[0].get_ydata() == pytest.approx(rows["difference"].to_numpy())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("natural", "Gaussian noise", "on clean images")
    ]


def test_networks_of_unknown_training_are_called_by_their_names():
    own = {**network("mine", 1, "natural", None), "trained": False}
    other = network("plain", 3, "natural", None)
    twins = [other, {**other, "name": "dropout"}]
    assert figures.labels({"networks": [own, other]}) == {
        "mine": "mine",
        "plain": "natural, no BatchNorm",
    }
    assert figures.labels({"networks": twins}) == {"plain": "plain", "dropout": "dropout"}
