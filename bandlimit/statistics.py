"""Intervals of rates and of their differences, exact paired tests, correction for many tests.

Nearly everything goes through scipy and statsmodels; what is here says which variant is meant.
They take longer to import than most jobs take that read a table, so functions import them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Answers = Sequence[bool] | NDArray[np.bool_]


def wilson(
    successes: float, total: float, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the Wilson interval of a rate, (None, None) if nothing was counted.

    Args:
        successes: 0 to total; a mean over draws need not be whole.
        total: number of independent cases.
        level: coverage, in (0, 1).
    """
    from scipy.special import ndtri

    if total == 0:
        return None, None
    # As statsmodels' `proportion_confint` computes it, to the last bit: its import takes a second.
    count, cases = np.asarray(successes), np.asarray(total)
    rate = count / cases
    reach = -ndtri((1 - level) / 2)
    square = reach**2
    scale = 1 + square / cases
    centre = (rate + square / (2 * cases)) / scale
    spread = reach * np.sqrt(rate * (1.0 - rate) / cases + square / (4.0 * cases**2)) / scale
    low, high = np.clip([centre - spread, centre + spread], 0, 1)
    # Its ends are 0 of none and 1 of all; rounding leaves some 1e-18.
    return 0.0 if successes <= 0 else float(low), 1.0 if successes >= total else float(high)


def mcnemar(correct_a: Answers, correct_b: Answers) -> float:
    """Return the two-sided p-value of McNemar's exact test of two methods on the same cases.

    It is 1 where the methods never differ. Cases are independent, so that a method that answers a
    case several times, as a defence that draws, needs one answer of it first.

    Args:
        correct_a: whether the first method is right on each case.
        correct_b: whether the second is, in the same order.

    Raises:
        ValueError: the numbers of cases differ.
    """
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"methods are compared on the same cases, got {a.shape} and {b.shape}")
    # Cases on which both are right or both wrong don't count.
    discordant = [[0, int((a & ~b).sum())], [int((~a & b).sum()), 0]]
    return float(statsmodels_mcnemar(discordant, exact=True).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number by Holm's method; None and nan stay None.

    An adjusted value below 0.05 says that the chance of any false alarm in the family is below
    0.05, whether the tests depend on each other or not.
    """
    from statsmodels.stats.multitest import multipletests

    known = [i for i, p in enumerate(p_values) if p is not None and not math.isnan(p)]
    adjusted: list[float | None] = [None] * len(p_values)
    if known:
        values = multipletests([p_values[i] for i in known], method="holm")[1]
        for i, value in zip(known, values, strict=True):
            adjusted[i] = float(value)
    return adjusted


def square_and_add(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Return the interval of a - b from the intervals of both (Newcombe's square and add).

    It takes a and b as independent; where both were measured on the same cases and agree more often
    than by chance, it is wider than it needs to be.
    """
    low = a - b - math.hypot(a - of_a[0], of_b[1] - b)
    high = a - b + math.hypot(of_a[1] - a, b - of_b[0])
    return low, high


def difference(
    successes_a: float, total_a: float, successes_b: float, total_b: float, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return Newcombe's interval of the difference of two rates, a - b.

    It is his hybrid of two Wilson intervals, without continuity correction; (None, None) if nothing
    was counted on one side.
    """
    low_a, high_a = wilson(successes_a, total_a, level)
    low_b, high_b = wilson(successes_b, total_b, level)
    if low_a is None or high_a is None or low_b is None or high_b is None:
        return None, None
    return square_and_add(
        successes_a / total_a, (low_a, high_a), successes_b / total_b, (low_b, high_b)
    )


def paired_difference(
    only_a: float, only_b: float, total: float, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the interval of the difference of two rates of the same cases, a - b.

    It is Bonett and Price's adjusted Wald interval (2012, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data"), within [-1, 1]; (None, None) if
    nothing was counted. Cases on which both agree say that the rates are close, which the interval
    of two independent rates does not know.

    Args:
        only_a: cases that only the first calls right; a mean over draws need not be whole.
        only_b: cases that only the second does.
        total: number of independent cases.
        level: coverage, in (0, 1).
    """
    if total == 0:
        return None, None
    a, b = (only_a + 1) / (total + 2), (only_b + 1) / (total + 2)
    reach = quantile(level) * math.sqrt((a + b - (a - b) ** 2) / (total + 2))
    return max(a - b - reach, -1.0), min(a - b + reach, 1.0)


def paired_error(
    differences: Sequence[float] | NDArray[np.float64], weight: float = 1.0
) -> float | None:
    """Return the standard error of a mean of paired differences, None of none.

    A case of +1 and one of -1 are added, as in `paired_difference`, so that cases that all agree
    leave an error that shrinks with their number, not none.

    Args:
        differences: of each case.
        weight: the most that a case may differ; above 1 where it stands for several, since one of
            the two sets that are compared has few cases.
    """
    values = np.asarray(differences, dtype=float)
    if not values.size:
        return None
    centred = values - values.mean()
    return float(np.sqrt((centred**2).sum() + 2 * weight**2) / (values.size + 2))


def crossed(
    values: NDArray[np.float64], level: float = 0.95
) -> tuple[float, float | None, float | None, float | None]:
    """Return mean, standard error, and interval of what several networks say of the same images.

    Both are samples: of the networks that a recipe might give, and of the images. The variance is
    that of the mean over networks as images vary, and that of the mean over images as networks do,
    added up, which is on the safe side; degrees of freedom are Satterthwaite's. As in
    `paired_error` a case of +1 and one of -1 are added to the images. With one network it is an
    interval for that one. (mean, None, None, None) of one image and no other network.

    Args:
        values: S x N, of S networks on N images, such as 1 where right, or differences of those.
        level: coverage, in (0, 1).

    Raises:
        ValueError: there are no values, or they are not S x N.
    """
    return _crossed([np.asarray(values, dtype=float)], level)


def crossed_difference(
    values: NDArray[np.float64], other: NDArray[np.float64], level: float = 0.95
) -> tuple[float, float | None, float | None, float | None]:
    """Return `crossed` of what the same networks say of some images less what they say of others.

    Images differ, so that the variances of both add up; the networks are the same, so that theirs
    is that of their differences.

    Args:
        values: S x N.
        other: S x M, of the same networks.
        level: coverage, in (0, 1).

    Raises:
        ValueError: there are no values, or the numbers of networks differ.
    """
    a, b = np.asarray(values, dtype=float), np.asarray(other, dtype=float)
    if len(a) != len(b):
        raise ValueError(f"the same networks are asked, got {len(a)} and {len(b)}")
    return _crossed([a, -b], level)


def crossed_sums(
    each: NDArray[np.float64],
    squares: float,
    count: int,
    level: float = 0.95,
    further: Sequence[tuple[float, float]] = (),
) -> tuple[float, float | None, float | None, float | None]:
    """Return `crossed` of values that were too many to be held, of which sums were kept.

    Args:
        each: mean over the images of each network, S.
        squares: sum over the images of the squared distance of their mean over networks from the
            mean of these.
        count: N, images.
        level: coverage, in (0, 1).
        further: of all else that is a sample, the variance that it adds to the mean, and the
            degrees of freedom of that.

    Raises:
        ValueError: there are no images, or no networks.
    """
    if not each.size or count < 1:
        raise ValueError(f"values are S x N, at least 1 x 1, got {(each.size, count)}")
    # As `paired_error`.
    of_images = math.sqrt(squares + 2) / (count + 2)
    return _of_parts(each, [*further, (of_images**2, count - 1)], level)


def _crossed(
    sets: Sequence[NDArray[np.float64]], level: float
) -> tuple[float, float | None, float | None, float | None]:
    """Return the sum of the means of sets of images, S x N each, with its error and interval."""
    for values in sets:
        if values.ndim != 2 or not values.size:
            raise ValueError(f"values are S x N, at least 1 x 1, got {values.shape}")
    each = np.sum([values.mean(axis=1) for values in sets], axis=0)
    parts = []
    for values in sets:
        of_images = paired_error(values.mean(axis=0))
        assert of_images is not None
        parts.append((of_images**2, values.shape[1] - 1))
    return _of_parts(each, parts, level)


def _of_parts(
    each: NDArray[np.float64], parts: list[tuple[float, float]], level: float
) -> tuple[float, float | None, float | None, float | None]:
    """Return mean, error and interval of the means of networks.

    Args:
        each: S means.
        parts: variances and degrees of freedom of all but the networks.
        level: coverage, in (0, 1).
    """
    seeds = len(each)
    if seeds > 1:
        parts.append((float(each.var(ddof=1)) / seeds, seeds - 1))
    mean = float(each.mean())
    variance = sum(part for part, _ in parts)
    spent = sum(part**2 / free for part, free in parts if free)
    if not spent:
        return mean, None, None, None
    error = math.sqrt(variance)
    reach = _student_quantile((1 + level) / 2, variance**2 / spent) * error
    return mean, error, mean - reach, mean + reach


def student(
    values: NDArray[np.float64], width: float = 0.0, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Return mean, standard error, and interval of the mean by Student's t.

    Error and interval of a single value are nan; all are where there is none, or one is nan.

    Args:
        values: of independent cases.
        width: standard deviation with which each is known; it adds to theirs.
        level: coverage, in (0, 1).
    """
    if not values.size:
        return math.nan, math.nan, math.nan, math.nan
    mean = float(values.mean())
    if values.size < 2:
        return mean, math.nan, math.nan, math.nan
    error = math.hypot(float(values.std(ddof=1)), width) / math.sqrt(values.size)
    reach = _student_quantile((1 + level) / 2, values.size - 1) * error
    return mean, error, mean - reach, mean + reach


def quantile(level: float, freedom: float | None = None) -> float:
    """Return how many standard errors an interval of a normal value reaches to each side.

    Args:
        level: coverage, in (0, 1).
        freedom: degrees of freedom of the error, above 0, for Student's t; None if it is known.
    """
    from scipy.special import ndtri

    below = (1 + level) / 2
    return float(ndtri(below)) if freedom is None else _student_quantile(below, freedom)


def _student_quantile(share: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
