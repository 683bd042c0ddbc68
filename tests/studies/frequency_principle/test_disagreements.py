"""Which side of each disagreement is right, by the interval of what was measured."""

import numpy as np
import pandas as pd
import pytest

from bandlimit.studies.frequency_principle.disagreements import (
    COLUMNS,
    FIRST,
    NEITHER,
    OPEN,
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
    def shown(gain, low, high):
        values = {"gain": [gain, 0], "gain_low": [low, 0], "gain_high": [high, 0]}
        (row,) = one({"manifold_levels": pd.DataFrame({"turns": [16, 0], **values})})
        assert (row["value"], row["first"][:7], row["second"][:2]) == (gain, "Rahaman", "Xu")
        return row["shows"]

    assert shown(0.55, 0.5, 0.6) == FIRST
    # Turns that add nothing, or take away, leave high frequencies as hard as they are.
    assert shown(0.01, -0.02, 0.04) == shown(-0.5, -0.6, -0.4) == SECOND
    assert shown(0.1, 0.05, 0.15) == NEITHER
    # One network alone has no interval.
    assert shown(0.55, np.nan, np.nan) == OPEN


@pytest.mark.parametrize(
    ("value", "low", "high", "who"),
    [
        (2, 1.8, 2.2, FIRST),
        (1, 0.9, 1.1, SECOND),
        (1.5, 1.4, 1.6, NEITHER),
        (0.7, 0.6, 0.8, NEITHER),
        (0.4, 0.3, 0.5, "neither: at high ones"),
    ],
)
def test_a_spectrum_is_uniform_between_two_numbers(value, low, high, who):
    facts = {"main": True, "checkpoint": "end", "perturbation": "pgd_l2", "training": "natural"}
    lifts = {"model": "net", "lift": value, "lift_low": low, "lift_high": high}
    (row,) = one({"lifts": pd.DataFrame([facts | lifts])})
    assert row["shows"] == who and (row["least"], row["between"]) == (0.67, 1.5)


def test_the_filter_is_asked_at_its_best_cut_off_by_both_attackers():
    low_pass = pd.DataFrame(
        {
            **{"model": "net", "cutoff": [7.0, 9.0], "images": 100, "best": [True, False]},
            **{"unfiltered_attacked": 0.0, "unaware": 0.5, "unaware_low": 0.4, "unaware_high": 0.6},
            **{"aware": 0.01, "aware_low": 0.0, "aware_high": 0.05},
        }
    )
    unaware, aware = one({"low_pass": low_pass})
    assert (unaware["value"], aware["value"]) == (0.5, 0.01)
    # The cut-off was chosen on the images that are counted.
    assert "best on the same images" in unaware["measure"]
    for row in (unaware, aware):
        assert row["shows"] == OPEN and pd.isna(row["low"]) and pd.isna(row["high"])


def test_questions_of_response_and_of_image_frequency_stand_apart():
    sinusoids = pd.DataFrame(
        {"case": ["equal", "equal"], "spearman": 0.9, "spearman_low": 0.8, "spearman_high": 1.0}
    )
    frame = pd.DataFrame([rates(0.3, 0.1, 0.5)])
    found = disagreements({"sinusoids": sinusoids, "corruption_rates": frame})
    assert found.groupby("question")["frequency"].nunique().tolist() == [1, 1]
    assert found["frequency"].tolist() == ["response", "image"]
