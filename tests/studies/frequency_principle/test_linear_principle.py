from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bandlimit.studies.frequency_principle.response import artifacts, linear_principle, threads
from bandlimit.studies.frequency_principle.response import linear_principle_model as model
from bandlimit.studies.frequency_principle.response.linear_principle import Networks
from bandlimit.studies.frequency_principle.response.linear_principle_figure import (
    draw_linear_principle,
)

SMALL = {
    "neurons": [40, 1200],
    "steps": {"line": 50, "xor": 1500},
    "seeds": 3,
    "times": {"frequencies": [1, 2], "threshold": 0.1},
    "seed": 20190501,
}


@pytest.fixture(autouse=True)
def one_thread():
    with threads.one_thread():
        yield


@pytest.fixture(scope="module")
def tables():
    return linear_principle.tables(**SMALL)


# The model


def by_sums(problem: model.Problem, points: np.ndarray, period: float, most: float) -> np.ndarray:
    """Interpolate by a sum over the frequencies of a box, in which constants cost nothing."""
    d = problem.inputs.shape[1]
    axis = np.arange(-int(most * period), int(most * period) + 1) / period
    xi = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
    xi = xi[np.linalg.norm(xi, axis=1) > 0]
    weights = model.gamma_squared(np.linalg.norm(xi, axis=1), d) / period**d

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # cos(x - y) = cos x cos y + sin x sin y.
        angles = [2 * math.pi * part @ xi.T for part in (a, b)]
        return sum((f(angles[0]) * weights) @ f(angles[1]).T for f in (np.cos, np.sin))

    inner, outer = kernel(problem.inputs, problem.inputs), kernel(points, problem.inputs)
    free = 100 * inner.max()
    return (outer + free) @ np.linalg.solve(inner + free, problem.labels)


@pytest.mark.parametrize(
    ("name", "period", "most", "near"), [("line", 32, 60, 0.005), ("xor", 32, 8, 0.04)]
)
def test_the_prediction_is_the_interpolation_by_a_sum_over_frequencies(name, period, most, near):
    problem = model.PROBLEMS[name]()
    points = problem.points[::37]
    exact = model.prediction(model.Problem(problem.inputs, problem.labels, points))
    found = by_sums(problem, points, period, most)
    assert np.linalg.norm(found - exact) < near * np.linalg.norm(exact)


@pytest.mark.parametrize("name", model.PROBLEMS)
def test_the_prediction_passes_through_the_samples_and_keeps_what_costs_nothing(name):
    problem = model.PROBLEMS[name]()
    at = model.Problem(problem.inputs, problem.labels, problem.inputs)
    assert model.prediction(at) == pytest.approx(problem.labels, abs=1e-9)
    slope = np.arange(1, problem.inputs.shape[1] + 1)
    flat = model.Problem(problem.inputs, 2 + problem.inputs @ slope, problem.points)
    assert model.prediction(flat) == pytest.approx(2 + problem.points @ slope, abs=1e-9)


@pytest.mark.parametrize("d", [1, 2])
def test_rates_fall_with_the_frequency_at_the_powers_of_both_terms(d):
    for frequency, power in ((1e-4, d + 3), (1e4, d + 1)):
        low, high = model.gamma_squared(np.array([frequency, 2 * frequency]), d)
        assert math.log2(low / high) == pytest.approx(power, abs=1e-3)


def test_the_constants_are_the_means_of_drawn_networks():
    nets = Networks.draw(0, 200_000, 2, 1)
    r, w = nets.r.square().sum(dim=1), nets.w.square()
    a, b = model.constants(2)
    assert float((r + w).mean()) == pytest.approx(a, rel=0.01)
    assert float((r * w).mean()) == pytest.approx(b, rel=0.02)
    assert float(nets.l.abs().max()) == pytest.approx(linear_principle.BIASES, rel=1e-3)


# Networks


def test_gradients_are_those_of_automatic_differentiation():
    nets = Networks.draw(1, 30, 2, 3)
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    parts = [part.clone().requires_grad_() for part in (nets.w, nets.r, nets.l)]
    outputs = Networks(*parts).outputs(x)
    inner = torch.einsum(
        "snp,sn->sp",
        (torch.einsum("pd,sdn->snp", x, nets.r) - (nets.r.norm(dim=1) * nets.l)[..., None]).relu(),
        nets.w,
    ) / math.sqrt(30)
    assert torch.allclose(outputs, inner)
    wanted = torch.autograd.grad(((outputs - y) ** 2).sum() / 2, parts)
    for found, right in zip(nets.gradients(x, lambda h: h - y), wanted, strict=True):
        assert torch.allclose(found, right, rtol=1e-10)


def test_the_tangent_kernel_says_how_outputs_change_in_a_small_step():
    problem = model.xor()
    nets, x = Networks.draw(2, 400, 2, 2), torch.from_numpy(problem.inputs)
    error = torch.from_numpy(problem.labels).expand(2, -1)
    step = [1e-6 * part for part in nets.gradients(x, lambda h: error)]
    moved = Networks(nets.w - step[0], nets.r - step[1], nets.l - step[2])
    change = (moved.outputs(x) - nets.outputs(x)) / -1e-6
    kernel = linear_principle.tangent_kernel(nets, x)
    assert torch.allclose(change, (kernel @ error[..., None])[..., 0], rtol=1e-4)


def test_training_reaches_the_samples_and_takes_off_the_output_before():
    problem = model.xor()
    before = Networks.draw(3, 500, 2, 2)
    after, residual = linear_principle.train(before, problem, 1500)
    assert residual.max() < 0.01
    found = linear_principle.learnt(before, after, problem.inputs)
    assert found == pytest.approx(np.tile(problem.labels, (2, 1)), abs=0.01)
    untrained, left = linear_principle.train(before, problem, 0)
    assert left == pytest.approx([1.0, 1.0])
    assert torch.equal(untrained.w, before.w)


def test_a_network_learns_the_same_beside_others():
    problem = model.line()
    alone, beside = (Networks.draw(4, 50, 1, seeds) for seeds in (1, 3))
    found = [
        linear_principle.learnt(nets, linear_principle.train(nets, problem, 100)[0], problem.points)
        for nets in (alone, beside)
    ]
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-9)
    assert not np.allclose(found[1][0], found[1][1], atol=1e-3)


# Tables and figure


def test_wider_networks_come_nearer_to_the_model(tables):
    rows = tables["linear_principle"].frame
    xor = rows[rows["problem"] == "xor"]
    assert xor["widest"].tolist() == [False, True]
    assert xor["relative_l2"].iloc[1] < 0.6 * xor["relative_l2"].iloc[0]
    assert (rows["relative_l2_low"] < rows["relative_l2"]).all()
    assert (rows["correlation_high"] <= 1).all()


def test_distances_are_those_of_the_points(tables):
    rows, points = (tables[name].frame for name in ("linear_principle", "linear_principle_points"))
    row = rows[(rows["problem"] == "xor") & rows["widest"]].iloc[0]
    own = points[points["problem"] == "xor"]
    assert len(own) == 1600
    single = np.linalg.norm(own["single"] - own["model"]) / np.linalg.norm(own["model"])
    assert row["relative_l2_least"] - 1e-12 <= single <= row["relative_l2_greatest"] + 1e-12
    assert (own["network_least"] <= own["network"]).all()


def test_times_are_those_of_the_rates(tables):
    times = tables["linear_principle_times"].frame
    assert np.exp(-times["rate"] * times["step"]).to_numpy() == pytest.approx(times["threshold"])
    for _, part in times.groupby("case"):
        assert part["step"].is_monotonic_increasing


def test_the_job_makes_what_the_catalogue_names(tables):
    entries = {entry.name: entry for entry in artifacts.THEORY}
    assert list(tables) == [made.name for made in entries["linear_principle"].makes]


def test_the_figure_is_drawn(tables):
    rows, points = (tables[name].frame for name in ("linear_principle", "linear_principle_points"))
    assert isinstance(draw_linear_principle(rows, points), Figure)
    with pytest.raises(ValueError, match="single"):
        draw_linear_principle(rows, points.drop(columns="single"))
