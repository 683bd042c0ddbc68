"""Figures of the study, from small tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bandlimit.studies.perturbation_spectra import figures, spectrum_figures


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title() for axes in figure.axes]
    found += [axes.get_xlabel() for axes in figure.axes]
    found += [axes.get_ylabel() for axes in figure.axes]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return found


def cells(lift=2.0):
    return pd.DataFrame(
        [
            {
                "network": f"n{batchnorm}{training}",
                "batchnorm": batchnorm,
                "training": training,
                "loss": "cross_entropy",
                "checkpoint": checkpoint,
                "perturbation": perturbation,
                "images": 9,
                "lift": lift,
                "lift_low": lift - 0.1,
                "lift_high": lift + 0.1,
            }
            for batchnorm in (True, False)
            for training in ("natural", "adversarial")
            for checkpoint in ("initial", "one_epoch", "end")
            for perturbation in ("fgm_l2", "pgd_linf", "mine")
        ]
    )


def test_lifts_have_a_panel_for_each_perturbation_and_a_line_for_each_network():
    figure = figures.draw_lifts(cells(), {"low": "A", "high": "B"})
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == [
        "FGM, L2", "PGD, L∞", "mine"]  # fmt: skip
    found = texts(figure)
    assert {"low: A", "high: B"} <= set(found)
    assert {"BatchNorm, natural", "no BatchNorm, adversarial"} <= set(found)
    for axes in figure.axes:
        lines = [line for line in axes.lines if len(line.get_ydata()) == 3]
        assert len(lines) == 4 and all((line.get_ydata() == 2).all() for line in lines)
        # 1 is a flat spectrum.
        assert any(set(line.get_ydata()) == {1} for line in axes.lines)


def test_a_lift_of_any_size_has_room():
    for lift in (0.11, 40.0):
        low, high = figures.draw_lifts(cells(lift), {}).axes[0].get_ylim()
        assert low < lift < high


def trajectory():
    rows = [
        {
            "network": "n", "batchnorm": True, "training": "natural", "loss": "mse",
            "step": step, "attack": attack, "radius": radius, "uniform": radius / 10,
            "ratio": radius / 10 + step / 1000, "deviation": 0.05, "images": 7,
        }
        for step in (0, 1, 10, 100)
        for attack in ("fgm_l2", "pgd_l2")
        for radius in (1.0, 3.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_trajectories_have_the_share_of_a_flat_spectrum_for_each_radius():
    figure = figures.draw_trajectories(trajectory(), ["n"])
    assert len(figure.axes) == 2
    for axes in figure.axes:
        levels = [set(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2]
        assert {0.1} in levels and {0.3} in levels
        curves = [line for line in axes.lines if len(line.get_xdata()) == 4]
        assert len(curves) == 2
    assert {"radius 1", "radius 3", "share of a flat spectrum"} <= set(texts(figure))


def test_without_rows_a_figure_says_so():
    assert "no data" in texts(figures.draw_trajectories(trajectory(), ["other"]))
    with pytest.raises(ValueError, match="lift"):
        figures.draw_lifts(cells().drop(columns="lift"), {})


def test_the_filter_has_three_curves_and_what_is_there_without_it():
    frame = pd.DataFrame({"cutoff": [1.0, 2.0, 3.0], "dataset": "d", "model": "m", "images": 5})
    for name, values in (("clean", [0.2, 0.5, 0.9]), ("unaware", [0.1, 0.4, 0]), ("aware", 0.0)):
        frame[name] = values
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 0.1, frame[name] + 0.1
    frame["unfiltered_clean"] = 0.95
    frame["adversarial_clean"] = np.nan
    figure = figures.draw_low_pass(frame)
    found = texts(figure)
    assert {"no attack", "PGD through the filter", "no attack, no filter"} <= set(found)
    assert "adversarial training, no attack" not in found
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in curves] == [
        [0.2, 0.5, 0.9], [0.1, 0.4, 0], [0, 0, 0]]  # fmt: skip


def test_shares_are_sorted_and_those_that_are_none_left_out():
    figure = figures.draw_shares(
        np.array([0.9, 0.8]), np.array([0.3, np.nan, 0.1]), np.array([0.5]), 0.2, 7.0
    )
    found = texts(figure)
    assert "perturbations, natural training (N = 2)" in found
    line = next(
        li for li in figure.axes[0].lines if len(li.get_ydata()) == 2 and 0.1 in li.get_ydata()
    )
    assert list(line.get_ydata()) == [0.1, 0.3]


def perturbed(count=3, channels=1):
    generator = np.random.default_rng(0)
    x = generator.random((count, channels, 8, 8))
    changes = 0.1 * generator.standard_normal(x.shape)
    return spectrum_figures.Perturbed([f"i{i}" for i in range(count)], x, changes)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_images_are_drawn(channels):
    found = perturbed(channels=channels)
    assert "|F(δ)|" in texts(spectrum_figures.draw_spectrum(found, 1, "name"))
    assert len(spectrum_figures.draw_gallery(found, "name").axes) == 2 * 3 + 1
    assert "log-spectrum difference" in texts(spectrum_figures.draw_image(found, 0, "name"))
    assert len(spectrum_figures.draw_log_spectra(found, "name").axes) >= 4 * 3


def test_a_map_has_its_means_by_distance_below():
    distance = np.hypot(*np.meshgrid(np.arange(-4, 4), np.arange(-4, 4)))
    values = (np.rint(distance) + 1).ravel()
    row = {"images": 3, "height": 8, "width": 8, "magnitudes": values, "log_difference": values}
    figure = spectrum_figures.draw_maps(row, ["magnitudes", "log_difference"], "name")
    lines = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) > 3]
    assert len(lines) == 2
    for line in lines:
        assert list(line.get_ydata()) == pytest.approx(list(np.arange(len(line.get_ydata())) + 1))


def test_a_title_says_which_network_it_is():
    network = {"name": "n", "batchnorm": False, "training": "natural", "loss": "mse"}
    said = figures.title({**network, "architecture": "a"}, "pgd_linf")
    assert said == "n (no BatchNorm, natural, squared error), PGD, L∞"
    assert "two layers" in figures.title({**network, "architecture": "two_layer"}, "fgm_l2")
