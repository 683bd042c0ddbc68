from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from matplotlib.figure import Figure

from bandlimit.claims import verdicts
from bandlimit.files.tables import Table
from bandlimit.plan import catalogue
from bandlimit.studies.frequency_principle.response import artifacts, counterexample
from bandlimit.studies.frequency_principle.response.counterexample_figure import (
    draw_counterexample,
)

HOME = Path(__file__).parents[3]
SIZES = {
    "widths": [1, 0.5, 0.2],
    "frequencies": 16,
    "cases": {
        "figure_5": {"width": 0.5, "frequencies": [1, 8]},
        "figure_6": {"width": 0.5, "frequencies": [3, 1]},
    },
    "times": [0, 10, 1000],
    "threshold": 0.1,
    "points": 128,
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    return counterexample.tables(**SIZES)


def test_formula_features_and_closed_form_agree_and_the_stated_value_is_pi_times_too_large(tables):
    rows = tables["counterexample"].frame
    assert rows["by_formula"].to_numpy() == pytest.approx(rows["closed_form"].to_numpy(), abs=1e-12)
    assert rows["by_features"].to_numpy() == pytest.approx(
        rows["closed_form"].to_numpy(), abs=1e-12
    )
    clear = rows[rows["closed_form"] > 1e-3]
    assert (clear["by_features"] / clear["stated"]).to_numpy() == pytest.approx(1 / math.pi)


def test_the_greatest_eigenvalue_lies_at_root_2_over_h(tables):
    peaks = tables["counterexample"].frame.groupby("width")["peak"].first()
    assert peaks.to_dict() == {1.0: 1, 0.5: 3, 0.2: 7}


def test_ratios_are_left_out_where_eigenvalues_are_rounding(tables):
    rows = tables["counterexample"].frame
    narrow = rows[rows["width"] == 1]
    assert narrow["ratio_to_previous"].isna().tolist() == [True, *[False] * 7, *[True] * 8]
    assert narrow["ratio_to_previous"].max() < 1


def test_the_kernel_does_not_depend_on_the_place_on_the_circle():
    s = counterexample.circle(50)
    around = counterexample.kernel(s + 2 * math.pi, 0.7)
    assert around == pytest.approx(counterexample.kernel(s, 0.7), abs=1e-9)
    assert counterexample.kernel(-s, 0.7) == pytest.approx(counterexample.kernel(s, 0.7), abs=1e-9)


@pytest.mark.parametrize("case", SIZES["cases"])
def test_snapshots_solve_the_flow_of_the_whole_kernel(tables, case):
    x = counterexample.circle(SIZES["points"])
    kernel = counterexample.kernel(x[:, None] - x, 0.5) * 2 * math.pi / len(x)
    target = sum(np.sin(k * x) for k in SIZES["cases"][case]["frequencies"])
    rows = tables["counterexample_snapshots"].frame
    for time in SIZES["times"]:
        own = rows[(rows["case"] == case) & (rows["time"] == time)]
        flow = target - scipy.linalg.expm(-time * kernel) @ target
        assert own["learnt"].to_numpy() == pytest.approx(flow, abs=1e-9)
        assert own["target"].to_numpy() == pytest.approx(target)


def test_times_are_when_a_wave_has_the_threshold_left(tables):
    rows = tables["counterexample_times"].frame
    assert np.exp(-rows["rate"] * rows["step"]).to_numpy() == pytest.approx(0.1)
    assert rows.groupby("case")["frequency"].apply(list).to_dict() == {
        "figure_5": [1.0, 8.0],
        "figure_6": [1.0, 3.0],
    }
    ratios = rows.loc[~rows["lowest"]].set_index("case")["rate_ratio"]
    assert ratios["figure_5"] < 1 < ratios["figure_6"]


def test_the_job_makes_what_the_catalogue_names(tables):
    entries = {entry.name: entry for entry in artifacts.THEORY}
    assert list(tables) == [made.name for made in entries["counterexample"].makes]


def test_claims_are_asked_of_these_tables_and_not_of_those_of_a_study_that_does_not_run(
    tables, tmp_path
):
    paths = {}
    for name, table in tables.items():
        paths[f"tables/frequency_principle/{name}"] = tmp_path / f"{name}.parquet"
        table.frame.to_parquet(tmp_path / f"{name}.parquet")
    ledger = verdicts.evaluate(
        HOME / "workflow/claims/frequency_principle.yaml",
        paths,
        [],
        schema=HOME / "workflow/schemas/claims.schema.yaml",
        makeable=catalogue.table_names(),
    ).set_index("id")
    found = ledger["in_substance"]
    assert found["frequency_principle.C34"] == found["frequency_principle.C35"] == "holds"
    assert ledger.loc["frequency_principle.C34", "as_reported"] == "contradicted"
    for number in ("C38", "C39"):
        row = ledger.loc[f"frequency_principle.{number}"]
        assert (row["in_substance"], row["as_reported"]) == ("not asked", "not run at this scale")
        assert "does not make tables/bandlimiting/" in row["in_substance_reading"]


def test_the_figure_marks_each_greatest_eigenvalue_and_bound(tables):
    figure = draw_counterexample(*(table.frame for table in tables.values()))
    assert isinstance(figure, Figure)
    above = figure.subfigs[0].axes[0]
    places = [np.asarray(line.get_xdata(), float) for line in above.lines]
    bounds = [place[0] for place in places if len(place) == 2 and place[0] == place[1]]
    assert sorted(bounds) == [2, 4, 10]
    with pytest.raises(ValueError, match="target"):
        frames = [table.frame for table in tables.values()]
        draw_counterexample(frames[0], frames[1].drop(columns="target"), frames[2])
