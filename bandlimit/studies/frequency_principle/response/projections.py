"""Response frequency along the first principal component of the images.

Source: Xu, Zhang, Luo, Xiao and Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep
Neural Networks", Figure 1: F[y](g) = (1/n) sum_j y_j exp(-2 pi i g x_j.v), v being the first
principal component, of the labels and of the outputs of a network in training, and their relative
difference at the peaks of the labels. The sums are over unevenly spaced points x_j.v, and no
transform of images.

The document says nothing of the unit of g nor how labels of several classes are taken. Here x_j.v
is moved and scaled to [0, 1] over the images, so that g counts periods over their range, and each
class has a transform and peaks of its own. (The magnitude over all classes together has hardly any
peaks: those of one class fill the gaps of another.)

Shapes: N images, C classes, G frequencies, P peaks, S networks, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import spearmanr

from bandlimit.errors import UserError
from bandlimit.studies.frequency_principle.response.projections_records import (
    Answers,
    Floats,
    names_of,
    over_seeds,
)


def principal(pixels: Floats) -> Floats:
    """Return the places of images along their first principal component, N, from 0 to 1.

    Args:
        pixels: N x D.

    Raises:
        UserError: all images are the same.
    """
    centred = pixels - pixels.mean(axis=0)
    last = pixels.shape[1] - 1
    _, vectors = scipy.linalg.eigh(centred.T @ centred, subset_by_index=[last, last])
    vector = vectors[:, 0]
    # The sign of an eigenvector is free, and libraries differ in it.
    vector = vector * np.sign(vector[np.abs(vector).argmax()])
    places = centred @ vector
    spread = np.ptp(places)
    if not spread > 0:
        raise UserError(
            "Responses along the first principal component need images that differ; "
            f"all {len(pixels)} are the same."
        )
    scaled: Floats = (places - places.min()) / spread
    return scaled


def transform(places: Floats, values: Floats, frequencies: Floats) -> NDArray[np.complex128]:
    """Return F[values](g), ... x G x C.

    Args:
        places: N, of the images.
        values: ... x N x C.
        frequencies: G, in periods over a unit of the places.
    """
    waves = np.exp(-2j * np.pi * np.outer(frequencies, places)) / len(places)
    found: NDArray[np.complex128] = waves @ values
    return found


def peaks(amplitudes: Floats) -> list[tuple[int, int]]:
    """Return the local maxima of each class as pairs of places: class and frequency, in order.

    Frequency 0 is none of them: it is the share of the classes, which outputs that are the same for
    all images have right.

    Args:
        amplitudes: G x C.
    """
    return [
        (one, int(place))
        for one, column in enumerate(amplitudes.T)
        for place in find_peaks(column)[0]
    ]


def first_steps_below(errors: Floats, steps: NDArray[np.int64], threshold: float) -> Floats:
    """Return the first step at which an error is below a threshold, S x P; NaN where it never is.

    Args:
        errors: S x T x P.
        steps: T, ascending.
        threshold: of the error.
    """
    below = errors < threshold
    return np.where(below.any(axis=1), steps[below.argmax(axis=1)], np.nan)


def order(values: Floats, first: Floats, end: float) -> float:
    """Return the rank correlation (Spearman) of values and first steps; NaN if either are equal.

    Args:
        values: P, such as the frequencies of P peaks.
        first: P; NaN is never, which counts as later than the end.
        end: the last step.
    """
    ranked = np.where(np.isnan(first), end + 1, first)
    if len(np.unique(ranked)) < 2 or len(np.unique(values)) < 2:
        return float("nan")
    return float(spearmanr(values, ranked).statistic)


def partial(a: float, b: float, between: float) -> float:
    """Return the correlation a of two quantities apart from a third, with which they have others.

    Args:
        a: correlation of first and second.
        b: of the third and the second.
        between: of the first and the third.
    """
    return (a - b * between) / float(np.sqrt((1 - b**2) * (1 - between**2)))


def tables(
    networks: Sequence[Mapping[str, Any]],
    answers: Sequence[Answers],
    *,
    highest: float,
    step: float,
    thresholds: Sequence[float],
) -> dict[str, pd.DataFrame]:
    """Return the tables of all networks by name: projection, its order, curves and spectrum.

    The first and the curves have a row for each whole number of periods: of the mean over the peaks
    of all classes that are nearest to it. The order is that of all single peaks; partial is the
    same apart from their amplitudes, since the relative error of a weak peak is large for any rest.

    Args:
        networks: dataset, model and case of each.
        answers: of each.
        highest: frequency, in periods over the range of the images.
        step: between frequencies.
        thresholds: errors below which a frequency counts as learnt.

    Raises:
        UserError: the labels of a network's images have no peaks.
    """
    frequencies = np.arange(0, highest + step / 2, step)
    names = ("projection", "projection_order", "projection_curves", "projection_spectrum")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for network, own in zip(networks, answers, strict=True):
        places, named, end = principal(own.pixels), names_of(network), own.steps[-1]
        labels = transform(places, own.labels, frequencies)
        amplitudes = np.abs(labels)
        marked = peaks(amplitudes)
        if not marked:
            raise UserError(
                f"The labels of the images of {network['model']!r} have no peak at frequencies up "
                f"to {highest:g}: frequency_principle.projection.highest must be larger."
            )
        classes, at = (list(column) for column in zip(*marked, strict=True))
        found["projection_spectrum"] += [
            {**named, "class": c, "frequency": g, "amplitude": a, "peak": (c, i) in set(marked)}
            for i, g in enumerate(frequencies)
            for c, a in enumerate(amplitudes[i])
        ]
        heights, peaked = amplitudes[at, classes], frequencies[at]
        outputs = transform(places, own.outputs, frequencies[sorted(set(at))])
        rows = [sorted(set(at)).index(i) for i in at]
        # S x T x P.
        errors = np.abs(outputs[:, :, rows, classes] - labels[at, classes]) / heights
        periods = np.unique(np.rint(peaked))
        near = [np.rint(peaked) == k for k in periods]
        means = np.stack([errors[:, :, own_peaks].mean(axis=2) for own_peaks in near], axis=2)
        found["projection_curves"] += _curves(named, own, periods, means)
        for threshold in thresholds:
            told = {**named, "threshold": threshold}
            first = first_steps_below(means, own.steps, threshold)
            found["projection"] += [
                {
                    **told,
                    "frequency": k,
                    "peaks": int(near[i].sum()),
                    "amplitude": float(heights[near[i]].mean()),
                    **passage(first[:, i], end),
                }
                for i, k in enumerate(periods)
            ]
            first = first_steps_below(errors, own.steps, threshold)
            between = float(spearmanr(peaked, heights).statistic)
            each = np.array([order(peaked, row, end) for row in first])
            weak = np.array([order(heights, row, end) for row in first])
            apart = np.array([partial(*pair, between) for pair in zip(each, weak, strict=True)])
            found["projection_order"].append(
                {
                    **told,
                    "peaks": len(marked),
                    "learnt": float(np.isfinite(first).mean()),
                    **_within_one("correlation", each),
                    **_within_one("partial", apart),
                    "amplitude_correlation": over_seeds(weak)[0],
                    "seeds": len(first),
                }
            )
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def _within_one(name: str, values: Floats) -> dict[str, float | None]:
    """Return mean and interval of correlations over networks, which end at -1 and 1."""
    mean, low, high = over_seeds(values)
    return {
        name: mean,
        f"{name}_low": None if low is None else max(low, -1.0),
        f"{name}_high": None if high is None else min(high, 1.0),
    }


def passage(first: Floats, end: float) -> dict[str, Any]:
    """Return when several networks learnt a frequency: median, least and greatest first step.

    A network that never learnt it counts as later than all others; a step that stands for such a
    one is null.

    Args:
        first: S first steps, NaN where there is none.
        end: the last step of the training.
    """
    late = np.sort(np.where(np.isnan(first), np.inf, first))
    # The lower of two middle ones would hide one that never learnt.
    values = {"step": late[len(late) // 2], "step_low": late[0], "step_high": late[-1]}
    return {
        "steps": int(end),
        **{name: float(v) if np.isfinite(v) else None for name, v in values.items()},
        "learnt": int(np.isfinite(first).sum()),
        "seeds": len(first),
    }


def _curves(
    named: Mapping[str, Any], own: Answers, frequencies: Floats, errors: Floats
) -> list[dict[str, Any]]:
    """Return mean, least and greatest error over the networks, by step and frequency."""
    mean, low, high = errors.mean(axis=0), errors.min(axis=0), errors.max(axis=0)
    return [
        {
            **named,
            "step": int(own.steps[i]),
            "epoch": float(own.epochs[i]),
            "frequency": float(g),
            "error": float(mean[i, j]),
            "error_low": float(low[i, j]),
            "error_high": float(high[i, j]),
        }
        for i in range(len(own.steps))
        for j, g in enumerate(frequencies)
    ]
