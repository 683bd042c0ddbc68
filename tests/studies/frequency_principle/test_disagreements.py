"""Which side of each disagreement is right, by the interval of what was measured."""

import pandas as pd
import pytest

from bandlimit.studies.frequency_principle.disagreements import (
    COLUMNS,
    FIRST,
    NEITHER,
    SECOND,
    disagreements,
)


def one(tables, **chosen):
    found = disagreements(tables)
    assert list(found) == list(COLUMNS)
    rows = found[(found[list(chosen)] == list(chosen.values())).all(axis=1)]
    return [rows.loc[i] for i in rows.index]


def rates(value, low, high, corruption="fog", method="low-pass", size=4):
    return {
        **{"network": "net", "corruption": corruption, "method": method, "size": size},
        **{"change": value, "change_low": low, "change_high": high},
    }


@pytest.mark.parametrize(
    ("value", "low", "high", "who"),
    [(0.3, 0.1, 0.5, FIRST), (-0.3, -0.5, -0.1, SECOND), (0.1, -0.1, 0.3, NEITHER)],
)
def test_the_interval_says_who_is_right(value, low, high, who):
    (row,) = one({"corruption_rates": pd.DataFrame([rates(value, low, high)])})
    assert row["shows"] == who and row["frequency"] == "image"


def test_of_filters_the_narrowest_counts_and_other_corruptions_do_not():
    frame = pd.DataFrame(
        [
            rates(-0.2, -0.3, -0.1),
            rates(0.2, 0.1, 0.3, size=7),
            rates(0.2, 0.1, 0.3, "gaussian_noise"),
            rates(0.2, 0.1, 0.3, method="gaussian"),
        ]
    )
    (row,) = one({"corruption_rates": frame})
    assert row["value"] == -0.2


def test_the_kernel_of_the_counter_example_is_exact():
    k = [1, 3, 8]
    eigenvalues = pd.DataFrame({"width": 0.5, "frequency": k, "by_formula": [0.11, 0.365, 0.003]})
    fast, slow = one({"counterexample": eigenvalues}, frequency="response")
    assert (fast["shows"], slow["shows"]) == (SECOND, FIRST)
    assert pd.isna(fast["low"]) and fast["value"] == pytest.approx(0.11 / 0.365)


def test_a_curve_of_many_turns_decides_by_the_difference_of_amplitudes():
    levels = pd.DataFrame(
        {"turns": [16, 0], "amplitude": [0.75, 0.2], "low": [0.6, 0.1], "high": [0.8, 0.3]}
    )
    (row,) = one({"manifold_levels": levels})
    assert row["shows"] == SECOND
    assert row["value"] == pytest.approx(-0.55) and row["low"] < -0.55 < row["high"] < 0


def test_the_filter_is_asked_at_its_best_cut_off_by_both_attackers():
    low_pass = pd.DataFrame(
        {
            **{"model": "net", "cutoff": [7.0, 9.0], "images": 100, "best": [True, False]},
            **{"unfiltered_attacked": 0.0, "unaware": 0.5, "unaware_low": 0.4, "unaware_high": 0.6},
            **{"aware": 0.01, "aware_low": 0.0, "aware_high": 0.05},
        }
    )
    unaware, aware = one({"low_pass": low_pass})
    assert (unaware["shows"], aware["shows"]) == (FIRST, NEITHER)


def test_questions_of_response_and_of_image_frequency_stand_apart():
    sinusoids = pd.DataFrame(
        {"case": ["equal", "equal"], "spearman": 0.9, "spearman_low": 0.8, "spearman_high": 1.0}
    )
    frame = pd.DataFrame([rates(0.3, 0.1, 0.5)])
    found = disagreements({"sinusoids": sinusoids, "corruption_rates": frame})
    assert found.groupby("question")["frequency"].nunique().tolist() == [1, 1]
    assert found["frequency"].tolist() == ["response", "image"]
