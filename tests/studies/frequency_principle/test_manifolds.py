from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import ttest_1samp

from bandlimit.errors import UserError
from bandlimit.studies.frequency_principle.response import (
    flower,
    manifolds,
    manifolds_figures,
    manifolds_tables,
    sinusoids,
    stacks,
)

CLASSES = {
    "turns": 2,
    "frequency": 4,
    "samples": 48,
    "steps": 150,
    "learning_rate": 0.01,
    "seeds": 3,
    "pixels": 12,
}
SIZES = {
    "width": 24,
    "depth": 2,
    "turns": [0, 3],
    "frequencies": [1, 3, 5, 7],
    "samples": 32,
    "steps": 60,
    "learning_rate": 0.01,
    "seeds": 2,
    "records": 7,
    "classification": CLASSES,
    "seed": 5,
}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(rows) for name, rows in manifolds.manifolds(**SIZES).items()}


def test_curves_are_closed_and_have_their_radius():
    z = sinusoids.unit_grid(720)
    circle, four = manifolds.curve(z, 0), manifolds.curve(z, 4)
    assert circle.norm(dim=1).numpy() == pytest.approx(1)
    radius = four.norm(dim=1)
    assert (radius.min().item(), radius.max().item()) == pytest.approx((0.5, 1.5))
    # A turn of the curve is a rotation by a quarter.
    quarter = torch.stack([-four[:, 1], four[:, 0]], dim=1)
    assert torch.allclose(four.roll(-180, dims=0), quarter)


def test_curves_are_drawn_as_networks_see_them():
    z = sinusoids.unit_grid(720)
    drawn = flower.points(z.numpy(), 4)
    assert drawn == pytest.approx(manifolds.curve(z, 4).numpy(), abs=1e-12)


def test_classes_are_signs_of_the_sine():
    z = sinusoids.unit_grid(97) + 0.001
    assert torch.equal(manifolds.labels(z, 5) == 1, torch.sin(2 * np.pi * 5 * z) > 0)


def test_samples_of_the_classes_are_off_the_zeros_of_the_sine():
    z = (torch.arange(300, dtype=torch.float64) + manifolds.APART) / 300
    for places in (z, z + manifolds.HALF / 300):
        assert torch.sin(2 * np.pi * 40 * places).abs().min() > 0.01


def test_amplitudes_at_the_end_are_those_of_the_curves(tables):
    passages, curves = tables["manifolds"], tables["manifold_curves"]
    last = curves[curves["step"] == 60].set_index(["turns", "frequency"])["amplitude"]
    found = passages.set_index(["turns", "frequency"])["amplitude"]
    assert found.to_numpy() == pytest.approx(last.loc[found.index].to_numpy())


def test_levels_are_means_of_the_three_highest_each_at_most_one(tables):
    rows = tables["manifolds"]
    for level in tables["manifold_levels"].itertuples():
        own = rows[(rows["turns"] == level.turns) & (rows["frequency"] >= level.from_frequency)]
        assert len(own) == 3 and level.from_frequency == 3
        assert level.amplitude <= own["amplitude"].mean() + 1e-9
        if (own["amplitude_high"] <= 1).all():
            assert level.amplitude == pytest.approx(own["amplitude"].mean())


def test_gains_are_students_of_differences_network_by_network(monkeypatch):
    # Amplitudes of two networks on a curve of 4 turns and on one of none, all frequencies alike.
    tops = torch.tensor([0.9, 0.6, 0.2, 0.1])

    def spectrum(outputs, frequencies):
        return tops[:, None].expand(*outputs.shape[:2], len(frequencies)).double()

    monkeypatch.setattr(manifolds, "spectrum", spectrum)
    found = manifolds.manifolds(**{**SIZES, "turns": [4, 0], "steps": 2})["manifold_levels"]
    many, none = found
    assert (none["gain"], none["gain_low"], none["gain_high"]) == (0, 0, 0)
    interval = ttest_1samp([0.7, 0.5], 0).confidence_interval()
    assert many["gain"] == pytest.approx(0.6)
    assert (many["gain_low"], many["gain_high"]) == pytest.approx(tuple(interval), abs=1e-6)


def test_all_curves_start_from_the_same_networks():
    seen = {}
    draw = stacks.draw

    def spy(seed, purpose, members, sizes, **more):
        seen[purpose] = list(members)
        return draw(seed, purpose, members, sizes, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks, "draw", spy)
        manifolds.manifolds(**{**SIZES, "steps": 2})
    assert seen == {"manifolds": [0, 1, 0, 1], "classification": [0, 1, 2]}


def test_networks_that_learn_their_samples_agree_there(tables):
    rows = tables["manifold_classification"].set_index("measure")
    assert rows.loc["accuracy on samples", "low"] > 0.9
    wrong = 1 - rows.loc["accuracy on samples", "low"]
    assert rows.loc["disagreement on samples", "high"] <= 2 * wrong + 1e-6
    assert rows.loc["disagreement in the square", "value"] > 0
    assert rows["cases"].tolist() == [3] * 5


def test_pictures_have_the_disagreement_of_the_first_two():
    found = manifolds.classify(width=24, depth=2, seed=5, **{**CLASSES, "seeds": 2})
    pictures = pd.DataFrame(found["manifold_pictures"])
    first, second = (rows["probability"].to_numpy() for _, rows in pictures.groupby("network"))
    rows = pd.DataFrame(found["manifold_classification"]).set_index("measure")["value"]
    differ = ((first > 0.5) != (second > 0.5)).mean()
    assert rows["disagreement in the square"] == pytest.approx(differ)
    assert rows["difference in the square"] == pytest.approx(
        np.abs(first - second).mean(), rel=1e-4
    )


def test_a_frequency_that_samples_do_not_resolve_is_refused():
    with pytest.raises(UserError, match="below half the number of samples, 24, got 24"):
        manifolds.classify(width=8, depth=1, seed=1, **{**CLASSES, "frequency": 24})
    with pytest.raises(UserError, match="'manifolds'"):
        manifolds.manifolds(**{**SIZES, "frequencies": [1, 2, 16]})


def test_tables_show_columns_that_they_have(tables):
    for name, (columns, _, _) in manifolds_tables.LAYOUTS.items():
        assert set(columns) <= set(tables[name].columns)
    assert set(tables) == {*manifolds_tables.LAYOUTS, "manifold_pictures"}


def test_figures_are_drawn(tables):
    figure = manifolds_figures.draw_manifolds(tables)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["L = 0", "L = 3"]
    picture = manifolds_figures.draw_classification(
        tables["manifold_pictures"], tables["manifold_classification"], 2, 4
    )
    assert isinstance(picture, Figure)
    with pytest.raises(ValueError, match="probability"):
        manifolds_figures.draw_classification(
            tables["manifold_pictures"].drop(columns="probability"),
            tables["manifold_classification"],
            2,
            4,
        )
