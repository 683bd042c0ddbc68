import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import multinomial, sem, ttest_1samp
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

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


@pytest.mark.parametrize("total", [1, 3, 7, 100, 1000, 12345])
def test_wilson_of_none_begins_at_0_and_of_all_ends_at_1(total):
    """Rounding leaves 3.469e-18 of 0 of 100."""
    assert statistics.wilson(0, total)[0] == 0.0
    assert statistics.wilson(total, total)[1] == 1.0
    assert statistics.wilson(0, total)[1] > 0 and statistics.wilson(total, total)[0] < 1


def test_wilson_is_that_of_statsmodels_to_the_last_bit_without_its_import():
    for total in [1, 2, 3, 7, 10, 100, 997, 12345, 8.5, 333.3]:
        for successes in [0, total / 7, total // 3, total / 2, total - 1, total]:
            for level in (0.9, 0.95, 0.99, 1 - 0.05 / 7):
                low, high = proportion_confint(successes, total, 1 - level, method="wilson")
                found = statistics.wilson(successes, total, level)
                assert successes <= 0 or found[0] == low
                assert successes >= total or found[1] == high
    code = (
        "import sys; from bandlimit import statistics; statistics.wilson(1, 2); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"statsmodels", "scipy.stats"} & set(ran.stdout.split())


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


# Paired rates ------------------------------------------------------------------------------------


def discordant(total):
    """Yield all pairs of counts of cases that only one of two methods calls right."""
    for only_a in range(total + 1):
        for only_b in range(total + 1 - only_a):
            yield only_a, only_b


def test_paired_difference_by_hand():
    """Of 98 cases, 9 only of a and 3 only of b: with one of each added, 0.10 and 0.04 of 100."""
    reach = 1.959964 * ((0.10 + 0.04 - 0.06**2) / 100) ** 0.5
    assert statistics.paired_difference(9, 3, 98) == pytest.approx((0.06 - reach, 0.06 + reach))


@pytest.mark.parametrize("total", [1, 2, 5, 20])
def test_paired_difference_holds_the_estimate_is_mirrored_and_in_bounds(total):
    for only_a, only_b in discordant(total):
        low, high = statistics.paired_difference(only_a, only_b, total)
        assert -1 <= low <= (only_a - only_b) / total <= high <= 1
        assert statistics.paired_difference(only_b, only_a, total) == pytest.approx((-high, -low))
        wider = statistics.paired_difference(only_a, only_b, total, 0.99)
        assert wider[0] <= low and wider[1] >= high and wider != (low, high)


@pytest.mark.parametrize("both", [10, 45, 80])
def test_paired_difference_is_narrower_where_methods_rarely_differ(both):
    """Of 100 cases, they differ on four."""
    paired = statistics.paired_difference(3, 1, 100)
    apart = statistics.difference(both + 3, 100, both + 1, 100)
    assert apart[0] < paired[0] and paired[1] < apart[1]


def test_paired_difference_of_nothing_is_nothing():
    assert statistics.paired_difference(0, 0, 0) == (None, None)
    assert statistics.paired_error([]) is None


@pytest.mark.parametrize("total", [20, 60])
@pytest.mark.parametrize(
    ("p_a", "p_b"), [(0.02, 0.02), (0.1, 0.1), (0.1, 0.02), (0.3, 0.1), (0.45, 0.45), (0.6, 0.2)]
)
def test_paired_difference_covers_the_truth_as_often_as_it_says(p_a, p_b, total):
    """Over all outcomes with their chances, in place of draws."""
    chance = multinomial(total, [p_a, p_b, 1 - p_a - p_b])
    covered = 0.0
    for only_a, only_b in discordant(total):
        low, high = statistics.paired_difference(only_a, only_b, total)
        if low <= p_a - p_b <= high:
            covered += chance.pmf([only_a, only_b, total - only_a - only_b])
    assert covered >= 0.94
    # Where cases are many, it is no wider than it needs to be.
    assert covered <= 0.97 or total * min(p_a, p_b) < 5


def test_differences_that_are_all_zero_leave_an_error_that_shrinks_with_their_number():
    errors = [statistics.paired_error(np.zeros(n)) for n in (1, 10, 100, 1000)]
    assert errors == pytest.approx([2**0.5 / (n + 2) for n in (1, 10, 100, 1000)])
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0


def test_paired_error_agrees_with_the_interval_of_two_rates():
    """The same where no side has more; where one has, the interval is hardly wider."""
    for only_a, only_b in discordant(30):
        cases = np.repeat([1, -1, 0], [only_a, only_b, 30 - only_a - only_b])
        width = 2 * statistics.quantile(0.95) * statistics.paired_error(cases)
        low, high = statistics.paired_difference(only_a, only_b, 30)
        if only_a == only_b:
            assert width == pytest.approx(high - low)
        elif abs(only_a - only_b) <= 15:
            assert 0.97 * (high - low) < width < high - low


def test_paired_error_approaches_that_of_the_mean_and_knows_no_order_and_no_place():
    values = np.random.default_rng(0).normal(0.3, 0.5, 10000)
    error = statistics.paired_error(values)
    assert error == pytest.approx(values.std(ddof=1) / 100, rel=1e-3)
    assert statistics.paired_error(values[::-1] + 5) == pytest.approx(error)


@pytest.mark.parametrize(("level", "value"), [(0.95, 1.959964), (0.99, 2.575829), (0.0, 0.0)])
def test_quantile_by_the_book(level, value):
    assert statistics.quantile(level) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("freedom", "value"), [(2, 4.302653), (10, 2.228139), (1e9, 1.959964)])
def test_quantile_of_student_s_t_by_the_book(freedom, value):
    assert statistics.quantile(0.95, freedom) == pytest.approx(value, abs=1e-6)


def test_networks_and_images_are_both_samples():
    """By hand: the variances of the two means are added."""
    values = np.array([[1.0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]])
    mean, error, low, high = statistics.crossed(values)
    of_images = statistics.paired_error(values.mean(axis=0))
    of_networks = np.std([0.75, 0.5, 0.25], ddof=1) / np.sqrt(3)
    assert mean == 0.5 and error == pytest.approx(np.hypot(of_images, of_networks))
    assert low < mean - 1.96 * error and high > mean + 1.96 * error


def test_what_else_is_a_sample_adds_its_variance_and_freedom():
    values = np.array([[1.0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0]])
    means = values.mean(axis=0)
    sums = values.mean(axis=1), ((means - means.mean()) ** 2).sum(), 4
    _, error, low, high = statistics.crossed(values)
    assert statistics.crossed_sums(*sums) == pytest.approx((0.5, error, low, high))
    mean, wider, below, above = statistics.crossed_sums(*sums, further=[(0.09, 3)])
    assert mean == 0.5 and wider == pytest.approx(np.hypot(error, 0.3))
    assert below < low and above > high
    # Of one that outweighs all others, the degrees of freedom are its own.
    _, error, _, high = statistics.crossed_sums(*sums, further=[(1e6, 3)])
    assert (high - 0.5) / error == pytest.approx(3.182446, rel=1e-4)


def test_student_is_the_interval_of_the_t_test():
    values = np.array([0.3, 0.1, 0.7, 0.4])
    mean, error, low, high = statistics.student(values, level=0.9)
    assert (mean, error) == pytest.approx((0.375, sem(values)))
    assert (low, high) == pytest.approx(ttest_1samp(values, 0).confidence_interval(0.9))
    # Each known to within 0.2, which is part of what they vary by.
    wider = statistics.student(values, 0.2)[1]
    assert wider**2 == pytest.approx((values.var(ddof=1) + 0.04) / 4)


def test_student_needs_two_values_that_are_known():
    assert statistics.student(np.array([0.5]))[0] == 0.5
    for found in ([0.5], [], [0.5, np.nan]):
        assert np.isnan(statistics.student(np.array(found))[1:]).all()
    assert np.isnan(statistics.student(np.array([]))[0])


def test_the_interval_of_networks_and_images_covers():
    """95 of 100 simulated studies or more, with few networks and whatever their share."""
    draws = np.random.default_rng(0)
    for spread in (0.0, 0.1):
        covered = 0
        for _ in range(300):
            ease = draws.normal(0, 1, 60)
            skill = draws.normal(0, spread * 3, 3)
            right = draws.normal(0, 0.5, (3, 60)) + ease + skill[:, None] > 0
            _, _, low, high = statistics.crossed(right.astype(float))
            covered += low <= 0.5 <= high
        assert covered >= 0.93 * 300


def test_one_network_has_an_interval_over_images():
    values = np.array([[1.0, 0, 1, 1, 0, 1]])
    mean, error, low, high = statistics.crossed(values)
    assert error == pytest.approx(statistics.paired_error(values[0])) and low < mean < high
    assert statistics.crossed(np.array([[1.0]])) == (1.0, None, None, None)
    with pytest.raises(ValueError, match="S x N"):
        statistics.crossed(np.zeros((0, 3)))


def test_a_difference_between_sets_of_images_has_the_networks_in_common():
    """Networks that are good at both sets differ less in the difference than in either."""
    skill = np.array([[0.0], [0.3], [0.6]])
    draws = np.random.default_rng(0)
    one, other = ((draws.random((3, 200)) < skill + 0.2).astype(float) for _ in range(2))
    mean, error, low, high = statistics.crossed_difference(one, other)
    assert mean == pytest.approx(one.mean() - other.mean()) and low < mean < high
    apart = np.hypot(statistics.crossed(one)[1], statistics.crossed(other)[1])
    images = np.hypot(*(statistics.paired_error(own.mean(axis=0)) for own in (one, other)))
    seeds = np.std(one.mean(axis=1) - other.mean(axis=1), ddof=1) / np.sqrt(3)
    assert error == pytest.approx(np.hypot(images, seeds)) and error < apart / 2
    with pytest.raises(ValueError, match="same networks"):
        statistics.crossed_difference(one, other[:2])
