"""The linear frequency principle against two-layer ReLU networks that are trained.

Source: Zhang, Xu, Luo and Ma (arXiv 1905.10264), as the survey shows it (Figure 2): networks of
growing width are trained on XOR, and what they learn is compared with the model's prediction on
40 x 40 test points. Beside it, six samples on a line. `linear_principle_model` has network and
model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.files.tables import Column, Table
from bandlimit.statistics import quantile
from bandlimit.studies.frequency_principle.response.linear_principle_model import (
    INNER,
    OUTER,
    PROBLEMS,
    Floats,
    Problem,
    gamma_squared,
    prediction,
)
from bandlimit.studies.frequency_principle.response.threads import one_thread

BIASES = 2.0
"""Biases l are uniform from minus this to this; inputs lie in [-1, 1]^d."""

AT_ONCE = 100
"""Test points that networks are evaluated on at once."""


# Networks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Networks:
    """Two-layer networks of one width, one for each replicate.

    Attributes:
        w: outer weights, shape (networks, neurons).
        r: inner weights, shape (networks, d, neurons).
        l: biases, as w.
    """

    w: Tensor
    r: Tensor
    l: Tensor  # noqa: E741 - as the document has it

    @classmethod
    def draw(cls, seed: int, neurons: int, dimension: int, seeds: int) -> Networks:
        """Return networks before training: w and r normal, l uniform.

        Args:
            seed: keys the draws, together with width, dimension and replicate.
            neurons: N.
            dimension: d of the inputs.
            seeds: replicates.
        """
        drawn = []
        for replicate in range(seeds):
            rng = keys.generator(seed, "linear_principle", dimension, neurons, replicate)
            normal = torch.randn(dimension + 1, neurons, generator=rng, dtype=torch.float64)
            uniform = torch.rand(neurons, generator=rng, dtype=torch.float64)
            drawn.append((OUTER * normal[0], INNER * normal[1:], BIASES * (2 * uniform - 1)))
        return cls(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def hidden(self, x: Tensor) -> Tensor:
        """Return r . x - |r| l, shape (networks, points, neurons), of points (points, d)."""
        return torch.baddbmm(
            -(self.sizes() * self.l)[:, None], x.expand(len(self.w), -1, -1), self.r
        )

    def sizes(self) -> Tensor:
        """Return |r|, shape (networks, neurons)."""
        return self.r.square().sum(dim=1).sqrt()  # far faster than norm along this dimension

    def outputs(self, x: Tensor) -> Tensor:
        """Return h, shape (networks, points), of points of shape (points, d)."""
        return self._read_out(self.hidden(x))

    def _read_out(self, hidden: Tensor) -> Tensor:
        neurons = self.w.shape[1]
        return (hidden.relu() @ self.w[..., None])[..., 0] / math.sqrt(neurons)

    def gradients(
        self, x: Tensor, error: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients by w, r and l of a loss of the outputs.

        Args:
            x: points, shape (points, d).
            error: returns the gradient by the outputs, of the outputs, both (networks, points).
        """
        hidden = self.hidden(x)
        scaled = error(self._read_out(hidden)) / math.sqrt(self.w.shape[1])
        size = self.sizes()
        by_w = (scaled[:, None] @ hidden.relu())[:, 0]
        # Of each sample where the neuron is active, w taken out of the sums.
        back = (hidden > 0) * scaled[..., None]
        total = self.w * back.sum(dim=1)
        by_r = self.w[:, None] * (x.T @ back) - (total * self.l / size)[:, None] * self.r
        return by_w, by_r, -total * size


def train(nets: Networks, problem: Problem, steps: int) -> tuple[Networks, Floats]:
    """Train networks by full-batch gradient descent, so that h - h_0 passes through the samples.

    The loss of a network is sum (h - h_0 - y)^2 / 2 over the samples, h_0 its output before
    training; its learning rate is 1 / (greatest eigenvalue of its own kernel before training).

    Args:
        nets: before training.
        problem: the samples.
        steps: of gradient descent.

    Returns:
        The trained networks, and the largest |h - h_0 - y| of each, shape (networks,).
    """
    x = torch.from_numpy(problem.inputs)
    wanted = nets.outputs(x) + torch.from_numpy(problem.labels)
    rate = 1 / torch.linalg.eigvalsh(tangent_kernel(nets, x))[:, -1:]
    for _ in range(steps):
        by_w, by_r, by_l = nets.gradients(x, lambda h: rate * (h - wanted))
        nets = Networks(nets.w - by_w, nets.r - by_r, nets.l - by_l)
    return nets, (nets.outputs(x) - wanted).abs().amax(dim=1).numpy()


def tangent_kernel(nets: Networks, x: Tensor) -> Tensor:
    """Return <dh(x) / dtheta, dh(x') / dtheta>, shape (networks, points, points)."""
    each = []
    for one in torch.eye(len(x), dtype=x.dtype):
        parts = nets.gradients(x, lambda h, one=one: one.expand_as(h))  # type: ignore[misc]
        each.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    rows = torch.stack(each, dim=1)
    return rows @ rows.transpose(1, 2)


def learnt(before: Networks, after: Networks, points: Floats) -> Floats:
    """Return h - h_0 at points, shape (networks, points)."""
    parts = torch.from_numpy(points).split(AT_ONCE)
    return torch.cat([after.outputs(x) - before.outputs(x) for x in parts], dim=1).numpy()


# Tables ------------------------------------------------------------------------------------------


def simulate(
    *,
    neurons: Sequence[int],
    steps: Mapping[str, int],
    seeds: int,
    times: Mapping[str, Any],
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Train networks of growing width and compare what they learn with the model's prediction.

    Args:
        neurons: widths N.
        steps: of gradient descent on each problem.
        seeds: replicates, at least 2.
        times: 'frequencies' in cycles per unit of x, and 'threshold', the share of the error that
            is left when a frequency counts as learnt; of the model.
        seed: keys all draws.

    Returns:
        By name:
        linear_principle, a row per problem and width: problem, dimension, neurons, widest (whether
        it is the greatest width), seeds, steps; relative_l1 and relative_l2, the distance of
        network and model over the norm of the model on the test points, and correlation, each with
        _error (standard error), _low and _high (95%, Student's t over replicates), _least and
        _greatest (of the replicates); residual, the largest |h - h_0 - y| over max |y|.
        linear_principle_points, a row per problem and test point: problem, neurons (the greatest
        width), first and second coordinate (second is empty on the line), model, network (mean of
        the replicates), network_least, network_greatest, single (the first replicate).
        linear_principle_times, a row per problem and frequency: case, frequency, rate (gamma^2),
        threshold, step, step_low, step_high (a time, exact, so all three are one), learnt, seeds
        (1), unit.
    """
    rows, points = [], []
    for (name, make), width in itertools.product(PROBLEMS.items(), neurons):
        problem = make()
        model = prediction(problem)
        with one_thread():
            before = Networks.draw(seed, width, problem.inputs.shape[1], seeds)
            after, residual = train(before, problem, steps[name])
            found = learnt(before, after, problem.points)
        rows.append(
            {
                "problem": name,
                "dimension": problem.inputs.shape[1],
                "neurons": width,
                "widest": width == max(neurons),
                "seeds": seeds,
                "steps": steps[name],
                **_compare(found, model),
                "residual": float(residual.max() / np.abs(problem.labels).max()),
            }
        )
        if width == max(neurons):
            points.append(_points(name, width, problem, model, found))
    return {
        "linear_principle": pd.DataFrame(rows),
        "linear_principle_points": pd.concat(points, ignore_index=True),
        "linear_principle_times": _times(**times),
    }


def _compare(found: Floats, model: Floats) -> dict[str, float]:
    """Return distances and correlation of networks, shape (networks, points), to the model."""
    gap = np.abs(found - model)
    centred = found - found.mean(axis=1, keepdims=True)
    ideal = model - model.mean()
    measures = {
        "relative_l1": gap.sum(axis=1) / np.abs(model).sum(),
        "relative_l2": np.linalg.norm(gap, axis=1) / np.linalg.norm(model),
        "correlation": centred @ ideal / np.linalg.norm(centred, axis=1) / np.linalg.norm(ideal),
    }
    row: dict[str, float] = {}
    for name, values in measures.items():
        mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
        reach = quantile(0.95, len(values) - 1) * error
        row |= {
            name: mean,
            f"{name}_error": error,
            f"{name}_low": mean - reach,
            f"{name}_high": min(mean + reach, 1.0) if name == "correlation" else mean + reach,
            f"{name}_least": float(values.min()),
            f"{name}_greatest": float(values.max()),
        }
    return row


def _points(name: str, width: int, problem: Problem, model: Floats, found: Floats) -> pd.DataFrame:
    first, *others = problem.points.T
    return pd.DataFrame(
        {
            "problem": name,
            "neurons": width,
            "first": first,
            "second": others[0] if others else np.nan,
            "model": model,
            "network": found.mean(axis=0),
            "network_least": found.min(axis=0),
            "network_greatest": found.max(axis=0),
            "single": found[0],
        }
    )


def _times(frequencies: Sequence[float], threshold: float) -> pd.DataFrame:
    """Return when the model has learnt each frequency of samples that lie everywhere, evenly."""
    rows = []
    for (name, make), frequency in itertools.product(PROBLEMS.items(), frequencies):
        rate = float(gamma_squared(np.array(float(frequency)), make().inputs.shape[1]))
        time = math.log(1 / threshold) / rate
        rows.append(
            {
                "case": name,
                "frequency": float(frequency),
                "rate": rate,
                "threshold": threshold,
                **dict.fromkeys(("step", "step_low", "step_high"), time),
                "learnt": True,
                "seeds": 1,
                "unit": "time of gradient flow",
            }
        )
    return pd.DataFrame(rows)


COLUMNS: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "linear_principle": (
        {
            "problem": Column("Problem"),
            "neurons": Column("Neurons N"),
            "seeds": Column("Networks"),
            "relative_l2": Column(
                "L2 distance", 3, interval=("relative_l2_low", "relative_l2_high")
            ),
            "relative_l1": Column(
                "L1 distance", 3, interval=("relative_l1_low", "relative_l1_high")
            ),
            "correlation": Column(
                "Correlation", 4, interval=("correlation_low", "correlation_high")
            ),
            "residual": Column("Largest residual", 4),
        },
        "Linear frequency principle: trained two-layer ReLU networks against its prediction",
        "Distances over the test points as a share of the model's norm, means over networks that "
        "differ in their draws, with 95% intervals by Student's t. The output before training is "
        "taken off. A residual is what training has left of the samples, as a share of the largest "
        "label.",
    ),
    "linear_principle_points": (
        {
            "problem": Column("Problem"),
            "neurons": Column("Neurons N"),
            "first": Column("x1", 3),
            "second": Column("x2", 3),
            "model": Column("Model", 4),
            "network": Column("Networks, mean", 4),
            "single": Column("First network", 4),
        },
        "Linear frequency principle: outputs on the test points",
        "The model's prediction, and what the widest networks have learnt.",
    ),
    "linear_principle_times": (
        {
            "case": Column("Problem"),
            "frequency": Column("Frequency, cycles per unit", 2),
            "rate": Column("Rate gamma^2", 4),
            "threshold": Column("Error left", 2),
            "step": Column("Time", 4),
        },
        "Linear frequency principle: when the model learns each response frequency",
        "By its rates gamma^2, for samples that lie everywhere, evenly. A time of gradient flow; "
        "exact, so without an interval.",
    ),
}
"""Of each table its columns, its title and its note."""


def tables(**settings: Any) -> dict[str, Table]:
    """Return the tables of the simulation by name; its settings are those of `simulate`."""
    return {name: Table(frame, *COLUMNS[name]) for name, frame in simulate(**settings).items()}
