"""Columns of the study's tables: a mean over networks and images, its error and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandlimit.statistics import crossed

Floats = NDArray[np.float64]

UNKNOWN = (math.nan,) * 4


def columns(name: str, found: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, error, low and high end under names that begin with what they measure.

    Args:
        name: of the mean; `{name}_error`, `{name}_low` and `{name}_high` are the others.
        found: the four numbers, as of `bandlimit.statistics.crossed`.
    """
    names = (name, f"{name}_error", f"{name}_low", f"{name}_high")
    return dict(zip(names, found, strict=True))


def mean(name: str, values: Floats) -> dict[str, Any]:
    """Return `columns` of values or of their differences, S x N; nan where there are none."""
    return columns(name, crossed(values) if values.size else UNKNOWN)


def share(name: str, values: Floats) -> dict[str, Any]:
    """Return `columns` of what is right, S x N, the interval within [0, 1]."""
    found = mean(name, values)
    for side in (f"{name}_low", f"{name}_high"):
        if found[side] is not None:
            found[side] = min(max(found[side], 0.0), 1.0)
    return found
