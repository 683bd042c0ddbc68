"""Theorems 1 to 4 of "A frequency domain analysis of gradient-based adversarial examples".

Each is simulated on networks that meet its premises, and its formulas are compared with what
happens; then networks are trained for real, on one sample and on many.

The setting is the document's: f(x) = sum_r a_r sigma(w_r . x) with a fixed, the loss (y - f)^2 / 2,
and inputs whose spectrum obeys a power law (section 2.1). Signals have one dimension of d points,
float64. Below, g is the gradient of f by x, G and X are the transforms of g and x, S is the sum of
composite learning rates eta * dl/df * ||a'||^2, and tau is the LFC ratio, the share of energy at
frequencies -k_c to k_c.

The document's sums from k = 0 on count each pair of frequencies once, and frequency 0 once too,
whereas its ratio (section 2.1) counts both of a pair; here all sums count both. Assumption 1 bounds
|dl/df| from below, which lets S grow for ever. But a network that learns its sample stops: with
frozen ReLU patterns S ends at |f - y| / ||x||^2, and what the theorems say of large S may never be
reached. Assumption 3 has 0 <= sigma'' <= gamma; its example has gamma = 4 for Softplus, where the
supremum is 1/4 (perhaps a fraction that was lost), and ReLU has no second derivative at 0.

The functions `..._records` return lists of flat dicts, one dict per row of a table. A value that
belongs to several rows, such as a slope over all of them, stands in each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from bandlimit import keys, statistics

DIMENSION = 101
"""Points of a signal, odd as in the document (section 2.1)."""

CUTOFF = 5
"""k_c, the highest of the low frequencies; with the power law below, condition (2) holds."""

WIDTH = 128
"""Hidden units, m."""

UNIFORM = (2 * CUTOFF + 1) / DIMENSION
"""LFC ratio of a flat spectrum."""

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Bools = NDArray[np.bool_]
Record = dict[str, Any]


def _random(seed: int, *name: str | int) -> np.random.Generator:
    return np.random.default_rng(keys.derive(seed, "theorems", *name))


# Spectra -----------------------------------------------------------------------------------------


def low_frequencies(dimension: int = DIMENSION, cutoff: int = CUTOFF) -> Bools:
    """Return which frequencies are low, -cutoff to cutoff, shape (dimension,), in order of the FFT.

    Source: section 2.1, where k_c is in (0, (d - 1) / 2).

    Raises:
        ValueError: the cut-off is not above 0 and below (dimension - 1) / 2.
    """
    if not 0 < cutoff < (dimension - 1) / 2:
        raise ValueError(
            f"a cut-off of {dimension} frequencies is above 0 and below {(dimension - 1) / 2:g}, "
            f"got {cutoff}"
        )
    return np.abs(np.fft.fftfreq(dimension, 1 / dimension)) <= cutoff + 0.5


def lfc_ratio(signals: ArrayLike, cutoff: int = CUTOFF) -> Floats:
    """Return the share of the energy of signals at low frequencies, tau, in [0, 1].

    Source: section 2.1, tau(g in S_l). A signal of 0 has no ratio, which is NaN.

    Args:
        signals: real, shape (..., d).
        cutoff: k_c.

    Returns:
        Shape (...).
    """
    values = np.asarray(signals, float)
    power = np.abs(np.fft.fft(values)) ** 2
    low = power[..., low_frequencies(values.shape[-1], cutoff)].sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(low / power.sum(axis=-1))


def power_law_signals(
    rng: np.random.Generator,
    count: int,
    dimension: int = DIMENSION,
    exponent: float = 1.0,
    constant: float = 1.0,
) -> Floats:
    """Return random signals with |X[k]| = c k^(-exponent), of unit norm, shape (count, dimension).

    Phases are uniform; X[0] = c * constant is positive, as the mean of an image is. The factor c
    makes ||x|| = 1.

    Source: section 2.1, the power law before condition (2).

    Raises:
        ValueError: the dimension is even.
    """
    if dimension % 2 == 0:
        raise ValueError(f"signals have an odd number of points, got {dimension}")
    half = dimension // 2
    phases = np.exp(2j * math.pi * rng.random((count, half)))
    spectra = np.concatenate(
        [np.full((count, 1), constant), np.arange(1, half + 1) ** -exponent * phases], axis=1
    )
    signals = np.fft.irfft(spectra, dimension)
    return np.asarray(signals / np.linalg.norm(signals, axis=-1, keepdims=True))


# Networks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """An activation function: its value and its derivative, by pre-activation."""

    name: str
    value: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]


RELU = Activation("relu", lambda p: np.maximum(p, 0.0), lambda p: (p > 0).astype(np.float64))
SOFTPLUS = Activation("softplus", lambda p: np.logaddexp(0.0, p), lambda p: special.expit(p))


@dataclass(frozen=True)
class Networks:
    """Random two-layer networks, each with one sample of its own.

    While a network is trained on one sample alone, each w_r moves along x only, so that the
    pre-activations p_r = w_r . x are all of its state.

    Source: eq. (1); Assumption 4.

    Attributes:
        x: inputs, shape (N, d), unit norm.
        weights: w at the start, shape (N, m, d).
        outer: a, shape (N, m), +-1 / sqrt(m), so that f does not depend on the width; fixed.
        labels: y, shape (N,), -1 or 1.
    """

    x: Floats
    weights: Floats
    outer: Floats
    labels: Floats

    @property
    def pre_activations(self) -> Floats:
        """Return w_r . x at the start, shape (N, m)."""
        return np.matmul(self.weights, self.x[:, :, None])[:, :, 0]

    def outputs(self, p: Floats, activation: Activation) -> Floats:
        """Return f, shape (N,)."""
        return np.asarray((self.outer * activation.value(p)).sum(axis=1))

    def gradients(self, p: Floats, activation: Activation, start: Floats) -> Floats:
        """Return the gradients of f by the input, shape (N, d).

        Args:
            p: pre-activations, shape (N, m).
            activation: of the hidden units.
            start: pre-activations at the start, where w_r was `weights`.
        """
        slopes = self.outer * activation.derivative(p)
        moved = (slopes * (p - start)).sum(axis=1, keepdims=True)
        return np.matmul(slopes[:, None, :], self.weights)[:, 0] + moved * self.x

    def step(self, p: Floats, activation: Activation, eta: float) -> Floats:
        """Return the pre-activations after a step of gradient descent, eq. (4), shape (N, m).

        As ||x|| = 1, w_r moves by as much of x as p_r changes.
        """
        error = self.outputs(p, activation) - self.labels
        return p - eta * error[:, None] * self.outer * activation.derivative(p)


def draw_networks(
    seed: int,
    *name: str | int,
    count: int,
    dimension: int = DIMENSION,
    width: int = WIDTH,
) -> Networks:
    """Return random networks: weights N(0, 1/d), signs and labels fair coins, power-law inputs.

    Args:
        seed: keys all draws.
        name: of the draw.
        count: how many, N.
        dimension: d.
        width: m.
    """
    rng = _random(seed, "networks", *name)
    return Networks(
        x=power_law_signals(rng, count, dimension),
        weights=rng.standard_normal((count, width, dimension)) / math.sqrt(dimension),
        outer=rng.choice([-1.0, 1.0], (count, width)) / math.sqrt(width),
        labels=rng.choice([-1.0, 1.0], count),
    )


def _batches(seed: int, *name: str | int, count: int, size: int = 200) -> Iterator[Networks]:
    """Yield `count` networks, so many at a time that their weights stay small."""
    for first in range(0, count, size):
        yield draw_networks(seed, *name, first, count=min(size, count - first))


# The frozen model --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    """The LFC ratio of g - S x as S grows: training on one sample with frozen ReLU patterns.

    The energies are squares: L(S) = L + S Dl + S^2 L_x, with Dl = -2 Re <G, X> over low
    frequencies, and the same for H. Arrays have one entry per network.

    Source: eqs. (5), (8) and (13) for ReLU, where eta_r = 0. Softplus multiplies G by 1 - eta_r,
    see `theorem_1_records`.

    Attributes:
        low: L, energy of g at low frequencies.
        high: H, at the others.
        change_low: Dl, the document's delta tau_l.
        change_high: Dh.
        input_low: L_x.
        input_high: H_x.
    """

    low: Floats
    high: Floats
    change_low: Floats
    change_high: Floats
    input_low: Floats
    input_high: Floats

    @classmethod
    def of(cls, g: ArrayLike, x: ArrayLike, cutoff: int = CUTOFF, pairs: bool = True) -> Frozen:
        """Return the model of gradients g and inputs x, shapes (..., d).

        Args:
            g: gradients at S = 0.
            x: inputs.
            cutoff: k_c.
            pairs: whether both frequencies of a pair count; False sums from k = 0 on, as the
                document's formulas do.
        """
        of_g, of_x = np.fft.fft(np.asarray(g, float)), np.fft.fft(np.asarray(x, float))
        dimension = of_g.shape[-1]
        low = low_frequencies(dimension, cutoff)
        counted = np.fft.fftfreq(dimension) >= (-1 if pairs else 0)

        def product(a: Complexes, b: Complexes, mask: Bools) -> Floats:
            return np.asarray((a * b.conj()).real[..., mask & counted].sum(axis=-1))

        return cls(
            product(of_g, of_g, low),
            product(of_g, of_g, ~low),
            -2 * product(of_g, of_x, low),
            -2 * product(of_g, of_x, ~low),
            product(of_x, of_x, low),
            product(of_x, of_x, ~low),
        )

    def directed(self, signs: Floats) -> Frozen:
        """Return the model with x replaced by signs * x, so that S >= 0 where dl/df < 0 too."""
        return replace(
            self, change_low=signs * self.change_low, change_high=signs * self.change_high
        )

    def ratio(self, s: ArrayLike) -> Floats:
        """Return tau at S, of shape (N,), or (N, T) for S of that shape."""
        at = np.asarray(s, float)

        def energy(start: Floats, change: Floats, of_input: Floats) -> Floats:
            shape = start.shape + (1,) * (at.ndim - start.ndim)
            return np.asarray(
                start.reshape(shape) + at * change.reshape(shape) + at**2 * of_input.reshape(shape)
            )

        low = energy(self.low, self.change_low, self.input_low)
        return np.asarray(low / (low + energy(self.high, self.change_high, self.input_high)))

    @property
    def input_ratio(self) -> Floats:
        """Return tau of the inputs."""
        return self.input_low / (self.input_low + self.input_high)

    @property
    def condition(self) -> Bools:
        """Return whether condition (12) holds: Dl < tau_x (Dl + Dh), as printed.

        tau(S) < tau_x says L H_x - H L_x + S (Dl H_x - Dh L_x) < 0, as the squares of S cancel.
        So, for a perturbation below the input at first, (12) is what is needed for all S > 0, and
        its reverse for all S < 0; the document says that S < 0 is similar.
        """
        return np.asarray(self.change_low < self.input_ratio * (self.change_low + self.change_high))

    @property
    def crossing(self) -> Floats:
        """Return the S at which tau is tau_x; there is one only, and it may be negative."""
        with np.errstate(divide="ignore"):
            return (self.high * self.input_low - self.low * self.input_high) / (
                self.change_low * self.input_high - self.change_high * self.input_low
            )

    @property
    def start(self) -> Floats:
        """Return the S >= 0 from which Dl >= Dh on: the document's t0, with the right increment.

        Dl - Dh grows by 2 (L_x - H_x) per unit of S.
        """
        behind = self.change_high - self.change_low
        return np.maximum(0.0, behind / (2 * (self.input_low - self.input_high)))

    def rises(self, s: ArrayLike) -> Bools:
        """Return whether tau rises with S at S, shape (N, T): Dl (1 - tau) >= Dh tau there."""
        at = np.asarray(s, float)
        low = self.change_low[:, None] + 2 * at * self.input_low[:, None]
        high = self.change_high[:, None] + 2 * at * self.input_high[:, None]
        tau = self.ratio(at)
        return np.asarray(low * (1 - tau) >= high * tau)


def first_order_change(before: Frozen, eta: Floats, energy: Floats) -> Floats:
    """Return the change of tau by one step: eta (Dl (1 - tau) - Dh tau) / energy.

    Source: Theorem 1, eq. (9); eq. (15).

    Args:
        before: the state before the step.
        eta: composite learning rate, eta * dl/df * ||a'||^2, shape (N,).
        energy: sum over frequencies of |G|^2 after the step, shape (N,).
    """
    tau = before.ratio(np.zeros_like(eta))
    return eta * (before.change_low * (1 - tau) - before.change_high * tau) / energy


def _fit(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the slope of log y by log x and its standard error."""
    found = stats.linregress(np.log(x), np.log(y))
    return float(found.slope), float(found.stderr)


def _quartiles(values: Floats) -> tuple[float, float, float]:
    """Return the median, and the lower and the upper quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(low), float(high)


# Theorem 1 ---------------------------------------------------------------------------------------


FITTED = 5
"""How many learning rates, the least ones, give the order of a residual."""


def theorem_1_records(
    seed: int,
    etas: Sequence[float] = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5),
    draws: int = 200,
    trajectories: int = 1000,
) -> list[Record]:
    """Return what eq. (9) misses after one step, by learning rate, and what follows from it.

    Rows are of networks 'frozen_relu', for which the document's eq. (8) is exact, 'relu', whose
    units may switch, and 'softplus'. Eq. (8) gives all units of Softplus the mean of their eta_r
    and takes the rest to be of second order. It is of first order: eta_r = eta ||x||^2 dl/df a_r
    sigma''_r differs from unit to unit, in sign too.

    Columns: network, eta (learning rate), draws, residual (median over draws of |change of tau -
    eq. (9)|), residual_low and residual_high (quartiles), change (median of |eq. (9)|),
    residual_over_square (residual / eta^2), switched (share of draws in which a unit of ReLU
    switched), dl_df_min and dl_df_max (of |dl/df|, Assumption 1), slope and slope_error (of log
    residual by log eta, over the five least learning rates, and its standard error). Of
    'frozen_relu' alone (None elsewhere):

    * increment_ratio, increment_ratio_error: mean over draws, and its standard error, of the
      increment of Dl - Dh at this eta over the document's, eta (L_x - H_x) in eq. (14). Algebra
      gives 2: the 2 in the definition of Dl is lost in A.1. increment_ratio_one_sided has the sums
      from k = 0 on.
    * of frozen networks that are trained on their sample to the end, by `trajectory_facts`.

    Source: Theorem 1, eqs. (8)-(10) and (14).

    Raises:
        ValueError: fewer than three learning rates, of which a slope has no error.
    """
    if len(etas) < 3:
        raise ValueError(f"a slope needs three learning rates or more, got {len(etas)}")
    nets = draw_networks(seed, "theorem_1", count=draws)
    facts = trajectory_facts(seed, trajectories)
    start = nets.pre_activations
    records: list[Record] = []
    for name, activation in (("frozen_relu", RELU), ("relu", RELU), ("softplus", SOFTPLUS)):
        g = nets.gradients(start, activation, start)
        slopes = nets.outer * activation.derivative(start)
        error = nets.outputs(start, activation) - nets.labels
        model = Frozen.of(g, nets.x)
        tau = lfc_ratio(g)
        rows: list[Record] = []
        for eta in etas:
            step = eta * error * (slopes**2).sum(axis=1)
            switched = None
            if name == "frozen_relu":
                after = g - step[:, None] * nets.x
            else:
                p = nets.step(start, activation, eta)
                after = nets.gradients(p, activation, start)
            if name == "relu":
                switched = float(np.any((p > 0) != (start > 0), axis=1).mean())
            # Over frequencies, as the other terms are: Parseval's factor is the dimension.
            energy = DIMENSION * (after**2).sum(axis=1)
            change = first_order_change(model, step, energy)
            residual = np.abs(lfc_ratio(after) - tau - change)
            middle, low, high = _quartiles(residual)
            row: Record = {
                "network": name,
                "eta": float(eta),
                "draws": draws,
                "residual": middle,
                "residual_low": low,
                "residual_high": high,
                "change": float(np.median(np.abs(change))),
                "residual_over_square": middle / eta**2,
                "switched": switched,
                "dl_df_min": float(np.abs(error).min()),
                "dl_df_max": float(np.abs(error).max()),
                "increment_ratio": None,
                "increment_ratio_error": None,
                "increment_ratio_one_sided": None,
            }
            if name == "frozen_relu":
                row |= _increments(g, after, nets.x, step)
            rows.append(row)
        least = sorted(rows, key=lambda row: row["eta"])[:FITTED]
        slope, slope_error = _fit(
            np.array([row["eta"] for row in least]), np.array([row["residual"] for row in least])
        )
        extra = facts if name == "frozen_relu" else dict.fromkeys(facts)
        records += [row | {"slope": slope, "slope_error": slope_error} | extra for row in rows]
    return records


def _increments(g: Floats, after: Floats, x: Floats, step: Floats) -> Record:
    """Return how Dl - Dh grows in one step, over the document's eta (L_x - H_x)."""
    found = {}
    for pairs in (True, False):
        old, new = (Frozen.of(gradient, x, pairs=pairs) for gradient in (g, after))
        grown = (new.change_low - new.change_high) - (old.change_low - old.change_high)
        found[pairs] = grown / (step * (old.input_low - old.input_high))
    return {
        "increment_ratio": float(found[True].mean()),
        "increment_ratio_error": float(stats.sem(found[True])),
        "increment_ratio_one_sided": float(found[False].mean()),
    }


def trajectory_facts(
    seed: int, count: int = 1000, learning_rate: float = 0.02, steps: int = 500
) -> Record:
    """Return how tau moves while frozen ReLU networks are trained on one sample, to the end.

    Facts: trajectories (how many), t0_mean and t1_mean (in steps, of those that reach them; t0 is
    the first step with Dl >= Dh, t1 the first with Dl (1 - tau) >= Dh tau, both with x turned to -x
    where dl/df < 0), t0_latest and t1_latest, t0_reached and t1_reached (shares), t0_late (share of
    those that reach t0 later than the document's formula says, with beta_0 = |dl/df| at t0; its
    lost factor of 2 errs on the safe side), share_up (mean share of steps after t1 at which tau
    rises), sign_changes (most sign changes of tau(t+1) - tau(t) in a trajectory), at_most_one
    (share of trajectories with at most one), turns (share of networks of which tau would fall again
    if S grew on; eq. (10) says that none does).

    tau rises with S where A S^2 + B S + C > 0, A = L_x Dh - H_x Dl, B = 2 (L_x H - H_x L) and
    C = Dl H - Dh L. If A > 0, which is condition (12), and B > 0, then eq. (10) holds. If A < 0,
    tau rises above tau_x and comes back to it from above, so that eq. (10) holds for no t1. The
    proof shows only that Dl > Dh lasts, which is enough while tau < 1/2.

    Source: Theorem 1, eq. (10), and the remark after it.
    """
    parts = []
    for nets in _batches(seed, "trajectories", count=count):
        start = nets.pre_activations
        slopes = nets.outer * RELU.derivative(start)
        error = nets.outputs(start, RELU) - nets.labels
        model = Frozen.of(nets.gradients(start, RELU, start), nets.x)
        model = model.directed(np.sign(error))
        energy = (slopes**2).sum(axis=1)
        # With frozen patterns f is linear in w, so the error shrinks by a factor per step.
        left = (1 - learning_rate * energy)[:, None] ** np.arange(steps + 1)
        errors = np.abs(error)[:, None] * left
        s = np.abs(error)[:, None] * (1 - left)
        tau = model.ratio(s)
        up = np.diff(tau, axis=1) > 0
        late, early = _first(s >= model.start[:, None]), _first(model.rises(s))
        changes = (up[:, 1:] != up[:, :-1]).sum(axis=1)
        after = np.arange(steps) >= early[:, None]
        with np.errstate(invalid="ignore"):
            share = (up & after).sum(axis=1) / after.sum(axis=1)
        behind = np.maximum(0.0, model.change_high - model.change_low)
        # Where t0 is never reached it is compared with nothing.
        at = np.minimum(late, steps)
        bound = behind / (
            learning_rate
            * energy
            * errors[np.arange(len(at)), at]
            * (model.input_low - model.input_high)
        )
        curvature = model.input_low * model.change_high - model.input_high * model.change_low
        parts.append(
            np.stack([late, early, changes, share, late > np.ceil(bound), curvature < 0], axis=1)
        )
    t0, t1, changes, share, overdue, turns = np.concatenate(parts).T
    reached = t0 <= steps
    return {
        "trajectories": count,
        "t0_mean": float(t0[reached].mean()),
        "t0_latest": int(t0[reached].max()),
        "t0_reached": float(reached.mean()),
        "t0_late": float(overdue[reached].mean()),
        "t1_mean": float(t1[t1 <= steps].mean()),
        "t1_latest": int(t1[t1 <= steps].max()),
        "t1_reached": float((t1 <= steps).mean()),
        "share_up": float(np.nanmean(share)),
        "sign_changes": int(changes.max()),
        "at_most_one": float((changes <= 1).mean()),
        "turns": float(turns.mean()),
    }


def _first(happened: Bools) -> NDArray[np.int64]:
    """Return the first step at which something happened, shape (N,); the number of steps if not."""
    first = happened.argmax(axis=1)
    return np.where(happened.any(axis=1), first, happened.shape[1])


# Theorem 2 ---------------------------------------------------------------------------------------


def order_change(c: ArrayLike, other: ArrayLike) -> Floats:
    """Return the S at which |c - S| and |other - S| are equal; negative or infinite if never.

    In words: the difference of the squares |c|^2 - |other|^2, divided by twice the difference of
    the real parts. Here c = G[k] / X[k], so that R_k = |c|, and each step subtracts the same real
    number from all of them. With R_k > R_k' at first, the order lasts for S > 0 if the value is
    negative.

    Source: Theorem 2, eq. (11); derived from A.2, since (11) can't be read in the copy at hand.
    """
    a, b = np.asarray(c, complex), np.asarray(other, complex)
    with np.errstate(divide="ignore"):
        return np.asarray((np.abs(a) ** 2 - np.abs(b) ** 2) / (2 * (a.real - b.real)))


RELATIVE_STEPS = tuple(
    sorted({*(i / 10 for i in range(21)), 0.99, 0.999, 1 - 1e-6, 1 + 1e-6, 1.001, 1.01} - {1.0})
)
"""S / |S*| at which the order of two frequencies is looked up, close to 1 on both sides of it."""


def theorem_2_records(
    seed: int,
    relative_steps: Sequence[float] = RELATIVE_STEPS,
    draws: int = 250,
    pairs: int = 10,
) -> list[Record]:
    """Return the order of R_k = |G[k]| / |X[k]| at frequencies k > k' around its change.

    In each network random pairs with R_k > R_k' at first are followed along g - S x, S > 0, whose
    transform is taken anew at each S. Pairs are of the kind 'crossing', whose order should
    change at S* and at no other S, or 'lasting', whose S* is negative: their order should never
    change.

    Columns: kind, relative_step (S / |S*|), pairs (how many), ratio (median of R_k / R_k'),
    ratio_low and ratio_high (quartiles), ordered (share with R_k > R_k'), agreements (how many are
    in the predicted order), agreement (their share), ended (share of these pairs that are still in
    order when a frozen ReLU network has learnt its sample), dl_df_min and dl_df_max (of |dl/df| at
    the start), exponent and exponent_error (of R_k by k at the start, mean over networks, and its
    standard error; the document takes k^alpha, with alpha = 1 here).

    Source: Theorem 2, eq. (11).
    """
    nets = draw_networks(seed, "theorem_2", count=draws)
    start = nets.pre_activations
    g = nets.gradients(start, RELU, start)
    c = np.fft.rfft(g) / np.fft.rfft(nets.x)
    frequencies = np.arange(1, DIMENSION // 2 + 1)
    fits = [_fit(frequencies.astype(float), sizes)[0] for sizes in np.abs(c[:, 1:])]
    rng = _random(seed, "theorem_2", "pairs")
    chosen = np.stack([rng.choice(frequencies, 2, replace=False) for _ in range(draws * pairs)])
    net = np.repeat(np.arange(draws), pairs)
    smaller, larger = chosen.min(axis=1), chosen.max(axis=1)
    first = np.abs(c[net, larger]) > np.abs(c[net, smaller])
    net, smaller, larger = net[first], smaller[first], larger[first]
    change = order_change(c[net, larger], c[net, smaller])

    def relative(s: Floats, of: Any) -> Floats:
        spectra = np.fft.rfft(g[net[of]] - s[:, None] * nets.x[net[of]])
        sizes = np.abs(spectra / np.fft.rfft(nets.x[net[of]]))
        rows = np.arange(len(s))
        return np.asarray(sizes[rows, larger[of]] / sizes[rows, smaller[of]])

    final = np.abs(nets.outputs(start, RELU) - nets.labels)
    records = []
    for kind, of in (("crossing", change > 0), ("lasting", change < 0)):
        ended = float((relative(final[net[of]], of) > 1).mean())
        for step in relative_steps:
            ratio = relative(step * np.abs(change[of]), of)
            agreements = (ratio > 1) == (kind == "lasting" or step < 1)
            middle, low, high = _quartiles(ratio)
            records.append(
                {
                    "kind": kind,
                    "relative_step": float(step),
                    "pairs": int(of.sum()),
                    "ratio": middle,
                    "ratio_low": low,
                    "ratio_high": high,
                    "ordered": float((ratio > 1).mean()),
                    "agreements": int(agreements.sum()),
                    "agreement": float(agreements.mean()),
                    "ended": ended,
                    "dl_df_min": float(final.min()),
                    "dl_df_max": float(final.max()),
                    "exponent": float(np.mean(fits)),
                    "exponent_error": float(stats.sem(fits)),
                }
            )
    return records


# Theorem 3 ---------------------------------------------------------------------------------------


def theorem_3_records(seed: int, draws: int = 4000, points: int = 200) -> list[Record]:
    """Return how often tau of the perturbation stays below that of the input, by condition (12).

    Random networks are split by the sign of dl/df, which is that of S, and by whether condition
    (12) holds at the start. Those whose perturbation isn't below the input at first (zeta <= 0) are
    counted in `left_out`, and in no row.

    Columns: sign ('positive' or 'negative', of dl/df), condition ('holds' or 'fails', as printed),
    guaranteed (whether the condition guarantees the conclusion for this sign: as printed for
    'positive', reversed for 'negative'), draws, violations (networks of which tau reaches tau_x at
    some S of that sign, of `points` values that are log-spaced over 8 decades), violation_rate,
    below (share that stays below it to the end of training, S = |f - y|, on one sample with frozen
    patterns), below_low and below_high (95% Wilson interval), crossing (median S at which tau
    crosses tau_x, over |f - y|; None where no S is), input_ratio (mean tau_x), left_out,
    dl_df_min and dl_df_max (of |dl/df|); and, the same in each row, initialisations (all draws),
    probability (share in which (12) holds), probability_low and probability_high (95% Wilson
    interval).

    g and -g are equally likely at the start, and (12) is linear in g, so that the probability is
    1/2: the document's "easily satisfied" is the toss of a coin.

    Source: Theorem 3, condition (12), and the remark after it.
    """
    parts = []
    for nets in _batches(seed, "theorem_3", count=draws):
        start = nets.pre_activations
        model = Frozen.of(nets.gradients(start, RELU, start), nets.x)
        error = nets.outputs(start, RELU) - nets.labels
        directed = model.directed(np.sign(error))
        scale = np.sqrt((model.low + model.high) / (model.input_low + model.input_high))
        everywhere = scale[:, None] * np.geomspace(1e-4, 1e4, points)
        # The end is the largest S of training, at which the sample is learnt.
        trained = np.abs(error)[:, None] * np.linspace(0, 1, points)
        of_input = model.input_ratio
        parts.append(
            np.stack(
                [
                    error,
                    model.condition,
                    model.ratio(np.zeros_like(error)) < of_input,
                    (directed.ratio(everywhere) >= of_input[:, None]).any(axis=1),
                    (directed.ratio(trained) < of_input[:, None]).all(axis=1),
                    of_input,
                    directed.crossing / np.abs(error),
                ],
                axis=1,
            )
        )
    error, condition, below, violated, stays, of_input, crossing = np.concatenate(parts).T
    holds = condition.astype(bool)
    low, high = statistics.wilson(int(holds.sum()), draws)
    records = []
    for sign, condition_name in itertools.product(("positive", "negative"), ("holds", "fails")):
        of = (error > 0) if sign == "positive" else (error < 0)
        of = of & (holds if condition_name == "holds" else ~holds) & (below > 0)
        count, violations = int(of.sum()), int(violated[of].sum())
        kept = int(stays[of].sum())
        kept_low, kept_high = statistics.wilson(kept, count)
        crossings = crossing[of & (crossing > 0)]
        records.append(
            {
                "sign": sign,
                "condition": condition_name,
                "guaranteed": (sign == "positive") == (condition_name == "holds"),
                "draws": count,
                "violations": violations,
                "violation_rate": violations / count if count else None,
                "below": kept / count if count else None,
                "below_low": kept_low,
                "below_high": kept_high,
                "crossing": float(np.median(crossings)) if len(crossings) else None,
                "input_ratio": float(of_input.mean()),
                "left_out": int((below == 0).sum()),
                "dl_df_min": float(np.abs(error).min()),
                "dl_df_max": float(np.abs(error).max()),
                "initialisations": draws,
                "probability": float(holds.mean()),
                "probability_low": low,
                "probability_high": high,
            }
        )
    return records


# Theorem 4 ---------------------------------------------------------------------------------------


def theorem_4_records(
    seed: int,
    draws: int = 100,
    steps: int = 40,
    epsilon: float = 0.1,
    nu: float = 0.5,
    learning_rate: float = 0.05,
) -> list[Record]:
    """Return how tau of an L2-PGD perturbation nears tau of the gradient, step by step.

    Networks are 'initialised', or 'trained' on their sample until |dl/df| <= epsilon^(1 + nu), as
    the theorem asks. PGD starts uniformly in the ball of radius epsilon, steps by half of it along
    the normalised gradient (the ratio of the document's 4/255 to 8/255), and projects to the ball.

    Columns: state, activation, step (j), draws, gap (median of |tau(d_j) - tau(grad f)|), gap_low
    and gap_high (quartiles), perturbation_ratio and gradient_ratio (mean tau of both), shrunk and
    shrunk_share (draws whose gap is smaller at the last step than at the first), lemma_violations
    (steps at which dl/df + d . grad f has lost the sign that it had at the start; Lemma 1 says
    none), lemma_steps (all of them), dl_df_min and dl_df_max (of |dl/df| at x), epsilon,
    attained_nu_min and attained_nu_max (log |dl/df| / log epsilon - 1; the document asks for 0 to
    1). dl/df and grad f are at x, without d, as the document writes beta_j.

    The increments of Dl - Dh are 2 beta (L - H) here too, so that j0 of eq. (21) is twice what is
    needed.

    Source: Theorem 4, eqs. (18)-(23) and Lemma 1.

    Raises:
        ValueError: epsilon or nu is not in (0, 1).
    """
    if not (0 < epsilon < 1 and 0 < nu < 1):
        raise ValueError(f"epsilon and nu are in (0, 1), got {epsilon} and {nu}")
    records = []
    for activation in (RELU, SOFTPLUS):
        nets = draw_networks(seed, "theorem_4", count=draws)
        first = nets.pre_activations
        for state in ("initialised", "trained"):
            p = first
            if state == "trained":
                p = _learnt(nets, activation, learning_rate, epsilon ** (1 + nu))
            moved = nets.weights + (p - first)[:, :, None] * nets.x[:, None, :]
            now = replace(nets, weights=moved)
            rng = _random(seed, "theorem_4", activation.name, state)
            records += _pgd_records(now, activation, state, steps, epsilon, rng)
    return records


def _learnt(nets: Networks, activation: Activation, learning_rate: float, least: float) -> Floats:
    """Return the pre-activations of networks trained until |dl/df| <= least for each."""
    p = nets.pre_activations
    while True:
        error = nets.outputs(p, activation) - nets.labels
        waiting = np.abs(error) > least
        if not waiting.any():
            return p
        p = np.where(waiting[:, None], nets.step(p, activation, learning_rate), p)


def _pgd_records(
    nets: Networks,
    activation: Activation,
    state: str,
    steps: int,
    epsilon: float,
    rng: np.random.Generator,
) -> list[Record]:
    def differentiate(d: Floats) -> tuple[Floats, Floats]:
        p = np.matmul(nets.weights, (nets.x + d)[:, :, None])[:, :, 0]
        slopes = nets.outer * activation.derivative(p)
        gradient = np.matmul(slopes[:, None, :], nets.weights)[:, 0]
        return nets.outputs(p, activation) - nets.labels, gradient

    draws, dimension = nets.x.shape
    error, gradient = differentiate(np.zeros_like(nets.x))
    target = lfc_ratio(gradient)
    d = rng.standard_normal((draws, dimension))
    radii = epsilon * rng.random((draws, 1)) ** (1 / dimension)
    d *= radii / np.linalg.norm(d, axis=1, keepdims=True)
    perturbations = [d]
    for _ in range(steps):
        current, direction = differentiate(d)
        unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        d = d + epsilon / 2 * np.sign(current)[:, None] * unit
        d = d * np.minimum(1.0, epsilon / np.linalg.norm(d, axis=1, keepdims=True))
        perturbations.append(d)
    ratios = np.stack([lfc_ratio(d) for d in perturbations])
    gaps = np.abs(ratios - target)
    beta = np.stack([error + (d * gradient).sum(axis=1) for d in perturbations])
    shrunk = int((gaps[-1] < gaps[0]).sum())
    attained = np.log(np.abs(error)) / math.log(epsilon) - 1
    common = {
        "gradient_ratio": float(target.mean()),
        "shrunk": shrunk,
        "shrunk_share": shrunk / draws,
        "lemma_violations": int((np.sign(beta[1:]) != np.sign(beta[0])).sum()),
        "lemma_steps": steps * draws,
        "dl_df_min": float(np.abs(error).min()),
        "dl_df_max": float(np.abs(error).max()),
        "epsilon": epsilon,
        "attained_nu_min": float(attained.min()),
        "attained_nu_max": float(attained.max()),
    }
    records = []
    for step in range(steps + 1):
        middle, low, high = _quartiles(gaps[step])
        records.append(
            {
                "state": state,
                "activation": activation.name,
                "step": step,
                "draws": draws,
                "gap": middle,
                "gap_low": low,
                "gap_high": high,
                "perturbation_ratio": float(ratios[step].mean()),
                **common,
            }
        )
    return records


# Training ----------------------------------------------------------------------------------------

SAMPLES = 60
"""Samples of the cases with many."""

SINGLE = {"single_relu": RELU, "single_softplus": SOFTPLUS}
"""Cases with one sample, and their activation."""

LABELS = ("constant", "low_teacher", "white_teacher", "high_teacher", "random")
"""Cases with many samples, named by what labels them; the activation is ReLU."""


@dataclass(frozen=True)
class Training:
    """How the LFC ratio of the input gradient moved along one training.

    Attributes:
        case: one of `SINGLE` or `LABELS`.
        seed: number of the replicate.
        samples: how many the network learnt.
        learning_rate: of gradient descent on the mean loss.
        tau: mean over samples, shape (steps + 1,).
        loss: mean loss at the end.
        input_ratio: mean tau of the inputs.
        dl_df_min: least |dl/df| over samples and steps.
        dl_df_max: greatest.
        t1: first step with Dl (1 - tau) >= Dh tau, x turned to -x where dl/df < 0; None of many
            samples, or if there is none.
    """

    case: str
    seed: int
    samples: int
    learning_rate: float
    tau: Floats
    loss: float
    input_ratio: float
    dl_df_min: float
    dl_df_max: float
    t1: int | None


def train_single(
    seed: int, replicates: int = 5, steps: int = 1000, learning_rate: float = 0.02
) -> list[Training]:
    """Train networks on one sample each, with ReLU and Softplus; units of ReLU may switch.

    Source: the setting of Theorem 1, eq. (4), without its approximations.
    """
    found = []
    for case, activation in SINGLE.items():
        nets = draw_networks(seed, "training", "single", count=replicates)
        start = nets.pre_activations
        p = start
        ratios, errors, rising = [], [], []
        for step in range(steps + 1):
            if step:
                p = nets.step(p, activation, learning_rate)
            g = nets.gradients(p, activation, start)
            error = nets.outputs(p, activation) - nets.labels
            model = Frozen.of(g, nets.x).directed(np.sign(error))
            ratios.append(model.ratio(np.zeros(replicates)))
            rising.append(model.rises(np.zeros((replicates, 1)))[:, 0])
            errors.append(error)
        tau, error, rises = np.stack(ratios), np.abs(np.stack(errors)), np.stack(rising)
        first = _first(rises.T)
        of_input = lfc_ratio(nets.x)
        found += [
            Training(
                case=case,
                seed=i,
                samples=1,
                learning_rate=learning_rate,
                tau=tau[:, i],
                loss=float(error[-1, i] ** 2 / 2),
                input_ratio=float(of_input[i]),
                dl_df_min=float(error[:, i].min()),
                dl_df_max=float(error[:, i].max()),
                t1=int(first[i]) if first[i] <= steps else None,
            )
            for i in range(replicates)
        ]
    return found


def _labels(rng: np.random.Generator, x: Floats) -> dict[str, Floats]:
    """Return labels of inputs, shape (n, d), by case, shape (n,) each, with a mean square of 1."""
    teacher = rng.standard_normal((x.shape[1],))
    low = np.fft.ifft(np.fft.fft(teacher) * low_frequencies(len(teacher))).real
    labels = {
        "constant": np.ones(len(x)),
        "low_teacher": x @ low,
        "white_teacher": x @ teacher,
        "high_teacher": x @ (teacher - low),
        "random": rng.choice([-1.0, 1.0], len(x)),
    }
    return {name: labels[name] / np.sqrt((labels[name] ** 2).mean()) for name in LABELS}


def train_many(
    seed: int,
    replicates: int = 5,
    steps: int = 1000,
    learning_rate: float = 2.0,
    samples: int = SAMPLES,
) -> list[Training]:
    """Train ReLU networks on many samples by full-batch gradient descent, a network per labelling.

    A replicate has the same inputs and initial weights in all cases. Teachers are linear, y = v . x
    with random v: of all frequencies ('white'), of low ones only, or of high ones only.

    Source: Theorem 1 is about one sample; Figures 2 and 11 show data sets.
    """
    x, weights, outer, targets = [], [], [], []
    for i in range(replicates):
        nets = draw_networks(seed, "training", "many", i, count=1)
        rng = _random(seed, "training", "samples", i)
        inputs = power_law_signals(rng, samples)
        labels = _labels(rng, inputs)
        for case in LABELS:
            x.append(inputs)
            weights.append(nets.weights[0])
            outer.append(nets.outer[0])
            targets.append(labels[case])
    inputs, w, a, y = np.stack(x), np.stack(weights), np.stack(outer)[:, :, None], np.stack(targets)
    transposed = np.ascontiguousarray(inputs.transpose(0, 2, 1))
    basis = _low_basis()
    tau = np.empty((steps + 1, len(inputs)))
    least, most = np.full(len(inputs), np.inf), np.zeros(len(inputs))
    for step in range(steps + 1):
        p = w @ transposed
        slopes = a * (p > 0)
        # ReLU is p where it is on, so the slopes give the output too.
        error = (slopes * p).sum(axis=1) - y
        g = slopes.transpose(0, 2, 1) @ w
        tau[step] = (((g @ basis) ** 2).sum(axis=2) / (g**2).sum(axis=2)).mean(axis=1)
        least = np.minimum(least, np.abs(error).min(axis=1))
        most = np.maximum(most, np.abs(error).max(axis=1))
        if step < steps:
            w = w - learning_rate / samples * ((slopes * error[:, None, :]) @ inputs)
    of_input = lfc_ratio(inputs).mean(axis=1)
    return [
        Training(
            case=case,
            seed=i,
            samples=samples,
            learning_rate=learning_rate,
            tau=tau[:, row],
            loss=float((error[row] ** 2).mean() / 2),
            input_ratio=float(of_input[row]),
            dl_df_min=float(least[row]),
            dl_df_max=float(most[row]),
            t1=None,
        )
        for row, (i, case) in enumerate(itertools.product(range(replicates), LABELS))
    ]


def _low_basis(dimension: int = DIMENSION, cutoff: int = CUTOFF) -> Floats:
    """Return an orthonormal basis of signals of low frequency, shape (d, 2 k_c + 1)."""
    angles = 2 * math.pi * np.outer(np.arange(dimension), np.arange(1, cutoff + 1)) / dimension
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * math.sqrt(2 / dimension)
    return np.concatenate([np.full((dimension, 1), dimension**-0.5), waves], axis=1)


@lru_cache(maxsize=1)
def trainings(seed: int, replicates: int = 5, steps: int = 1000) -> tuple[Training, ...]:
    """Return all trainings, by case; they are kept, since two tables are made of them.

    Raises:
        ValueError: fewer than two replicates, of which there is no spread.
    """
    if replicates < 2:
        raise ValueError(f"a spread needs two replicates or more, got {replicates}")
    runs = [*train_single(seed, replicates, steps), *train_many(seed, replicates, steps)]
    cases = [*SINGLE, *LABELS]
    return tuple(sorted(runs, key=lambda run: (cases.index(run.case), run.seed)))


def training_records(seed: int, replicates: int = 5, steps: int = 1000) -> list[Record]:
    """Return where tau starts, peaks and ends along training, a row per case and replicate.

    Columns: case, activation, samples, seed (number of the replicate), learning_rate, steps, start,
    peak, peak_step, end, rise (end - start), fall (peak - end), share_up (of steps at which tau
    rises), t1 (see `Training`; None of many samples), share_up_after_t1, input_ratio, loss,
    dl_df_min, dl_df_max; and, the same for all rows of a case, replicates, fall_mean, fall_low and
    fall_high (95% interval over replicates by Student's t), fall_error (standard error), and the
    same of rise.

    Source: Theorem 1, eq. (10), which has one sample; "gradually increase", abstract.
    """
    runs = trainings(seed, replicates, steps)
    records = []
    for run in runs:
        up = np.diff(run.tau) > 0
        peak = int(run.tau.argmax())
        after = None if run.t1 is None or run.t1 >= steps else float(up[run.t1 :].mean())
        records.append(
            {
                "case": run.case,
                "activation": SINGLE.get(run.case, RELU).name,
                "samples": run.samples,
                "seed": run.seed,
                "learning_rate": run.learning_rate,
                "steps": steps,
                "start": float(run.tau[0]),
                "peak": float(run.tau[peak]),
                "peak_step": peak,
                "end": float(run.tau[-1]),
                "rise": float(run.tau[-1] - run.tau[0]),
                "fall": float(run.tau[peak] - run.tau[-1]),
                "share_up": float(up.mean()),
                "t1": run.t1,
                "share_up_after_t1": after,
                "input_ratio": run.input_ratio,
                "loss": run.loss,
                "dl_df_min": run.dl_df_min,
                "dl_df_max": run.dl_df_max,
            }
        )
    for case in (*SINGLE, *LABELS):
        rows = [record for record in records if record["case"] == case]
        spread: Record = {"replicates": replicates}
        for name in ("fall", "rise"):
            values = np.array([row[name] for row in rows])
            mean, error, low, high = statistics.student(values)
            spread |= {
                f"{name}_mean": mean,
                f"{name}_low": low,
                f"{name}_high": high,
                f"{name}_error": error,
            }
        for row in rows:
            row |= spread
    return records


def training_curve_records(seed: int, replicates: int = 5, steps: int = 1000) -> list[Record]:
    """Return tau along training, at about 200 steps, dense at first.

    Columns: case, seed (number of the replicate), step, tau (mean over samples).
    """
    early, even = np.geomspace(1, steps, 120), np.linspace(0, steps, 101)
    kept = np.unique(np.concatenate([early, even]).round().astype(int))
    return [
        {"case": run.case, "seed": run.seed, "step": int(step), "tau": float(run.tau[step])}
        for run in trainings(seed, replicates, steps)
        for step in kept
    ]
