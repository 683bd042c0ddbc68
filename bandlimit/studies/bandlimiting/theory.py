"""The formulas of "Bandlimiting" beside what is correct and what a simulation measures.

Conventions: Fourier transforms are unitary, (2 pi)^(-n/2) times the integral of f(x) times
e^(-i omega.x); n is the input dimension, r a radius in standardised input space, K a number of
directions.
The functions `..._records` return lists of flat dicts, one dict per row of a table; each row is
decided by the seed and its own name alone. "document" in a name means: as printed there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bandlimit import keys

FRACTIONS = (1 / 3, 2 / 3, 1.0)
"""Radii of the sampler as fractions of r (section 3.2, eq. 8)."""

Floats = NDArray[np.float64]
Record = dict[str, Any]


def _random(seed: int, *name: str | int) -> np.random.Generator:
    return np.random.default_rng(keys.derive(seed, *name))


# Region count ------------------------------------------------------------------------------------


def regions(n: int, hyperplanes: int, central: bool = False) -> int:
    """Return the largest number of regions into which hyperplanes cut n-dimensional space.

    In words: the sum of the binomials "N over i" for i = 0 to n; for `central` hyperplanes, which
    all pass through the origin, twice the sum of "N-1 over i" for i = 0 to n-1. Exact.

    Source: Bandlimiting, section 2.2. The document prints the first formula and says "roughly
    10^200" for N = 1000, n = 200; the exact value is 10^215.945. Its networks have no biases, so
    their first layer is central: 10^215.546.

    Raises:
        ValueError: n < 1 or hyperplanes < 0.
    """
    if n < 1 or hyperplanes < 0:
        raise ValueError(f"n must be >= 1 and hyperplanes >= 0, got {n} and {hyperplanes}")
    if not central:
        return sum(math.comb(hyperplanes, i) for i in range(n + 1))
    if hyperplanes == 0:
        return 1
    return 2 * sum(math.comb(hyperplanes - 1, i) for i in range(n))


def count_regions(normals: ArrayLike, offsets: ArrayLike | None = None) -> int:
    """Count the regions of an arrangement in general position by listing their sign vectors.

    The hyperplanes are {x : normals[j].x + offsets[j] = 0}; without `offsets` they pass through
    the origin. Each region of N >= n affine hyperplanes has a corner, where n of them meet and the
    others have a fixed sign, so the corners list all regions, each as a sign vector, without any
    tolerance. In the central case edges (rays) take the part of corners. It checks `regions`
    for small n and N.

    Raises:
        ValueError: fewer hyperplanes than needed for a corner (n, or n - 1 through the origin).
    """
    matrix = np.asarray(normals, float)
    count, n = matrix.shape
    need = n if offsets is not None else n - 1
    if count < need:
        raise ValueError(f"{need} hyperplanes or more are needed in dimension {n}, got {count}")
    found: set[tuple[bool, ...]] = set()
    for meeting in map(list, itertools.combinations(range(count), need)):
        if offsets is not None:
            shift = np.asarray(offsets, float)
            corner = np.linalg.solve(matrix[meeting], -shift[meeting])
            positions = [matrix @ corner + shift]
        else:
            # The last right singular vector spans the line in which the n - 1 planes meet.
            ray = np.linalg.svd(matrix[meeting], full_matrices=True)[2][-1]
            positions = [matrix @ ray, -(matrix @ ray)]
        for position in positions:
            signs = position > 0
            for sides in itertools.product((False, True), repeat=need):
                signs[meeting] = sides
                found.add(tuple(signs.tolist()))
    return len(found)


def region_count_records(seed: int = 0) -> list[Record]:
    """Return the region counts: the document's case, and small cases counted one by one.

    Columns: dimension, hyperplanes, central, regions (exact, decimal text), log10_regions,
    counted (by `count_regions`; None where too large).
    Source: Bandlimiting, section 2.2.
    """
    small = [(2, 2), (2, 3), (2, 5), (2, 8), (3, 3), (3, 6), (4, 7)]
    records = []
    for n, hyperplanes in [(200, 1000), *small]:
        for central in (False, True):
            exact = regions(n, hyperplanes, central)
            counted = None
            if n <= 4:
                rng = _random(seed, "region_count", n, hyperplanes, int(central))
                normals = rng.standard_normal((hyperplanes, n))
                offsets = None if central else rng.standard_normal(hyperplanes)
                counted = count_regions(normals, offsets)
            records.append(
                {
                    "dimension": n,
                    "hyperplanes": hyperplanes,
                    "central": central,
                    "regions": str(exact),
                    "log10_regions": math.log10(exact),
                    "counted": counted,
                }
            )
    return records


# Lemma 2.6 ---------------------------------------------------------------------------------------


def _divided_difference(nodes: Sequence[float]) -> complex:
    """Return the divided difference of e^(-i x) over real nodes, repeated ones allowed.

    Sorted nodes make the table exact: where the first and last node of an entry agree, all between
    them do, and the entry is a derivative. Each division by a gap loses its decimals, so the
    table is worked with that many more.
    """
    ordered = sorted(float(node) for node in nodes)
    gaps = [b - a for a, b in itertools.pairwise(ordered) if b > a]
    lost = max((-math.log10(gap) for gap in gaps), default=0.0)
    size = max(abs(ordered[0]), abs(ordered[-1]), 1.0)
    digits = 30 + math.ceil(len(ordered) * (max(lost, 0.0) + math.log10(size)))
    with mpmath.workdps(digits):
        points = [mpmath.mpf(node) for node in ordered]
        values = [mpmath.expj(-point) for point in points]
        table = list(values)
        for order in range(1, len(points)):
            table = [
                (table[i + 1] - table[i]) / (points[i + order] - points[i])
                if points[i + order] > points[i]
                else (-1j) ** order * values[i] / mpmath.factorial(order)
                for i in range(len(points) - order)
            ]
        return complex(table[0])


def simplex_transform(omega: ArrayLike) -> complex:
    """Return S(omega), the Fourier transform of the indicator of the unit simplex, stably.

    In words: (i / sqrt(2 pi))^n times the divided difference of e^(-i x) over the nodes 0,
    omega_1, ..., omega_n (Hermite-Genocchi). This equals the sum of Lemma 2.6 where all nodes
    differ, see `simplex_transform_sum`, and holds its digits where they cluster or agree:
    S(0) = 1 / (n! (2 pi)^(n/2)).

    Source: Bandlimiting, Lemma 2.6, eq. 3. The constant of eq. 3 can't be read in the copy at
    hand. Correct is (-i / sqrt(2 pi))^n. The chain of the appendix has a slip of sign in the
    integral of eqs. 28-32 (see `simplex_transform_document`).

    Args:
        omega: frequency, shape (n,), finite.
    """
    nodes = np.asarray(omega, float)
    n = len(nodes)
    return (1j / math.sqrt(2 * math.pi)) ** n * _divided_difference([0.0, *nodes])


def simplex_transform_sum(omega: ArrayLike) -> complex:
    """Return S(omega) by the direct sum in double precision; all of 0, omega_1, ... must differ.

    In words: (-i / sqrt(2 pi))^n times the sum over r = 0..n of e^(-i omega_r) divided by the
    product over r' != r of (omega_r' - omega_r), with omega_0 = 0. It cancels catastrophically
    where nodes cluster: by a gap g about g^(-n) times the rounding error.

    Source: Bandlimiting, Lemma 2.6, eq. 3, with the correct prefactor.
    """
    nodes = np.concatenate([[0.0], np.asarray(omega, float)])
    n = len(nodes) - 1
    gaps = nodes[None, :] - nodes[:, None]
    np.fill_diagonal(gaps, 1.0)
    total = np.sum(np.exp(-1j * nodes) / gaps.prod(axis=1))
    return complex((-1j / math.sqrt(2 * math.pi)) ** n * total)


def simplex_transform_document(omega: ArrayLike) -> complex:
    """Return what the appendix's chain gives if its printed steps are put together: -S(omega).

    In words: its prefactor i (-i / sqrt(2 pi))^(n+2) (eq. 21) times its integral
    -2 pi i sum_r A_r e^(-i omega_r) (eq. 32). The integral must be +2 pi i sum_r A_r e^(-i
    omega_r): the step from eq. 28 to eq. 30 loses a sign. This assumes that the copy at hand
    renders eqs. 21 and 29-32 faithfully.

    Source: Bandlimiting, Lemma B.6, eqs. 20-32.
    """
    n = len(np.asarray(omega, float))
    sums = simplex_transform(omega) / (-1j / math.sqrt(2 * math.pi)) ** n
    return 1j * (-1j / math.sqrt(2 * math.pi)) ** (n + 2) * (-2j * math.pi * sums)


def simplex_gradient(omega: ArrayLike) -> NDArray[np.complex128]:
    """Return the gradient of S at omega, shape (n,).

    In words: the derivative of a divided difference by a node is the divided difference with that
    node twice. Needed by Theorem 2.7.
    """
    nodes = [float(value) for value in np.asarray(omega, float)]
    factor = (1j / math.sqrt(2 * math.pi)) ** len(nodes)
    return np.array([factor * _divided_difference([0.0, *nodes, node]) for node in nodes])


def _simplex_points(n: int, samples: int, rng: np.random.Generator) -> Floats:
    """Return uniform points of the unit simplex {x >= 0, sum x <= 1}, shape (samples, n)."""
    return rng.dirichlet(np.ones(n + 1), size=samples)[:, :n]


def _mean(values: NDArray[Any]) -> tuple[Any, float]:
    """Return the mean of real or complex draws and its standard error (of the complex number)."""
    return values.mean(), float(np.sqrt(values.var(ddof=1) / len(values)))


def simplex_transform_monte_carlo(
    omega: ArrayLike, samples: int, seed: int
) -> tuple[complex, float]:
    """Estimate S(omega) from its definition; return the estimate and its standard error.

    Uniform points of the simplex (volume 1/n!) come from a flat Dirichlet law.
    """
    frequency = np.asarray(omega, float)
    n = len(frequency)
    points = _simplex_points(n, samples, _random(seed, "simplex", n))
    mean, error = _mean(np.exp(-1j * (points @ frequency)))
    scale = (2 * math.pi) ** (-n / 2) / math.factorial(n)
    return complex(mean * scale), error * scale


def lemma_2_6_records(
    seed: int = 0,
    dimensions: Sequence[int] = (1, 2, 3, 4),
    draws: int = 3,
    samples: int = 400_000,
) -> list[Record]:
    """Return Lemma 2.6 measured against its closed form, for random and for clustered frequencies.

    Per dimension there are `draws` random frequencies (entries N(0, 2^2)), and one whose entries
    lie 1e-4 apart, where the direct sum loses its digits. Columns: dimension, frequency ('random'
    or 'clustered'), draw, measured_real, measured_imag, standard_error, closed_form_real,
    closed_form_imag, relative_error (of measured), sum_relative_error (of the direct sum against
    the stable form), document_real, document_imag, ratio_real, ratio_imag (measured / document;
    -1 by the slip of sign). Source: Bandlimiting, Lemma 2.6.
    """
    records = []
    for n, draw in itertools.product(dimensions, range(draws + 1)):
        clustered = draw == draws
        omega = _random(seed, "lemma_2_6", n, draw).normal(0, 2, n)
        if clustered:
            omega = omega[0] + 1e-4 * np.arange(n)
        point_seed = keys.derive(seed, "lemma_2_6", "points", draw)
        measured, error = simplex_transform_monte_carlo(omega, samples, point_seed)
        exact = simplex_transform(omega)
        document = simplex_transform_document(omega)
        ratio = measured / document
        records.append(
            {
                "dimension": n,
                "frequency": "clustered" if clustered else "random",
                "draw": draw,
                "measured_real": measured.real,
                "measured_imag": measured.imag,
                "standard_error": error,
                "closed_form_real": exact.real,
                "closed_form_imag": exact.imag,
                "relative_error": abs(measured - exact) / abs(exact),
                "sum_relative_error": abs(simplex_transform_sum(omega) - exact) / abs(exact),
                "document_real": document.real,
                "document_imag": document.imag,
                "ratio_real": ratio.real,
                "ratio_imag": ratio.imag,
            }
        )
    return records


def simplex_decay_records(
    seed: int = 0,
    dimensions: Sequence[int] = (1, 2, 3, 4),
    scales: Sequence[float] = (1e2, 1e3, 1e4),
    steps: int = 200,
) -> list[Record]:
    """Return how |S(t d)| decays along rays: t^(-n) in a generic direction, t^(-1) along facets.

    The document says "decaying" and gives no rate: the rate depends on the direction. For the
    directions 'generic' (random), 'axis' (normal of a coordinate facet) and 'diagonal' (normal of
    the facet sum x = 1) each row holds the root mean square of |S| over `steps` values in
    [t, 2 t), which evens out the oscillation, and the slope (exponent of t) since the row before.
    Columns: dimension, direction, t, rms, slope (None at the first scale), expected_slope.
    Source: Bandlimiting, section 2.1, the remark after Theorem 2.7.
    """
    records = []
    for n in dimensions:
        rng = _random(seed, "simplex_decay", n)
        # Distinct, well separated entries; a random order and sign make the ray generic.
        generic = rng.permutation(np.arange(1, n + 1) + rng.uniform(0, 0.5, n)) * rng.choice(
            [-1, 1], n
        )
        directions = {"generic": generic, "axis": np.eye(n)[0], "diagonal": np.ones(n)}
        for name, direction in directions.items():
            unit = direction / np.linalg.norm(direction)
            before: tuple[float, float] | None = None
            for scale in scales:
                sizes = [
                    abs(simplex_transform(scale * (1 + (step + 0.5) / steps) * unit)) ** 2
                    for step in range(steps)
                ]
                rms = math.sqrt(sum(sizes) / steps)
                slope = None
                if before is not None:
                    slope = math.log(rms / before[1]) / math.log(scale / before[0])
                before = (scale, rms)
                records.append(
                    {
                        "dimension": n,
                        "direction": name,
                        "t": float(scale),
                        "rms": rms,
                        "slope": slope,
                        "expected_slope": -n if name == "generic" else -1,
                    }
                )
    return records


# Theorem 2.7 -------------------------------------------------------------------------------------


def piece_transform_document(cone: ArrayLike, weight: ArrayLike, omega: ArrayLike) -> complex:
    """Return the document's transform of one piece: w_bar . grad S(omega_bar).

    The piece is w.x on the image of the unit simplex under x_bar -> sum_k x_bar_k v_k, 0 outside.
    The document's A has A^(-1) = [v_1 ... v_n] by columns, so omega_bar = omega A^(-1) has the
    entries omega.v_k, and w_bar = w A^(-1) the entries w.v_k.

    Source: Bandlimiting, Theorem 2.7 and B.7, eqs. 33-36, whose form has no factor
    i |det A^(-1)|.

    Args:
        cone: the vectors v_k as rows, shape (n, n), independent.
        weight: w, shape (n,).
        omega: frequency, shape (n,).
    """
    vectors = np.asarray(cone, float)
    weight_bar = vectors @ np.asarray(weight, float)
    return complex(weight_bar @ simplex_gradient(vectors @ np.asarray(omega, float)))


def piece_transform(cone: ArrayLike, weight: ArrayLike, omega: ArrayLike) -> complex:
    """Return the correct transform of one piece: i |det A^(-1)| w_bar . grad S(omega_bar).

    The i comes from the rule "times x_j is i times the derivative by omega_j", the determinant
    from the change of variables; the document omits both. As |det A^(-1)| = n! times the volume
    of the piece, a tiny region gives a term that is broad but tiny in proportion; the document's
    "det A is proportional to the volume" is inverted. Bound: `piece_bound`.

    Source: Bandlimiting, Theorem 2.7, corrected. Arguments as in `piece_transform_document`.
    """
    factor = 1j * abs(np.linalg.det(np.asarray(cone, float)))
    return complex(factor * piece_transform_document(cone, weight, omega))


def piece_bound(cone: ArrayLike, weight: ArrayLike) -> float:
    """Return a bound of the transform at all frequencies: (2 pi)^(-n/2) max |w.x| volume.

    The maximum is taken at a corner v_k. It shows that tiny regions can't carry much.
    """
    vectors = np.asarray(cone, float)
    n = len(vectors)
    volume = abs(np.linalg.det(vectors)) / math.factorial(n)
    return float((2 * math.pi) ** (-n / 2) * np.abs(vectors @ np.asarray(weight)).max() * volume)


def piece_transform_monte_carlo(
    cone: ArrayLike, weight: ArrayLike, omega: ArrayLike, samples: int, seed: int
) -> tuple[complex, float]:
    """Estimate the transform of one piece from its definition; return it and its standard error.

    Arguments as in `piece_transform_document`; points are uniform in the piece.
    """
    vectors = np.asarray(cone, float)
    n = len(vectors)
    points = _simplex_points(n, samples, _random(seed, "piece", n)) @ vectors
    phase = np.exp(-1j * (points @ np.asarray(omega, float)))
    mean, error = _mean((points @ np.asarray(weight, float)) * phase)
    volume = abs(np.linalg.det(vectors)) / math.factorial(n)
    scale = (2 * math.pi) ** (-n / 2) * volume
    return complex(mean * scale), float(error * scale)


def theorem_2_7_records(
    seed: int = 0, dimensions: Sequence[int] = (2, 3), draws: int = 3, samples: int = 400_000
) -> list[Record]:
    """Return Theorem 2.7 measured for random cones, beside the document's and the correct form.

    Cones, weights and frequencies are Gaussian. Columns: dimension, draw, volume (of the piece),
    measured_real, measured_imag, standard_error, closed_form_real, closed_form_imag,
    relative_error, document_real, document_imag, ratio_real, ratio_imag (measured / document),
    ratio_standard_error, expected_ratio_imag (|det A^(-1)|; the expected ratio is i times it),
    bound (of the absolute value). Source: Bandlimiting, Theorem 2.7.
    """
    records = []
    for n, draw in itertools.product(dimensions, range(draws)):
        rng = _random(seed, "theorem_2_7", n, draw)
        cone = rng.standard_normal((n, n))
        weight, omega = rng.standard_normal((2, n))
        point_seed = keys.derive(seed, "theorem_2_7", "points", draw)
        measured, error = piece_transform_monte_carlo(cone, weight, omega, samples, point_seed)
        exact = piece_transform(cone, weight, omega)
        document = piece_transform_document(cone, weight, omega)
        ratio = measured / document
        determinant = float(abs(np.linalg.det(cone)))
        records.append(
            {
                "dimension": n,
                "draw": draw,
                "volume": determinant / math.factorial(n),
                "measured_real": measured.real,
                "measured_imag": measured.imag,
                "standard_error": error,
                "closed_form_real": exact.real,
                "closed_form_imag": exact.imag,
                "relative_error": abs(measured - exact) / abs(exact),
                "document_real": document.real,
                "document_imag": document.imag,
                "ratio_real": ratio.real,
                "ratio_imag": ratio.imag,
                "ratio_standard_error": error / abs(document),
                "expected_ratio_imag": determinant,
                "bound": piece_bound(cone, weight),
            }
        )
    return records


# Equation 6 --------------------------------------------------------------------------------------


def _bessel_quotient(t: float, order: float) -> float:
    """Return Gamma(order+1) J_order(t) / (t/2)^order = 0F1(; order+1; -t^2/4) for one t >= 0.

    Below t = order there is no zero, and the product over the zeros bounds the value by
    exp(-t^2 / (4 (order+1))): the series in many digits is safe, or the value is no longer a
    double. Above it the Bessel function doesn't underflow, and logarithms hold the rest.
    """
    if t <= max(order, 1.0):
        exponent = t * t / (4 * (order + 1))
        if exponent > 750:
            return 0.0
        # Terms grow to exp(exponent) and cancel to exp(-exponent).
        with mpmath.workprec(100 + math.ceil(3 * exponent)):
            x = mpmath.mpf(t)
            return float(mpmath.hyp0f1(mpmath.mpf(order) + 1, -x * x / 4, maxprec=100_000))
    bessel = float(special.jv(order, t))
    if bessel == 0:
        return 0.0
    logarithm = special.gammaln(order + 1) + math.log(abs(bessel)) - order * math.log(t / 2)
    return math.copysign(math.exp(logarithm), bessel) if logarithm > -745 else 0.0


def _each(t: ArrayLike, order: float) -> Floats:
    values = np.asarray(t, float)
    flat = [_bessel_quotient(abs(float(value)), order) for value in values.ravel()]
    return np.array(flat).reshape(values.shape)


def ball_response(t: ArrayLike, n: int) -> Floats:
    """Return H(t), the factor by which the mean over an n-ball of radius r damps a frequency.

    In words: Gamma(n/2 + 1) times the Bessel function J of order n/2 at t, divided by
    (t/2)^(n/2); t = r |omega|; H(0) = 1. Values below the range of doubles are 0.

    Source: Bandlimiting, eqs. 5-6 and 37-42. The document has pi^(n/2) where 2^(-n/2) belongs,
    see `ball_response_document`. Right is that |H| falls like |omega|^(-(n+1)/2), but only for
    t >> n^2; in the range that matters, t about sqrt(n), H is a Gaussian: `ball_response_gaussian`.
    """
    return _each(t, n / 2)


def ball_response_document(t: ArrayLike, n: int) -> tuple[Floats, float]:
    """Return the document's eq. 6 at t, and log10 of the factor by which it is too small.

    In words: Gamma(n/2 + 1) / pi^(n/2) times J of order n/2 at t, divided by t^(n/2). It is
    H(t) (2 pi)^(-n/2): a constant would not keep its value under averaging. A unitary transform
    was multiplied without the (2 pi)^(n/2) of the convolution theorem (eqs. 38-42).

    Returns:
        The values (0 where a double underflows, as it does for images), and (n/2) log10(2 pi).
    """
    log10_factor = n / 2 * math.log10(2 * math.pi)
    return ball_response(t, n) * 10.0**-log10_factor, log10_factor


def ball_response_gaussian(t: ArrayLike, n: int) -> Floats:
    """Return exp(-t^2 / (2 (n + 2))), which H(t) approaches for t of the order of sqrt(n).

    The ball average is then Gaussian noise with deviation r / sqrt(n + 2) per coordinate: 0.108
    for n = 3072, r = 6; 0.0773 for n = 150528, r = 30. The document doesn't mention it.
    """
    return np.exp(-np.square(np.asarray(t, float)) / (2 * (n + 2)))


def ball_response_envelope(t: ArrayLike, n: int) -> Floats:
    """Return the envelope of |H| for t >> n^2: 2^(n/2) Gamma(n/2+1) sqrt(2/pi) t^(-(n+1)/2).

    Source: the rate in Bandlimiting, section 3.1, after eq. 6 (right); the constant is ours.
    Infinite where a double overflows, which tells that t is far from this regime.
    """
    values = np.asarray(t, float)
    constant = n / 2 * math.log(2) + math.lgamma(n / 2 + 1) + 0.5 * math.log(2 / math.pi)
    with np.errstate(over="ignore", divide="ignore"):
        return np.exp(constant - (n + 1) / 2 * np.log(values))


def _sphere_coordinate(n: int, samples: Any, rng: np.random.Generator) -> Floats:
    """Return one coordinate of uniform points of the unit sphere in n dimensions.

    A Gaussian vector is normalised; the squares of its other entries add up to one chi-square draw.
    """
    first = rng.standard_normal(samples)
    rest = rng.chisquare(n - 1, samples) if n > 1 else np.zeros_like(first)
    return first / np.sqrt(first**2 + rest)


def ball_mean_monte_carlo(t: float, n: int, samples: int, seed: int) -> tuple[float, float]:
    """Estimate the mean of cos(omega.x) over the ball |x| <= r; return it and its standard error.

    Only the projection of x on omega matters: a coordinate of a uniform direction times the
    radius U^(1/n). As the ball is symmetric, this is H(r |omega|) by definition. t = r |omega|.
    """
    rng = _random(seed, "ball", n)
    projection = _sphere_coordinate(n, samples, rng) * rng.random(samples) ** (1 / n)
    mean, error = _mean(np.cos(t * projection))
    return float(mean), error


def equation_6_records(
    seed: int = 0,
    dimensions: Sequence[int] = (1, 2, 3, 5, 8, 3072, 150528),
    t_over_sqrt_n: Sequence[float] = (0.0, 1.0, 2.0, 3.0),
    samples: int = 400_000,
) -> list[Record]:
    """Return eq. 6 measured, beside its closed form, the document's, and two approximations.

    Columns: dimension, t_over_sqrt_n, t, measured, standard_error, closed_form, gaussian,
    envelope (None where it isn't finite), document, ratio (closed form / document; None where a
    double can't hold it), log10_ratio_measured (log10 |measured / document|), log10_factor ((n/2)
    log10(2 pi)). Source: Bandlimiting, eq. 6.
    """
    records = []
    for n, multiple in itertools.product(dimensions, t_over_sqrt_n):
        t = multiple * math.sqrt(n)
        measured, error = ball_mean_monte_carlo(t, n, samples, keys.derive(seed, "equation_6"))
        exact = float(ball_response(t, n))
        document, log10_factor = ball_response_document(t, n)
        seen = measured != 0 and exact != 0
        envelope = float(ball_response_envelope(t, n))
        records.append(
            {
                "dimension": n,
                "t_over_sqrt_n": float(multiple),
                "t": t,
                "measured": measured,
                "standard_error": error,
                "closed_form": exact,
                "gaussian": float(ball_response_gaussian(t, n)),
                "envelope": envelope if math.isfinite(envelope) else None,
                "document": float(document),
                "ratio": exact / float(document) if document != 0 else None,
                "log10_ratio_measured": math.log10(abs(measured / exact)) + log10_factor
                if seen
                else None,
                "log10_factor": log10_factor,
            }
        )
    return records


# The sampler that is used ------------------------------------------------------------------------


def sphere_response(t: ArrayLike, n: int) -> Floats:
    """Return Lambda(t), the mean of cos(omega.x) over the sphere |x| = r, with t = r |omega|.

    In words: Gamma(n/2) times the Bessel function J of order n/2 - 1 at t, divided by
    (t/2)^(n/2 - 1); near exp(-t^2 / (2 n)) for large n.
    """
    return _each(t, n / 2 - 1)


def sampler_response(projections: ArrayLike, radii: ArrayLike) -> Floats:
    """Return the response H_s(omega) of one draw of the sampler of eq. 8, centre included.

    In words: 1 plus twice the sum over directions k and radii i of cos(lambda_i v_k.omega),
    divided by the number of samples, 6 K + 1 for three radii.

    Source: Bandlimiting, section 3.2, eqs. 7-8, with the centre as in section 4.3. The document
    derives only the response of the ball (eq. 6).

    Args:
        projections: v_k.omega of each direction, shape (..., K).
        radii: lambda_i, shape (R,), the positive ones.

    Returns:
        Shape (...).
    """
    angle = np.asarray(projections, float)[..., None] * np.asarray(radii, float)
    directions, count = angle.shape[-2:]
    total = 1 + 2 * np.cos(angle).sum(axis=(-2, -1))
    return np.asarray(total / (2 * directions * count + 1))


def sampler_response_mean(
    t: ArrayLike, n: int, directions: int, fractions: Sequence[float] = FRACTIONS
) -> Floats:
    """Return the expectation of `sampler_response` over random directions, t = r |omega|.

    In words: 1 plus 2 K times the sum over radii of Lambda(fraction t), divided by 6 K + 1. It
    doesn't tend to 0 but to 1 / (6 K + 1), the weight of the centre.
    """
    values = np.asarray(t, float)
    total = sum(sphere_response(fraction * values, n) for fraction in fractions)
    return np.asarray((1 + 2 * directions * total) / (2 * directions * len(fractions) + 1))


def sampler_response_deviation(
    t: ArrayLike, n: int, directions: int, fractions: Sequence[float] = FRACTIONS
) -> Floats:
    """Return the standard deviation of `sampler_response` over random directions, t = r |omega|.

    Directions are independent, radii share them: the mean of cos(a u) cos(b u) is half of
    Lambda(a + b) + Lambda(a - b). At high frequencies it tends to sqrt(6 K) / (6 K + 1).
    """
    values = np.asarray(t, float)
    means = [sphere_response(a * values, n) for a in fractions]
    variance = np.zeros_like(values)
    for (i, a), (j, b) in itertools.product(enumerate(fractions), repeat=2):
        plus, minus = (sphere_response(c * values, n) for c in (a + b, a - b))
        variance = variance + (plus + minus) / 2 - means[i] * means[j]
    samples = 2 * directions * len(fractions) + 1
    return 2 / samples * np.sqrt(directions * np.maximum(variance, 0))


def sampler_response_records(
    seed: int = 0,
    n: int = 3072,
    radius: float = 6.0,
    directions: int = 15,
    t_over_sqrt_n: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0),
    draws: int = 4000,
) -> list[Record]:
    """Return the response of the sampler in use beside the ball's: a leaky low-pass.

    Columns: dimension, radius, directions, t_over_sqrt_n, frequency (|omega| = t / radius), ball
    (eq. 6, ideal), measured (mean over draws), standard_error, closed_form (its expectation),
    measured_deviation (over draws), closed_form_deviation, low and high (5th and 95th percentile
    over draws), floor (1 / (6 K + 1)), deviation_limit (sqrt(6 K) / (6 K + 1)).
    Source: Bandlimiting, eqs. 6-8; the comparison is ours.
    """
    samples = 2 * directions * len(FRACTIONS) + 1
    radii = radius * np.array(FRACTIONS)
    records = []
    for multiple in t_over_sqrt_n:
        t = multiple * math.sqrt(n)
        frequency = t / radius
        rng = _random(seed, "sampler_response", n, directions, repr(float(multiple)))
        projections = frequency * _sphere_coordinate(n, (draws, directions), rng)
        values = sampler_response(projections, radii)
        measured, error = _mean(values)
        low, high = np.percentile(values, [5, 95])
        records.append(
            {
                "dimension": n,
                "radius": float(radius),
                "directions": directions,
                "t_over_sqrt_n": float(multiple),
                "frequency": frequency,
                "ball": float(ball_response(t, n)),
                "measured": float(measured),
                "standard_error": error,
                "closed_form": float(sampler_response_mean(t, n, directions)),
                "measured_deviation": float(values.std(ddof=1)),
                "closed_form_deviation": float(sampler_response_deviation(t, n, directions)),
                "low": float(low),
                "high": float(high),
                "floor": 1 / samples,
                "deviation_limit": math.sqrt(samples - 1) / samples,
            }
        )
    return records
