"""Figures of the study, from small tables and files."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bandlimit.files import store
from bandlimit.plots import files, style
from bandlimit.provenance import job as jobs
from bandlimit.spectral import arrays
from bandlimit.spectral.shells import shells, uniform_share
from bandlimit.studies.perturbation_spectra import figures, spectrum_figures

SCRIPTS = Path(__file__).parents[3] / "scripts/perturbation_spectra"
SIDE = 8
NETWORK = {
    "name": "some_network",
    "batchnorm": True,
    "training": "natural",
    "loss": "cross_entropy",
    "architecture": "resnet8",
}


def words(figure):
    """Return all text of a figure but its legend."""
    found = [figure.get_suptitle()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return "\n".join(found)


def entries(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def levels(axes):
    """Return the heights of horizontal lines across axes."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2]
    return {line.get_ydata()[0] for line in lines if len(set(line.get_ydata())) == 1}


# Tables


def lifts(datasets=("d",), checkpoints=tuple(figures.CHECKPOINTS)):
    rows = [
        {
            "dataset": dataset,
            "network": f"network_{batchnorm}_{training}",
            "batchnorm": batchnorm,
            "training": training,
            "loss": "cross_entropy",
            "checkpoint": checkpoint,
            "perturbation": perturbation,
            "radius": 7.0,
            "images": 90 + 10 * batchnorm,
            "lift": 0.5 + i + 0.1 * j,
            "lift_low": 0.4 + i + 0.1 * j,
            "lift_high": 0.6 + i + 0.1 * j,
        }
        for dataset in datasets
        # Out of order, as the rows of a table may be.
        for batchnorm, training in (
            (False, "adversarial"),
            (True, "adversarial"),
            (False, "natural"),
            (True, "natural"),
        )
        for i, checkpoint in reversed(list(enumerate(checkpoints)))
        for j, perturbation in enumerate(("pgd_linf", "fgm_l2", "own_way"))
    ]
    return pd.DataFrame(rows)


def trajectories(steps=(100, 0, 1, 10)):
    rows = [
        {
            "dataset": "d",
            "network": network,
            "batchnorm": network == "with",
            "training": "natural",
            "loss": "cross_entropy",
            "step": step,
            "attack": attack,
            "radius": radius,
            "uniform": radius / 20,
            "ratio": radius / 20 + step / 400,
            "deviation": 0.05,
            "images": 50,
        }
        for network in ("with", "without", "other")
        for attack in ("pgd_l2", "fgm_l2")
        for radius in (4.0, 8.0)
        for step in steps
    ]
    return pd.DataFrame(rows)


def low_pass(models=("m",), cutoffs=(3.0, 1.0, 2.0)):
    rows = []
    for model in models:
        for cutoff in cutoffs:
            row = {"dataset": "d", "model": model, "document": "CIFAR-10", "stand_in": True}
            row |= {"cutoff": cutoff, "images": 40, "unfiltered_clean": 0.95}
            row |= {"unfiltered_attacked": 0.01, "adversarial_clean": 0.8}
            row |= {"adversarial_attacked": np.nan}
            for name, rate in (("clean", 0.3 * cutoff), ("unaware", 0.2), ("aware", 0.1)):
                row |= {name: rate, f"{name}_low": rate - 0.1, f"{name}_high": rate + 0.1}
            rows.append(row)
    return pd.DataFrame(rows)


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with clean images, perturbed ones in two shards, and their mean maps."""
    home = tmp_path_factory.mktemp("spectra")
    generator = np.random.default_rng(0)
    x = generator.integers(60, 200, (6, 3, SIDE, SIDE)).astype(np.uint8)
    d = generator.uniform(-0.1, 0.1, x.shape).astype(np.float32)
    d[1] = 0
    ids = [f"i{i}" for i in range(len(x))]
    clean = {"image_id": ids, "label": list(range(len(x))), "image": store.image_column(x)}
    store.write(home / "clean.parquet", pa.table(clean), {})
    y = x.astype(np.float32) / np.float32(255) + d
    of = shells((SIDE, SIDE))
    kind = pa.list_(pa.float64(), len(of.squared))
    for shard, rows in enumerate((slice(0, 4), slice(4, 6))):
        count = len(ids[rows])
        perturbed = {
            "perturbation": ["pgd_linf"] * count,
            "image_id": ids[rows],
            "label": clean["label"][rows],
            "status": ["zero_gradient" if i == "i1" else "ok" for i in ids[rows]],
            "prediction_before": clean["label"][rows],
            "prediction_after": [9] * count,
            "image": store.image_column(y[rows]),
        }
        store.write(home / f"perturbed_{shard}.parquet", pa.table(perturbed), {})
        maps = {"perturbation": ["pgd_linf"], "images": [1 + 2 * shard]}
        maps |= {"height": [SIDE], "width": [SIDE]}
        for name in spectrum_figures.MAPS:
            maps[name] = pa.array([[float(shard)] * SIDE**2], pa.list_(pa.float64()))
        store.write(home / f"maps_{shard}.parquet", pa.table(maps), {})
        energies = np.ones((2 * count, len(of.squared))) * of.counts
        # Another perturbation, whose energy is at frequency 0 alone.
        energies[count:, 1:] = 0
        spectra = {"perturbation": ["pgd_linf"] * count + ["other"] * count}
        for name in ("energies", "clean_energies"):
            spectra[name] = pa.FixedSizeListArray.from_arrays(pa.array(energies.ravel()), type=kind)
        store.write(home / f"spectra_{shard}.parquet", pa.table(spectra), {})
    return SimpleNamespace(
        clean=str(home / "clean.parquet"),
        perturbed=[str(home / f"perturbed_{i}.parquet") for i in range(2)],
        maps=[str(home / f"maps_{i}.parquet") for i in range(2)],
        spectra=[str(home / f"spectra_{i}.parquet") for i in range(2)],
        x=x / 255,
        d=d,
    )


def shown(folder, **chosen):
    return spectrum_figures.read(folder.clean, folder.perturbed, "pgd_linf", **chosen)


def test_the_same_images_are_shown_for_any_order_of_shards(folder):
    for chosen in ({"images": 3}, {"place": 2}):
        turned = spectrum_figures.read(folder.clean, folder.perturbed[::-1], "pgd_linf", **chosen)
        assert list(turned.ids) == list(shown(folder, **chosen).ids)


NOTHING = spectrum_figures.Perturbed(
    [], np.empty((0, 1, 8, 8)), np.empty((0, 1, 8, 8)), [], [], [], 0
)


# Lifts


def test_lifts_name_regions_documents_networks_and_checkpoints():
    figure = figures.draw_lifts(lifts(), {"low": "A", "uniform": "B", "high": "C"})
    text = words(figure)
    for part in ("high\nfrequencies", "uniform", "low\nfrequencies", "A", "B", "C", "7 periods"):
        assert part in text
    assert "d, N = 90 to 100 per point" in text
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "initial",
        "one epoch",
        "end",
    ] * 4
    names = [t.get_text() for t in axes.texts if "training" in t.get_text()]
    assert names == [
        "BatchNorm, natural training",
        "BatchNorm, adversarial training",
        "no BatchNorm, natural training",
        "no BatchNorm, adversarial training",
    ]
    assert set(entries(figure)) == {"FGM, L2", "PGD, L∞", "own way"}
    assert figure.get_figwidth() == pytest.approx(3.4)


def test_lifts_lie_on_a_logarithmic_axis_with_a_line_at_a_flat_spectrum():
    axes = figures.draw_lifts(lifts()).axes[0]
    assert axes.get_xscale() == "log"
    assert any(set(np.ravel(line.get_xdata())) == {1} for line in axes.lines)
    points = [line for line in axes.lines if line.get_marker() == "o"]
    # From the start to the end of each network.
    assert [list(line.get_xdata()) for line in points] == [pytest.approx([0.6, 1.6, 2.6])] * 4
    for line in points:
        assert list(line.get_ydata()) == sorted(line.get_ydata())


def test_a_lift_of_any_size_has_room_and_an_interval_down_to_0_does_not_stretch_the_axis():
    frame = lifts().assign(lift=np.linspace(0.1, 30, 36), lift_low=-1.0, lift_high=40.0)
    left, right = figures.draw_lifts(frame).axes[0].get_xlim()
    assert 0.02 < left < 0.1 and right > 40


def test_lifts_of_several_datasets_and_of_two_networks_of_one_kind_are_told_apart():
    text = words(figures.draw_lifts(lifts(("c", "d"), ("end",))))
    assert "c\nBatchNorm, natural training" in text and "d\nBatchNorm, natural training" in text
    twins = pd.concat([lifts(), lifts().assign(network=lambda f: f["network"] + "_b")])
    assert "network_True_natural_b" in words(figures.draw_lifts(twins))


def test_networks_of_the_squared_error_have_figures_of_their_own():
    frame = pd.concat([lifts(), lifts().assign(network="q", loss="mse", dataset="e")])
    assert "squared error" not in words(figures.draw_lifts(frame))
    assert "squared error" in words(figures.draw_lifts(lifts().assign(loss="mse")))


@pytest.mark.parametrize("frame", [lifts().iloc[:0], lifts().assign(lift=np.nan)])
def test_without_lifts_the_figure_says_so(frame):
    assert "no data" in words(figures.draw_lifts(frame))


def test_one_lift_without_an_interval_is_drawn():
    frame = lifts().iloc[:1].assign(lift_low=np.nan, lift_high=np.nan)
    assert entries(figures.draw_lifts(frame)) == ["PGD, L∞"]


# Trajectories


def test_trajectories_have_a_row_for_each_network_and_a_column_for_each_perturbation():
    figure = figures.draw_trajectories(trajectories(), ["without", "with"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "without\nno BatchNorm, natural training\nFGM, L2, N = 50"
    assert titles[3] == "with\nBatchNorm, natural training\nPGD, L2, N = 50"
    assert set(entries(figure)) == {"r = 4", "r = 8", figures.FLAT}
    for axes in figure.axes:
        assert levels(axes) >= {0.2, 0.4}
        assert axes.get_xscale() == "symlog" and axes.get_xlim()[0] == 0
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 4)
    assert list(line.get_xdata()) == [0, 1, 10, 100]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.2025, 0.225, 0.45])


def test_a_training_measured_once_is_a_point():
    axes = figures.draw_trajectories(trajectories((0,)), ["with"]).axes[0]
    assert [line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1] == ["o", "o"]


def test_without_trajectories_the_figure_says_so():
    assert "no data" in words(figures.draw_trajectories(trajectories(), ["absent"]))
    with pytest.raises(ValueError, match="uniform"):
        figures.draw_trajectories(trajectories().drop(columns="uniform"), ["with"])


# The low-pass filter


def test_the_filter_has_three_curves_and_lines_without_a_filter():
    figure = figures.draw_low_pass(low_pass())
    assert "N = 40, stands in for CIFAR-10" in words(figure)
    assert "periods per side" in words(figure)
    found = entries(figure)
    assert set(found) == {
        *("clean images", "PGD, filter unknown", "PGD through filter"),
        *("no filter, clean", "no filter, PGD", "adv. trained, clean"),
    }
    axes = figure.axes[0]
    assert levels(axes) >= {0.95, 0.01, 0.8}
    line = next(line for line in axes.lines if line.get_label() == "clean images")
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.6, 0.9])


def test_the_filter_has_a_panel_for_each_model():
    assert len(figures.draw_low_pass(low_pass(("a", "b"))).axes) == 2
    assert "no data" in words(figures.draw_low_pass(low_pass().iloc[:0]))
    figures.draw_low_pass(low_pass(cutoffs=(2.0,)))
    figures.draw_low_pass(low_pass().drop(columns=["stand_in", "document", "adversarial_clean"]))


# Shares


def test_shares_are_sorted_each_on_its_own_and_nan_is_left_out():
    ratios = {
        "clean": np.array([0.9, 0.8, 0.95]),
        "natural": np.array([0.3, np.nan, 0.1]),
    }
    figure = figures.draw_shares(figures.Shares(ratios, 0.19, 7.0), "heading")
    assert entries(figure) == ["images", "δ, natural training", f"{figures.FLAT}: 0.190"]
    assert "heading" in words(figure) and "N = 2 to 3 images, r = 7" in words(figure)
    axes = figure.axes[0]
    assert 0.19 in levels(axes)
    line = next(line for line in axes.lines if "natural" in line.get_label())
    assert list(line.get_ydata()) == [0.1, 0.3] and list(line.get_xdata()) == [25, 75]


def test_shares_are_read_for_one_perturbation_of_all_shards(folder):
    found = figures.read_shares(folder.spectra, folder.spectra, "pgd_linf", (SIDE, SIDE), 2)
    share = uniform_share(shells((SIDE, SIDE)), 2)
    assert found.uniform == share and len(found.ratios["natural"]) == 6
    # A flat spectrum has the share of one; without frequency 0 it has less.
    assert found.ratios["clean"] == pytest.approx(share)
    assert (found.ratios["centred"] < share).all()
    other = figures.read_shares(folder.spectra, folder.spectra, "other", (SIDE, SIDE), 2)
    assert other.ratios["adversarial"] == pytest.approx(1)
    none = figures.read_shares(folder.spectra, folder.spectra, "absent", (SIDE, SIDE), 2)
    assert "no data" in words(figures.draw_shares(none, "heading"))
    assert "no images" in words(figures.draw_shares(none, "heading"))


# Pictures


def test_images_are_spread_over_those_that_moved(folder):
    assert shown(folder, images=10).ids == ["i0", "i2", "i3", "i4", "i5"]
    found = shown(folder, images=3)
    assert found.ids == ["i0", "i3", "i5"] and found.moved == 5
    assert found.images == pytest.approx(folder.x[[0, 3, 5]], abs=1e-7)
    assert found.changes == pytest.approx(folder.d[[0, 3, 5]], abs=1e-6)
    assert found.before == [0, 3, 5] and found.after == [9, 9, 9]


def test_one_image_is_the_one_at_a_place_or_the_last(folder):
    assert shown(folder, place=1).ids == ["i2"]
    assert shown(folder, place=99).ids == ["i5"]
    with pytest.raises(ValueError, match="either"):
        shown(folder)


def test_no_image_of_an_absent_perturbation(folder):
    found = spectrum_figures.read(folder.clean, folder.perturbed, "absent", images=4)
    assert found.ids == [] and found.images.shape == (0, 3, SIDE, SIDE)


def test_spectra_are_those_of_the_definition():
    x = np.random.default_rng(0).random((2, 8, 8))
    d = 0.1 * x[::-1]
    whole = np.abs(np.fft.fft2(x))
    assert arrays.magnitudes(x)[:, 4, 4] == pytest.approx(whole[:, 0, 0])
    assert arrays.magnitudes(x)[:, 4, 5] == pytest.approx(whole[:, 0, 1])
    expected = 20 * np.log10(whole).mean(axis=0)
    assert np.fft.ifftshift(spectrum_figures.decibels(x)) == pytest.approx(expected, abs=1e-5)
    change = 20 * np.abs(np.log10(np.abs(np.fft.fft2(x + d)) / whole)).mean(axis=0)
    found = spectrum_figures.log_difference(x, d)
    assert np.fft.ifftshift(found) == pytest.approx(change, abs=1e-5)


def test_a_map_of_frequencies_has_frequency_0_in_the_middle(folder):
    axes = spectrum_figures.draw_spectrum(shown(folder, place=0), "heading").axes[0]
    left, right, bottom, top = axes.images[0].get_extent()
    # Row and column SIDE // 2 of the picture.
    assert (left + (SIDE // 2 + 0.5), top + (SIDE // 2 + 0.5)) == (0, 0)
    assert right - left == bottom - top == SIDE


PICTURES = {
    "spectrum": (spectrum_figures.draw_spectrum, ["|F(δ)|", "dB", "horizontal frequency"]),
    "gallery": (spectrum_figures.draw_gallery, ["0 → 9", "|F(δ)|", "1 of 5 images"]),
    "image": (spectrum_figures.draw_image, ["x + δ", "dB", "seen as class 9", "/255"]),
    "log_spectra": (spectrum_figures.draw_log_spectra, ["log-spectrum\nof x + δ", "0 → 9"]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_say_what_they_show(name, folder):
    draw, parts = PICTURES[name]
    figure = draw(shown(folder, images=1), "heading")
    assert "heading" in words(figure) and "periods per side" in words(figure)
    for part in parts:
        assert part in words(figure)
    assert "no data" in words(draw(NOTHING, "heading"))


def test_a_gallery_has_one_scale(folder):
    figure = spectrum_figures.draw_gallery(shown(folder, images=4), "heading")
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    # Pictures of three channels have no scale.
    spectra = [image for image in pictures if image.get_array().ndim == 2]
    assert len(spectra) == 4
    assert len({image.get_clim() for image in spectra}) == 1
    assert spectra[0].get_clim()[0] == 0


def test_an_image_without_detail_and_a_perturbation_of_one_channel_are_drawn():
    flat = spectrum_figures.Perturbed(
        ["i"], np.full((1, 1, 8, 8), 0.5), np.full((1, 1, 8, 8), 0.1), [0], [0], [1], 1
    )
    for draw, _ in PICTURES.values():
        draw(flat, "heading")


# Mean maps


def test_maps_are_means_over_the_images_of_all_shards(folder):
    found = spectrum_figures.read_maps(folder.maps, "pgd_linf")
    assert found.images == 4
    assert found.maps["magnitudes"] == pytest.approx(np.full((SIDE, SIDE), 3 / 4))
    assert spectrum_figures.read_maps(folder.maps, "absent").images == 0


def test_a_map_has_its_means_by_distance_below():
    rows, columns = np.meshgrid(np.arange(-4, 4), np.arange(-4, 4))
    distance = np.rint(np.hypot(rows, columns))
    maps = {"magnitudes": 5 - distance / 2, "log_magnitudes": distance / 20}
    found = spectrum_figures.MeanSpectra(7, {**maps, "log_difference": distance})
    figure = spectrum_figures.draw_maps(
        found, ["magnitudes", "log_magnitudes", "log_difference"], "heading"
    )
    assert "N = 7" in words(figure) and "periods per side" in words(figure)
    curves = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    k = np.arange(7)
    mean = (5 - distance / 2).mean()
    assert list(curves[0].get_ydata()) == pytest.approx(list((5 - k / 2) / mean))
    assert list(curves[1].get_ydata()) == pytest.approx(list(k))
    assert list(curves[2].get_ydata()) == pytest.approx(list(k))
    # 1 is a flat spectrum.
    assert 1 in levels(curves[0].axes)
    assert distance.mean() in levels(curves[2].axes)


@pytest.mark.parametrize("kind", spectrum_figures.MAPS)
def test_one_map_fits_a_column_and_a_flat_one_is_drawn(kind):
    found = spectrum_figures.MeanSpectra(1, {kind: np.ones((6, 9))})
    assert spectrum_figures.draw_maps(found, [kind], "heading").get_figwidth() == 3.4
    zero = spectrum_figures.MeanSpectra(1, {kind: np.zeros((6, 9))})
    spectrum_figures.draw_maps(zero, [kind], "heading")
    none = spectrum_figures.draw_maps(spectrum_figures.MeanSpectra(), [kind], "heading")
    assert "no data" in words(none)


# Names


def test_a_title_says_which_network_and_perturbation_it_is():
    assert figures.title("d", NETWORK, "pgd_linf") == (
        "d, some_network\nBatchNorm, natural training; PGD, L∞"
    )
    other = {**NETWORK, "architecture": "two_layer", "loss": "mse", "batchnorm": False}
    assert figures.network_name(other) == "two layers, natural training, squared error"
    assert figures.network_name(other, training=False) == "two layers, squared error"
    assert figures.perturbation_name("own_way") == "own way"


def test_long_titles_break_between_facts():
    text = style.wrapped("BatchNorm, natural training; PGD, L∞, N = 100", 2)
    assert text == "BatchNorm, natural training;\nPGD, L∞, N = 100"


@pytest.mark.parametrize(
    "figure",
    [
        lambda folder: figures.draw_lifts(lifts()),
        lambda folder: figures.draw_trajectories(trajectories(), ["with", "without"]),
        lambda folder: figures.draw_low_pass(low_pass()),
        lambda folder: spectrum_figures.draw_gallery(shown(folder, images=5), "heading"),
        lambda folder: spectrum_figures.draw_image(shown(folder, place=0), "heading"),
    ],
)
def test_nothing_leaves_the_figure_or_covers_a_legend(figure, folder):
    drawn = figure(folder)
    for artist in [*drawn.axes, *drawn.legends]:
        box = artist.get_tightbbox()
        assert box.x0 >= drawn.bbox.x0 - 1 and box.x1 <= drawn.bbox.x1 + 1
        assert box.y0 >= drawn.bbox.y0 - 1 and box.y1 <= drawn.bbox.y1 + 1
    for legend in drawn.legends:
        for axes in drawn.axes:
            assert axes.get_tightbbox().y0 >= legend.get_tightbbox().y1


# Scripts


@pytest.mark.parametrize("name", ["lifts", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
def test_scripts_draw_what_they_read(name, folder, tmp_path, monkeypatch):
    tables = {"lifts": lifts(), 2: trajectories(), 11: trajectories(), 6: low_pass()}
    if name in tables:
        store.write(tmp_path / "t.parquet", pa.Table.from_pandas(tables[name]), {})
    job = SimpleNamespace(
        input=SimpleNamespace(
            table=str(tmp_path / "t.parquet"),
            dataset=folder.clean,
            perturbations=folder.perturbed,
            maps=folder.maps,
            spectra_natural=folder.spectra,
            spectra_adversarial=folder.spectra,
        ),
        params=SimpleNamespace(
            dataset="d",
            network=NETWORK,
            networks=["with"],
            perturbation="pgd_linf",
            place=0,
            images=4,
            radius=2.0,
            sides=[SIDE, SIDE],
        ),
        pictures=dict,
        certificate=dict,
    )
    drawn = []
    monkeypatch.setattr(jobs, "run", lambda main, snakemake: main(job))
    monkeypatch.setattr(files, "save", lambda figure, certificate: drawn.append(figure))
    runpy.run_path(str(SCRIPTS / f"figure_{name}.py"), init_globals={"snakemake": None})
    assert len(drawn) == 1 and "no data" not in words(drawn[0])
