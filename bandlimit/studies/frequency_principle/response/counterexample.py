"""The kernel of E, Ma and Wu, of which the frequency principle holds above a frequency only.

Source: E, Ma and Wu, "Machine learning from a continuous viewpoint" (arXiv 1912.12777), eqs. 148 to
156 and Figures 5 and 6, as the survey prints them. Features of the width h on the circle,

    phi(x, w) = sum_n exp(-(x - w - 2 pi n)^2 / h^2),  f(x) = int phi(x, w) rho(dw),

are moved along the gradient flow of the squared error. Near the uniform density rho_0 = 1 / (2 pi)
the function obeys d/dt f = -K~ (f - f*), with the kernel

    K~(x, x') = h / sqrt(8 pi) sum_n [1 / h^2 - s_n^2 / h^4] exp(-s_n^2 / (2 h^2)),
    s_n = x - x' + 2 pi n.

Its eigenfunctions are waves, sin(k x) and cos(k x); the frequency k counts waves around the circle.
The document calls c_k = (h^2 k^2 / 2) exp(-h^2 k^2 / 2) its Fourier coefficients, so that its
eigenvalues would be pi c_k. But int K~(s) cos(k s) ds is c_k already: it is the eigenvalue, and the
coefficients are c_k / pi. Since K~ does not change while f is near a constant, each wave of the
error falls as exp(-c_k t), exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.files.tables import Column, Table

Floats = NDArray[np.float64]

IMAGES = np.arange(-3, 4)
"""Copies of a bump around the circle that are not negligible, for widths h up to 2."""


ROUNDING = 1e-12
"""Share of the greatest eigenvalue below which one is mostly rounding."""


def circle(points: int) -> Floats:
    """Return evenly spaced points of [0, 2 pi)."""
    return 2 * math.pi * np.arange(points) / points


def kernel(distance: Floats, width: float) -> Floats:
    """Return K~ by distance s = x - x', as the document's formula has it.

    Args:
        distance: s in radians, any shape.
        width: h, at most 2.
    """
    s = distance[..., None] + 2 * math.pi * IMAGES
    bumps = (1 / width**2 - s**2 / width**4) * np.exp(-(s**2) / (2 * width**2))
    return np.asarray(width / math.sqrt(8 * math.pi) * bumps.sum(axis=-1))


def feature_slopes(distance: Floats, width: float) -> Floats:
    """Return d phi / dw by x - w, in radians; arguments as of `kernel`."""
    s = distance[..., None] + 2 * math.pi * IMAGES
    return np.asarray((2 * s / width**2 * np.exp(-(s**2) / width**2)).sum(axis=-1))


def eigenvalue(frequency: Floats, width: float) -> Floats:
    """Return c_k = (h^2 k^2 / 2) exp(-h^2 k^2 / 2), the eigenvalue of K~ at k."""
    square = (width * frequency) ** 2 / 2
    return np.asarray(square * np.exp(-square))


def by_formula(width: float, frequencies: Sequence[int], points: int) -> Floats:
    """Return int K~(s) cos(k s) ds of the document's K~, by the trapezoidal rule on the circle.

    Args:
        width: h.
        frequencies: k, each below points / 2.
        points: of the rule, which for a smooth periodic function errs by rounding alone.
    """
    s = circle(points)
    waves = np.cos(np.outer(frequencies, s))
    return _product(waves, kernel(s, width)) * (2 * math.pi / points)


def by_features(width: float, frequencies: Sequence[int], points: int) -> Floats:
    """Return the eigenvalues of int dphi/dw(x, w) dphi/dw(x', w) rho_0(w) dw, without a formula.

    The kernel is integrated over w and applied to waves over x'; arguments as of `by_formula`.
    """
    x = circle(points)
    slopes = feature_slopes(x[:, None] - x, width)
    waves = np.exp(1j * np.outer(x, frequencies))
    learnt = np.stack([_product(slopes.T, part) for part in (waves.real, waves.imag)])
    real, imaginary = (_product(slopes, part) for part in learnt)
    applied = (real + 1j * imaginary) / points * (2 * math.pi / points)
    return np.asarray((waves.conj() * applied).mean(axis=0).real)


def _product(a: Floats, b: Floats) -> Floats:
    """Return a @ b, b of one axis or two, without the library that adds as its threads share."""
    found: Floats = np.einsum("ij,j...->i...", a, b)
    return found


def simulate(
    *,
    widths: Sequence[float],
    frequencies: int,
    cases: Mapping[str, Mapping[str, Any]],
    times: Sequence[float],
    threshold: float,
    points: int,
) -> dict[str, pd.DataFrame]:
    """Return eigenvalues of the kernel, and what it learns of a target of two or more waves.

    Args:
        widths: h.
        frequencies: the greatest k of the eigenvalues.
        cases: of each figure of the document the 'width' h and the 'frequencies' of the target,
            a sum of sin(k x).
        times: of the snapshots.
        threshold: share of a wave's error that is left when it counts as learnt.
        points: of the circle.

    Returns:
        By name:
        counterexample, a row per width and frequency: width, frequency, by_formula, by_features,
        closed_form (c_k), stated (pi c_k), ratio_to_previous (eigenvalue over that of k - 1; empty
        for k = 1, and where it is not above rounding), greatest (of all frequencies), peak (the
        frequency where it is), bound (2 / h).
        counterexample_snapshots, a row per case, time and point: case, width, time, x, learnt,
        target.
        counterexample_times, a row per case and frequency: case, width, frequency, lowest (whether
        it is the lowest of the case), bound (2 / h), rate, rate_ratio (rate over that of the
        lowest), threshold, step, step_low, step_high (a time, exact, so all three are one), learnt,
        seeds (1), unit.
    """
    rows, snapshots, passages = [], [], []
    known = range(1, frequencies + 1)
    for width in widths:
        found = by_formula(width, known, points)
        ratios = np.concatenate([[np.nan], found[1:] / found[:-1]])
        rows.append(
            pd.DataFrame(
                {
                    "width": width,
                    "frequency": known,
                    "by_formula": found,
                    "by_features": by_features(width, known, points),
                    "closed_form": eigenvalue(np.array(known), width),
                    "stated": math.pi * eigenvalue(np.array(known), width),
                    "ratio_to_previous": np.where(found > ROUNDING * found.max(), ratios, np.nan),
                    "greatest": found.max(),
                    "peak": int(found.argmax()) + 1,
                    "bound": 2 / width,
                }
            )
        )
    for name, case in cases.items():
        width, waves = case["width"], sorted(case["frequencies"])
        rates = by_formula(width, waves, points)
        x = circle(points)
        parts = np.sin(np.outer(waves, x))
        for time in times:
            snapshots.append(
                pd.DataFrame(
                    {
                        "case": name,
                        "width": width,
                        "time": float(time),
                        "x": x,
                        "learnt": _product(parts.T, -np.expm1(-rates * time)),
                        "target": parts.sum(axis=0),
                    }
                )
            )
        for frequency, rate in zip(waves, rates, strict=True):
            passages.append(
                {
                    "case": name,
                    "width": width,
                    "frequency": float(frequency),
                    "lowest": frequency == waves[0],
                    "bound": 2 / width,
                    "rate": rate,
                    "rate_ratio": rate / rates[0],
                    "threshold": threshold,
                    **dict.fromkeys(
                        ("step", "step_low", "step_high"), math.log(1 / threshold) / rate
                    ),
                    "learnt": True,
                    "seeds": 1,
                    "unit": "time of gradient flow",
                }
            )
    return {
        "counterexample": pd.concat(rows, ignore_index=True),
        "counterexample_snapshots": pd.concat(snapshots, ignore_index=True),
        "counterexample_times": pd.DataFrame(passages),
    }


COLUMNS: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "counterexample": (
        {
            "width": Column("h"),
            "frequency": Column("k"),
            "by_formula": Column("Eigenvalue by the formula of K~", 6),
            "by_features": Column("By the features", 6),
            "closed_form": Column("c_k", 6),
            "stated": Column("Stated, pi c_k", 6),
            "peak": Column("k of the greatest"),
            "bound": Column("2 / h", 2),
        },
        "E, Ma and Wu: eigenvalues of the kernel by response frequency",
        "By quadrature of the document's formula, and of the features themselves, without it. Both "
        "give c_k where the document states pi times as much. They decrease from k = 2 / h on, and "
        "in fact from sqrt(2) / h on.",
    ),
    "counterexample_snapshots": (
        {
            "case": Column("Case"),
            "time": Column("t", 0),
            "x": Column("x", 4),
            "learnt": Column("f_t", 4),
            "target": Column("f*", 4),
        },
        "E, Ma and Wu, Figures 5 and 6: the function along training",
        "Each wave of the error falls exponentially at its eigenvalue, exactly. The document "
        "doesn't name the widths and the targets of its figures.",
    ),
    "counterexample_times": (
        {
            "case": Column("Case"),
            "width": Column("h"),
            "frequency": Column("k", 0),
            "bound": Column("2 / h", 2),
            "rate": Column("Rate", 5),
            "rate_ratio": Column("Rate / that of the lowest", 4),
            "threshold": Column("Error left", 2),
            "step": Column("Time", 2),
        },
        "E, Ma and Wu: when each wave of the target is learnt",
        "A time of gradient flow; exact, so without an interval.",
    ),
}
"""Of each table its columns, its title and its note."""


def tables(**settings: Any) -> dict[str, Table]:
    """Return the tables of the simulation by name; its settings are those of `simulate`."""
    return {name: Table(frame, *COLUMNS[name]) for name, frame in simulate(**settings).items()}
