"""First passages: the step at which a network has learnt a frequency, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.errors import UserError
from bandlimit.statistics import quantile

Floats = NDArray[np.float64]
Record = dict[str, Any]


def check_frequencies(name: str, frequencies: Sequence[int], samples: int) -> None:
    """Raise a UserError if frequencies don't rise, or samples of one period don't resolve one.

    At half of the number of samples and above, a frequency looks like a lower one.

    Args:
        name: of the simulation.
        frequencies: in periods per interval.
        samples: equidistant ones on the interval, without its end.
    """
    if list(frequencies) != sorted(set(frequencies)):
        raise UserError(
            f"Frequencies of the simulation {name!r} must rise, got {list(frequencies)}."
        )
    if max(frequencies) >= samples / 2:
        raise UserError(
            f"Frequencies of the simulation {name!r} must be below half the number of samples, "
            f"{samples / 2:g}, got {max(frequencies)}."
        )


def first_passages(reached: NDArray[np.bool_], steps: Sequence[int]) -> Floats:
    """Return the first step at which each frequency is learnt, S x K, NaN where it never is.

    Args:
        reached: whether network s has learnt frequency k at a time t, T x S x K.
        steps: of the times, T.
    """
    first = np.asarray(steps, float)[reached.argmax(axis=0)]
    return np.where(reached.any(axis=0), first, np.nan)


def in_order(passages: Floats) -> NDArray[np.bool_]:
    """Return which networks learn each frequency before the next, S.

    A frequency that is never learnt comes after those that are; two such are in no order.

    Args:
        passages: S x K, by rising frequency, NaN where it is never learnt.
    """
    known = np.where(np.isnan(passages), np.inf, passages)
    return np.asarray((known[:, :-1] < known[:, 1:]).all(axis=1))


def rank_correlations(passages: Floats) -> Floats:
    """Return Spearman's rank correlation of frequency and first passage of each network, S.

    Frequencies that are never learnt share the last rank; where all steps are equal, it is 0.

    Args:
        passages: S x K, by rising frequency, NaN where it is never learnt.
    """
    known = np.where(np.isnan(passages), np.inf, passages)
    # Ranks first, since infinity has no correlation.
    ranks = pd.DataFrame(known).rank(axis=1).to_numpy()
    order = np.arange(passages.shape[1])
    return np.array(
        [np.corrcoef(order, own)[0, 1] if np.ptp(own) > 0 else 0.0 for own in ranks], float
    )


def mean_interval(values: Floats) -> tuple[float, float, float]:
    """Return the mean over networks and its 95% interval by Student's t; NaN ends for one."""
    mean = float(values.mean())
    error = standard_error(values)
    if math.isnan(error):
        return mean, math.nan, math.nan
    reach = quantile(0.95, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def standard_error(values: Floats) -> float:
    """Return the standard error of the mean over networks; NaN for one."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def passage_records(
    case: str, frequencies: Sequence[int], threshold: float, passages: Floats, steps: int
) -> list[Record]:
    """Return when each frequency is learnt, a record per frequency.

    Keys: case, frequency, lowest (the lowest frequency), threshold, steps (of the training), step
    (mean over the networks that learnt it, NaN if none did), step_low and step_high (the first and
    the last of them), learnt (how many did), seeds (how many networks), censored and censored_error
    (mean over all networks and its standard error, where those that never learnt it count with the
    whole training, the least that it may be), ordered (share of networks that learn all frequencies
    in their order), spearman with spearman_low and spearman_high (mean rank correlation of
    frequency and step, and its 95% interval by Student's t, within -1 and 1).

    Args:
        case: name.
        frequencies: rising, K.
        threshold: that defines learnt.
        passages: S x K, NaN where it is never learnt.
        steps: of the training.
    """
    mean, low, high = mean_interval(rank_correlations(passages))
    whole = {
        "ordered": float(in_order(passages).mean()),
        "spearman": mean,
        "spearman_low": max(low, -1.0),
        "spearman_high": min(high, 1.0),
    }
    records = []
    for k, own in zip(frequencies, passages.T, strict=True):
        learnt = own[~np.isnan(own)]
        censored = np.where(np.isnan(own), steps, own)
        records.append(
            {
                "case": case,
                "frequency": k,
                "lowest": min(frequencies),
                "threshold": threshold,
                "steps": steps,
                "step": float(learnt.mean()) if len(learnt) else math.nan,
                "step_low": float(learnt.min()) if len(learnt) else math.nan,
                "step_high": float(learnt.max()) if len(learnt) else math.nan,
                "learnt": len(learnt),
                "seeds": len(own),
                "censored": float(censored.mean()),
                "censored_error": standard_error(censored),
                **whole,
            }
        )
    return records


def curve_records(
    case: str, frequencies: Sequence[int], steps: Sequence[int], values: Floats, name: str
) -> list[Record]:
    """Return a value by frequency and step, a record each.

    Keys: case, frequency, step, the name of the value (its mean over networks), low and high (the
    least and the greatest of them).

    Args:
        case: name.
        frequencies: K.
        steps: T.
        values: T x S x K.
        name: of the value.
    """
    mean, low, high = values.mean(axis=1), values.min(axis=1), values.max(axis=1)
    return [
        {
            "case": case,
            "frequency": k,
            "step": step,
            name: float(mean[t, i]),
            "low": float(low[t, i]),
            "high": float(high[t, i]),
        }
        for i, k in enumerate(frequencies)
        for t, step in enumerate(steps)
    ]
