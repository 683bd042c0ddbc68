"""Response frequency by a filter: labels and outputs smoothed over the images, and what is left.

Source: Xu, Zhang, Luo, Xiao and Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep
Neural Networks", section on filtering: y_low,i = sum_j y_j G(x_i - x_j) / C_i with
G = exp(-|.|^2 / (2 delta)) and C_i the sum of its weights, y_high = y - y_low; e_low and e_high are
the relative errors of a network's outputs in either part. A smooth function of the image has low
response frequencies; the filter leaves the pixels as they are.

Shapes: N images, C classes, S networks, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from bandlimit.studies.frequency_principle.response.products import product
from bandlimit.studies.frequency_principle.response.projections_records import (
    Answers,
    Floats,
    names_of,
    over_seeds,
)


def smoother(squared: Floats, width: float) -> Floats:
    """Return the weights of the filter, N x N, rows of sum 1.

    Args:
        squared: N x N, squared distances of the images.
        width: delta.
    """
    weights = np.exp(-squared / (2 * width))
    found: Floats = weights / weights.sum(axis=1, keepdims=True)
    return found


def errors(weights: Floats, labels: Floats, outputs: Floats) -> tuple[Floats, Floats]:
    """Return e_low and e_high, S x T each.

    Args:
        weights: N x N, of the filter.
        labels: N x C.
        outputs: S x T x N x C.
    """
    seeds, steps, count, classes = outputs.shape
    missed = outputs - labels
    # One product of matrices for all networks and steps.
    columns = missed.transpose(2, 0, 1, 3).reshape(count, -1)
    low = product(weights, columns).reshape(count, seeds, steps, classes).transpose(1, 2, 0, 3)
    smooth = product(weights, labels)
    return (
        _norm(low) / _norm(smooth),
        _norm(missed - low) / _norm(labels - smooth),
    )


def _norm(values: Floats) -> Floats:
    """Return the Euclidean norm over the last two axes.

    Without axes NumPy takes a product, whose last digits depend on how many threads share it.
    """
    found: Floats = np.linalg.norm(values, axis=(-2, -1))
    return found


def tables(
    networks: Sequence[Mapping[str, Any]],
    answers: Sequence[Answers],
    *,
    widths: Sequence[float],
    images: int,
) -> dict[str, pd.DataFrame]:
    """Return the tables of all networks by name: filtering, and filtering_curves.

    In the first, gap is e_high - e_low, mean over the steps after the first; gap_centred the same
    with the error of the smooth part relative to how far smooth labels are from their mean. An
    output that is the mean label for all images has that mean right, so that its gap is above 0;
    its gap_centred is near 0. Both have intervals over networks.

    Args:
        networks: dataset, model and case of each.
        answers: of each.
        widths: of the filters.
        images: the first so many are compared with each other, or all if there are fewer.
    """
    summary: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for network, own in zip(networks, answers, strict=True):
        named = names_of(network)
        pixels, labels = own.pixels[:images], own.labels[:images]
        outputs = own.outputs[:, :, :images]
        squared = cdist(pixels, pixels, "sqeuclidean")
        centred = labels - labels.mean(axis=0)
        for width in widths:
            weights = smoother(squared, width)
            low, high = errors(weights, labels, outputs)
            smooth = product(weights, labels)
            spread = smooth - smooth.mean(axis=0)
            # From relative to all of the smooth labels, to what of them varies.
            apart = _norm(smooth) / _norm(spread)
            after = own.steps > 0
            row: dict[str, Any] = {}
            for name, gaps in (("gap", high - low), ("gap_centred", high - low * apart)):
                row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds(
                    gaps[:, after].mean(axis=1)
                )
            summary.append(
                {
                    **named,
                    "width": width,
                    "variance_kept": float((spread**2).sum() / (centred**2).sum()),
                    **row,
                    "steps_below": float((low < high)[:, after].mean()),
                    "low_end": float(low[:, -1].mean()),
                    "high_end": float(high[:, -1].mean()),
                    "seeds": len(low),
                }
            )
            curves += [
                {
                    **named,
                    "width": width,
                    "part": part,
                    "step": int(own.steps[i]),
                    "epoch": float(own.epochs[i]),
                    "error": float(values[:, i].mean()),
                    "error_low": float(values[:, i].min()),
                    "error_high": float(values[:, i].max()),
                }
                for part, values in (("low", low), ("high", high))
                for i in range(len(own.steps))
            ]
    return {"filtering": pd.DataFrame(summary), "filtering_curves": pd.DataFrame(curves)}
