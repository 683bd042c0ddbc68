"""Batches that do not fit into memory: cut into halves, with equal results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import torch

from bandlimit.errors import MachineError

logger = logging.getLogger(__name__)

Batch = tuple[Any, ...]
"""Columns of N values each, or mappings of such columns; the last are images, N x C x H x W."""

SAID = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether work failed for want of memory, on a card or not; not all say so by type.

    >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    True
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in SAID)
    )


class Halving:
    """Do the work on batches of images, by halves where a batch does not fit into memory.

    An image's result does not depend on its batch, so that only the order of rows is to be kept:
    that of the whole batch. Once a size was too large, later batches are cut at the start.

    Args:
        work: batch -> a table, or a tuple of tables, in which rows follow the images of the batch.
        groups: into how many groups of equal length each table falls, in each of which rows follow
            the images; None where all images have as many rows, and each group one of each.
    """

    def __init__(
        self,
        work: Callable[[Batch], pa.Table | tuple[pa.Table, ...]],
        *,
        groups: int | None = 1,
    ) -> None:
        self._work, self._groups = work, groups
        self.size: int | None = None
        """Images in flight, where that had to be limited."""

    def __call__(self, batch: Batch) -> pa.Table | tuple[pa.Table, ...]:
        """Return what the work makes of a batch.

        Raises:
            MachineError: there is no room for one image, or for what a pass is filled up to.
        """
        count = len(batch[-1])
        while True:
            size = max(1, min(count, self.size or count))
            if (made := self._pieces(batch, size, count)) is not None:
                return made
            if size == 1:
                raise MachineError(
                    "The memory of the device does not suffice for one pass of the network: free "
                    "it of other programs, take a device with more, or set 'device: cpu'."
                )
            self.size = size // 2
            _empty_cache()
            logger.warning(
                "the memory of the device does not suffice for %d images at a time: going on with "
                "%d, to the same results",
                size,
                self.size,
            )

    def _pieces(
        self, batch: Batch, size: int, count: int
    ) -> pa.Table | tuple[pa.Table, ...] | None:
        """Return what the work makes of a batch cut to a size, None where memory runs out."""
        if size >= count:
            return self._try(batch)
        made = []
        for start in range(0, count, size):
            piece = tuple(_cut(column, slice(start, start + size)) for column in batch)
            tables = self._try(piece)
            if tables is None:
                return None
            many = tables if isinstance(tables, tuple) else (tables,)
            made.append([list(self._grouped(table, len(piece[-1]))) for table in many])
        joined = tuple(
            pa.concat_tables([table for group in zip(*pieces, strict=True) for table in group])
            for pieces in zip(*made, strict=True)
        )
        return joined if isinstance(tables, tuple) else joined[0]

    def _try(self, batch: Batch) -> pa.Table | tuple[pa.Table, ...] | None:
        try:
            return self._work(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here is the error gone, with all that its frames hold.
        return None

    def _grouped(self, table: pa.Table, images: int) -> Iterator[pa.Table]:
        groups = len(table) // images if self._groups is None else self._groups
        rows = len(table) // max(1, groups)
        for group in range(groups):
            yield table.slice(group * rows, rows)


def _cut(column: Any, rows: slice) -> Any:
    if isinstance(column, Mapping):
        return {name: values[rows] for name, values in column.items()}
    return column[rows]


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
