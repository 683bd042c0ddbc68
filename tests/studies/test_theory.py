from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from scipy import integrate, special

from bandlimit.studies.bandlimiting import theory


@pytest.mark.parametrize("hyperplanes", range(8))
def test_region_formulas_in_the_plane(hyperplanes):
    pairs = hyperplanes * (hyperplanes - 1) // 2
    assert theory.regions(2, hyperplanes) == 1 + hyperplanes + pairs
    assert theory.regions(2, hyperplanes, central=True) == max(1, 2 * hyperplanes)


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize(("n", "hyperplanes"), [(1, 4), (2, 2), (2, 6), (3, 5), (4, 6)])
def test_region_formulas_agree_with_counting(n, hyperplanes, central):
    rng = np.random.default_rng(n * 100 + hyperplanes)
    normals = rng.standard_normal((hyperplanes, n))
    offsets = None if central else rng.standard_normal(hyperplanes)
    assert theory.count_regions(normals, offsets) == theory.regions(n, hyperplanes, central)


def test_counting_agrees_with_signs_on_a_grid():
    normals = np.array([[1, 0.2], [-0.3, 1], [1, 1], [1, -0.7]])
    offsets = np.array([0.1, -0.2, 0.4, 0.3])
    axis = np.linspace(-5, 5, 401)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    seen = len(np.unique(points @ normals.T + offsets > 0, axis=0))
    assert theory.count_regions(normals, offsets) == seen == 11


def test_region_count_of_the_document():
    assert math.log10(theory.regions(200, 1000)) == pytest.approx(215.945, abs=5e-4)
    assert math.log10(theory.regions(200, 1000, central=True)) == pytest.approx(215.546, abs=5e-4)
    records = theory.region_count_records()
    assert (records[0]["dimension"], records[0]["hyperplanes"]) == (200, 1000)
    assert records[0]["log10_regions"] == pytest.approx(215.945, abs=5e-4)
    counted = [record for record in records if record["counted"] is not None]
    assert len(counted) == 14
    assert all(int(record["regions"]) == record["counted"] for record in counted)


@pytest.mark.parametrize(("n", "hyperplanes"), [(0, 3), (2, -1)])
def test_regions_refuses_nonsense(n, hyperplanes):
    with pytest.raises(ValueError, match="n must be"):
        theory.regions(n, hyperplanes)


@pytest.mark.parametrize("n", range(1, 7))
def test_simplex_transform_at_zero_is_the_volume(n):
    volume = 1 / (math.factorial(n) * (2 * math.pi) ** (n / 2))
    assert theory.simplex_transform(np.zeros(n)) == pytest.approx(volume, rel=1e-13)
    assert theory.simplex_transform(np.full(n, 1e-9)) == pytest.approx(volume, rel=1e-8)


@pytest.mark.parametrize("n", range(1, 6))
def test_simplex_transform_equals_the_sum_where_nodes_differ(n):
    omega = np.array([1.3, -2.1, 3.7, -4.4, 6.2])[:n]
    assert theory.simplex_transform(omega) == pytest.approx(
        theory.simplex_transform_sum(omega), rel=1e-11
    )


@pytest.mark.parametrize("omega", [(1.5, -0.7), (2.0, 2.0), (0.0, 3.0), (2.0, 2.0 + 1e-9)])
def test_simplex_transform_equals_quadrature(omega):
    def part(function):
        return integrate.dblquad(
            lambda y, x: function(omega[0] * x + omega[1] * y), 0, 1, 0, lambda x: 1 - x
        )[0]

    value = (part(math.cos) - 1j * part(math.sin)) / (2 * math.pi)
    assert theory.simplex_transform(omega) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("gap", [1e-3, 1e-8, 1e-14, 1e-100])
def test_simplex_transform_holds_where_nodes_cluster(gap):
    apart = theory.simplex_transform([2.0, 2.0 + gap, gap])
    assert apart == pytest.approx(theory.simplex_transform([2.0, 2.0, 0.0]), rel=2 * gap + 1e-14)


def test_direct_sum_loses_its_digits_where_nodes_cluster():
    omega = np.array([1.0, 1.0 + 1e-6, 1.0 + 2e-6, 1.0 + 3e-6])
    assert abs(theory.simplex_transform_sum(omega) / theory.simplex_transform(omega) - 1) > 0.1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_simplex_transform_agrees_with_monte_carlo(n):
    omega = np.array([1.0, -2.0, 3.0, 0.5])[:n]
    estimate, error = theory.simplex_transform_monte_carlo(omega, 100_000, seed=n)
    assert abs(estimate - theory.simplex_transform(omega)) < 4 * error
    assert abs(estimate + theory.simplex_transform(omega)) > 100 * error


def test_document_chain_has_the_wrong_sign():
    omega = [1.0, -2.0, 0.3]
    assert theory.simplex_transform_document(omega) == pytest.approx(
        -theory.simplex_transform(omega)
    )


@pytest.mark.parametrize("omega", [(0.7,), (1.0, -2.0), (1.0, 1.0, 2.0), (0.0, 0.0)])
def test_simplex_gradient_equals_differences(omega):
    step = 1e-5
    for index, value in enumerate(theory.simplex_gradient(omega)):
        shift = step * np.eye(len(omega))[index]
        upper, lower = (theory.simplex_transform(np.array(omega) + s * shift) for s in (1, -1))
        assert value == pytest.approx((upper - lower) / (2 * step), abs=1e-9)


def test_decay_depends_on_the_direction():
    records = theory.simplex_decay_records(seed=1, dimensions=(1, 2, 3), scales=(1e3, 1e4))
    slopes = [record for record in records if record["slope"] is not None]
    assert len(slopes) == 9
    for record in slopes:
        assert record["slope"] == pytest.approx(record["expected_slope"], abs=0.15), record


def test_piece_transform_of_the_standard_cone_in_one_dimension():
    # w x on [0, v]: the integral of w x cos(omega x) and of -i w x sin(omega x).
    w, v, omega = 1.7, 0.6, 2.3
    real = integrate.quad(lambda x: w * x * math.cos(omega * x), 0, v)[0]
    imag = -integrate.quad(lambda x: w * x * math.sin(omega * x), 0, v)[0]
    value = theory.piece_transform([[v]], [w], [omega])
    assert value == pytest.approx(complex(real, imag) / math.sqrt(2 * math.pi), rel=1e-10)


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1)])
def test_theorem_2_7_lacks_the_factor(n, seed):
    rng = np.random.default_rng(seed)
    cone, (weight, omega) = rng.standard_normal((n, n)), rng.standard_normal((2, n))
    truth, error = theory.piece_transform_monte_carlo(cone, weight, omega, 100_000, seed)
    assert abs(truth - theory.piece_transform(cone, weight, omega)) < 4 * error
    document = theory.piece_transform_document(cone, weight, omega)
    assert abs(truth - document) > 20 * error
    determinant = abs(np.linalg.det(cone))
    assert abs(truth / document - 1j * determinant) < 4 * error / abs(document)


def test_piece_bound_holds_and_shrinks_with_the_volume():
    rng = np.random.default_rng(3)
    cone, weight = rng.standard_normal((3, 3)), rng.standard_normal(3)
    for scale in (1.0, 0.1):
        for omega in rng.normal(0, 5, (20, 3)):
            bound = theory.piece_bound(scale * cone, weight)
            assert abs(theory.piece_transform(scale * cone, weight, omega)) <= bound
    assert theory.piece_bound(0.1 * cone, weight) == pytest.approx(
        1e-4 * theory.piece_bound(cone, weight)
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 40])
def test_ball_response_equals_bessel_functions(n):
    t = np.array([0.1, 1.0, 2.5, 7.0, 30.0, 200.0])
    closed = special.gamma(n / 2 + 1) * special.jv(n / 2, t) / (t / 2) ** (n / 2)
    np.testing.assert_allclose(theory.ball_response(t, n), closed, rtol=1e-9, atol=1e-300)


def test_ball_response_of_one_and_three_dimensions():
    t = np.array([0.3, 2.0, 11.0])
    np.testing.assert_allclose(theory.ball_response(t, 1), np.sin(t) / t, rtol=1e-12)
    three = 3 * (np.sin(t) - t * np.cos(t)) / t**3
    np.testing.assert_allclose(theory.ball_response(t, 3), three, rtol=1e-11)


@pytest.mark.parametrize("n", [1, 2, 3072, 150528])
def test_ball_response_is_one_at_zero(n):
    assert theory.ball_response(0.0, n) == 1


@pytest.mark.parametrize(("n", "multiple", "value"), [(3072, 1, 0.6067), (3072, 3, 0.01107)])
def test_ball_response_in_high_dimension(n, multiple, value):
    t = multiple * math.sqrt(n)
    assert theory.ball_response(t, n) == pytest.approx(value, rel=5e-4)


@pytest.mark.parametrize("t", [100.0, 800.0, 1535.0, 1537.0, 1700.0, 2500.0])
def test_ball_response_on_both_sides_of_the_turning_point(t):
    # Order 1536: below it the series works, above it Bessel functions in logarithms.
    with mpmath.workdps(50):
        order = mpmath.mpf(1536)
        exact = mpmath.besselj(order, t) * mpmath.gamma(order + 1) / (mpmath.mpf(t) / 2) ** order
    assert theory.ball_response(t, 3072) == pytest.approx(float(exact), rel=1e-8, abs=1e-307)


def test_ball_response_never_overflows():
    t = np.array([0.0, 1.0, 1e2, 1e3, 1e4, 7e4, 8e4, 1e6])
    values = theory.ball_response(t, 150528)
    assert np.isfinite(values).all()
    assert (np.diff(values[:5]) < 0).all()
    assert math.log(values[4]) == pytest.approx(-1e8 / (2 * 150530), rel=0.01)
    assert (values[5:] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_document_is_too_small_by_a_power_of_two_pi(n):
    t = np.array([0.0, 0.5, 2.0, 9.0])
    document, log10_factor = theory.ball_response_document(t, n)
    assert 10**log10_factor == pytest.approx((2 * math.pi) ** (n / 2))
    printed = special.gamma(n / 2 + 1) / math.pi ** (n / 2) * special.jv(n / 2, t[1:])
    np.testing.assert_allclose(document[1:], printed / t[1:] ** (n / 2), rtol=1e-9)
    np.testing.assert_allclose(theory.ball_response(t, n) / document, 10**log10_factor, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_envelope_is_reached_far_out(n):
    t = np.linspace(1e4, 1e4 + 2 * math.pi, 400)
    ratio = np.abs(theory.ball_response(t, n)) / theory.ball_response_envelope(t, n)
    assert ratio.max() == pytest.approx(1, abs=2e-3)


def test_gaussian_is_near_in_high_dimension_and_not_in_low():
    t = np.array([1.0, 2.0, 3.0])
    for n, tolerance in [(3072, 2e-4), (150528, 5e-6)]:
        gauss = theory.ball_response_gaussian(t * math.sqrt(n), n)
        np.testing.assert_allclose(theory.ball_response(t * math.sqrt(n), n), gauss, atol=tolerance)
    assert (
        abs(theory.ball_response(3 * math.sqrt(3), 3) - theory.ball_response_gaussian(9, 3)) > 0.05
    )


@pytest.mark.parametrize("n", [1, 2, 3, 8, 3072])
def test_ball_mean_agrees_with_monte_carlo(n):
    for multiple in (1.0, 2.0):
        t = multiple * math.sqrt(n)
        measured, error = theory.ball_mean_monte_carlo(t, n, 100_000, seed=5)
        assert abs(measured - theory.ball_response(t, n)) < 4 * error


def test_ball_projections_follow_whole_points_of_the_ball():
    # Points drawn in full from the cube and kept if they are in the ball, against the short cut.
    n, t = 3, 2.5
    points = np.random.default_rng(0).uniform(-1, 1, (200_000, n))
    kept = points[(points**2).sum(axis=1) <= 1]
    cosine = np.cos(t * kept[:, 0])
    measured, error = theory.ball_mean_monte_carlo(t, n, 100_000, seed=1)
    assert abs(cosine.mean() - measured) < 4 * math.hypot(error, cosine.std() / len(kept) ** 0.5)


def test_sphere_response_of_low_dimensions():
    t = np.array([0.0, 0.7, 5.0])
    np.testing.assert_allclose(theory.sphere_response(t, 1), np.cos(t), atol=1e-12)
    np.testing.assert_allclose(theory.sphere_response(t, 2), special.j0(t), atol=1e-12)
    np.testing.assert_allclose(theory.sphere_response(t, 3), np.sinc(t / np.pi), atol=1e-12)


def test_sampler_response_equals_the_average_over_its_points():
    rng = np.random.default_rng(2)
    directions = rng.standard_normal((4, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    omega, x, radii = rng.standard_normal(5), rng.standard_normal(5), np.array([1.0, 2.0, 3.0])
    points = [x] + [
        x + sign * radius * v for v, radius, sign in itertools.product(directions, radii, (1, -1))
    ]
    average = np.mean([np.exp(1j * omega @ point) for point in points])
    response = theory.sampler_response(directions @ omega, radii)
    assert average == pytest.approx(np.exp(1j * omega @ x) * response)


# At r |omega| / sqrt(n) = 1, 2, 3, 5, 10 for n = 3072, K = 15.
SAMPLER = {1.0: 0.787, 2.0: 0.455, 3.0: 0.259, 5.0: 0.095, 10.0: 0.012}
DEVIATION = {1.0: 0.067, 2.0: 0.126, 3.0: 0.128, 5.0: 0.121, 10.0: 0.103}
BALL = {1.0: 0.607, 2.0: 0.136, 3.0: 0.011, 5.0: 4e-6, 10.0: 0.0}


def test_sampler_records_have_the_known_figures():
    records = theory.sampler_response_records(seed=0, t_over_sqrt_n=tuple(SAMPLER))
    for record in records:
        x = record["t_over_sqrt_n"]
        assert record["ball"] == pytest.approx(BALL[x], abs=1e-3)
        assert record["closed_form"] == pytest.approx(SAMPLER[x], abs=1e-3)
        assert abs(record["measured"] - record["closed_form"]) < 4 * record["standard_error"]
        # The known deviations come from a few hundred draws.
        assert record["closed_form_deviation"] == pytest.approx(DEVIATION[x], rel=0.04)
        assert record["measured_deviation"] == pytest.approx(
            record["closed_form_deviation"], rel=0.05
        )
        assert record["low"] < record["measured"] < record["high"]


def test_sampler_response_has_a_floor():
    t = 1e4 * math.sqrt(3072)
    assert theory.sampler_response_mean(t, 3072, 15) == pytest.approx(1 / 91, abs=1e-6)
    deviation = theory.sampler_response_deviation(t, 3072, 15)
    assert deviation == pytest.approx(math.sqrt(90) / 91, rel=1e-3)
    assert theory.sampler_response_mean(0.0, 3072, 15) == 1
    assert theory.sampler_response_deviation(0.0, 3072, 15) == 0


@pytest.mark.parametrize(
    ("records", "options"),
    [
        (theory.lemma_2_6_records, {"samples": 20_000, "draws": 1}),
        (theory.theorem_2_7_records, {"samples": 20_000, "draws": 1}),
        (theory.equation_6_records, {"samples": 20_000}),
    ],
)
def test_records_agree_with_their_closed_form_and_repeat(records, options):
    table = records(seed=7, **options)
    assert table == records(seed=7, **options)
    assert table != records(seed=8, **options)
    assert len({tuple(record) for record in table}) == 1
    for record in table:
        if "measured" in record:
            gap = abs(record["measured"] - record["closed_form"])
        else:
            gap = math.hypot(
                record["measured_real"] - record["closed_form_real"],
                record["measured_imag"] - record["closed_form_imag"],
            )
        assert gap <= 4.5 * record["standard_error"], record


def test_a_row_does_not_depend_on_the_other_rows():
    both = theory.lemma_2_6_records(seed=1, dimensions=(2, 3), draws=1, samples=1000)
    alone = theory.lemma_2_6_records(seed=1, dimensions=(3,), draws=1, samples=1000)
    assert both[2:] == alone
