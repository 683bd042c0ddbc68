"""Which adversarial records count at an epsilon ("Bandlimiting", section 4.1)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bandlimit.errors import UserError

LINF_SLACK = 1e-7
"""Tolerance when an l_inf is compared with epsilon: the rounding of float32 near 1."""


def select(records: pa.Table, epsilon: float) -> pa.Table:
    """Return one row per image with a column 'attacked': it belongs to the attacked set A.

    For a minimal attack these are the successes with l_inf <= epsilon (up to 1e-7, what float32
    rounds); for a fixed attack the successes among the rows of that epsilon. Every other image
    counts as kept clean: its row is there, 'attacked' is false, and whatever image the row holds
    is not to be used.

    Args:
        records: adversarial records of one attack; the column 'image' may be absent.
        epsilon: l_inf in [0, 1] pixels.

    Raises:
        UserError: epsilon is out of range, or a fixed attack was not run with it.
    """
    epsilon = checked_epsilon(epsilon)
    if records["epsilon"].null_count == len(records):
        near = pc.less_equal(records["linf"], epsilon + LINF_SLACK)
        return records.append_column("attacked", pc.and_(records["success"], near))
    rows = records.filter(pc.less(pc.abs(pc.subtract(records["epsilon"], epsilon)), 1e-9))
    if not len(rows):
        known = sorted(value for value in pc.unique(records["epsilon"]).to_pylist())
        raise UserError(
            f"There are no records for epsilon {epsilon:.6f}; "
            f"there are some for {', '.join(f'{value:.6f}' for value in known)}."
        )
    return rows.append_column("attacked", rows["success"])


def checked_epsilon(epsilon: Any) -> float:
    """Return an epsilon as a float.

    Raises:
        UserError: it is not a number in [0, 1].
    """
    number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not number or not 0 <= epsilon <= 1:
        hint = (
            f"; {epsilon:g} on the scale of 0 to 255 is {epsilon / 255:.6f}"
            if number and 1 < epsilon <= 255
            else ""
        )
        raise UserError(
            f"Epsilon is {epsilon!r}, but it is the largest change of a pixel whose values lie in "
            f"[0, 1]: a number from 0 to 1 is allowed{hint}."
        )
    return float(epsilon)
