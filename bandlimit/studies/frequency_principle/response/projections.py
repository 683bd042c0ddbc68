"""Response frequency along the first principal component of the images.

Source: Xu, Zhang, Luo, Xiao and Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep
Neural Networks", Figure 1: F[y](g) = (1/n) sum_j y_j exp(-2 pi i g x_j.v), v being the first
principal component, of the labels and of the outputs of a network in training, and their relative
difference at the peaks of the labels. The sums are over unevenly spaced points x_j.v, and no
transform of images.

The document says nothing of the unit of g nor how labels of several classes are taken. Here x_j.v
is moved and scaled to [0, 1] over the images, so that g counts periods over their range. Of N
images whose labels had nothing to do with them, the transform would not be that of their mean: it
has a variance of p (1 - p) / N for a class of share p. Most peaks at high frequencies are of that
kind. So two sets of frequencies are followed: all peaks, of each class by itself; and each half
period at which the labels of all classes together are stronger than such noise (`STRONGER`), by
Euclidean magnitudes over the classes, which leave no peaks to pick: those of one class fill the
gaps of another. There labels and outputs are taken less their means over the images: images lie
unevenly, so that the mean has a transform of its own, which is strong at low frequencies, and which
outputs that are the same for all images have right.

Shapes: N images, C classes, G frequencies, P peaks, S networks, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import spearmanr

from bandlimit.errors import UserError
from bandlimit.studies.frequency_principle.response.products import eigenvectors, product
from bandlimit.studies.frequency_principle.response.projections_records import (
    Answers,
    Floats,
    names_of,
    over_seeds,
)

STRONGER = 2.0
"""Square of the transform of labels less their mean, over that of noise, above which it is none.

That of ten classes together is of 18 squares, so that noise is as strong at less than one frequency
of a hundred.
"""


def principal(pixels: Floats) -> Floats:
    """Return the places of images along their first principal component, N, from 0 to 1.

    Args:
        pixels: N x D.

    Raises:
        UserError: all images are the same.
    """
    centred = pixels - pixels.mean(axis=0)
    vector = eigenvectors(product(centred.T, centred))[1][:, -1]
    # The sign of an eigenvector is free, and libraries differ in it.
    vector = vector * np.sign(vector[np.abs(vector).argmax()])
    places = product(centred, vector)
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
    return product(waves.real, values) + 1j * product(waves.imag, values)


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
    """Return the rank correlation (Spearman) of values and first steps.

    It is 0 where all first steps are the same, since they are in no order, and NaN only of fewer
    than two different values.

    Args:
        values: P, such as the frequencies of P peaks.
        first: P; NaN is never, which counts as later than the end.
        end: the last step.
    """
    ranked = np.where(np.isnan(first), end + 1, first)
    if len(np.unique(values)) < 2:
        return float("nan")
    if len(np.unique(ranked)) < 2:
        return 0.0
    return float(spearmanr(values, ranked).statistic)


def partial(a: float, b: float, between: float) -> float:
    """Return the correlation a of two quantities apart from a third; NaN where that tells all.

    Args:
        a: correlation of first and second.
        b: of the third and the second.
        between: of the first and the third.
    """
    left = (1 - b**2) * (1 - between**2)
    # Two that are one and the same can't be told apart.
    return (a - b * between) / left**0.5 if left > 1e-12 else float("nan")


def noise(labels: Floats) -> Floats:
    """Return the variance of the transform, for each class, were labels given out at random.

    Args:
        labels: N x C, one-hot.
    """
    share = labels.mean(axis=0)
    found: Floats = share * (1 - share) / len(labels)
    return found


def centred(values: Floats) -> Floats:
    """Return values less their mean over the images, ... x N x C."""
    found: Floats = values - values.mean(axis=-2, keepdims=True)
    return found


class Followed(NamedTuple):
    """Frequencies at which outputs are compared with labels.

    Attributes:
        frequencies: F, in periods over the range of the images.
        amplitudes: F, of the labels.
        errors: S x T x F, relative to these.
    """

    frequencies: Floats
    amplitudes: Floats
    errors: Floats


def at_peaks(own: Answers, places: Floats, frequencies: Floats) -> Followed:
    """Return the errors at the peaks of each class, those of the first class first."""
    labels = transform(places, own.labels, frequencies)
    marked = peaks(np.abs(labels))
    classes = np.array([one for one, _ in marked], dtype=int)
    at = np.array([place for _, place in marked], dtype=int)
    used, rows = np.unique(at, return_inverse=True)
    outputs = transform(places, own.outputs, frequencies[used])[:, :, rows, classes]
    amplitudes = np.abs(labels[at, classes])
    errors = np.abs(outputs - labels[at, classes]) / amplitudes
    return Followed(frequencies[at], amplitudes, errors)


def at_halves(own: Answers, places: Floats, highest: float) -> Followed:
    """Return the errors at half periods where the labels are stronger than noise.

    Labels and outputs are taken less their means over the images.
    """
    frequencies = np.arange(0.5, highest + 0.25, 0.5)
    labels = transform(places, centred(own.labels), frequencies)
    amplitudes = np.linalg.norm(labels, axis=1)
    strong = amplitudes**2 > STRONGER * noise(own.labels).sum()
    outputs = transform(places, centred(own.outputs), frequencies[strong])
    missed = np.linalg.norm(outputs - labels[strong], axis=3)
    return Followed(frequencies[strong], amplitudes[strong], missed / amplitudes[strong])


def tables(
    networks: Sequence[Mapping[str, Any]],
    answers: Sequence[Answers],
    *,
    highest: float,
    step: float,
    thresholds: Sequence[float],
) -> dict[str, pd.DataFrame]:
    """Return the tables of all networks by name: projection, its order, curves and spectrum.

    The first and the curves are of half periods at which the labels are stronger than noise; the
    order is also of all peaks. Partial is the order apart from the amplitude of the labels, since
    the relative error of what is weak is large for any rest.

    Args:
        networks: dataset, model and case of each.
        answers: of each.
        highest: frequency, in periods over the range of the images.
        step: between frequencies among which peaks are looked for.
        thresholds: errors below which a frequency counts as learnt.

    Raises:
        UserError: the labels of a network's images are nowhere stronger than noise.
    """
    frequencies = np.arange(0, highest + step / 2, step)
    names = ("projection", "projection_order", "projection_curves", "projection_spectrum")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for network, own in zip(networks, answers, strict=True):
        named, places = names_of(network), principal(own.pixels)
        halves = at_halves(own, places, highest)
        if not len(halves.frequencies):
            raise UserError(
                f"The labels of the {len(own.labels)} images of {network['model']!r} are nowhere "
                "stronger along the first principal component than labels given out at random: "
                "'responses.images' of its recipe must be more."
            )
        found["projection_spectrum"] += _spectrum(named, own, places, frequencies, halves)
        found["projection_curves"] += _curves(named, own, halves)
        sets = {"half periods": halves, "peaks": at_peaks(own, places, frequencies)}
        for threshold in thresholds:
            told = {**named, "threshold": threshold}
            first = first_steps_below(halves.errors, own.steps, threshold)
            found["projection"] += [
                {**told, "frequency": g, "amplitude": a, **passage(first[:, i], own.steps[-1])}
                for i, (g, a) in enumerate(zip(halves.frequencies, halves.amplitudes, strict=True))
            ]
            found["projection_order"] += [
                {**told, "frequencies": name, **_order(followed, own, threshold)}
                for name, followed in sets.items()
                if len(followed.frequencies)
            ]
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def _order(followed: Followed, own: Answers, threshold: float) -> dict[str, Any]:
    """Return in which order frequencies are learnt, over the networks."""
    frequencies, amplitudes, errors = followed
    first, end = first_steps_below(errors, own.steps, threshold), own.steps[-1]
    each = np.array([order(frequencies, row, end) for row in first])
    weak = np.array([order(amplitudes, row, end) for row in first])
    between = order(amplitudes, frequencies, np.inf)
    apart = np.array([partial(*pair, between) for pair in zip(each, weak, strict=True)])
    return {
        "count": len(frequencies),
        "learnt": float(np.isfinite(first).mean()),
        **_within_one("correlation", each),
        **_within_one("partial", apart),
        "amplitude_correlation": over_seeds(weak)[0],
        # Those behind the mean.
        "seeds": int(np.isfinite(each).sum()),
    }


def _spectrum(
    named: Mapping[str, Any],
    own: Answers,
    places: Floats,
    frequencies: Floats,
    halves: Followed,
) -> list[dict[str, Any]]:
    """Return the labels' transform, of each class and (null) of all, beside what noise has.

    That of all is of labels less their mean.
    """
    labels = transform(places, own.labels, frequencies)
    whole = np.linalg.norm(transform(places, centred(own.labels), frequencies), axis=1)
    marked, expected = set(peaks(np.abs(labels))), noise(own.labels)
    rows = [
        {
            **named,
            "class": one,
            "frequency": float(g),
            "amplitude": float(np.abs(labels[i, one])),
            "noise": float(expected[one] ** 0.5),
            "marked": (one, i) in marked,
        }
        for one in range(labels.shape[1])
        for i, g in enumerate(frequencies)
    ]
    rows += [
        {
            **named,
            "class": None,
            "frequency": float(g),
            "amplitude": float(whole[i]),
            "noise": float(expected.sum() ** 0.5),
            "marked": bool(np.isclose(halves.frequencies, g).any()),
        }
        for i, g in enumerate(frequencies)
    ]
    return rows


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


def _curves(named: Mapping[str, Any], own: Answers, followed: Followed) -> list[dict[str, Any]]:
    """Return mean, least and greatest error over the networks, by step and frequency."""
    errors = followed.errors
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
        for j, g in enumerate(followed.frequencies)
    ]
