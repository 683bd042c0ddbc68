import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from bandlimit import statistics


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), Table I
        (15, 148, 0.0624, 0.1605),  # Newcombe (1998), Table I
        (1, 29, 0.0061, 0.1718),  # Newcombe (1998), Table I
    ],
)
def test_wilson_by_the_book(successes, total, low, high):
    assert statistics.wilson(successes, total) == pytest.approx((low, high), abs=6e-5)


def test_wilson_of_a_mean_over_draws_lies_between_its_neighbours():
    low, high = statistics.wilson(7.5, 10)
    assert statistics.wilson(7, 10)[0] < low < statistics.wilson(8, 10)[0]
    assert statistics.wilson(7, 10)[1] < high < statistics.wilson(8, 10)[1]


def test_intervals_stay_in_bounds_hold_the_rate_and_widen_with_the_level():
    for total in range(1, 30):
        for successes in range(total + 1):
            low, high = statistics.wilson(successes, total)
            assert 0 <= low <= successes / total + 1e-12
            assert successes / total - 1e-12 <= high <= 1
            wider = statistics.wilson(successes, total, 0.99)
            assert wider[0] <= low + 1e-12 and wider[1] >= high - 1e-12 and wider != (low, high)


def test_intervals_of_nothing_are_nothing():
    assert statistics.wilson(0, 0) == (None, None)
    assert statistics.difference(1, 2, 0, 0) == (None, None)
    assert statistics.difference(0, 0, 1, 2) == (None, None)


# Newcombe (1998), "Interval estimation for the difference between independent proportions",
# Table II, method 10.
@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ],
)
def test_difference_by_the_book(counts, low, high):
    assert statistics.difference(*counts) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_difference_agrees_with_the_library(level):
    expected = confint_proportions_2indep(
        40, 61, 25, 58, method="newcomb", compare="diff", alpha=1 - level
    )
    assert statistics.difference(40, 61, 25, 58, level) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand():
    """Of 7 images on which they differ, one method has 6: two-sided, 2 (1 + 7) / 2^7."""
    first = [True] * 6 + [False] + [True] * 5 + [False] * 3
    second = [False] * 6 + [True] + [True] * 5 + [False] * 3
    assert statistics.mcnemar(first, second) == pytest.approx(16 / 128)
    assert statistics.mcnemar(second, first) == pytest.approx(16 / 128)


def test_mcnemar_without_a_difference():
    assert statistics.mcnemar([True, False], [True, False]) == 1.0
    assert statistics.mcnemar([], []) == 1.0


def test_mcnemar_needs_the_same_cases():
    with pytest.raises(ValueError, match="the same cases"):
        statistics.mcnemar([True], [True, False])


def test_holm_by_the_book():
    """Times 4, 3, 2 and 1 from the smallest on, never falling (Holm, 1979)."""
    adjusted = statistics.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_skips_what_was_not_tested():
    assert statistics.holm([None, 0.02, float("nan"), 0.5]) == [
        None,
        pytest.approx(0.04),
        None,
        pytest.approx(0.5),
    ]
    assert statistics.holm([]) == []
    assert statistics.holm([None]) == [None]
