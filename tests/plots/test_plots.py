import copy
import functools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from bandlimit.files import contents
from bandlimit.plan.code import reach
from bandlimit.plots import files, style
from bandlimit.studies.bandlimiting import figures, theory_figures
from bandlimit.studies.robustness import figures as robustness_figures

KNOWN_STYLES = (
    style.ATTACK_STYLE,
    figures.KIND_STYLE,
    robustness_figures.DEFENSE_STYLE,
)

CERTIFICATE = {
    "format": 1,
    "rule": "figure_2",
    "params": {"note": "größer -- als (1) \\ <&> \"x\" '\n'", "radius": 6.0, "empty": None},
    "inputs": {"results/a--b.parquet": "0f" * 32},
    "clean": True,
}


def rates(x, places, attacks, **columns):
    rows = [
        {
            "dataset": "cifar10",
            "model": "resnet56",
            "attack": attack,
            x: place,
            "adversarial": 100 + 10 * i,
            "defense_rate": 0.5 + 0.04 * i + 0.02 * j,
            "low": 0.4 + 0.04 * i,
            "high": 0.6 + 0.04 * i + 0.02 * j,
            **columns,
        }
        for i, attack in enumerate(attacks)
        for j, place in enumerate(places)
    ]
    return pd.DataFrame(rows)


def by_radius():
    # Out of order, as the rows of a table may be.
    return rates(
        "radius", [6.0, 3.0, 10.0], ["clean", "fgsm_minimal", "pgd_minimal"], directions=15
    )


def by_epsilon():
    return rates("epsilon", [k / 255 for k in (1, 2, 8, 32)], ["fgsm_minimal", "fgsm", "pgd"])


def response_frame():
    x = np.array([0.0, 1.0, 3.0, 10.0])
    frame = {
        "dimension": 3072,
        "radius": 6.0,
        "directions": 15,
        "t_over_sqrt_n": x,
        "ball": np.exp(-(x**2) / 2) * np.array([1, 1, 1, -1]),
        "measured": [1.0, 0.785, 0.259, -0.001],
        "closed_form": [1.0, 0.787, 0.259, 0.012],
        "closed_form_deviation": [0.0, 0.066, 0.131, 0.105],
        "floor": 1 / 91,
    }
    return pd.DataFrame(frame)


def crossings_frame():
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "attack": attack,
            "layer": layer,
            "kind": kind,
            "share": share,
            "low": 0.9 * share,
            "high": 1.1 * share,
        }
        for attack, scale in (("pgd_minimal", 1), ("fgsm_minimal", 3))
        for kind, share in (("adversarial", 0.02 * scale), ("gaussian", 0.006), ("signs", 0.005))
        for layer in range(4)
    ]
    return pd.DataFrame(rows)


def accuracy_frame():
    """Return a defence that holds against noise alone, with a second attack of one kind."""
    lines = {
        ("clean", "none", "clean"): [(0.0, 0.92)],
        ("undefended", "any", "strongest"): [(1, 0.1), (2, 0.0), (8, 0.0)],
        ("transfer", "undefended", "fgsm"): [(8, 0.2), (1, 0.9), (2, 0.8)],
        ("adaptive", "post_averaging", "eot_pgd"): [(1, 0.4), (2, 0.1), (8, 0.0)],
        ("black_box", "post_averaging", "square"): [(2, 0.8)],
        ("noise", "post_averaging", "noise"): [(1, 0.9), (2, 0.91), (8, 0.9)],
        ("strongest", "any", "strongest"): [(1, 0.25), (2, 0.1), (8, 0.0)],
    }
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "defense": "post_averaging",
            "line": line,
            "against": against,
            "attack": attack,
            "epsilon": epsilon / 255,
            "images": 50,
            "draws": 10,
            "mean": mean,
            "low": max(0.0, mean - 0.1),
            "high": min(1.0, mean + 0.1),
        }
        for (line, against, attack), points in lines.items()
        for epsilon, mean in points
    ]
    return pd.DataFrame(rows)


def scaling_frame():
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "attack": attack,
            "defense": defense,
            "factor": factor,
            "images": 60,
            "restored": share / factor,
            "low": 0.9 * share / factor,
            "high": share / factor + 0.02,
            "median_linf": 0.46 / 255 * factor,
        }
        for attack, share in (("pgd_minimal", 0.9), ("fgsm_minimal", 0.7))
        for defense in ("post_averaging", "own_defense")
        for factor in (1.0, 1.5, 2.0, 4.0)
    ]
    return pd.DataFrame(rows)


def controls_frame():
    rows = [
        {
            "dataset": dataset,
            "model": "m",
            "attack": attack,
            "epsilon": epsilon,
            "control": control,
            "adversarial": 60,
            "restored": restored,
            "low": restored - 0.1,
            "high": restored + 0.05,
            "clean": 0.9,
        }
        for dataset in ("c", "d")
        for attack, epsilon, less in (("pgd_minimal", None, 0), ("pgd", 2, 0.5), ("pgd", 8, 0.6))
        for control, restored in (
            ("rounding", 0.7 - less),
            ("flip", 0.93 - less),
            ("post_averaging", 0.9 - less),
        )
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(epsilon=frame["epsilon"].astype(float) / 255)


def confidence_frame():
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "defense": defense,
            "against": "undefended",
            "attack": "carlini_wagner_l2",
            "confidence": confidence,
            "adversarial": 45,
            "defense_rate": rate,
            "low": max(0.0, rate - 0.1),
            "high": rate + 0.1,
        }
        for defense, top in (("undefended", 0.0), ("post_averaging", 0.9), ("flip", 0.8))
        for confidence, rate in ((0.0, top), (10.0, top / 2), (40.0, 0.0))
    ]
    return pd.DataFrame(rows)


def losses_frame():
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "against": "post_averaging",
            "attack": attack,
            "epsilon": epsilon / 255,
            "step": step,
            "images": 40,
            "mean": epsilon * step,
            "lower": 0.8 * epsilon * step,
            "upper": 1.3 * epsilon * step,
        }
        for attack in ("eot_pgd", "eot_pgd_margin")
        for epsilon in (2.0, 8.0)
        for step in range(1, 21)
    ]
    return pd.DataFrame(rows)


def region_tables():
    """Return a square cut by one line per layer, with a step from left to right."""
    tables = {
        "polygons": {
            "region": [0] * 4 + [1] * 4,
            "vertex": [0, 1, 2, 3] * 2,
            "x": [0.0, 1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 1.0],
            "y": [0.0, 0.0, 1.0, 1.0] * 2,
        },
        "segments": {
            "layer": [1, 2, 3],
            "unit": [0, 0, 0],
            "x0": [1.0, 1.2, 1.4],
            "y0": [0.0] * 3,
            "x1": [1.0, 1.2, 1.4],
            "y1": [1.0] * 3,
        },
        "decision": {"x0": [1.5], "y0": [0.0], "x1": [1.5], "y1": [1.0]},
        "crossings": {
            "layer": [1, 2, 3],
            "unit": [0, 0, 0],
            "position": [0.3, 0.6, 0.9],
            "x0": [1.0, 1.2, 1.4],
            "x1": [0.5] * 3,
        },
        "points": {"x": [0.8, 1.9], "y": [0.5, 0.2], "label": [0, 1]},
        "step": {"name": ["A", "B"], "x": [0.8, 1.6], "y": [0.5, 0.5]},
    }
    return {name: pd.DataFrame(table) for name, table in tables.items()}


DRAWINGS = {
    "radius": lambda: figures.defense_rate_by_radius(by_radius()),
    "epsilon": lambda: figures.defense_rate_by_epsilon(by_epsilon()),
    "regions": lambda: theory_figures.linear_regions(region_tables()),
    "response": lambda: theory_figures.response(response_frame()),
    "crossings": lambda: figures.crossings(crossings_frame()),
    "accuracy": lambda: robustness_figures.robust_accuracy(accuracy_frame()),
    "scaling": lambda: robustness_figures.restored_by_scaling(scaling_frame()),
    "controls": lambda: robustness_figures.restored_by_controls(controls_frame()),
    "confidence": lambda: robustness_figures.defense_rate_by_confidence(confidence_frame()),
    "losses": lambda: robustness_figures.loss_curves(losses_frame()),
}


@functools.cache
def drawn(name):
    """Return a figure that tests only look at."""
    return DRAWINGS[name]()


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def words(figure):
    """Return all text that axes show: titles, labels, notes."""
    found = []
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return "\n".join(found)


def line_of(figure, label, panel=0):
    return next(line for line in figure.axes[panel].lines if line.get_label() == label)


def paths_in(folder):
    return [folder / f"figure{suffix}" for suffix in (".png", ".pdf", ".svg")]


def assert_equal_files(folder):
    for one, other in zip(paths_in(folder / "a"), paths_in(folder / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()


# What figures show


@pytest.mark.parametrize(
    ("name", "panels", "width", "legend", "text"),
    [
        (
            "radius",
            1,
            3.4,
            ["FGSM (minimal)", "PGD (minimal)", "clean accuracy, defended"],
            ["cifar10", "resnet56", "N = 110 to 120", "K = 15", "radius r", "defence rate"],
        ),
        (
            "epsilon",
            1,
            3.4,
            ["FGSM (minimal)", "FGSM (fixed)", "PGD (fixed)"],
            ["cifar10", "N = 100 to 120", "1/255", "defence rate"],
        ),
        (
            "regions",
            2,
            7,
            ["kink, layer 1", "kink, layer 3", "decision boundary", "crossed, layer 2"],
            ["2 linear regions", "3 kinks crossed", "A", "B", "input 1", "input 2"],
        ),
        (
            "response",
            2,
            7,
            ["ball average (ideal)", "Gaussian approximation", "floor 1/(6K+1)"],
            ["n = 3072, r = 6, K = 15", "r |ω| / √n", "response"],
        ),
        (
            "crossings",
            2,
            7,
            ["adversarial", "random, Gaussian", "random, signs"],
            ["PGD (minimal)", "FGSM (minimal)", "ReLU layer", "(%)"],
        ),
        (
            "accuracy",
            1,
            3.4,
            ["clean, defended", "random noise", "attack on the undefended", "black box"]
            + ["attack that knows the defence", "strongest of all, by image"]
            + ["undefended, strongest attack"],
            ["post-averaging\nN = 50, 10 draws", "1/255", "accuracy"],
        ),
        (
            "scaling",
            2,
            7,
            ["post-averaging", "own_defense"],
            ["PGD (minimal), N = 60", "FGSM (minimal)", "factor 1: 0.46 / 255", "share restored"],
        ),
        (
            "controls",
            2,
            7,
            ["PGD (minimal)", "PGD (fixed), 2/255", "PGD (fixed), 8/255", "clean accuracy"],
            ["N = 60 adversarial", "share restored"],
        ),
        (
            "confidence",
            1,
            3.4,
            ["post-averaging", "horizontal flip"],
            ["C&W L2 on undefended", "N = 45 adversarial", "confidence κ", "defence rate"],
        ),
        (
            "losses",
            2,
            7,
            ["ε = 2/255", "ε = 8/255"],
            ["EOT-PGD\non post-averaging, N = 40", "EOT-PGD margin", "step", "loss"],
        ),
    ],
)
def test_figures_name_what_they_show(name, panels, width, legend, text):
    figure = drawn(name)
    assert len(figure.axes) == panels
    assert figure.get_figwidth() == width
    assert set(legend) <= set(labels(figure))
    for part in text:
        assert part in words(figure)


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_leaves_the_figure_or_covers_a_legend(name):
    figure = drawn(name)
    page = figure.bbox
    for artist in [*figure.axes, *figure.legends]:
        box = artist.get_tightbbox()
        assert box.x0 >= page.x0 and box.x1 <= page.x1
        assert box.y0 >= page.y0 and box.y1 <= page.y1
    legend = figure.legends[0].get_tightbbox()
    for axes in figure.axes:
        assert axes.get_tightbbox().y0 >= legend.y1


def test_lines_hold_the_table_ordered_by_x():
    line = line_of(figures.defense_rate_by_radius(by_radius()), "PGD (minimal)")
    assert list(line.get_xdata()) == [3.0, 6.0, 10.0]
    assert list(line.get_ydata()) == pytest.approx([0.60, 0.58, 0.62])


def test_intervals_are_drawn_from_low_to_high():
    figure = figures.defense_rate_by_radius(by_radius())
    drawn = {
        tuple(np.round(segment, 6).ravel())
        for bars in figure.axes[0].collections
        for segment in bars.get_segments()
    }
    rows = by_radius()
    expected = {tuple(np.round((r.radius, r.low, r.radius, r.high), 6)) for r in rows.itertuples()}
    assert drawn == expected


def test_limits_hold_all_points_and_rates_run_from_0_to_1():
    axes = figures.defense_rate_by_radius(by_radius()).axes[0]
    assert axes.get_xlim()[0] < 3 and axes.get_xlim()[1] > 10
    assert axes.get_ylim() == pytest.approx((0, 1), abs=0.05)
    axes = figures.defense_rate_by_epsilon(by_epsilon()).axes[0]
    assert 0.5 / 255 < axes.get_xlim()[0] < 1 / 255 and 32 / 255 < axes.get_xlim()[1] < 64 / 255


@pytest.mark.parametrize("radius", [0.5, 6.0, 13.5])
def test_one_radius_stands_in_the_middle_with_its_points_apart(radius):
    attacks = ["clean", "fgsm_minimal", "pgd_minimal"]
    rows = rates("radius", [radius], attacks, directions=15)
    figure = figures.defense_rate_by_radius(rows)
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xlim() == (radius / 2, 1.5 * radius)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [f"{radius:g}"]
    marks = [line for line in axes.lines if line.get_marker() == "o" or line.get_marker() == "s"]
    places = {line.get_transform().transform((radius, 0))[0] for line in marks}
    assert len(places) == 2 and max(places) - min(places) > 10
    # Clean accuracy has no marker, and a line of one point would not be seen.
    (level,) = (line for line in axes.lines if list(line.get_ydata()) == [0.5, 0.5])
    assert level.get_linestyle() == "--"


def test_one_bound_stands_in_the_middle_in_units_of_1_over_255():
    figure = figures.defense_rate_by_epsilon(rates("epsilon", [8 / 255], ["pgd_minimal"]))
    (axes,) = figure.axes
    assert axes.get_xlim() == pytest.approx((4 / 255, 12 / 255))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8"]


def test_epsilon_ticks_are_in_units_of_1_over_255():
    axes = figures.defense_rate_by_epsilon(by_epsilon()).axes[0]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "8", "32"]


def test_epsilon_of_0_makes_the_axis_linear():
    frame = rates("epsilon", [0.0, 8 / 255], ["pgd"])
    axes = figures.defense_rate_by_epsilon(frame).axes[0]
    assert axes.get_xscale() == "linear"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "8"]


def test_close_epsilons_are_ticks_without_labels():
    frame = rates("epsilon", [k / 255 for k in (1, 2, 4, 8, 30, 31, 32)], ["pgd"])
    axes = figures.defense_rate_by_epsilon(frame).axes[0]
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert shown == ["1", "2", "4", "8", "32"]
    assert 31 / 255 in axes.xaxis.get_minorticklocs()


def test_a_panel_per_dataset_and_model():
    frames = [by_radius().assign(model=model) for model in ("a", "b", "c", "d")]
    figure = figures.defense_rate_by_radius(pd.concat(frames))
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == [
        f"cifar10, {model}" for model in "abcd"
    ]
    assert labels(figure).count("PGD (minimal)") == 1


def test_response_shows_band_and_floor():
    figure = theory_figures.response(response_frame())
    linear, logarithmic = figure.axes
    band = linear.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.012 - 0.105)
    assert logarithmic.get_yscale() == "log"
    floors = [
        line for line in logarithmic.lines if list(line.get_ydata()) == pytest.approx([1 / 91] * 2)
    ]
    assert floors


def test_attacks_on_one_model_share_the_scale_of_crossings():
    figure = figures.crossings(crossings_frame())
    tops = [axes.get_ylim()[1] for axes in figure.axes]
    assert tops[0] == tops[1] > 0.066


def test_what_is_left_of_a_defence_is_shaded_and_drawn_where_the_table_says():
    axes = drawn("accuracy").axes[0]
    line = line_of(drawn("accuracy"), "strongest of all, by image")
    assert list(line.get_ydata()) == pytest.approx([0.25, 0.1, 0.0])
    # Neither the line nor what it bounds is moved sideways.
    shaded = axes.collections[-1].get_paths()[0].vertices
    assert {tuple(point) for point in np.round(line.get_xydata(), 9)} <= {
        tuple(point) for point in np.round(shaded, 9)
    }
    x = [line.get_transform().transform(point)[0] for point in line.get_xydata()]
    assert x == pytest.approx([axes.transData.transform(point)[0] for point in line.get_xydata()])
    clean = [line for line in axes.lines if list(line.get_ydata()) == [0.92, 0.92]]
    assert len(clean) == 1


def test_each_kind_of_attacker_has_a_colour_and_a_marker_of_its_own():
    figure = drawn("accuracy")
    names = ["attack on the undefended", "attack that knows the defence", "black box"]
    lines = [line_of(figure, name) for name in names]
    assert len({line.get_color() for line in lines}) == len(names)
    assert len({line.get_marker() for line in lines}) == len(names)


def test_long_names_take_fewer_columns_of_the_legend():
    frame = accuracy_frame().replace({"attack": {"fgsm": "an_attack_with_quite_a_long_name"}})
    figure = robustness_figures.robust_accuracy(frame)
    box = figure.legends[0].get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_controls_stand_in_the_order_of_what_they_restore_and_the_defence_is_shaded():
    grid = drawn("controls").axes
    ticks = [tick.get_text() for tick in grid[0].get_yticklabels()]
    assert ticks == ["rounding", "post-averaging", "horizontal flip"]
    for axes in grid:
        (shade,) = axes.patches
        assert (shade.get_y(), shade.get_y() + shade.get_height()) == (0.5, 1.5)
        heights = np.array([line.get_ydata() for line in axes.lines])
        shares = np.array([line.get_xdata() for line in axes.lines])
        # The rows of the table are out of order; what stands where does not depend on that.
        order = np.argsort(heights, axis=1)
        shares = np.take_along_axis(shares, order, axis=1)
        assert [0.7, 0.9, 0.93] in shares.round(9).tolist()
        assert [0.9, 0.9, 0.9] in shares.round(9).tolist()


def test_bounds_of_one_attack_differ_in_the_filling_of_markers():
    points = [line for line in drawn("controls").axes[0].lines if line.get_marker() == "X"]
    assert sorted(line.get_fillstyle() for line in points) == ["full", "none"]


def test_the_attacked_one_has_no_line_over_confidence():
    assert labels(drawn("confidence")) == ["post-averaging", "horizontal flip"]


def test_bands_of_losses_hold_the_middle_half():
    axes = drawn("losses").axes[0]
    band = axes.collections[-1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.8 * 8)
    assert band[:, 1].max() == pytest.approx(1.3 * 8 * 20)


def test_looks_differ_in_colour_marker_and_dashes():
    for known in KNOWN_STYLES:
        for attribute in ("label", "color", "marker"):
            assert len({getattr(look, attribute) for look in known.values()}) == len(known)
    assert set(style.ATTACK_STYLE) == {
        *("fgsm_minimal", "pgd_minimal", "deepfool_l2", "carlini_wagner_l2"),
        *("deepfool_linf", "fgsm", "pgd"),
    }


def test_unknown_attacks_are_drawn_under_their_own_names():
    frame = by_epsilon().replace({"attack": {"fgsm": "square", "pgd": "boundary"}})
    figure = figures.defense_rate_by_epsilon(frame)
    assert labels(figure) == ["FGSM (minimal)", "boundary", "square"]
    one, other = line_of(figure, "square"), line_of(figure, "boundary")
    assert one.get_marker() != other.get_marker() and one.get_color() != other.get_color()


# Nulls


@pytest.mark.parametrize("null", [None, np.nan, pd.NA])
def test_null_rates_are_skipped_without_warnings(null):
    frame = by_epsilon().astype({"defense_rate": object, "low": object, "high": object})
    empty = (frame["attack"] == "fgsm_minimal") & (frame["epsilon"] < 3 / 255)
    frame.loc[empty, ["defense_rate", "low", "high"]] = null
    frame.loc[empty, "adversarial"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.defense_rate_by_epsilon(frame)
    assert list(line_of(figure, "FGSM (minimal)").get_xdata()) == [8 / 255, 32 / 255]
    assert "N = 0 to 120" in words(figure)


def test_points_of_few_images_are_hollow_and_off_the_line():
    frame = by_epsilon()
    few = (frame["attack"] == "pgd") & (frame["epsilon"] < 8 / 255)
    frame.loc[few, "adversarial"] = 9
    frame.loc[~few, "adversarial"] = 10
    figure = figures.defense_rate_by_epsilon(frame)
    look = style.ATTACK_STYLE["pgd"]
    line, hollow = (x for x in figure.axes[0].get_lines() if x.get_label() == look.label)
    assert np.isnan(line.get_ydata()).tolist() == [True, True, False, False]
    assert hollow.get_linestyle() == "None" and hollow.get_markerfacecolor() == "white"
    assert hollow.get_xdata().tolist() == [1 / 255, 2 / 255]
    assert hollow.get_ydata().tolist() == frame.loc[few, "defense_rate"].tolist()
    assert "fewer than 10 images" in labels(figure)
    frame["adversarial"] = 10
    assert "fewer than 10 images" not in labels(figures.defense_rate_by_epsilon(frame))


def test_an_attack_without_any_rate_is_named():
    frame = by_epsilon()
    frame.loc[frame["attack"] == "pgd", ["defense_rate", "low", "high"]] = np.nan
    figure = figures.defense_rate_by_epsilon(frame)
    assert "PGD (fixed)" not in labels(figure)
    assert "no adversarial image:\nPGD (fixed)" in words(figure)


@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (figures.defense_rate_by_radius, by_radius()),
        (figures.defense_rate_by_epsilon, by_epsilon()),
        (theory_figures.response, response_frame()),
        (figures.crossings, crossings_frame()),
        (robustness_figures.robust_accuracy, accuracy_frame()),
        (robustness_figures.restored_by_scaling, scaling_frame()),
        (robustness_figures.restored_by_controls, controls_frame()),
        (robustness_figures.defense_rate_by_confidence, confidence_frame()),
        (robustness_figures.loss_curves, losses_frame()),
    ],
)
def test_empty_and_null_tables_give_a_picture_that_says_so(draw, frame):
    numbers = frame.select_dtypes("number").columns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bare in (frame.iloc[:0], frame.assign(**dict.fromkeys(numbers, np.nan))):
            figure = draw(bare)
            assert "no data" in words(figure) or "no adversarial image" in words(figure)
            figure.draw_without_rendering()


# Mistakes of a programmer


def test_a_missing_column_or_table_is_named():
    with pytest.raises(ValueError, match="high"):
        figures.defense_rate_by_radius(by_radius().drop(columns="high"))
    with pytest.raises(ValueError, match="upper"):
        robustness_figures.loss_curves(losses_frame().drop(columns="upper"))
    tables = region_tables()
    del tables["decision"]
    with pytest.raises(ValueError, match="decision"):
        theory_figures.linear_regions(tables)


def test_two_settings_in_one_line_are_refused():
    frame = pd.concat([by_radius(), by_radius().assign(directions=30)])
    with pytest.raises(ValueError, match="several rows with the same radius"):
        figures.defense_rate_by_radius(frame)


# Files


def test_settings_of_matplotlib_are_neither_changed_nor_used(tmp_path):
    before = copy.deepcopy(dict(matplotlib.rcParams))
    files.save(DRAWINGS["radius"](), *paths_in(tmp_path / "a"), CERTIFICATE)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 20, "axes.titleweight": "bold"}):
        files.save(DRAWINGS["radius"](), *paths_in(tmp_path / "b"), CERTIFICATE)
    assert_equal_files(tmp_path)


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_figures_give_equal_bytes(name, tmp_path):
    files.save(drawn(name), *paths_in(tmp_path / "a"), CERTIFICATE)
    files.save(DRAWINGS[name](), *paths_in(tmp_path / "b"), CERTIFICATE)
    assert_equal_files(tmp_path)


def test_a_figure_may_be_saved_again(tmp_path):
    files.save(drawn("radius"), *paths_in(tmp_path / "a"), CERTIFICATE)
    files.save(drawn("radius"), *paths_in(tmp_path / "b"), CERTIFICATE)
    assert_equal_files(tmp_path)


def test_each_file_takes_one_drawing(tmp_path, monkeypatch):
    figure = drawn("radius")
    drawings = []
    draw = type(figure).draw
    monkeypatch.setattr(
        type(figure), "draw", lambda own, renderer: drawings.append(draw(own, renderer))
    )
    files.save(figure, *paths_in(tmp_path), CERTIFICATE)
    assert len(drawings) == 3


def test_another_process_at_another_time_gives_equal_bytes(tmp_path):
    files.save(drawn("epsilon"), *paths_in(tmp_path / "a"), CERTIFICATE)
    code = (
        "import sys; from pathlib import Path; import test_plots as t;"
        "t.files.save(t.DRAWINGS['epsilon'](), *t.paths_in(Path(sys.argv[1]) / 'b'), t.CERTIFICATE)"
    )
    here = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])]),
            "PYTHONHASHSEED": "77",
            "SOURCE_DATE_EPOCH": "86400",
        },
    )
    assert_equal_files(tmp_path)


def test_all_forms_carry_the_certificate(tmp_path):
    paths = paths_in(tmp_path)
    files.save(drawn("radius"), *paths, CERTIFICATE)
    for path in paths:
        found, content = contents.read(path)
        assert found.items() >= CERTIFICATE.items()
        assert found["content"] == content
        assert found["file"] == path.name
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_pictures_have_the_promised_form(tmp_path):
    from PIL import Image

    png, pdf, svg = paths_in(tmp_path)
    files.save(drawn("radius"), png, pdf, svg, CERTIFICATE)
    with Image.open(png) as image:
        assert image.width == round(3.4 * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert b"CreationDate" not in pdf.read_bytes()
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType
    assert "dc:date" not in svg.read_text()
    assert "FGSM (minimal)</text>" in svg.read_text()


def test_a_failure_leaves_all_files_as_they_were(tmp_path, monkeypatch):
    paths = paths_in(tmp_path)
    for path in paths:
        path.write_text("old")
    figure = DRAWINGS["radius"]()
    original = figure.savefig

    def fail(path, **options):
        if options["format"] == "svg":
            raise RuntimeError("disk is full")
        original(path, **options)

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(RuntimeError):
        files.save(figure, *paths, CERTIFICATE)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert {path.read_text() for path in paths} == {"old"}


# What a figure's script reaches


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("bandlimiting/figure_1", "theory_figures"),
        ("bandlimiting/figure_2", "figures"),
        ("bandlimiting/figure_3", "figures"),
        ("bandlimiting/figure_response", "theory_figures"),
        ("bandlimiting/figure_crossings", "figures"),
        ("robustness/figure_losses", "figures"),
    ],
)
def test_a_figure_reaches_only_what_draws_it(script, module):
    files = reach(f"scripts/{script}.py", Path(__file__).parents[2])
    reached = {Path(file).stem for file in files if file.startswith("bandlimit/plots/")}
    assert reached == {"__init__", "style", "files", "backend"}
    folder = f"bandlimit/studies/{script.split('/')[0]}/"
    drawing = {Path(f).stem for f in files if f.startswith(folder) and "figures" in f}
    assert drawing == {module}


def test_an_attack_of_one_step_has_no_panel_of_its_loss():
    frame = losses_frame()
    frame = frame[(frame["attack"] == "eot_pgd") | (frame["step"] == 1)]
    (panel,) = robustness_figures.loss_curves(frame).axes
    assert "EOT-PGD\non" in panel.get_title()


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "none_such"])
def test_figures_do_not_ask_for_the_caller_s_backend(backend):
    """A notebook names one that may not be here, and matplotlib asks for it when imported."""
    code = (
        "import os; from bandlimit.plots import files;"
        "from bandlimit.studies.bandlimiting import figures;"
        "print(os.environ['MPLBACKEND'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLBACKEND": backend},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{backend}\n", done.stderr
