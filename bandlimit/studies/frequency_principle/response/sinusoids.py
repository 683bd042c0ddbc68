"""Sums of sinusoids, learnt by networks of one input: which response frequency when.

Two works: a sum of three sines (Xu et al.), and sums of sinusoids with equal and with growing
amplitudes, with the spectral norms of the layers and the robustness of the trained networks to
noise on their parameters (Rahaman et al.). Sources: "Training behavior of deep neural network in
frequency domain", and "On the spectral bias of neural networks", Figures 1 and 3.

Frequencies are those of the function that a network computes, in periods per interval. It is
sampled at N equidistant points of one period without its end, so that each frequency below N / 2
has a bin of the transform for itself. The functions return lists of flat dicts, a dict per row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.studies.frequency_principle.response import stacks
from bandlimit.studies.frequency_principle.response.sinusoids_passages import (
    Floats,
    Record,
    check_frequencies,
    curve_records,
    first_passages,
    passage_records,
    standard_error,
)
from bandlimit.studies.frequency_principle.response.threads import one_thread

HALF = 0.5
"""Share of its amplitude from which on a frequency counts as learnt."""

ITERATIONS = 40
"""Of the power iteration."""

CASES = ("equal", "growing")
"""Amplitudes of the sinusoids: 1 each, or from 0.1 to 1 with rising frequency."""


def unit_grid(samples: int) -> Tensor:
    """Return equidistant points of [0, 1), shape (samples,), float64."""
    return torch.arange(samples, dtype=torch.float64) / samples


def sinusoid_sums(
    grid: Tensor, frequencies: Sequence[int], amplitudes: Tensor, phases: Tensor
) -> Tensor:
    """Return sums of A_i sin(2 pi k_i z + 2 pi phi_i), S x N.

    Args:
        grid: z, shape (N,).
        frequencies: k, K.
        amplitudes: A, S x K or K.
        phases: phi, in periods, S x K.
    """
    k = torch.tensor(frequencies, dtype=grid.dtype)
    waves = torch.sin(2 * math.pi * (k[:, None] * grid + phases[..., None]))
    return (amplitudes[..., None] * waves).sum(dim=-2)


def spectrum(values: Tensor, frequencies: Sequence[int]) -> Tensor:
    """Return the amplitudes of frequencies, 2 |DFT| / N, ... x K.

    Args:
        values: ... x N, at N equidistant points of one period without its end.
        frequencies: above 0 and below N / 2.
    """
    transform = torch.fft.rfft(values.double())[..., list(frequencies)]
    return 2 * transform.abs() / values.shape[-1]


def draw_phases(seed: int, purpose: str, networks: int, frequencies: int) -> Tensor:
    """Return uniform phases in [0, 1) of the targets of networks, S x K, float64."""
    return torch.stack(
        [
            torch.rand(
                frequencies, generator=keys.generator(seed, purpose, "phases", network)
            ).double()
            for network in range(networks)
        ]
    )


# A sum of three sines ----------------------------------------------------------------------------


def one_dimension(
    *,
    hidden: Sequence[int],
    std: float,
    frequencies: Sequence[int],
    samples: int,
    steps: int,
    learning_rate: float,
    seeds: int,
    records: int,
    threshold: float,
    seed: int,
) -> dict[str, list[Record]]:
    """Return when tanh networks learn the frequencies of a sum of sines on [-pi, pi).

    The measure is Delta_F(k) = |F[h](k) - F[f](k)| / |F[f](k)| of the target f and the network h.

    Source: "Training behavior of deep neural network in frequency domain", f = sin x + sin 3x +
    sin 5x, full-batch Adam on the squared error.

    Args:
        hidden: units of the hidden layers.
        std: of weights and biases at the start, around 0.
        frequencies: k of the sines, rising.
        samples: N, points.
        steps: updates of each network.
        learning_rate: of Adam.
        seeds: networks.
        records: about how many steps are looked at.
        threshold: of Delta_F, below which a frequency is learnt.
        seed: keys all draws.

    Returns:
        'one_dimension': as `passage_records`. 'one_dimension_curves': as `curve_records`, of
        'difference', Delta_F. 'one_dimension_functions': x, step, output and target of the first
        network, at its first passages and at the start and the end.

    Raises:
        UserError: the samples don't resolve a frequency.
    """
    check_frequencies("one_dimension", frequencies, samples)
    x = math.pi * (2 * unit_grid(samples) - 1)
    target = torch.stack([torch.sin(k * x) for k in frequencies]).sum(dim=0)
    stack = stacks.draw(
        seed, "one_dimension", range(seeds), [1, *hidden, 1], activation="tanh", std=std
    )
    found: dict[int, Tensor] = {}
    with one_thread():
        stacks.train(
            stack,
            x.float()[:, None],
            target.float()[:, None],
            steps=steps,
            learning_rate=learning_rate,
            at=stacks.spaced_steps(steps, records),
            record=found.__setitem__,
        )
    outputs = torch.stack(list(found.values()))[..., 0].double()
    wanted = torch.fft.rfft(target)[list(frequencies)]
    got = torch.fft.rfft(outputs)[..., list(frequencies)]
    difference = ((got - wanted).abs() / wanted.abs()).numpy()
    passages = first_passages(difference < threshold, list(found))
    shown = {0, steps, *(int(step) for step in passages[0] if not math.isnan(step))}
    return {
        "one_dimension": passage_records("sines", frequencies, threshold, passages, steps),
        "one_dimension_curves": curve_records(
            "sines", frequencies, list(found), difference, "difference"
        ),
        "one_dimension_functions": [
            {"step": step, "x": place, "output": value, "target": wanted_value}
            for step in sorted(shown)
            for place, value, wanted_value in zip(
                x.tolist(), found[step][0, :, 0].tolist(), target.tolist(), strict=True
            )
        ],
    }


# Equal and growing amplitudes --------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """Networks trained on sums of sinusoids, S = cases x seeds of them, case by case.

    Attributes:
        stack: the networks.
        steps: that were looked at, T.
        amplitudes: of the networks' outputs over those of the targets, T x S x K.
        norms: spectral norms of the layers, T x S x layers.
    """

    stack: stacks.Stack
    steps: list[int]
    amplitudes: Floats
    norms: Floats


def sinusoids(
    *,
    width: int,
    depth: int,
    frequencies: Sequence[int],
    samples: int,
    steps: int,
    learning_rate: float,
    seeds: int,
    records: int,
    directions: int,
    norms: int,
    largest_norm: float,
    seed: int,
) -> dict[str, list[Record]]:
    """Return when ReLU networks learn sinusoids of equal and of growing amplitudes.

    Source: "On the spectral bias of neural networks", Figure 1 (heat maps, spectral norms) and
    Figure 3 (noise on the parameters); full-batch Adam on the squared error.

    Args:
        width: units of a hidden layer.
        depth: hidden layers.
        frequencies: k, rising.
        samples: N, points of [0, 1).
        steps: updates of each network.
        learning_rate: of Adam.
        seeds: networks of a case; both cases start from the same.
        records: about how many steps are looked at.
        directions: random directions in the space of the parameters.
        norms: of the noise, how many from 0 to the largest.
        largest_norm: of the noise.
        seed: keys all draws.

    Returns:
        'sinusoids': as `passage_records`, and width. 'sinusoid_curves': as `curve_records`, of
        'amplitude', normalised by that of the target. 'sinusoid_norms': case, layer (from 1), step,
        norm (mean over networks), low and high (least and greatest). 'sinusoid_noise': as
        `noise_records`, of the networks of equal amplitudes.

    Raises:
        UserError: the samples don't resolve a frequency.
    """
    check_frequencies("sinusoids", frequencies, samples)
    grid = unit_grid(samples)
    sizes = [1, *[width] * depth, 1]
    with one_thread():
        trained = train_sinusoids(
            grid, sizes, frequencies, steps, learning_rate, seeds, records, seed
        )
        noise = noise_records(
            trained.stack.take(range(seeds)),
            grid,
            frequencies,
            np.linspace(0, largest_norm, norms),
            directions,
            seed,
        )
    tables: dict[str, list[Record]] = {"sinusoids": [], "sinusoid_curves": [], "sinusoid_norms": []}
    for i, case in enumerate(CASES):
        own = slice(i * seeds, (i + 1) * seeds)
        amplitudes = trained.amplitudes[:, own]
        passages = first_passages(amplitudes >= HALF, trained.steps)
        tables["sinusoids"] += [
            {**record, "width": width}
            for record in passage_records(case, frequencies, HALF, passages, steps)
        ]
        tables["sinusoid_curves"] += curve_records(
            case, frequencies, trained.steps, amplitudes, "amplitude"
        )
        tables["sinusoid_norms"] += [
            {("layer" if key == "frequency" else key): value for key, value in record.items()}
            for record in curve_records(
                case, range(1, depth + 2), trained.steps, trained.norms[:, own], "norm"
            )
        ]
    sized = {"width": width, "steps": steps}
    return {**tables, "sinusoid_noise": [{**record, **sized} for record in noise]}


def train_sinusoids(
    grid: Tensor,
    sizes: Sequence[int],
    frequencies: Sequence[int],
    steps: int,
    learning_rate: float,
    seeds: int,
    records: int,
    seed: int,
) -> Trained:
    """Return networks of all `CASES`, trained; arguments as in `sinusoids`."""
    growing = torch.linspace(0.1, 1, len(frequencies), dtype=grid.dtype)
    amplitudes = torch.stack([torch.ones_like(growing), growing]).repeat_interleave(seeds, dim=0)
    phases = draw_phases(seed, "sinusoids", seeds, len(frequencies)).repeat(len(CASES), 1)
    targets = sinusoid_sums(grid, frequencies, amplitudes, phases)
    stack = stacks.draw(seed, "sinusoids", [*range(seeds)] * len(CASES), sizes)
    outputs: dict[int, Tensor] = {}
    norms = []

    def record(step: int, values: Tensor) -> None:
        outputs[step] = values
        norms.append(spectral_norms(stack))

    stacks.train(
        stack,
        grid.float()[:, None],
        targets.float()[..., None],
        steps=steps,
        learning_rate=learning_rate,
        at=stacks.spaced_steps(steps, records),
        record=record,
    )
    got = spectrum(torch.stack(list(outputs.values()))[..., 0], frequencies)
    return Trained(
        stack, list(outputs), (got / amplitudes).numpy(), torch.stack(norms).double().numpy()
    )


def spectral_norms(stack: stacks.Stack) -> Tensor:
    """Return the spectral norm of each layer's weights by power iteration, S x layers.

    It is approached from below.
    """
    found = []
    for weight in stack.weights:
        # The smaller of both Gram matrices has the same largest eigenvalue.
        gram = weight.mT @ weight if weight.shape[1] >= weight.shape[2] else weight @ weight.mT
        vector = torch.ones(len(stack), len(gram[0]), 1) / math.sqrt(len(gram[0]))
        value = torch.zeros(len(stack))
        for _ in range(ITERATIONS):
            image = gram @ vector
            value = image.norm(dim=(1, 2))
            vector = image / value.clamp_min(1e-30)[:, None, None]
        found.append(value.sqrt())
    return torch.stack(found, dim=1)


def noise_records(
    stack: stacks.Stack,
    grid: Tensor,
    frequencies: Sequence[int],
    norms: Floats,
    directions: int,
    seed: int,
) -> list[Record]:
    """Return what noise on the parameters leaves of the amplitudes, a record per frequency, norm.

    The noise is a random unit direction in the space of all parameters times a norm. Amplitudes are
    over those of the network without noise, and averaged over directions.

    Keys: frequency, norm, largest (the largest norm), amplitude (mean over networks),
    amplitude_error (its standard error), low and high (least and greatest network), directions,
    seeds.

    Args:
        stack: trained networks, S.
        grid: points of [0, 1), shape (N,).
        frequencies: K.
        norms: of the noise.
        directions: random directions.
        seed: keys the directions.
    """
    inputs = grid.float()[:, None]
    before = spectrum(stack(inputs)[..., 0], frequencies)
    left = np.empty((len(stack), len(norms), len(frequencies)))
    for network in range(len(stack)):
        noise = _directions(stack, network, directions, seed)
        many = stack.take([network] * directions)
        for i, norm in enumerate(norms):
            moved = stacks.Stack(
                [w + norm * d for w, d in zip(many.weights, noise.weights, strict=True)],
                [b + norm * d for b, d in zip(many.biases, noise.biases, strict=True)],
                stack.activation,
            )
            after = spectrum(moved(inputs)[..., 0], frequencies)
            left[network, i] = (after / before[network]).mean(dim=0).numpy()
    return [
        {
            "frequency": k,
            "norm": float(norm),
            "largest": float(norms[-1]),
            "amplitude": float(left[:, i, j].mean()),
            "amplitude_error": standard_error(left[:, i, j]),
            "low": float(left[:, i, j].min()),
            "high": float(left[:, i, j].max()),
            "directions": directions,
            "seeds": len(stack),
        }
        for i, norm in enumerate(norms)
        for j, k in enumerate(frequencies)
    ]


def _directions(stack: stacks.Stack, network: int, directions: int, seed: int) -> stacks.Stack:
    """Return random unit directions in the space of one network's parameters, as a stack."""
    names = [f"{network}/{direction}" for direction in range(directions)]
    sizes = [len(weight[0]) for weight in stack.weights] + [stack.biases[-1].shape[-1]]
    drawn = stacks.draw(seed, "noise on parameters", names, sizes, std=1.0)
    squares = torch.stack([p.square().sum(dim=(1, 2)) for p in drawn.parameters()])
    length = squares.sum(dim=0).sqrt()[:, None, None]
    return stacks.Stack(
        [w / length for w in drawn.weights], [b / length for b in drawn.biases], drawn.activation
    )
