"""Shells of a spectrum: the frequencies at one distance from frequency 0, and what is read of them.

Squared distances are whole numbers, so a sum for each shell answers for every disk, whatever its
radius and whether or not its border belongs to it, without another transform. What is here needs no
torch: tables and figures are drawn from records.

Distances are in frequencies, that is in periods per side. Source of the ratio: "A frequency domain
analysis of gradient-based adversarial examples", section 3. It sums from frequency 0 on one side;
here both sides count, as in the disk of "High-frequency Component Helps Explain the Generalization
of Convolutional Neural Networks", eq. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

Values = TypeVar("Values", "NDArray[np.float64]", "Tensor")
"""Values per shell: an array, or a tensor on any device."""


@dataclass(frozen=True, eq=False)
class Shells:
    """The S shells of spectra of one size, from frequency 0 outwards; its arrays are read-only.

    Attributes:
        sides: H and W.
        squared: squared distance of each shell, S, int64, ascending.
        counts: bins of the whole plane in each, S, int64; they add up to H W.
        index: shell of each bin of the half-plane, H x (W // 2 + 1), int64, in the order of a real
            transform (frequency 0 first).
        weights: how many bins of the whole plane each bin of the half-plane stands for, H x (W // 2
            + 1), int64: 2, and 1 in column 0 and in the last of an even width, which hold their own
            mirror images.
    """

    sides: tuple[int, int]
    squared: NDArray[np.int64]
    counts: NDArray[np.int64]
    index: NDArray[np.int64]
    weights: NDArray[np.int64]

    @property
    def distances(self) -> Floats:
        """Distance of each shell from frequency 0, S."""
        return np.sqrt(self.squared)

    @property
    def rings(self) -> NDArray[np.int64]:
        """Ring of each shell, S: its distance as a whole number; no distance lies half-way."""
        return np.rint(self.distances).astype(np.int64)


def shells(sides: Sequence[int]) -> Shells:
    """Return the shells of spectra of size H x W; made once for each size.

    Raises:
        ValueError: there are not two sides, or one is below 1.
    """
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"expected two sides of at least 1, got {tuple(sides)}")
    return _shells(int(sides[0]), int(sides[1]))


@lru_cache(maxsize=16)
def _shells(height: int, width: int) -> Shells:
    rows = np.arange(height)
    down = np.minimum(rows, height - rows)
    right = np.arange(width // 2 + 1)
    weights = np.full((height, len(right)), 2)
    weights[:, 0] = 1
    if width % 2 == 0:
        weights[:, -1] = 1
    squared, index = np.unique(down[:, None] ** 2 + right[None, :] ** 2, return_inverse=True)
    index = index.reshape(weights.shape)
    counts = np.bincount(index.ravel(), weights.ravel()).astype(np.int64)
    arrays = [array.astype(np.int64) for array in (squared, counts, index, weights)]
    for array in arrays:
        array.flags.writeable = False
    return Shells((height, width), *arrays)


def within(shells: Shells, radius: float, *, strict: bool = False) -> int:
    """Return how many shells a disk holds; they are the first.

    Args:
        shells: of the spectrum.
        radius: of the disk, in frequencies.
        strict: whether the border of the disk is left out, "<" in place of "<=".
    """
    return int(np.searchsorted(shells.distances, radius, side="left" if strict else "right"))


def lfc_ratio(energies: Values, shells: Shells, radius: float, *, strict: bool = False) -> Values:
    """Return the share of the energy within a disk, ..., in [0, 1]; nan where there is no energy.

    It is the ratio tau of "A frequency domain analysis of gradient-based adversarial examples". It
    says little without the share of a flat spectrum, `uniform_share`. Images of pixels in [0, 1]
    have most of their energy at frequency 0, the first shell; set it to 0 to leave the mean out.

    Args:
        energies: per shell, ... x S.
        shells: of the spectrum.
        radius: of the disk, in frequencies.
        strict: whether the border of the disk is left out.
    """
    with np.errstate(invalid="ignore"):
        return energies[..., : within(shells, radius, strict=strict)].sum(-1) / energies.sum(-1)


def uniform_share(shells: Shells, radius: float, *, strict: bool = False) -> float:
    """Return the share of all bins that lie in a disk, in [0, 1]: the ratio of a flat spectrum."""
    inside = shells.counts[: within(shells, radius, strict=strict)]
    return float(inside.sum() / shells.counts.sum())


def lift(energies: Values, shells: Shells, radius: float, *, strict: bool = False) -> Values:
    """Return how many times as much energy a disk holds as in a flat spectrum, ..., >= 0.

    Above 1 the energy is concentrated in the disk. It is nan where there is no energy, or no bin in
    the disk. Arguments are those of `lfc_ratio`.
    """
    with np.errstate(invalid="ignore"):
        share = uniform_share(shells, radius, strict=strict)
        return lfc_ratio(energies, shells, radius, strict=strict) / share


def ring_means(means: Floats, shells: Shells) -> Floats:
    """Return the mean over the bins of each ring, ... x (K + 1), from the means of shells.

    Args:
        means: mean over the bins of each shell, ... x S.
        shells: of the spectrum.

    Returns:
        A value for each k from 0 to K, the mean over the bins whose distance rounds to k.
    """
    starts = np.searchsorted(shells.rings, np.arange(shells.rings[-1] + 1))
    sums = np.add.reduceat(np.asarray(means) * shells.counts, starts, axis=-1)
    result: Floats = sums / np.add.reduceat(shells.counts, starts)
    return result


def radial_profile(magnitudes: Floats, shells: Shells) -> Floats:
    """Return mean magnitudes by distance, relative to the mean of all, ... x (K + 1).

    A flat spectrum has 1 everywhere. It is nan where all magnitudes are 0.

    Args:
        magnitudes: sum of the magnitudes in each shell, ... x S; also over any channels.
        shells: of the spectrum.

    Returns:
        A value for each k from 0 to K, of the bins whose distance rounds to k.
    """
    magnitudes = np.asarray(magnitudes)
    overall = magnitudes.sum(axis=-1, keepdims=True) / shells.counts.sum()
    with np.errstate(invalid="ignore"):
        result: Floats = ring_means(magnitudes / shells.counts, shells) / overall
    return result


def inside_and_outside(
    means: Floats, shells: Shells, radius: float, *, strict: bool = False
) -> tuple[Floats, Floats]:
    """Return the means over the bins within a disk and beyond it, ... each, from means of shells.

    Either is nan where there are no such bins. Arguments are those of `lfc_ratio`, with the mean
    over the bins of each shell, ... x S, in place of energies.
    """
    inside = within(shells, radius, strict=strict)
    sums = np.asarray(means) * shells.counts
    with np.errstate(invalid="ignore"):
        return (
            sums[..., :inside].sum(axis=-1) / shells.counts[:inside].sum(),
            sums[..., inside:].sum(axis=-1) / shells.counts[inside:].sum(),
        )


def per_shell(table: Any, name: str) -> Floats:
    """Return a column of spectral records as an array, N x S.

    Args:
        table: a pyarrow.Table with the column.
        name: of a column of lists of one length, such as 'energies'.
    """
    column = table.column(name).combine_chunks()
    values: Floats = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)
