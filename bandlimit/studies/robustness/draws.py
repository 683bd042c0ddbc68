"""When the draws of an image are enough. Imports nothing, since tables and jobs both need it."""

from __future__ import annotations


def settled(draws: int) -> tuple[int, int]:
    """Return how many right draws, and how many wrong ones, settle what most of some draws say.

    A tie is no majority. Of fewer than three draws all are taken, since no unbiased mean is left of
    one that may end the first.

    >>> settled(10), settled(5), settled(2), settled(1)
    ((6, 5), (3, 3), (3, 3), (2, 2))
    """
    if draws < 3:
        return draws + 1, draws + 1
    right = draws // 2 + 1
    return right, draws - right + 1
