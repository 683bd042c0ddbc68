"""Gradients of the loss at two response frequencies, of a tanh network with small weights.

Source: Xu et al., "Frequency principle: Fourier analysis sheds light on deep neural networks"
(arXiv 1901.06523), Theorems 1 and 2, as the survey prints them. The network is
h(x) = sum_j a_j tanh(w_j x + b_j) on the line, its transform h^(k) the integral of
h(x) exp(-i k x), and the loss at k is L(k) = |h^(k) - f^(k)|^2 / 2.

Theorem 1: draw the weights w from a ball of radius delta; for k_1 < k_2, |dL(k_1)/dtheta| exceeds
|dL(k_2)/dtheta| for every parameter theta but with a probability of at most C exp(-c / delta).
Theorem 2: under gradient descent on L(k_1) + L(k_2), L(k_1) falls, and falls faster than L(k_2),
but with such a probability. The theorems fix a, b and f^; here they are drawn as well, a and b
normal, and |f^| = 1 with a phase of its own at each frequency.

A weight w scales the transform at k by exp(-pi k / (2 |w|)), which leaves the range of doubles for
most draws of small weights. So magnitudes are kept as logarithms.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import NDArray

from bandlimit import keys, statistics
from bandlimit.files.tables import Column, Table

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Bools = NDArray[np.bool_]

SMALL = 1.0
"""Greatest radius that the law of the theorems, which is one of small weights, is fitted to."""

REPEATS = 200
"""Repetitions of the counts from which the interval of the deviances comes."""

FITTED = (
    *("rate", "rate_low", "rate_high", "log_constant"),
    *("deviance_exponential", "deviance_power"),
    *("deviance_ratio", "deviance_ratio_low", "deviance_ratio_high"),
)
"""Columns of the fit."""


@dataclass(frozen=True)
class Draws:
    """Networks and their targets, each a draw.

    Attributes:
        weights: w, shape (draws, neurons), uniform in a ball.
        biases: b, as weights.
        outer: a, as weights.
        phases: of the target at each frequency, shape (frequencies, draws), in radians.
    """

    weights: Floats
    biases: Floats
    outer: Floats
    phases: Floats


def _random(seed: int, *name: str | int) -> np.random.Generator:
    return np.random.default_rng(keys.derive(seed, "gradients", *name))


def draw(seed: int, radius: float, draws: int, neurons: int, frequencies: int) -> Draws:
    """Return networks whose weights are uniform in the ball of a radius around 0.

    Args:
        seed: keys the draw, together with the radius.
        radius: delta, above 0.
        draws: number of networks.
        neurons: dimension of the ball.
        frequencies: number of frequencies that the target has a phase for.
    """
    rng = _random(seed, repr(float(radius)))
    directions = rng.standard_normal((draws, neurons))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = radius * rng.random((draws, 1)) ** (1 / neurons)
    return Draws(
        weights=directions * lengths,
        biases=rng.standard_normal((draws, neurons)),
        outer=rng.standard_normal((draws, neurons)),
        phases=2 * math.pi * rng.random((frequencies, draws)),
    )


def _log_sinh(x: Floats) -> Floats:
    """Return log sinh(x) of x > 0, whatever its size."""
    return np.asarray(x + np.log(-np.expm1(-2 * x)) - math.log(2))


def transform(
    weights: Floats, biases: Floats, outer: Floats, frequency: float
) -> tuple[Floats, Complexes]:
    """Return what each neuron adds to h^(k): the logarithm of its magnitude, and its phase.

    In closed form, a neuron's part is (2 pi i a / |w|) exp(i b k / w) / (exp(-pi k / (2 w)) -
    exp(pi k / (2 w))), where the sign of w goes with that of the difference of exponentials.

    Args:
        weights: w, any shape, none 0.
        biases: b, as weights.
        outer: a, as weights.
        frequency: k, above 0, in radians per unit of x.

    Returns:
        log |part|, and part / |part| of modulus 1, both as weights.
    """
    log_size = (
        np.log(math.pi * np.abs(outer))
        - np.log(np.abs(weights))
        - _log_sinh(math.pi * frequency / (2 * np.abs(weights)))
    )
    sign = -np.sign(outer) * np.sign(weights)
    return log_size, 1j * sign * np.exp(1j * biases * frequency / weights)


def log_gradients(nets: Draws, frequency: float, phases: Floats) -> tuple[Floats, Floats]:
    """Return log |dL(k) / dtheta| and the sign of dL(k) / dtheta, of every parameter.

    Args:
        nets: the networks.
        frequency: k, above 0.
        phases: of f^(k), shape (draws,).

    Returns:
        Both of shape (draws, 3 x neurons): by the weights, by the biases, by the outer weights. A
        gradient of 0 has the logarithm -inf.
    """
    w, b = nets.weights, nets.biases
    log_size, phase = transform(w, b, nets.outer, frequency)
    error = (np.exp(log_size) * phase).sum(axis=1) - np.exp(1j * phases)
    reach = math.pi * frequency / (2 * np.abs(w))
    # Logarithmic derivatives of a neuron's part; coth(reach) is 1 / tanh(reach).
    by_weight = (-1 + reach / np.tanh(reach) - 1j * b * frequency / w) / w
    by_bias = 1j * frequency / w
    by_outer = 1 / nets.outer
    found = np.concatenate(
        [(error.conj()[:, None] * phase * part).real for part in (by_weight, by_bias, by_outer)],
        axis=1,
    )
    with np.errstate(divide="ignore"):
        return np.log(np.abs(found)) + np.tile(log_size, 3), np.sign(found)


def leads(low: tuple[Floats, Floats], high: tuple[Floats, Floats]) -> tuple[Bools, Bools]:
    """Return whether the lower frequency leads as each theorem says, draw by draw.

    Args:
        low: `log_gradients` at the lower frequency.
        high: the same at the higher one.

    Returns:
        Of Theorem 1, whether every gradient is greater at the lower frequency; of Theorem 2,
        whether its loss falls, and at least as fast, under gradient descent on the sum of both.
    """
    every = np.all(low[0] > high[0], axis=1)
    # In units of the greatest gradient of the draw, in which products don't vanish.
    greatest = np.maximum(low[0].max(axis=1), high[0].max(axis=1))[:, None]
    a, b = (sign * np.exp(size - greatest) for size, sign in (low, high))
    both = (a * b).sum(axis=1)
    change_low, change_high = -(a * a).sum(axis=1) - both, -(b * b).sum(axis=1) - both
    faster: Bools = (change_low <= 0) & (change_low <= change_high)
    return every, faster


def simulate(
    *,
    deltas: Sequence[float],
    frequencies: Sequence[Sequence[float]],
    neurons: int,
    draws: int,
    seeds: int,
    seed: int,
) -> pd.DataFrame:
    """Return how often the lower frequency leads, a row per theorem, pair and radius.

    Args:
        deltas: radii of the balls.
        frequencies: pairs of a lower and a higher frequency.
        neurons: hidden units, the dimension of the ball.
        draws: networks per radius and replicate.
        seeds: replicates.
        seed: keys all draws.

    Columns: theorem (1 or 2), frequencies ('1 and 2'), low_frequency, high_frequency, delta,
    smallest (whether it is the smallest of them), draws (all replicates), seeds, share (in which
    the lower frequency leads) with share_low and share_high (95% Wilson interval), share_least and
    share_greatest (of the replicates), failures (draws in which it does not lead); and of the fit
    log(failures / draws) = log_constant - rate / delta over radii up to `SMALL`: rate with rate_low
    and rate_high (95%), log_constant, deviance_exponential, deviance_power, that of a power of
    delta in its place, and deviance_ratio, the first over the second, with _low and _high (95%).
    The columns of the fit are empty where fewer than three radii have failures.
    """
    pairs = [(min(pair), max(pair)) for pair in frequencies]
    used = sorted({k for pair in pairs for k in pair})
    counts: dict[tuple[int, tuple[float, float], float], list[int]] = {}
    for delta, replicate in itertools.product(deltas, range(seeds)):
        nets = draw(keys.derive(seed, "replicate", replicate), delta, draws, neurons, len(used))
        found = {
            k: log_gradients(nets, k, phases) for k, phases in zip(used, nets.phases, strict=True)
        }
        for low, high in pairs:
            for theorem, draws_led in enumerate(leads(found[low], found[high]), start=1):
                counts.setdefault((theorem, (low, high), delta), []).append(int(draws_led.sum()))
    rows = []
    for (theorem, pair, delta), led in counts.items():
        total = draws * seeds
        share_low, share_high = statistics.wilson(sum(led), total)
        rows.append(
            {
                "theorem": theorem,
                "frequencies": f"{pair[0]:g} and {pair[1]:g}",
                "low_frequency": float(pair[0]),
                "high_frequency": float(pair[1]),
                "delta": float(delta),
                "smallest": delta == min(deltas),
                "draws": total,
                "seeds": seeds,
                "share": sum(led) / total,
                "share_low": share_low,
                "share_high": share_high,
                "share_least": min(led) / draws,
                "share_greatest": max(led) / draws,
                "failures": total - sum(led),
            }
        )
    frame = pd.DataFrame(rows).sort_values(
        ["theorem", "low_frequency", "high_frequency", "delta"],
        ascending=[True, True, True, False],
        ignore_index=True,
    )
    fits = {
        (theorem, pair): fit(part, _random(seed, "fit", int(theorem), str(pair)))
        for (theorem, pair), part in frame.groupby(["theorem", "frequencies"], sort=False)
    }
    fitted = pd.DataFrame(
        [fits[key] for key in zip(frame["theorem"], frame["frequencies"], strict=True)]
    )
    return frame.join(fitted)


def fit(rows: pd.DataFrame, rng: np.random.Generator) -> dict[str, float | None]:
    """Return the fit of failures by exp(-c / delta), and how well it does against a power of delta.

    Failures are counts, Poisson with a logarithmic link and the number of draws as exposure. The
    error of c is widened by the dispersion that is found, since the law is one of the limit.

    Args:
        rows: delta, failures and draws, of one pair of frequencies.
        rng: draws the counts of `REPEATS` repetitions, which say how sure the deviances are.

    Returns:
        The columns of the fit, as `simulate` names them; None where fewer than three radii have
        failures.
    """
    small = rows[rows["delta"] <= SMALL]
    failures = small["failures"].to_numpy(float)
    if (failures > 0).sum() < 3:
        return dict.fromkeys(FITTED)
    exposure = small["draws"].to_numpy(float)
    delta = small["delta"].to_numpy(float)
    best, power = (_law(failures, exposure, by) for by in (1 / delta, np.log(delta)))
    repeated = rng.poisson(failures, (REPEATS, len(failures))).astype(float)
    ratios = [
        _law(counts, exposure, 1 / delta).deviance / _law(counts, exposure, np.log(delta)).deviance
        for counts in repeated
        if (counts > 0).sum() >= 3
    ]
    low, high = np.quantile(ratios, [0.025, 0.975])
    # A dispersion below that of counts would be luck.
    reach = (
        statistics.quantile(0.95)
        * best.bse[1]
        * math.sqrt(max(best.pearson_chi2 / best.df_resid, 1))
    )
    rate = -float(best.params[1])
    return {
        "rate": rate,
        "rate_low": rate - reach,
        "rate_high": rate + reach,
        "log_constant": float(best.params[0]),
        "deviance_exponential": float(best.deviance),
        "deviance_power": float(power.deviance),
        "deviance_ratio": float(best.deviance / power.deviance),
        "deviance_ratio_low": float(low),
        "deviance_ratio_high": float(high),
    }


def _law(failures: Floats, exposure: Floats, by: Floats) -> Any:
    """Return the Poisson regression of counts on a constant and one variable."""
    model = sm.GLM(failures, sm.add_constant(by), family=sm.families.Poisson(), exposure=exposure)
    with warnings.catch_warnings():
        # Of a law that describes the counts badly.
        warnings.simplefilter("ignore")
        return model.fit()


COLUMNS = {
    "theorem": Column("Theorem"),
    "frequencies": Column("Frequencies"),
    "delta": Column("Radius delta", 2),
    "share": Column("Lower one leads", 4, interval=("share_low", "share_high")),
    "share_least": Column("Least of the replicates", 4),
    "share_greatest": Column("Greatest", 4),
    "failures": Column("Failures"),
    "draws": Column("Draws"),
    "rate": Column("c", 2, interval=("rate_low", "rate_high")),
    "deviance_ratio": Column(
        "Deviance / that of a power", 3, interval=("deviance_ratio_low", "deviance_ratio_high")
    ),
}


def table(**settings: Any) -> Table:
    """Return the table of the simulation; its settings are those of `simulate`."""
    return Table(
        simulate(**settings),
        COLUMNS,
        "Theorems 1 and 2 of Xu et al.: gradients of the loss at two response frequencies",
        "Tanh networks of one hidden layer whose weights are uniform in a ball of radius delta. "
        "Theorem 1: every parameter has the greater gradient at the lower frequency. Theorem 2: "
        "the loss at the lower frequency falls, and falls faster. In brackets 95% intervals, of "
        f"shares by Wilson. c is fitted to radii up to {SMALL:g}; the last column says how much "
        "nearer the law of the theorems comes to the failures than a power of delta.",
    )
