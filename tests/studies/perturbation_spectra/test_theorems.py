from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bandlimit.files import tables as readable
from bandlimit.studies.perturbation_spectra import theorem_figures, theorem_tables, theorems
from bandlimit.studies.perturbation_spectra.theorems import RELU, SOFTPLUS, Frozen

SEED = 20190501


@pytest.fixture(scope="module")
def tables() -> dict[str, readable.Table]:
    return {name: theorem_tables.table(name, SEED) for name in theorem_tables.TABLES}


@pytest.fixture(scope="module")
def nets() -> theorems.Networks:
    return theorems.draw_networks(SEED, "test", count=40)


def frozen(nets: theorems.Networks) -> tuple[np.ndarray, Frozen]:
    start = nets.pre_activations
    g = nets.gradients(start, RELU, start)
    return g, Frozen.of(g, nets.x)


# Spectra


def test_low_frequencies_are_both_of_each_pair_and_the_cutoff_is_one():
    low = theorems.low_frequencies(101, 5)
    assert low.sum() == 11
    waves = np.cos(2 * math.pi * np.outer([0, 1, 5, 6, 50], np.arange(101)) / 101)
    assert theorems.lfc_ratio(waves, 5) == pytest.approx([1, 1, 1, 0, 0], abs=1e-12)


@pytest.mark.parametrize("cutoff", [0, 50, 60])
def test_a_cutoff_that_leaves_no_side_is_refused(cutoff):
    with pytest.raises(ValueError, match="above 0 and below 50"):
        theorems.low_frequencies(101, cutoff)


def test_lfc_ratio_of_white_noise_is_the_uniform_share():
    noise = np.random.default_rng(0).standard_normal((4000, 101))
    assert theorems.lfc_ratio(noise).mean() == pytest.approx(theorems.UNIFORM, abs=0.003)


def test_lfc_ratio_of_nothing_is_unknown():
    assert np.isnan(theorems.lfc_ratio(np.zeros(101)))


def test_low_basis_gives_the_same_ratio_as_the_transform():
    basis = theorems._low_basis()
    assert basis.T @ basis == pytest.approx(np.eye(11), abs=1e-12)
    noise = np.random.default_rng(1).standard_normal((5, 101))
    low = ((noise @ basis) ** 2).sum(axis=1) / (noise**2).sum(axis=1)
    assert low == pytest.approx(theorems.lfc_ratio(noise), rel=1e-12)


def test_signals_obey_the_power_law_and_condition_2():
    x = theorems.power_law_signals(np.random.default_rng(2), 3, exponent=1.5, constant=0.5)
    spectrum = np.fft.rfft(x)
    sizes = np.abs(spectrum[:, 1:]) * np.arange(1, 51) ** 1.5
    assert sizes == pytest.approx(np.repeat(sizes[:, :1], 50, axis=1), rel=1e-9)
    assert spectrum[:, 0].real == pytest.approx(0.5 * sizes[:, 0], rel=1e-9)
    assert np.linalg.norm(x, axis=1) == pytest.approx(1, rel=1e-12)
    assert len(np.unique(np.angle(spectrum[:, 1:]).round(9))) == 150
    # Twice the sums over k > 0, with a constant of 1.
    low, high = (sum(k**-2 for k in ks) for ks in (range(1, 6), range(6, 51)))
    expected = (1 + 2 * low) / (1 + 2 * low + 2 * high)
    standard = theorems.power_law_signals(np.random.default_rng(2), 2)
    assert theorems.lfc_ratio(standard) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="odd"):
        theorems.power_law_signals(np.random.default_rng(2), 1, dimension=100)


# Networks


def test_softplus_has_a_second_derivative_of_at_most_a_quarter():
    p = np.linspace(-8, 8, 3201)
    slope = SOFTPLUS.derivative(p)
    assert np.gradient(SOFTPLUS.value(p), p)[1:-1] == pytest.approx(slope[1:-1], abs=1e-5)
    assert np.gradient(slope, p).max() == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("activation", [RELU, SOFTPLUS])
def test_steps_and_gradients_are_those_of_the_network(activation, nets):
    start = nets.pre_activations
    p = nets.step(nets.step(start, activation, 0.3), activation, 0.3)

    def output(w, x):
        return (nets.outer * activation.value((w * x[:, None, :]).sum(axis=2))).sum(axis=1)

    w = nets.weights
    for _ in range(2):
        slopes = nets.outer * activation.derivative((w * nets.x[:, None, :]).sum(axis=2))
        error = output(w, nets.x) - nets.labels
        w = w - 0.3 * (error[:, None] * slopes)[:, :, None] * nets.x[:, None, :]
    assert (w * nets.x[:, None, :]).sum(axis=2) == pytest.approx(p, rel=1e-9)
    direction = np.random.default_rng(3).standard_normal(nets.x.shape)
    ends = [output(w, nets.x + shift * direction) for shift in (1e-7, -1e-7)]
    found = (nets.gradients(p, activation, start) * direction).sum(axis=1)
    # A unit of ReLU may switch in between, though in few networks.
    assert np.mean(np.abs((ends[0] - ends[1]) / 2e-7 - found) < 1e-5) > 0.9


def test_draws_depend_on_their_names_alone():
    a, b, c = (theorems.draw_networks(seed, "a", count=2) for seed in (1, 1, 2))
    other = theorems.draw_networks(1, "b", count=2)
    assert np.array_equal(a.weights, b.weights)
    assert not np.array_equal(a.weights, c.weights)
    assert not np.array_equal(a.weights, other.weights)


# The frozen model


@pytest.mark.parametrize("s", [0.0, 0.4, 30.0, -2.0])
def test_frozen_ratio_is_that_of_the_gradient_less_inputs(s, nets):
    g, model = frozen(nets)
    expected = theorems.lfc_ratio(g - s * nets.x)
    assert model.ratio(np.full(len(g), s)) == pytest.approx(expected, rel=1e-10)
    assert model.ratio(np.full((len(g), 3), s))[:, 1] == pytest.approx(expected, rel=1e-10)
    assert model.input_ratio == pytest.approx(theorems.lfc_ratio(nets.x), rel=1e-10)


def test_turned_inputs_stand_for_negative_steps(nets):
    g, model = frozen(nets)
    s, signs = np.full(len(g), 3.0), np.where(np.arange(len(g)) % 2, 1.0, -1.0)
    expected = theorems.lfc_ratio(g - (signs * s)[:, None] * nets.x)
    assert model.directed(signs).ratio(s) == pytest.approx(expected, rel=1e-10)


def test_condition_12_decides_whether_the_ratio_of_the_input_is_crossed(nets):
    g, model = frozen(nets)
    assert 0 < model.condition.sum() < len(g)
    assert np.array_equal(model.crossing < 0, model.condition)
    at = theorems.lfc_ratio(g - model.crossing[:, None] * nets.x)
    assert at == pytest.approx(model.input_ratio, rel=1e-9)


def test_the_low_part_leads_from_the_start_on(nets):
    g, model = frozen(nets)
    waiting = model.start > 0
    assert waiting.any()
    for factor, leads in ((0.999, False), (1.001, True)):
        after = Frozen.of(g - factor * model.start[:, None] * nets.x, nets.x)
        assert ((after.change_low >= after.change_high) == leads)[waiting].all()


def test_rises_says_where_the_ratio_grows(nets):
    g, model = frozen(nets)
    s = np.tile(np.array([0.0, 0.2, 1.0, 50.0, 500.0]), (len(g), 1))
    step = 1e-6 * (1 + s)
    grown = model.ratio(s + step) - model.ratio(s - step)
    clear = np.abs(grown) > 1e-12
    assert clear.mean() > 0.9
    assert np.array_equal(model.rises(s)[clear], grown[clear] > 0)


def test_equation_10_has_counterexamples_where_condition_12_fails(nets):
    _, model = frozen(nets)
    s = np.broadcast_to(np.geomspace(1e-3, 1e5, 4000), (len(nets.x), 4000))
    tau = model.ratio(s)
    falls_last = tau[:, -1] < tau.max(axis=1) - 1e-9
    assert np.array_equal(falls_last, ~model.condition)
    assert (tau.max(axis=1) > model.input_ratio)[~model.condition].all()


# Theorems


def rows(tables, name: str, query: str) -> pd.DataFrame:
    found = tables[name].frame.query(query)
    assert len(found)
    return found


def test_theorem_1_is_of_first_order_for_relu_and_not_for_softplus(tables):
    slopes = tables["theorem_1"].frame.groupby("network")["slope"].first()
    assert slopes["frozen_relu"] == pytest.approx(2, abs=1e-3)
    assert slopes["relu"] == pytest.approx(2, abs=0.02)
    assert slopes["softplus"] == pytest.approx(1, abs=0.1)
    least = rows(tables, "theorem_1", "eta < 1.1e-5").set_index("network")
    assert least.loc["relu", "residual"] < 1e-3 * least.loc["relu", "change"]
    assert least.loc["softplus", "residual"] > 5e-3 * least.loc["softplus", "change"]


def test_increments_are_twice_those_of_equation_14(tables):
    found = rows(tables, "theorem_1", "network == 'frozen_relu'")
    for column in ("increment_ratio", "increment_ratio_one_sided"):
        assert found[column].to_numpy() == pytest.approx(2, rel=1e-9)


def test_frozen_training_on_one_sample_rises_after_t1(tables):
    found = rows(tables, "theorem_1", "network == 'frozen_relu'").iloc[0]
    assert (found["t0_reached"], found["t1_reached"], found["share_up"]) == (1, 1, 1)
    assert found["sign_changes"] == 1 and found["at_most_one"] == 1 and found["t0_late"] == 0
    assert found["turns"] == pytest.approx(0.5, abs=0.06)


def test_a_slope_needs_learning_rates():
    with pytest.raises(ValueError, match="three learning rates"):
        theorems.theorem_1_records(0, etas=(0.1, 0.2))


def test_order_changes_where_both_are_as_far():
    assert theorems.order_change(2, 1j) == pytest.approx(0.75)
    assert abs(2 - 0.75) == pytest.approx(abs(1j - 0.75))
    assert theorems.order_change(-2, 1j) < 0
    assert np.isinf(theorems.order_change(1 + 2j, 1))


def test_theorem_2_predicts_every_order(tables):
    frame = tables["theorem_2"].frame
    assert (frame["agreements"] == frame["pairs"]).all()
    assert frame.groupby("kind")["pairs"].first().min() > 500
    crossing = frame[frame["kind"] == "crossing"].set_index("relative_step")
    assert crossing.loc[1 - 1e-6, "ordered"] == 1 and crossing.loc[1 + 1e-6, "ordered"] == 0
    assert frame["exponent"].iloc[0] == pytest.approx(1, abs=0.03)


def test_condition_12_is_sufficient_for_its_sign_and_the_toss_of_a_coin(tables):
    frame = tables["theorem_3"].frame
    assert (frame["draws"].sum() + frame["left_out"].iloc[0]) == frame["initialisations"].iloc[0]
    assert frame.loc[frame["guaranteed"], "draws"].sum() > 1500
    assert frame.loc[frame["guaranteed"], "violations"].sum() == 0
    assert frame.loc[~frame["guaranteed"], "violation_rate"].min() > 0.99
    assert (frame["below"] == 1).all()
    assert (frame.loc[~frame["guaranteed"], "crossing"] > 5).all()
    low, high = frame["probability_low"].iloc[0], frame["probability_high"].iloc[0]
    assert low < 0.5 < high and high - low < 0.04


def test_pgd_nears_the_ratio_of_the_gradient(tables):
    frame = tables["theorem_4"].frame
    trained = frame[frame["state"] == "trained"]
    assert (trained["shrunk"] == trained["draws"]).all()
    assert (frame["lemma_violations"] == 0).all()
    assert trained["dl_df_max"].max() <= 0.1**1.5
    assert (trained["attained_nu_min"] > 0).all() and (trained["attained_nu_max"] < 1).all()
    ends = trained.groupby("activation")["gap"].agg(["first", "last"])
    assert ends.loc["softplus", "last"] < ends.loc["softplus", "first"] / 100
    assert ends.loc["relu", "last"] < ends.loc["relu", "first"] / 2


@pytest.mark.parametrize(("epsilon", "nu"), [(0.0, 0.5), (1.5, 0.5), (0.1, 1.0)])
def test_theorem_4_refuses_what_the_document_excludes(epsilon, nu):
    with pytest.raises(ValueError, match="in \\(0, 1\\)"):
        theorems.theorem_4_records(0, epsilon=epsilon, nu=nu)


# Training


def test_training_equals_plain_gradient_descent():
    runs = theorems.train_many(5, replicates=1, steps=3, learning_rate=1.5, samples=7)
    assert [run.case for run in runs] == list(theorems.LABELS)
    nets = theorems.draw_networks(5, "training", "many", 0, count=1)
    rng = theorems._random(5, "training", "samples", 0)
    x = theorems.power_law_signals(rng, 7)
    labels = theorems._labels(rng, x)
    for run in runs:
        w, a, y = nets.weights[0].copy(), nets.outer[0], labels[run.case]
        for step in range(4):
            taus, slope = [], np.zeros_like(w)
            for sample, label in zip(x, y, strict=True):
                on = (w @ sample > 0).astype(float)
                taus.append(theorems.lfc_ratio((a * on) @ w))
                error = a @ np.maximum(w @ sample, 0) - label
                slope += error * np.outer(a * on, sample) / len(x)
            assert run.tau[step] == pytest.approx(np.mean(taus), rel=1e-9)
            w -= 1.5 * slope


def test_labels_are_of_the_frequencies_of_their_teachers():
    rng = np.random.default_rng(4)
    x = np.eye(101)
    labels = theorems._labels(rng, x)
    assert list(labels) == list(theorems.LABELS)
    assert [np.mean(y**2) for y in labels.values()] == pytest.approx([1] * 5)
    ratios = {name: float(theorems.lfc_ratio(labels[name])) for name in labels}
    assert ratios["low_teacher"] == pytest.approx(1) and ratios["high_teacher"] < 1e-12
    assert 0.01 < ratios["white_teacher"] < 0.4


def test_the_rise_is_of_one_sample_and_the_fall_of_many(tables):
    frame = tables["training"].frame
    single, many = frame[frame["samples"] == 1], frame[frame["samples"] > 1]
    assert (single["share_up_after_t1"] >= 0.95).all()
    assert (single["fall"] < 1e-6).all() and (single["rise"] > 0.1).all()
    cases = many.groupby("case").agg(
        {"fall_low": "first", "fall_mean": "first", "replicates": "first"}
    )
    for case in ("white_teacher", "high_teacher", "random"):
        assert cases.loc[case, "fall_low"] > 0.05
    for case in ("constant", "low_teacher"):
        assert cases.loc[case, "fall_mean"] < 0.01
    assert (many.loc[many["fall"] > 0.1, "peak_step"] < 200).all()
    for _, of_case in frame.groupby("case"):
        assert len(of_case) == of_case["replicates"].iloc[0] >= 3
        assert of_case["fall_mean"].iloc[0] == pytest.approx(of_case["fall"].mean())
        assert of_case["fall_error"].iloc[0] == pytest.approx(
            of_case["fall"].std() / math.sqrt(len(of_case))
        )


def test_curves_are_thinned_and_agree_with_the_summary(tables):
    curves, runs = tables["training_curves"].frame, tables["training"].frame
    sizes = curves.groupby(["case", "seed"]).size()
    assert len(sizes) == len(runs) and sizes.between(150, 230).all()
    ends = curves.groupby(["case", "seed"])["tau"].agg(["first", "last"])
    expected = runs.set_index(["case", "seed"])[["start", "end"]].loc[ends.index]
    assert ends.to_numpy() == pytest.approx(expected.to_numpy())


def test_one_replicate_has_no_spread():
    with pytest.raises(ValueError, match="two replicates"):
        theorems.trainings(0, replicates=1)


def test_records_repeat_and_follow_the_seed():
    options = {"draws": 20, "trajectories": 20}
    first, second, other = (theorems.theorem_1_records(seed, **options) for seed in (1, 1, 2))
    assert first == second and first != other


# Tables and figures


def test_what_readers_see_is_in_the_tables(tables):
    for name, table in tables.items():
        shown = readable.show(table.frame, table.columns)
        assert len(shown) == len(table.frame)
        assert len(shown.columns) == len(table.columns), name


def test_functions_of_tables_give_the_frames_of_the_tables(tables):
    for name in ("theorem_2", "training"):
        found = getattr(theorem_tables, name)(SEED)
        pd.testing.assert_frame_equal(found, tables[name].frame)


def test_figures_draw_what_the_tables_say(tables):
    frames = {name: table.frame for name, table in tables.items()}
    theorem = theorem_figures.draw_theorems(frames)
    assert isinstance(theorem, Figure) and len(theorem.axes) == 4
    residuals, order, conditions, gaps = theorem.axes
    labels = [text.get_text() for text in residuals.get_legend().get_texts()]
    assert "ReLU, frozen: order 2.00" in labels and "Softplus: order 0.99" in labels
    assert len(order.lines) == 4 and len(gaps.lines) == 4
    heights = [round(bar.get_height(), 2) for bar in conditions.patches]
    assert heights == [1, 0, 0, 1, 1, 1, 1, 1]
    training = theorem_figures.draw_training(frames)
    single, many = training.axes
    assert (len(single.lines), len(many.lines)) == (4, 7)
    mean = frames["training_curves"].query("case == 'random'").groupby("step")["tau"].mean()
    drawn = [line for line in many.lines if line.get_label() == "random labels"]
    assert drawn[0].get_ydata() == pytest.approx(mean.to_numpy())


def test_figures_name_what_is_missing(tables):
    frames = {name: table.frame for name, table in tables.items()}
    with pytest.raises(ValueError, match="theorem_3"):
        theorem_figures.draw_theorems({k: v for k, v in frames.items() if k != "theorem_3"})
    with pytest.raises(ValueError, match="tau"):
        theorem_figures.draw_training(
            frames | {"training_curves": frames["training_curves"].drop(columns="tau")}
        )


def test_figures_of_empty_tables_say_so(tables):
    empty = {name: table.frame.iloc[:0] for name, table in tables.items()}
    for figure in (theorem_figures.draw_theorems(empty), theorem_figures.draw_training(empty)):
        assert all("no data" in [text.get_text() for text in axes.texts] for axes in figure.axes)
