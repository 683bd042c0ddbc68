from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import integrate, stats

from bandlimit.studies.frequency_principle.response import gradients
from bandlimit.studies.frequency_principle.response.gradients_figure import draw_gradients

SIZES = {"frequencies": [[1, 2]], "neurons": 2, "draws": 4000, "seeds": 3, "seed": 20190501}


def loss(nets: gradients.Draws, frequency: float, phases: np.ndarray) -> np.ndarray:
    size, phase = gradients.transform(nets.weights, nets.biases, nets.outer, frequency)
    error = (np.exp(size) * phase).sum(axis=1) - np.exp(1j * phases)
    return np.abs(error) ** 2 / 2


@pytest.mark.parametrize(("w", "b", "a"), [(1.3, 0.4, 0.7), (-0.8, 1.1, 2.0), (2.0, -0.5, -1.0)])
def test_the_transform_of_a_neuron_is_that_of_its_slope_over_ik(w, b, a):
    k = 1.7
    # tanh has no integral, its derivative has one.
    real, imaginary = (
        integrate.quad(lambda x, f=f: a * w * f(k * x) / np.cosh(w * x + b) ** 2, -30, 30)[0]
        for f in (math.cos, lambda t: -math.sin(t))
    )
    size, phase = gradients.transform(*(np.array([value]) for value in (w, b, a)), k)
    assert np.exp(size) * phase == pytest.approx((real + 1j * imaginary) / (1j * k), rel=1e-7)


def test_gradients_are_those_of_finite_differences():
    nets = gradients.draw(3, 2.0, 50, 2, 1)
    # A weight near 0 turns its phase too fast for a difference.
    nets = replace(nets, weights=np.sign(nets.weights) * (0.4 + np.abs(nets.weights)))
    size, sign = gradients.log_gradients(nets, 1.5, nets.phases[0])
    found = sign * np.exp(size)
    for i, name in enumerate(("weights", "biases", "outer")):
        for neuron in range(2):
            step = np.zeros((50, 2))
            step[:, neuron] = 1e-6
            up, down = (
                loss(replace(nets, **{name: getattr(nets, name) + s * step}), 1.5, nets.phases[0])
                for s in (1, -1)
            )
            assert found[:, 2 * i + neuron] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-8)


def test_weights_whose_exponentials_vanish_are_still_compared():
    nets = gradients.draw(0, 1e-4, 200, 3, 2)
    low, high = (
        gradients.log_gradients(nets, k, p) for k, p in zip((1, 2), nets.phases, strict=True)
    )
    assert np.isfinite(low[0]).all() and np.isfinite(high[0]).all()
    # exp(-pi k / 2 w) alone would be 0 here.
    assert low[0].max() < -1e4
    assert all(led.all() for led in gradients.leads(low, high))


def test_weights_are_uniform_in_the_ball():
    nets = gradients.draw(1, 0.7, 4000, 3, 1)
    radii = np.linalg.norm(nets.weights, axis=1) / 0.7
    assert stats.kstest(radii**3, "uniform").pvalue > 0.01
    assert np.abs(nets.weights.mean(axis=0)).max() < 0.03


def test_the_loss_that_falls_faster_is_that_of_the_longer_gradient():
    # So says the inequality of Cauchy and Schwarz: then the other cannot make it rise.
    nets = gradients.draw(2, 3.0, 2000, 2, 2)
    found = [gradients.log_gradients(nets, k, p) for k, p in zip((1, 2), nets.phases, strict=True)]
    low, high = ((sign * np.exp(size)) for size, sign in found)
    every, faster = gradients.leads(*found)
    # Squares of gradients that vanish say nothing.
    seen = np.minimum(np.abs(low).min(axis=1), np.abs(high).min(axis=1)) > 1e-150
    assert seen.mean() > 0.5
    longer = (low**2).sum(axis=1) >= (high**2).sum(axis=1)
    assert (faster == longer)[seen].all()
    assert (every == (np.abs(low) > np.abs(high)).all(axis=1))[seen].all()
    assert 0 < every.mean() < faster.mean() < 1


def test_the_lower_frequency_leads_the_more_often_the_smaller_weights_are():
    frame = gradients.simulate(deltas=[4, 1, 0.5], **SIZES)
    for _, part in frame.groupby("theorem"):
        shares = part.sort_values("delta")["share"].to_numpy()
        assert (np.diff(shares) < 0).all()
    assert (frame["share_low"] < frame["share"]).all()
    assert (frame["share_least"] <= frame["share"]).all()
    assert (frame["draws"] == 12000).all()


def test_a_radius_has_its_draws_whatever_is_simulated_beside_it():
    alone = gradients.simulate(deltas=[1], **SIZES)
    beside = gradients.simulate(deltas=[2, 1], **{**SIZES, "frequencies": [[1, 2], [2, 3]]})
    rows = beside[(beside["delta"] == 1) & (beside["frequencies"] == "1 and 2")]
    assert rows["failures"].tolist() == alone["failures"].tolist()


@pytest.mark.parametrize(("power", "exponential"), [(False, True), (True, False)])
def test_the_fit_finds_the_rate_and_tells_the_laws_apart(power, exponential):
    delta = np.array([2, 1, 0.8, 0.65, 0.5, 0.4, 0.32, 0.25])
    share = 0.2 * delta**3 if power else np.exp(-1.8 / delta)
    # Radii above 1 do not count.
    share[0] = 0.9
    rows = pd.DataFrame({"delta": delta, "failures": np.round(share * 1e6), "draws": 1_000_000})
    found = gradients.fit(rows, np.random.default_rng(0))
    assert (found["deviance_ratio_high"] < 0.5) == exponential
    assert (found["deviance_ratio_low"] > 2) == power
    if exponential:
        assert found["rate"] == pytest.approx(1.8, abs=0.01)
        assert found["rate_low"] < 1.8 < found["rate_high"]
        assert found["log_constant"] == pytest.approx(0, abs=0.01)


def test_too_few_failures_are_not_fitted():
    rows = pd.DataFrame({"delta": [1, 0.5, 0.25], "failures": [9, 1, 0], "draws": 1000})
    assert set(gradients.fit(rows, np.random.default_rng(0)).values()) == {None}
    frame = gradients.simulate(deltas=[0.1, 0.05], **SIZES)
    assert frame["rate"].isna().all()
    assert isinstance(draw_gradients(frame), Figure)


def test_the_figure_shows_each_theorem_and_pair():
    frame = gradients.table(deltas=[4, 1, 0.8, 0.6], **SIZES).frame
    figure = draw_gradients(frame)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Theorem 1, k = 1 and 2",
        "Theorem 2, k = 1 and 2",
    ]
    with pytest.raises(ValueError, match="share_low"):
        draw_gradients(frame.drop(columns="share_low"))
