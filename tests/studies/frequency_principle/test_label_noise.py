"""Noise on labels by response frequency, and eigenvectors of a kernel: simulations on images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.studies.frequency_principle.response import (
    kernels,
    kernels_tables,
    label_noise,
    stacks,
)
from bandlimit.studies.frequency_principle.response.kernels_figures import (
    draw_eigenvectors,
    draw_learning,
)
from bandlimit.studies.frequency_principle.response.label_noise_figures import draw_label_noise
from bandlimit.studies.frequency_principle.response.label_noise_images import draw

NET = {"width": 8, "depth": 3, "learning_rate": 0.01, "steps": 20, "every": 5, "replicates": 2}
DRAWN = {"classes": [1, 3], "images": 24, "validation_images": 6, "seed": 5}
NOISE = {"frequencies": [0.1, 2.0], "amplitudes": [0.5]} | NET | DRAWN
KERNEL = {"sigma": 2.0, "noise": 0.5, "bins": 4} | NET | DRAWN
POINTS = {"points": 20, "point_sigma": 0.1}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """80 images of four classes, each a little brighter than the last."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    pixels = rng.integers(0, 120, (80, 1, 4, 4)) + 40 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("images") / "images.parquet"
    column = store.image_column(pixels.astype(np.uint8))
    store.write(path, pa.table({"label": pa.array(labels, pa.int64()), "image": column}))
    return path


def simulated(path, **change):
    return label_noise.simulate(path, **NOISE | change)


def test_each_replicate_draws_images_of_both_classes_once(images):
    found = draw(images, [3, 1], images=24, validation_images=16, replicates=2, seed=1, purpose="a")
    table = store.read(images).to_pandas()
    every = store.images_of(store.read(images)).reshape(80, -1) / 255
    for number in range(2):
        pixels = torch.cat([found.inputs[number], found.validation[number]]).numpy()
        signs = torch.cat([found.labels[number], found.validation_labels[number]]).numpy()
        rows = [int(np.abs(every - own).sum(axis=1).argmin()) for own in pixels]
        np.testing.assert_allclose(every[rows], pixels, atol=1e-6)
        # All forty, each once.
        assert sorted(rows) == np.flatnonzero(table["label"].isin([1, 3])).tolist()
        assert (signs == np.where(table["label"].to_numpy()[rows] == 1, 1, -1)).all()
    assert not torch.equal(found.inputs[0], found.inputs[1])


def test_too_few_images_are_refused(images):
    with pytest.raises(UserError, match="at least 41 images of the classes 1 and 3 .* it has 40"):
        simulated(images, images=35)


def test_targets_are_labels_and_a_sine_of_the_norm(images, monkeypatch):
    def train(stack, inputs, targets, *, at, record, **rest):
        told.update(inputs=inputs, targets=targets)
        for step in sorted(at):
            record(step, targets)

    told = {}
    monkeypatch.setattr(stacks, "train", train)
    cases, steps, training, _ = simulated(images)
    assert cases == [(0, 0), (0.1, 0.5), (2, 0.5)] and steps == [0, 5, 10, 15, 20]
    targets, norms = told["targets"][..., 0], told["inputs"].norm(dim=2)
    # Networks lie case by case, two of each; those without noise come first.
    labels = targets[:2].repeat(3, 1)
    assert set(labels.unique().tolist()) == {-1, 1}
    for row, (k, beta) in zip(range(0, 6, 2), cases, strict=True):
        wanted = labels[row : row + 2] + beta * torch.sin(2 * torch.pi * k * norms[row : row + 2])
        torch.testing.assert_close(targets[row : row + 2], wanted)
    # Outputs that are the targets have no training loss.
    assert (training == 0).all()


def test_a_case_does_not_depend_on_the_others(images):
    _, _, training, validated = simulated(images)
    cases, _, alone, clean = simulated(images, frequencies=[2.0, 7.0])
    np.testing.assert_allclose(alone[1], training[2], rtol=1e-4)
    np.testing.assert_allclose(clean[1], validated[2], rtol=1e-4)
    again = simulated(images)
    assert np.array_equal(again[2], training) and np.array_equal(again[3], validated)
    assert (training[:, :, -1] < training[:, :, 0]).all()


def test_the_summary_compares_networks_of_equal_images(images, monkeypatch):
    steps = [0, 5, 10, 15, 20]
    #                 replicate 1             replicate 2
    validated = [
        [[1, 0.5, 0.3, 0.2, 0.1], [1, 0.5, 0.3, 0.2, 0.1]],
        [[1, 0.9, 0.8, 0.9, 1.0], [1, 0.7, 0.8, 0.9, 1.2]],
        [[1, 0.2, 0.3, 0.4, 0.5], [1, 0.4, 0.3, 0.4, 0.6]],
    ]
    cases = [(0.0, 0.0), (0.1, 0.5), (2.0, 0.5)]
    values = np.array(validated)
    monkeypatch.setattr(label_noise, "simulate", lambda *_, **__: (cases, steps, values, values))
    settings = NOISE | {"steps": 25}  # so that the first fifth ends at step 5
    summary, curves = label_noise.tables(images, source="mnist", **settings)
    frame = summary.frame.set_index("role")
    assert frame.loc["lowest", "harm"] == pytest.approx((0.5 + 0.6) / 2)
    assert frame.loc["lowest", "harm_low"] < 0.5 < 0.6 < frame.loc["lowest", "harm_high"]
    assert frame.loc["highest", "dip"] == pytest.approx((0.5 / 0.2 + 0.6 / 0.4) / 2)
    assert frame.loc["highest", "fall"] == pytest.approx((0.2 + 0.4) / 2)
    assert frame.loc["highest", "harm"] == 0 and np.isnan(frame.loc["none", "harm"])
    assert frame.loc["lowest", "least"] == pytest.approx(0.75)
    assert set(frame["source"]) == {"mnist"}
    assert len(curves.frame) == 3 * 2 * 5
    for made in (summary, curves):
        shown = {p for key, c in made.columns.items() for p in (key, *(c.interval or ()))}
        assert shown <= set(made.frame.columns)


def test_a_loss_that_only_rises_does_not_fall(images, monkeypatch):
    rising = np.array([[[1, 1.1, 1.2, 1.5, 2.0], [1, 1.2, 1.3, 1.4, 2.0]]] * 3)
    cases, steps = [(0.0, 0.0), (0.1, 0.5), (2.0, 0.5)], [0, 5, 10, 15, 20]
    monkeypatch.setattr(label_noise, "simulate", lambda *_, **__: (cases, steps, rising, rising))
    # Records are rarer than a fifth of the training: the first after the start is asked.
    frame = label_noise.tables(images, source="mnist", **NOISE)[0].frame.set_index("role")
    assert frame.loc["highest", "fall"] == pytest.approx(1.15)
    assert frame.loc["highest", "dip"] == pytest.approx((2 / 1.1 + 2 / 1.2) / 2)


def test_the_figure_has_both_losses_of_each_amplitude(images):
    _, curves = label_noise.tables(images, source="x", **NOISE | {"amplitudes": [0.5, 1]})
    figure = draw_label_noise(curves.frame)
    assert len(figure.axes) == 4 and all(len(axes.lines) == 3 for axes in figure.axes)
    with pytest.raises(ValueError, match="'amplitude'"):
        draw_label_noise(pd.DataFrame({"case": []}))


# Eigenvectors of a kernel


def test_eigenvectors_are_those_of_the_gaussian_kernel_by_falling_eigenvalue():
    points = np.random.default_rng(1).normal(size=(15, 3))
    values, vectors = kernels.eigenvectors(points, 1.5)
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    np.testing.assert_allclose(np.exp(-distances / 4.5) @ vectors, values * vectors, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(15), atol=1e-9)
    assert (np.diff(values) <= 0).all()


def test_eigenvectors_on_an_interval_rise_in_frequency():
    found = kernels.spectra(50, 0.03)
    assert found.shape == (50, 26)
    # Of a wide kernel the last ones are lost in rounding.
    assert 20 < len(kernels.spectra(50, 0.1)) < 40
    np.testing.assert_allclose((found**2).sum(axis=1), 1)
    centres = (found**2) @ np.arange(26)
    assert centres[0] < 0.5 and np.corrcoef(np.arange(20), centres[:20])[0, 1] > 0.95


@pytest.mark.parametrize(("kind", "late"), [("white", 0.5), ("eigen-profile", 0.96)])
def test_noise_has_unit_energy_and_its_profile(kind, late):
    rng = np.random.default_rng(2)
    found = np.stack([kernels.noise(1000, kind, rng) for _ in range(50)])
    np.testing.assert_allclose((found**2).sum(axis=1), 1)
    # Of the integral of x^4 from 0 to 1, 31/32 lie above one half.
    assert (found[:, 500:] ** 2).sum(axis=1).mean() == pytest.approx(late, abs=0.03)


@pytest.fixture(scope="module")
def learning(images):
    own = dict(KERNEL)
    return kernels.simulate(images, noise_energy=own.pop("noise"), **own)


def test_targets_are_labels_with_noise_of_the_energy_asked_for(learning):
    # 24 labels of -1 and 1, in a basis that keeps lengths.
    np.testing.assert_allclose((learning.labels**2).sum(axis=1), 24)
    added = learning.targets - learning.labels
    np.testing.assert_allclose((added**2).sum(axis=2), 12)
    assert not np.allclose(added[0, 0], added[0, 1])


def test_networks_learn_targets(learning):
    missed = ((learning.outputs - learning.targets[:, :, None]) ** 2).sum(axis=3)
    assert (missed[:, :, -1] < missed[:, :, 0]).all()
    # A network that says 0 would be off by the energy of the targets.
    assert (missed[:, :, -1] < (learning.targets**2).sum(axis=2)).all()
    assert learning.outputs.shape == (2, 2, 5, 24) and learning.validation.shape == (2, 2, 5)


def test_bins_are_of_equal_size_and_errors_relative_to_targets(learning):
    assert np.bincount(learning.bins).tolist() == [6] * 4
    found = kernels.errors(learning)
    own, target = learning.outputs[1, 0, 3, 6:12], learning.targets[1, 0, 6:12]
    wanted = np.linalg.norm(own - target) / np.linalg.norm(target)
    assert found[1, 0, 3, 1] == pytest.approx(wanted)


def test_the_start_is_no_dip(learning, images, monkeypatch):
    """With the first noise the loss only rises, with the second it falls to a half and rises."""
    replicates = learning.validation.shape[1]
    losses = np.array([[1, 1.2, 1.3, 1.4, 1.5], [1, 0.8, 0.5, 0.6, 0.7]])
    known = learning._replace(validation=np.repeat(losses[:, None], replicates, axis=1))
    monkeypatch.setattr(kernels, "simulate", lambda *_, **__: known)
    made = kernels_tables.tables(images, source="mnist", **KERNEL | POINTS)
    rises, dips = made[1].frame.to_dict("records")
    assert [rises[key] for key in ("least", "fall", "dip")] == pytest.approx([1.2, 1.2, 1.25])
    assert [dips[key] for key in ("least", "fall", "dip")] == pytest.approx([0.5, 0.5, 1.4])
    assert [row["least_step"] for row in (rises, dips)] == [learning.steps[1], learning.steps[2]]


def test_tables_and_figures_of_eigenvectors(images):
    made = kernels_tables.tables(images, source="mnist", **KERNEL | POINTS)
    for one in made:
        shown = {p for key, c in one.columns.items() for p in (key, *(c.interval or ()))}
        assert shown <= set(one.frame.columns)
    bins, summary, curves, validation, spectrum = (one.frame for one in made)
    assert {"case", "frequency", "threshold", "steps", "step", "step_low", "step_high"} <= set(bins)
    assert len(bins) == 2 * 4 and len(curves) == 2 * 4 * 5 and len(validation) == 2 * 5
    assert (bins.groupby("case")["eigenvalue"].diff().dropna() < 0).all()
    assert (summary["dip"] >= 1).all()
    figure = draw_learning(bins, curves, validation)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [
        "white noise",
        "eigen-profile noise",
    ]
    assert draw_eigenvectors(spectrum).axes[0].get_xlabel().startswith("frequency")
    with pytest.raises(ValueError, match="'outputs'"):
        draw_learning(bins, curves.drop(columns="outputs"), validation)
