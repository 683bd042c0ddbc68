from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.figure import Figure

from bandlimit.errors import UserError
from bandlimit.studies.frequency_principle.response import (
    sinusoids,
    sinusoids_figures,
    sinusoids_tables,
    stacks,
)
from bandlimit.studies.frequency_principle.response.sinusoids_passages import (
    first_passages,
    in_order,
    passage_records,
    rank_correlations,
)

ONE = {
    "hidden": [20, 20],
    "std": 0.3,
    "frequencies": [1, 2],
    "samples": 32,
    "steps": 60,
    "learning_rate": 0.01,
    "seeds": 3,
    "records": 21,
    "threshold": 0.1,
    "seed": 3,
}
SUMS = {
    "width": 16,
    "depth": 2,
    "frequencies": [1, 3, 5],
    "samples": 32,
    "steps": 60,
    "learning_rate": 0.01,
    "seeds": 3,
    "records": 7,
    "directions": 4,
    "norms": 3,
    "largest_norm": 2.0,
    "seed": 3,
}


@pytest.fixture(scope="module")
def one() -> dict[str, pd.DataFrame]:
    return frames(sinusoids.one_dimension(**ONE))


@pytest.fixture(scope="module")
def sums() -> dict[str, pd.DataFrame]:
    return frames(sinusoids.sinusoids(**SUMS))


def frames(found):
    return {name: pd.DataFrame(records) for name, records in found.items()}


# First passages


NAN = math.nan


def test_first_passage_is_the_first_step_and_never_is_nan():
    reached = np.array([[[0, 0]], [[1, 0]], [[0, 0]], [[1, 0]]], dtype=bool)
    assert first_passages(reached, [0, 10, 20, 30]).tolist()[0][0] == 10
    assert np.isnan(first_passages(reached, [0, 10, 20, 30])[0, 1])


@pytest.mark.parametrize(
    ("passages", "ordered"),
    [
        ([1, 2, 3], True),
        ([1, 1, 3], False),
        ([2, 1, 3], False),
        # Never comes after ever, and two that never come are in no order.
        ([1, 2, NAN], True),
        ([1, NAN, 3], False),
        ([1, NAN, NAN], False),
    ],
)
def test_order(passages, ordered):
    assert in_order(np.array([passages], float)).tolist() == [ordered]


def test_rank_correlation_has_what_is_never_learnt_last():
    found = rank_correlations(np.array([[1, 2, 3], [3, 2, 1], [1, 2, NAN], [NAN] * 3, [NAN, 2, 1]]))
    assert found == pytest.approx([1, -1, 1, 0, -1])
    tied = rank_correlations(np.array([[1.0, 2.0, NAN, NAN]]))[0]
    assert tied == pytest.approx(pd.Series([1, 2, 9, 9]).corr(pd.Series(range(4)), "spearman"))


def test_records_count_what_is_never_learnt_with_the_whole_training():
    passages = np.array([[10, 30, NAN], [20, NAN, NAN]], float)
    low, middle, high = passage_records("x", [1, 2, 3], 0.5, passages, 100)
    assert (low["step"], low["step_low"], low["step_high"], low["learnt"]) == (15, 10, 20, 2)
    assert (middle["step"], middle["censored"], middle["learnt"]) == (30, 65, 1)
    assert (high["learnt"], high["censored"], high["censored_error"]) == (0, 100, 0)
    assert math.isnan(high["step"])
    assert low["censored_error"] == pytest.approx(np.std([10, 20], ddof=1) / math.sqrt(2))
    # The second network has two that it never learns.
    assert low["seeds"] == 2 and low["ordered"] == 0.5
    assert low["spearman"] == pytest.approx((1 + math.sqrt(0.75)) / 2)


# Spectra


def test_amplitudes_are_those_of_the_sinusoids():
    grid = sinusoids.unit_grid(64)
    amplitudes = torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
    phases = sinusoids.draw_phases(1, "test", 1, 3)
    sums_ = sinusoids.sinusoid_sums(grid, [2, 5, 31], amplitudes, phases)
    found = sinusoids.spectrum(sums_, [1, 2, 5, 31])
    assert found[0].tolist() == pytest.approx([0, 1, 0.5, 0.25], abs=1e-12)
    expected = sum(
        a * math.sin(2 * math.pi * (k * 0.25 + p))
        for a, k, p in zip(amplitudes[0], (2, 5, 31), phases[0], strict=True)
    )
    assert sums_[0, 16].item() == pytest.approx(expected)


def test_the_end_point_would_leak():
    inside = torch.sin(2 * math.pi * 3 * sinusoids.unit_grid(64))
    with_end = torch.sin(2 * math.pi * 3 * torch.linspace(0, 1, 64, dtype=torch.float64))
    assert sinusoids.spectrum(inside, [2, 4]).max() < 1e-12
    assert sinusoids.spectrum(with_end, [2, 4]).max() > 1e-2


def test_a_network_has_its_phases_whatever_their_number():
    few, many = (sinusoids.draw_phases(1, "test", networks, 3) for networks in (1, 4))
    assert torch.equal(few[0], many[0])
    assert not torch.equal(many[0], many[1])


def test_spectral_norms_are_the_largest_singular_values():
    stack = stacks.draw(2, "test", range(3), [1, 12, 20, 1])
    with torch.no_grad():
        # One direction stands out, as in trained layers.
        for weight in stack.weights:
            weight += 0.3
        exact = torch.stack([torch.linalg.matrix_norm(w, 2) for w in stack.weights], dim=1)
    assert torch.allclose(sinusoids.spectral_norms(stack), exact, rtol=1e-5)


@pytest.mark.parametrize(("frequencies", "why"), [([1, 16], "below half"), ([3, 1], "must rise")])
def test_wrong_frequencies_are_refused(frequencies, why):
    with pytest.raises(UserError, match=why):
        sinusoids.one_dimension(**{**ONE, "frequencies": frequencies})
    with pytest.raises(UserError, match=why):
        sinusoids.sinusoids(**{**SUMS, "frequencies": frequencies})


# Simulations


def test_one_dimension_starts_at_the_target_and_ends_lower(one):
    curves = one["one_dimension_curves"]
    at = curves.groupby("step")["difference"].mean()
    assert at[60] < 0.7 * at[0]
    assert (curves["low"] <= curves["difference"]).all()
    assert len(curves) == 2 * len(at)


def test_functions_have_the_errors_of_the_curves():
    found = frames(sinusoids.one_dimension(**{**ONE, "seeds": 1}))
    rows = found["one_dimension_functions"].query("step == 60")
    wanted = np.sin(rows["x"]) + np.sin(2 * rows["x"])
    assert rows["target"].to_numpy() == pytest.approx(wanted.to_numpy())
    waves = np.exp(-1j * rows["x"].to_numpy())
    error = abs(((rows["output"] - rows["target"]) * waves).sum())
    relative = error / abs((rows["target"] * waves).sum())
    curves = found["one_dimension_curves"].query("step == 60 and frequency == 1")
    assert curves["difference"].iloc[0] == pytest.approx(relative, rel=1e-5)


def test_first_passages_are_where_curves_pass():
    found = frames(sinusoids.one_dimension(**{**ONE, "seeds": 1, "threshold": 0.5}))
    passages = found["one_dimension"].set_index("frequency")
    for frequency, rows in found["one_dimension_curves"].groupby("frequency"):
        below = rows[rows["difference"] < 0.5]["step"]
        step = passages.loc[frequency, "step"]
        assert step == below.min() if len(below) else math.isnan(step)
    assert passages["learnt"].max() == 1


def test_sums_have_a_row_for_each(sums):
    assert len(sums["sinusoids"]) == 2 * 3
    assert len(sums["sinusoid_curves"]) == 2 * 3 * 7
    assert len(sums["sinusoid_norms"]) == 2 * 3 * 7
    assert len(sums["sinusoid_noise"]) == 3 * 3
    assert set(sums["sinusoids"]["case"]) == {"equal", "growing"}


def test_both_cases_start_from_the_same_networks(sums):
    norms = (
        sums["sinusoid_norms"]
        .query("step == 0")
        .pivot(index="layer", columns="case", values="norm")
    )
    assert norms["equal"].to_numpy() == pytest.approx(norms["growing"].to_numpy())


def test_noise_of_norm_zero_leaves_all_and_more_changes_more(sums):
    noise = sums["sinusoid_noise"]
    assert noise.query("norm == 0")["amplitude"].to_numpy() == pytest.approx(1, abs=1e-4)
    away = (noise["amplitude"] - 1).abs().groupby(noise["norm"]).mean()
    assert away[2.0] > 0.01


def test_noise_is_of_the_norm_it_says():
    stack = stacks.draw(2, "test", [0], [1, 12, 1])
    noise = sinusoids._directions(stack, 0, 5, 1)
    squares = sum(p.square().sum(dim=(1, 2)) for p in noise.parameters())
    assert squares.tolist() == pytest.approx([1] * 5, rel=1e-5)


def test_a_run_repeats(one):
    again = frames(sinusoids.one_dimension(**ONE))
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, again[name])


# Tables, figures, claims


def test_tables_show_columns_that_they_have(one, sums):
    for name, frame in (one | sums).items():
        made = sinusoids_tables.table(name, frame.to_dict("records"))
        assert set(made.columns) <= set(frame.columns), name
    assert set(one | sums) == set(sinusoids_tables.LAYOUTS)


def test_passages_have_the_columns_that_overviews_read(one, sums):
    needed = {"case", "frequency", "threshold", "steps", "step", "step_low", "step_high"}
    for frame in (one["one_dimension"], sums["sinusoids"]):
        assert needed | {"learnt", "seeds"} <= set(frame.columns)


@pytest.mark.filterwarnings("error")
def test_figures_are_drawn(one, sums):
    assert isinstance(sinusoids_figures.draw_one_dimension(one), Figure)
    figure = sinusoids_figures.draw_sinusoids(sums)
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "equal amplitudes",
        "growing amplitudes",
    ]
    assert isinstance(sinusoids_figures.draw_parameter_noise(sums["sinusoid_noise"]), Figure)


def test_figures_refuse_other_tables(sums):
    with pytest.raises(ValueError, match="amplitude"):
        sinusoids_figures.draw_parameter_noise(sums["sinusoid_noise"].drop(columns="amplitude"))


def test_cells_reach_half_way_to_their_neighbours():
    assert sinusoids_figures.edges(np.array([1.0, 2, 4])).tolist() == [0.5, 1.5, 3, 5]


def test_claims_name_columns_that_tables_have(one, sums):
    path = Path(__file__).parents[3] / "workflow/claims/frequency_principle.yaml"
    tables = one | sums
    for claim in yaml.safe_load(path.read_text())["claims"]:
        # One may name its records in each part.
        name = claim.get("records", "").split("/")[-1]
        if name not in tables:
            continue
        for test in claim["in_substance"]["tests"]:
            rows = test.get("rows", claim.get("rows"))
            found = tables[name].query(rows) if rows else tables[name]
            assert len(found) and np.isfinite(found.eval(test["value"])).all(), claim["id"]
