"""The linear frequency principle: what it predicts that two-layer ReLU networks learn.

Source: Zhang, Xu, Luo and Ma, "Explicitizing an implicit bias of the frequency principle in
two-layer neural networks" (arXiv 1905.10264), as the survey shows it (Figure 2). The network is

    h(x) = N^(-1/2) sum_j w_j relu(r_j . x - |r_j| l_j),

all of whose parameters are trained. The model replaces its training by linear dynamics of response
frequencies xi, in cycles per unit of x, each at a rate of its own:

    d/dt h^(xi) = -gamma^2(xi) (residual on the samples)^(xi),
    gamma^2(xi) = A / |xi|^(d + 3) + 4 pi^2 B / |xi|^(d + 1),  A = <|r|^2 + w^2>, B = <|r|^2 w^2>.

Its long-time limit is the function of least norm, int gamma^-2 |h^ - h^_0|^2, that passes through
the samples, h_0 the output before training: interpolation by the kernel K(x - x') = int gamma^2(xi)
cos(2 pi xi . (x - x')) d xi. The integral diverges at xi = 0. What diverges is a function of degree
1, which so costs nothing, and the rest is a multiple of |x - x'|^3 and of -|x - x'|, a polyharmonic
spline; `prediction` computes it so, without a box of frequencies or a cut-off.

The model takes biases l to spread over the whole line, and leaves out that the directions r / |r|
turn; both are small where l reaches well beyond the samples and |r| is well above |x|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

INNER, OUTER = 2.0, 0.3
"""Standard deviations of each entry of r, and of w.

Both terms of gamma^2 matter with them at the distances of the samples.
"""


# Problems ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Samples to learn, and where the outputs are compared.

    Attributes:
        inputs: shape (samples, d), in [-1, 1]^d.
        labels: shape (samples,).
        points: test points, shape (points, d).
    """

    inputs: Floats
    labels: Floats
    points: Floats


def line(points: int = 200) -> Problem:
    """Return six samples of a smooth function of one input."""
    inputs = np.linspace(-1, 1, 6)
    labels = np.sin(2 * inputs) + 0.5 * np.cos(5 * inputs)
    return Problem(inputs[:, None], labels, np.linspace(-1, 1, points)[:, None])


def xor(side: int = 40) -> Problem:
    """Return the four samples of XOR, and side x side test points (Figure 2 has 40 x 40)."""
    inputs = np.array([[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]])
    axis = np.linspace(-1, 1, side)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return Problem(inputs, np.array([1.0, 1.0, -1.0, -1.0]), points)


PROBLEMS: dict[str, Callable[[], Problem]] = {"line": line, "xor": xor}


# The model ---------------------------------------------------------------------------------------


def constants(dimension: int) -> tuple[float, float]:
    """Return A = <|r|^2 + w^2> and B = <|r|^2 w^2> of networks before training."""
    square = dimension * INNER**2
    return square + OUTER**2, square * OUTER**2


def gamma_squared(frequency: Floats, dimension: int) -> Floats:
    """Return gamma^2, the rate at which the model learns a response frequency.

    Args:
        frequency: |xi|, above 0, in cycles per unit of x.
        dimension: d of the inputs.
    """
    a, b = constants(dimension)
    return np.asarray(
        a / frequency ** (dimension + 3) + 4 * math.pi**2 * b / frequency ** (dimension + 1)
    )


def kernel(distance: Floats, dimension: int) -> Floats:
    """Return K by distance |x - x'|, up to a function of degree 1 in x.

    The transform of |x|^s is pi^(-s - d/2) Gamma((d + s) / 2) / Gamma(-s / 2) |xi|^(-d - s).
    """
    a, b = constants(dimension)

    def power(s: int) -> Floats:
        factor = math.pi ** (-s - dimension / 2) * special.gamma((dimension + s) / 2)
        return np.asarray(distance**s * special.gamma(-s / 2) / factor)

    return a * power(3) + 4 * math.pi**2 * b * power(1)


def prediction(problem: Problem) -> Floats:
    """Return what the model says that networks learn, on the test points, shape (points,)."""
    x, points = problem.inputs, problem.points
    n, d = x.shape
    flat = np.column_stack([np.ones(n), x])
    system = np.block(
        [[kernel(_distances(x, x), d), flat], [flat.T, np.zeros((d + 1, d + 1))]],
    )
    solved = np.linalg.solve(system, np.concatenate([problem.labels, np.zeros(d + 1)]))
    found = kernel(_distances(points, x), d) @ solved[:n]
    return np.asarray(found + np.column_stack([np.ones(len(points)), points]) @ solved[n:])


def _distances(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=-1))
