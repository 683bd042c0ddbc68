"""Response frequency along the first principal component, and by a filter."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import rankdata

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.studies.frequency_principle.response import filtering, projections
from bandlimit.studies.frequency_principle.response.projections_figures import (
    draw_filtering,
    draw_projection,
)
from bandlimit.studies.frequency_principle.response.projections_records import (
    Answers,
    over_seeds,
    read,
)
from bandlimit.studies.frequency_principle.response.projections_tables import COLUMNS, table
from bandlimit.training import responses

NETWORK = {"dataset": "tested", "model": "net", "case": "fully_connected"}
RNG = np.random.default_rng(3)
COUNT = 400


def answers(cutoffs):
    """Return answers whose T outputs have the labels' frequencies up to those cut-offs alone.

    Images lie evenly on a line, so that their first principal component is known; labels are of two
    classes, by a function that has many frequencies.
    """
    x = np.arange(COUNT) / (COUNT - 1)
    line = np.arange(1.0, 13)
    waves = {1.3: 1, 3.7: 0.7, 5.2: 0.7, 7.1: 0.6}
    value = sum(a * np.sin(2 * np.pi * k * x + k) for k, a in waves.items())
    labels = np.eye(2)[(value > 0).astype(int)]
    spectrum, at = np.fft.fft(labels, axis=0), np.abs(np.fft.fftfreq(COUNT) * COUNT)
    outputs = np.stack(
        [np.fft.ifft(spectrum * (at <= cutoff)[:, None], axis=0).real for cutoff in cutoffs]
    )
    steps = np.arange(len(cutoffs)) * 10
    return Answers(
        steps=steps,
        epochs=steps / 10,
        outputs=np.stack([outputs, outputs]),
        labels=labels,
        pixels=np.outer(x, line) + 0.2,
    )


def tables_of(own, **change):
    given = {"highest": 8.0, "step": 0.05, "thresholds": [0.3]} | change
    return projections.tables([NETWORK], [own], **given)


def test_images_on_a_line_lie_along_their_first_component():
    own = answers([0])
    places = projections.principal(own.pixels)
    x = np.arange(COUNT) / (COUNT - 1)
    assert min(abs(places - x).max(), abs(1 - places - x).max()) < 1e-9


def test_the_component_is_that_of_the_largest_variance():
    pixels = RNG.normal(size=(200, 5)) * [0.1, 0.2, 3, 0.1, 0.3]
    places = projections.principal(pixels)
    assert abs(np.corrcoef(places, pixels[:, 2])[0, 1]) > 0.99
    assert (places.min(), places.max()) == (0, 1)


def test_images_that_are_all_the_same_have_no_component():
    with pytest.raises(UserError, match="images that differ; all 7 are the same"):
        projections.principal(np.ones((7, 3)))


def test_the_transform_is_the_sum_of_its_definition():
    places, values = RNG.random(30), RNG.normal(size=(2, 4, 30, 3))
    frequencies = np.array([0, 0.5, 3.7])
    found = projections.transform(places, values, frequencies)
    assert found.shape == (2, 4, 3, 3)
    by_hand = sum(values[1, 2, j, 0] * np.exp(-2j * np.pi * 3.7 * places[j]) for j in range(30))
    assert found[1, 2, 2, 0] == pytest.approx(by_hand / 30)


def test_peaks_are_of_each_class_and_never_at_0():
    falling = np.array([9, 5, 6, 3, 4, 1.0])
    assert projections.peaks(np.stack([falling, np.arange(6)], axis=1)) == [(0, 2), (0, 4)]


def test_noise_is_the_variance_of_labels_given_out_at_random():
    labels = np.eye(3)[RNG.choice(3, 200, p=[0.6, 0.3, 0.1])]
    places, apart = RNG.random(200), labels - labels.mean(axis=0)
    squares = [
        np.abs(projections.transform(places, RNG.permutation(apart), np.array([7.3]))[0]) ** 2
        for _ in range(3000)
    ]
    np.testing.assert_allclose(np.mean(squares, axis=0), projections.noise(labels), rtol=0.12)


def test_first_steps_and_passages():
    errors = np.array([[[1, 1], [0.2, 0.5], [0.4, 0.1]], [[1, 1], [1, 1], [0.1, 1]]])
    first = projections.first_steps_below(errors, np.array([0, 10, 20]), 0.3)
    np.testing.assert_array_equal(first, [[10, 20], [20, np.nan]])
    assert projections.passage(first[:, 0], 20) == {
        "steps": 20,
        "step": 20,
        "step_low": 10,
        "step_high": 20,
        "learnt": 2,
        "seeds": 2,
    }
    told = projections.passage(np.array([10, np.nan, np.nan]), 20)
    assert (told["step"], told["step_low"], told["step_high"]) == (None, 10, None)
    assert projections.passage(np.array([10, np.nan, 30]), 40)["step"] == 30


def test_the_order_counts_what_is_never_learnt_as_last():
    frequencies = np.array([1.0, 2, 3, 4])
    assert projections.order(frequencies, np.array([0, 10, np.nan, np.nan]), 10) > 0.9
    assert projections.order(frequencies, np.array([np.nan, 30, 20, 10]), 30) == pytest.approx(-1)
    # In no order: all at once, or never.
    for first in (np.nan, 10.0):
        assert projections.order(frequencies, np.full(4, first), 10) == 0
    assert np.isnan(projections.order(np.full(3, 2.0), np.array([1.0, 2, 3]), 10))


def test_a_partial_correlation_is_that_of_what_a_third_leaves():
    a, c = RNG.normal(size=(2, 50))
    b = a + c + RNG.normal(size=50)
    ranks = [rankdata(v) - 25.5 for v in (a, b, c)]
    left = [v - ranks[2] * (v @ ranks[2]) / (ranks[2] @ ranks[2]) for v in ranks[:2]]
    wanted = np.corrcoef(*left)[0, 1]
    r = np.corrcoef(ranks)
    assert projections.partial(r[0, 1], r[2, 1], r[0, 2]) == pytest.approx(wanted)
    assert np.isnan(projections.partial(0.5, -0.5, -1))


@pytest.mark.parametrize(
    ("cutoffs", "sign"), [([0, 1, 2, 3, 4, 6, 8, 12, 200], 1), ([200, 12, 8, 6, 4], 0)]
)
def test_networks_that_learn_low_frequencies_first_have_a_correlation_of_1(cutoffs, sign):
    frame = tables_of(answers(cutoffs))["projection_order"].set_index("frequencies")
    found = frame.loc["half periods", "correlation"]
    if sign:
        assert found > 0.9
        assert frame.loc["peaks", "correlation"] > 0.8
    else:  # all is right from the start, which is in no order
        assert found == 0


def test_a_network_that_learns_nothing_counts_with_0():
    own = answers([0, 1, 2, 3, 4, 6, 8, 12, 200])
    # The second one stays where it started.
    outputs = np.stack([own.outputs[0], np.repeat(own.outputs[0, :1], len(own.steps), axis=0)])
    still = Answers(own.steps, own.epochs, outputs, own.labels, own.pixels)
    alone, both = (tables_of(a)["projection_order"].set_index("frequencies") for a in (own, still))
    for name in ("half periods", "peaks"):
        assert both.loc[name, "correlation"] == pytest.approx(alone.loc[name, "correlation"] / 2)
        assert both.loc[name, "seeds"] == 2


def constant(own):
    """Return answers of networks that say the mean label of all images, at all steps."""
    outputs = np.broadcast_to(own.labels.mean(axis=0), own.outputs.shape)
    return Answers(own.steps, own.epochs, outputs, own.labels, own.pixels)


def test_what_is_the_same_for_all_images_is_right_at_no_frequency():
    own = answers([0, 1, 2])
    # Unevenly spaced, as images lie, so that a constant has all frequencies.
    uneven = Answers(own.steps, own.epochs, own.outputs, own.labels, own.pixels**3)
    places = projections.principal(uneven.pixels)
    found = projections.at_halves(constant(uneven), places, 8.0)
    assert len(found.frequencies) > 3
    np.testing.assert_allclose(found.errors, 1)
    # Whatever constant it is.
    other = Answers(own.steps, own.epochs, 0 * own.outputs + 3, own.labels, uneven.pixels)
    np.testing.assert_allclose(projections.at_halves(other, places, 8.0).errors, 1)


def test_networks_that_learn_high_frequencies_first_have_a_negative_one():
    own = answers([200, *range(8, -1, -1)])
    whole = own.outputs[:, :1]
    # What is left of the labels, less and less.
    high = Answers(own.steps, own.epochs, whole - own.outputs, own.labels, own.pixels)
    low_last = np.concatenate([high.outputs[:, 1:], whole], axis=1)
    own = Answers(own.steps, own.epochs, low_last, own.labels, own.pixels)
    frame = tables_of(own)["projection_order"].set_index("frequencies")
    # Half periods leak into each other on a line that ends.
    assert frame.loc["half periods", "correlation"] < -0.5


def test_the_tables_agree_with_each_other():
    found = tables_of(answers([0, 1, 3, 6, 200]), thresholds=[0.3, 0.1])
    passages, curves = found["projection"], found["projection_curves"]
    assert {"case", "frequency", "threshold", "steps", "step", "step_low", "step_high"} <= set(
        passages
    )
    for row in passages.itertuples():
        own = curves[curves["frequency"] == row.frequency]
        # Both networks are the same here.
        assert row.step == own[own["error"] < row.threshold]["step"].min()
        assert (row.learnt, row.seeds, row.steps) == (2, 2, 40)
    spectrum = found["projection_spectrum"]
    whole = spectrum[spectrum["class"].isna() & spectrum["marked"]]
    assert whole["frequency"].tolist() == pytest.approx(passages["frequency"].unique())
    assert (whole["amplitude"] ** 2 > projections.STRONGER * whole["noise"] ** 2).all()


def test_labels_that_are_noise_are_refused():
    own = answers([0, 1])
    noisy = Answers(
        own.steps, own.epochs, own.outputs, np.eye(2)[RNG.integers(0, 2, COUNT)], own.pixels
    )
    with pytest.raises(UserError, match="nowhere stronger .*'responses.images' of its recipe must"):
        projections.tables([NETWORK], [noisy], highest=0.6, step=0.1, thresholds=[0.3])


def test_intervals_over_seeds_are_students():
    mean, low, high = over_seeds(np.array([1.0, 2, 3]))
    assert (mean, low, high) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert over_seeds(np.array([1.0, np.nan])) == (1, None, None)
    assert np.isnan(over_seeds(np.array([np.nan]))[0])


def test_records_are_read_with_their_images_in_their_order(tmp_path):
    outputs = RNG.random((2, 3, 2, 4)).astype("<f4")  # seeds, steps, images, classes
    rows = [
        {
            "seed": seed + 1,
            "step": 5 * step,
            "epoch": step / 2,
            "outputs": base64.b64encode(outputs[seed, step].tobytes()).decode(),
        }
        for seed in range(2)
        for step in range(3)
    ]
    store.write(tmp_path / "responses.parquet", responses.table(rows, ["b", "a"]))
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    columns = {"image_id": ["a", "b", "c"], "label": pa.array([3, 1, 0], pa.int64())}
    table = pa.table(columns | {"image": store.image_column(images)})
    store.write(tmp_path / "images.parquet", table)
    found = read(tmp_path / "responses.parquet", tmp_path / "images.parquet")
    np.testing.assert_array_equal(found.outputs, outputs)
    assert found.labels.argmax(1).tolist() == [1, 3]
    np.testing.assert_allclose(found.pixels[0] * 255, [4, 5, 6, 7])
    assert (found.steps.tolist(), found.epochs.tolist()) == ([0, 5, 10], [0, 0.5, 1])
    store.write(tmp_path / "images.parquet", table.slice(1))
    with pytest.raises(UserError, match="'a' is not there"):
        read(tmp_path / "responses.parquet", tmp_path / "images.parquet")


# The filter


def squared():
    points = RNG.normal(size=(20, 3))
    return ((points[:, None] - points) ** 2).sum(axis=2)


def test_a_filter_is_a_weighted_mean():
    distances = squared()
    weights = filtering.smoother(distances, 0.7)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights[2, 5] / weights[2, 2] == pytest.approx(np.exp(-distances[2, 5] / 1.4))
    np.testing.assert_allclose(filtering.smoother(distances, 1e-6), np.eye(20), atol=1e-9)


def test_errors_are_those_of_the_definition():
    weights, labels = filtering.smoother(squared(), 0.7), np.eye(4)[RNG.integers(0, 4, 20)]
    outputs = RNG.random((2, 3, 20, 4))
    low, high = filtering.errors(weights, labels, outputs)
    own = outputs[1, 2]
    y_low, h_low = weights @ labels, weights @ own
    y_high, h_high = labels - y_low, own - h_low
    assert low[1, 2] ** 2 == pytest.approx(((y_low - h_low) ** 2).sum() / (y_low**2).sum())
    assert high[1, 2] ** 2 == pytest.approx(((y_high - h_high) ** 2).sum() / (y_high**2).sum())
    assert low.shape == high.shape == (2, 3)


def test_networks_that_learn_smooth_parts_first_have_a_gap():
    found = filtering.tables([NETWORK], [answers([0, 1, 2, 4, 8, 200])], widths=[1], images=900)
    (row,) = found["filtering"].to_dict("records")
    assert row["gap"] > 0.2 and row["gap_centred"] > 0.1 and row["steps_below"] > 0.7
    assert 0.1 < row["variance_kept"] < 0.95 and row["seeds"] == 2
    assert row["low_end"] == pytest.approx(0, abs=1e-9)
    curves = found["filtering_curves"]
    assert len(curves) == 2 * 6 and (curves["error_low"] == curves["error"]).all()


def test_what_is_the_same_for_all_images_has_a_gap_but_none_apart_from_the_mean():
    given = {"widths": [1], "images": 900}
    own = answers([0, 1, 2, 4, 8, 200])
    (row,) = filtering.tables([NETWORK], [constant(own)], **given)["filtering"].to_dict("records")
    assert 0.1 < row["variance_kept"] < 0.9
    assert row["gap"] > 0.1 and abs(row["gap_centred"]) < 0.05
    assert row["gap_centred_low"] == row["gap_centred"] == row["gap_centred_high"]
    # Networks that differ have an interval.
    half = Answers(
        own.steps,
        own.epochs,
        own.outputs * np.array([1, 0.5])[:, None, None, None],
        own.labels,
        own.pixels,
    )
    (row,) = filtering.tables([NETWORK], [half], **given)["filtering"].to_dict("records")
    assert row["gap_centred_low"] < row["gap_centred"] < row["gap_centred_high"]


def test_a_filter_over_all_images_keeps_no_variance_but_the_mean():
    found = filtering.tables([NETWORK], [answers([0, 1])], widths=[1e9], images=300)["filtering"]
    assert found["variance_kept"].item() == pytest.approx(0, abs=1e-9)


# Tables and figures


def test_each_table_shows_columns_that_it_has():
    own = answers([0, 1, 3, 6, 200])
    found = tables_of(own) | filtering.tables([NETWORK], [own], widths=[0.01, 0.1], images=300)
    assert set(found) == set(COLUMNS)
    for name, frame in found.items():
        made = table(name, frame)
        shown = {part for key, c in made.columns.items() for part in (key, *(c.interval or ()))}
        assert shown <= set(frame.columns)


def test_figures_have_a_panel_for_each_network():
    own = answers([0, 1, 3, 6, 200])
    networks = [NETWORK, NETWORK | {"model": "other", "case": "small_cnn_no_batchnorm"}]
    found = projections.tables(networks, [own, own], highest=8.0, step=0.05, thresholds=[0.3])
    figure = draw_projection(found["projection_spectrum"], found["projection_curves"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["labels", "fully connected", "convolutional"]
    # Labels less their mean have nothing at frequency 0, which would stretch the axis.
    low, high = figure.axes[0].get_ylim()
    assert figure.axes[0].lines[0].get_xdata().min() > 0 and high / low < 1e4
    found = filtering.tables(networks, [own, own], widths=[0.01, 0.1], images=300)
    figure = draw_filtering(found["filtering_curves"], found["filtering"])
    assert len(figure.axes) == 4 and all(len(axes.lines) == 2 for axes in figure.axes)


def test_figures_ask_for_their_columns():
    with pytest.raises(ValueError, match="'class'"):
        draw_projection(pd.DataFrame({"dataset": []}), pd.DataFrame())
    with pytest.raises(ValueError, match="'width'"):
        draw_filtering(pd.DataFrame({"model": []}), pd.DataFrame())
