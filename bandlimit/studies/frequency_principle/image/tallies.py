"""Sums of what networks say of images, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bandlimit.statistics import crossed_sums

Whole = NDArray[np.int64]


class Tally:
    """Sums of whole numbers, K of them for each of S networks and each of N images.

    Sums of whole numbers are exact, so that they are the same whatever the batches and the shards
    that images come in. Memory does not grow with the images.

    Attributes:
        count: N, images so far.
        sums: over images, S x K.
        products: over images, of the sums over networks, K x K; their squares, K, where pairs were
            not asked for.

    Args:
        seeds: S.
        cells: K.
        pairs: whether `products` are those of all pairs.
    """

    def __init__(self, seeds: int, cells: int = 1, *, pairs: bool = False) -> None:
        self.count = 0
        self.sums: Whole = np.zeros((seeds, cells), dtype=np.int64)
        self.products: Whole = np.zeros((cells, cells) if pairs else cells, dtype=np.int64)

    def add(self, values: NDArray[np.integer | np.bool_]) -> None:
        """Add images.

        Args:
            values: S x n x K.
        """
        whole = values.astype(np.int64)
        self.count += whole.shape[1]
        self.sums += whole.sum(axis=1)
        both = whole.sum(axis=0)
        if self.products.ndim == 2:
            self.products += np.einsum("nk,nl->kl", both, both)
        else:
            self.products += np.square(both).sum(axis=0)

    def at(self, cell: int) -> Tally:
        """Return the tally of one of the numbers, of a tally without pairs."""
        found = Tally(len(self.sums))
        found.count = self.count
        found.sums, found.products = self.sums[:, [cell]], self.products[[cell]]
        return found

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of the images of both, which are others."""
        found = Tally(*self.sums.shape, pairs=self.products.ndim == 2)
        found.count = self.count + other.count
        found.sums = self.sums + other.sums
        found.products = self.products + other.products
        return found

    def mean(self, cell: int = 0, scale: float = 1, seeds: int | None = None) -> float:
        """Return the mean of a number over images and over the first so many networks, over scale.

        Args:
            cell: which number.
            scale: that it is divided by.
            seeds: networks; all by default.
        """
        own = self.sums[:seeds, cell]
        return int(own.sum()) / (len(own) * self.count * scale)

    def crossed(
        self, cell: int = 0, scale: float = 1
    ) -> tuple[float, float | None, float | None, float | None]:
        """Return mean, error and interval of a number over `scale`, as `statistics.crossed`.

        Args:
            cell: which number, of a tally without pairs.
            scale: that it is divided by.
        """
        seeds, total = len(self.sums), int(self.sums[:, cell].sum())
        # In whole numbers, of which nothing cancels.
        squares = self.count * int(self.products[cell]) - total**2
        return crossed_sums(
            self.sums[:, cell] / (self.count * scale),
            squares / (self.count * (seeds * scale) ** 2),
            self.count,
        )

    def crossed_sum(
        self, weights: NDArray[np.float64], further: Sequence[tuple[float, float]] = ()
    ) -> tuple[float, float | None, float | None, float | None]:
        """Return the same of a weighted sum of the numbers, of a tally of pairs.

        Args:
            weights: K.
            further: as of `statistics.crossed_sums`.
        """
        seeds, totals = len(self.sums), self.sums.sum(axis=0)
        squares = self.count * self.products - np.outer(totals, totals)
        return crossed_sums(
            (self.sums * weights).sum(axis=1) / self.count,
            float((weights[:, None] * squares * weights).sum()) / (self.count * seeds**2),
            self.count,
            further=further,
        )
