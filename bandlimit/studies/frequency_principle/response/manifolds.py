"""Sinusoids on a curve in the plane that turns L times, learnt and classified.

Source: "On the spectral bias of neural networks", section 4 and Figure 7: the target is a function
of z in [0, 1), and a network sees the point gamma_L(z) = (1 + sin(2 pi L z) / 2) (cos 2 pi z,
sin 2 pi z) of the plane. The more often the curve turns, the lower the frequency in the plane may
be that follows a high one along the curve.

Frequencies are those of the function along the curve, in periods per round. It is sampled at N
equidistant z without the end. The functions return lists of flat dicts, a dict per row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bandlimit.studies.frequency_principle.response import stacks
from bandlimit.studies.frequency_principle.response.flower import REACH
from bandlimit.studies.frequency_principle.response.sinusoids import (
    HALF,
    draw_phases,
    sinusoid_sums,
    spectrum,
    unit_grid,
)
from bandlimit.studies.frequency_principle.response.sinusoids_passages import (
    Record,
    check_frequencies,
    curve_records,
    first_passages,
    mean_interval,
    passage_records,
    standard_error,
)
from bandlimit.studies.frequency_principle.response.threads import one_thread

TOP = 3
"""How many of the highest frequencies are looked at together."""

APART = 1 / 8
"""Places of samples of the classes, in steps behind the grid: off the zeros of the sine."""


def curve(z: Tensor, turns: int) -> Tensor:
    """Return the points gamma_L(z) of the plane, N x 2; `flower.points` has them as an array.

    Args:
        z: in [0, 1), shape (N,).
        turns: L; 0 is the unit circle.
    """
    angle = 2 * math.pi * z
    radius = 1 + torch.sin(2 * math.pi * turns * z) / 2
    return radius[:, None] * torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)


def manifolds(
    *,
    width: int,
    depth: int,
    turns: Sequence[int],
    frequencies: Sequence[int],
    samples: int,
    steps: int,
    learning_rate: float,
    seeds: int,
    records: int,
    classification: Mapping[str, Any],
    seed: int,
) -> dict[str, list[Record]]:
    """Return what ReLU networks learn of sinusoids along curves, and of classes along one.

    Source: "On the spectral bias of neural networks", section 4; full-batch Adam on the squared
    error, amplitudes 1, uniform phases.

    Args:
        width: units of a hidden layer.
        depth: hidden layers.
        turns: L of each curve.
        frequencies: k, rising.
        samples: N, points of a curve.
        steps: updates of each network.
        learning_rate: of Adam.
        seeds: networks of a curve; all curves have the same at the start, and the same phases.
        records: about how many steps are looked at.
        classification: arguments of `classify` but width, depth and seed.
        seed: keys all draws.

    Returns:
        'manifolds': as `passage_records`, and turns, samples, width, and amplitude (mean over
        networks at the end, over that of the target), amplitude_low and amplitude_high (least and
        greatest). 'manifold_curves': as `curve_records`, of 'amplitude', and turns.
        'manifold_levels': turns, amplitude (mean over networks of the mean of the `TOP` highest
        frequencies, each at most 1, at the end), amplitude_error, low, high (least and greatest),
        gain with gain_low and gain_high (amplitude less that of the same networks on the curve of
        the fewest turns, and its 95% interval by Student's t), seeds, from_frequency (the lowest of
        these), width, samples, steps. And the tables of `classify`.

    Raises:
        UserError: the samples don't resolve a frequency.
    """
    check_frequencies("manifolds", frequencies, samples)
    grid = unit_grid(samples)
    phases = draw_phases(seed, "manifolds", seeds, len(frequencies)).repeat(len(turns), 1)
    targets = sinusoid_sums(grid, frequencies, torch.ones_like(phases), phases)
    points = torch.stack([curve(grid, level) for level in turns]).repeat_interleave(seeds, dim=0)
    stack = stacks.draw(seed, "manifolds", [*range(seeds)] * len(turns), [2, *[width] * depth, 1])
    outputs: dict[int, Tensor] = {}
    with one_thread():
        stacks.train(
            stack,
            points.float(),
            targets.float()[..., None],
            steps=steps,
            learning_rate=learning_rate,
            at=stacks.spaced_steps(steps, records),
            record=outputs.__setitem__,
        )
    amplitudes = spectrum(torch.stack(list(outputs.values()))[..., 0], frequencies).numpy()
    sizes = {"width": width, "samples": samples}
    tables: dict[str, list[Record]] = {"manifolds": [], "manifold_curves": []}
    tables["manifold_levels"] = []
    tops = amplitudes[-1, :, -TOP:].clip(max=1).mean(axis=1).reshape(len(turns), seeds)
    fewest = turns.index(min(turns))
    for i, level in enumerate(turns):
        own = amplitudes[:, i * seeds : (i + 1) * seeds]
        case, last = f"L = {level}", own[-1]
        passages = first_passages(own >= HALF, list(outputs))
        tables["manifolds"] += [
            {
                **record,
                "turns": level,
                **sizes,
                "amplitude": float(last[:, j].mean()),
                "amplitude_low": float(last[:, j].min()),
                "amplitude_high": float(last[:, j].max()),
            }
            for j, record in enumerate(passage_records(case, frequencies, HALF, passages, steps))
        ]
        tables["manifold_curves"] += [
            {**record, "turns": level}
            for record in curve_records(case, frequencies, list(outputs), own, "amplitude")
        ]
        top = tops[i]
        gain, gain_low, gain_high = mean_interval(top - tops[fewest])
        tables["manifold_levels"].append(
            {
                "turns": level,
                "amplitude": float(top.mean()),
                "amplitude_error": standard_error(top),
                "low": float(top.min()),
                "high": float(top.max()),
                "gain": gain,
                "gain_low": gain_low,
                "gain_high": gain_high,
                "seeds": seeds,
                "from_frequency": frequencies[-TOP:][0],
                **sizes,
                "steps": steps,
            }
        )
    return tables | classify(width=width, depth=depth, seed=seed, **classification)


def labels(z: Tensor, frequency: int) -> Tensor:
    """Return whether sin(2 pi k z) > 0, as 0 and 1, shape of z, float32."""
    return (torch.remainder(frequency * z, 1) < HALF).float()


def classify(
    *,
    width: int,
    depth: int,
    turns: int,
    frequency: int,
    samples: int,
    steps: int,
    learning_rate: float,
    seeds: int,
    pixels: int,
    seed: int,
) -> dict[str, list[Record]]:
    """Return how networks of several initialisations classify a curve, and the plane around it.

    The classes are the signs of sin(2 pi k z); the loss is the binary cross-entropy.

    Source: "On the spectral bias of neural networks", Figure 7: two networks that agree on the
    curve differ off it.

    Args:
        width: units of a hidden layer.
        depth: hidden layers.
        turns: L.
        frequency: k.
        samples: of the curve.
        steps: updates of each network.
        learning_rate: of Adam.
        seeds: networks, at least 2.
        pixels: of a side of the square [-1.6, 1.6]^2.
        seed: keys all draws.

    Returns:
        'manifold_classification': measure, value (mean), low and high (least and greatest), cases.
        Of networks: 'accuracy on samples', and 'accuracy between them', at the middles of
        neighbouring samples. Of pairs of networks: 'disagreement on samples', the share that they
        put into different classes, 'disagreement in the square', that of all pixels, and
        'difference in the square', the mean absolute difference of their probabilities.
        'manifold_pictures': network, row (from the top), column, probability of class 1, of the
        first two networks.

    Raises:
        UserError: the samples don't resolve the frequency.
    """
    check_frequencies("manifolds", [frequency], samples)
    z = unit_grid(samples) + APART / samples
    between = z + HALF / samples
    side = REACH * (2 * (torch.arange(pixels, dtype=torch.float64) + HALF) / pixels - 1)
    square = torch.stack(
        [side.expand(pixels, pixels), side.flip(0)[:, None].expand(pixels, pixels)], dim=-1
    ).reshape(-1, 2)
    wanted = labels(z, frequency)
    stack = stacks.draw(seed, "classification", range(seeds), [2, *[width] * depth, 1])
    with one_thread():
        stacks.train(
            stack,
            curve(z, turns).float(),
            wanted[:, None],
            steps=steps,
            learning_rate=learning_rate,
            loss="bce",
        )
    with one_thread():
        on, near, off = (
            stack(points.float())[..., 0]
            for points in (curve(z, turns), curve(between, turns), square)
        )
    pairs = list(itertools.combinations(range(seeds), 2))
    chances = off.sigmoid()

    def apart(values: Tensor) -> list[float]:
        return [((values[a] > 0) != (values[b] > 0)).float().mean().item() for a, b in pairs]

    measures = {
        "accuracy on samples": ((on > 0) == (wanted > HALF)).float().mean(dim=1).tolist(),
        "accuracy between them": ((near > 0) == (labels(between, frequency) > HALF))
        .float()
        .mean(dim=1)
        .tolist(),
        "disagreement on samples": apart(on),
        "disagreement in the square": apart(off),
        "difference in the square": [
            (chances[a] - chances[b]).abs().mean().item() for a, b in pairs
        ],
    }
    return {
        "manifold_classification": [
            {
                "measure": measure,
                "value": sum(values) / len(values),
                "low": min(values),
                "high": max(values),
                "cases": len(values),
            }
            for measure, values in measures.items()
        ],
        "manifold_pictures": [
            {
                "network": network,
                "row": place // pixels,
                "column": place % pixels,
                "probability": value,
            }
            for network in range(2)
            for place, value in enumerate(chances[network].tolist())
        ],
    }
