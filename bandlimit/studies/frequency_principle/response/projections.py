"""Response frequency along the first principal component of the images.

Source: Xu, Zhang, Luo, Xiao and Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep
Neural Networks", Figure 1: F[y](g) = (1/n) sum_j y_j exp(-2 pi i g x_j.v), v being the first
principal component, of the labels and of the outputs of a network in training, and their relative
difference at the peaks of the labels. The sums are over unevenly spaced points x_j.v, and no
transform of images.

The document says nothing of the unit of g nor how labels of several classes are taken. Here x_j.v
is moved and scaled to [0, 1] over the images, so that g counts periods over their range; magnitudes
are Euclidean over the classes.

Shapes: N images, C classes, G frequencies, S networks, T steps.
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


def magnitudes(transformed: NDArray[np.complex128]) -> Floats:
    """Return the Euclidean magnitudes over the classes, ... x G."""
    found: Floats = np.linalg.norm(transformed, axis=-1)
    return found


def peaks(amplitudes: Floats) -> NDArray[np.intp]:
    """Return the places of the local maxima, in order.

    Frequency 0 is none of them: it is the share of the classes, which outputs that are the same for
    all images have right.
    """
    found: NDArray[np.intp] = find_peaks(amplitudes)[0]
    return found


def first_steps_below(errors: Floats, steps: NDArray[np.int64], threshold: float) -> Floats:
    """Return the first step at which an error is below a threshold, S x G; NaN where it never is.

    Args:
        errors: S x T x G.
        steps: T, ascending.
        threshold: of the error.
    """
    below = errors < threshold
    return np.where(below.any(axis=1), steps[below.argmax(axis=1)], np.nan)


def order(frequencies: Floats, first: Floats, end: float) -> float:
    """Return the rank correlation (Spearman) of frequency and first step; NaN if steps are equal.

    Args:
        frequencies: G.
        first: G; NaN is never, which counts as later than the end.
        end: the last step.
    """
    ranked = np.where(np.isnan(first), end + 1, first)
    if len(np.unique(ranked)) < 2 or len(np.unique(frequencies)) < 2:
        return float("nan")
    return float(spearmanr(frequencies, ranked).statistic)


def tables(
    networks: Sequence[Mapping[str, Any]],
    answers: Sequence[Answers],
    *,
    highest: float,
    step: float,
    thresholds: Sequence[float],
) -> dict[str, pd.DataFrame]:
    """Return the tables of all networks by name: projection, its order, curves and spectrum.

    Args:
        networks: dataset, model and case of each.
        answers: of each.
        highest: frequency, in periods over the range of the images.
        step: between frequencies.
        thresholds: errors below which a frequency counts as learnt.
    """
    frequencies = np.arange(0, highest + step / 2, step)
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("projection", "projection_order", "projection_curves", "spectrum")
    }
    for network, own in zip(networks, answers, strict=True):
        places, named = principal(own.pixels), names_of(network)
        labels = transform(places, own.labels, frequencies)
        amplitudes = magnitudes(labels)
        marked = peaks(amplitudes)
        if not len(marked):
            raise UserError(
                f"The labels of the images of {network['model']!r} have no peak at frequencies up "
                f"to {highest:g}: frequency_principle.projection.highest must be larger."
            )
        outputs = transform(places, own.outputs, frequencies[marked])
        errors = magnitudes(outputs - labels[marked]) / amplitudes[marked]
        found["spectrum"] += [
            {**named, "frequency": g, "amplitude": a, "peak": place in set(marked.tolist())}
            for place, (g, a) in enumerate(zip(frequencies, amplitudes, strict=True))
        ]
        found["projection_curves"] += _curves(named, own, frequencies[marked], errors)
        for threshold in thresholds:
            first = first_steps_below(errors, own.steps, threshold)
            told = {**named, "threshold": threshold}
            found["projection"] += [
                {**told, "frequency": g, "amplitude": a, **passage(first[:, place], own.steps[-1])}
                for place, (g, a) in enumerate(
                    zip(frequencies[marked], amplitudes[marked], strict=True)
                )
            ]
            each = [order(frequencies[marked], row, own.steps[-1]) for row in first]
            mean, low, high = over_seeds(np.array(each))
            found["projection_order"].append(
                {
                    **told,
                    "peaks": len(marked),
                    "learnt": float(np.isfinite(first).mean()),
                    "correlation": mean,
                    "correlation_low": None if low is None else max(low, -1.0),
                    "correlation_high": None if high is None else min(high, 1.0),
                    "seeds": len(first),
                }
            )
    found["projection_spectrum"] = found.pop("spectrum")
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


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
