"""Spectral records: a row per image, with its spectrum and that of its perturbation by shell.

All is measured in float64, whatever the type of the images, since relative measures divide by
magnitudes far below that of frequency 0. Functions in `bandlimit.spectral.shells` read the columns,
`per_shell` first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import pyarrow as pa
import torch
from torch import Tensor

from bandlimit.spectral.dct import rct
from bandlimit.spectral.fourier import Bins, Maps, bins, by_shell
from bandlimit.spectral.shells import shells

PIECE = 2**18
"""Pixel values measured at a time, at most, 85 images of 3 x 32 x 32: what a cache holds."""


def schema(sides: Sequence[int]) -> pa.Schema:
    """Return the schema of spectral records of images of size H x W.

    * 'l2', 'linf': norms of the perturbation; 'clean_l2': of the image; pixels in [0, 1].
    * 'zero': whether there is no perturbation: all of its spectrum is 0 then.
    * 'energies', 'clean_energies', 'magnitudes', 'log_difference', 'relative': lists with a value
      per shell, as `bandlimit.spectral.fourier.Measures` says.
    * 'rct': the mean relative change of DCT coefficients.
    """
    by_shell = pa.list_(pa.float64(), len(shells(sides).squared))
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("l2", pa.float64()),
            ("linf", pa.float64()),
            ("clean_l2", pa.float64()),
            ("zero", pa.bool_()),
            ("energies", by_shell),
            ("clean_energies", by_shell),
            ("magnitudes", by_shell),
            ("log_difference", by_shell),
            ("relative", by_shell),
            ("rct", pa.float64()),
        ]
    )


def spectra(ids: Sequence[str], x: Tensor, d: Tensor, maps: Maps | None = None) -> pa.Table:
    """Return the spectral records of a batch of images and their perturbations.

    Args:
        ids: of the images, N.
        x: images, N x C x H x W, floating point, pixels in [0, 1], on the device to be used.
        d: perturbations, of the shape of x and on its device; not rounded to 8 bits.
        maps: if given, mean maps that these images are added to, from the same transforms.

    Returns:
        A table of `schema`.

    Raises:
        ValueError: numbers, shapes or types are not those.
    """
    if len(ids) != len(x):
        raise ValueError(f"each image has an id, got {len(ids)} ids of {len(x)} images")
    if not (x.is_floating_point() and d.is_floating_point()):
        raise ValueError(
            f"images and perturbations are of floating point, got {x.dtype} and {d.dtype}"
        )
    if x.shape != d.shape or x.ndim != 4:
        raise ValueError(
            f"images and perturbations are N x C x H x W, got {tuple(x.shape)} and {tuple(d.shape)}"
        )
    # Of one size, so that no thread is left with a few images.
    count = max(1, math.ceil(x.numel() / PIECE))
    pieces = _shared_out(x.chunk(count), d.chunk(count), keep=maps is not None)
    if maps is not None:
        for found, _ in pieces:
            maps.add(cast(Bins, found))
    rows = schema(x.shape[-2:])
    arrays = [pa.array(ids, pa.string())]
    for name in rows.names[1:]:
        values = torch.cat([columns[name] for _, columns in pieces])
        array = pa.array(values.flatten().cpu().numpy())
        if values.ndim == 2:
            array = pa.FixedSizeListArray.from_arrays(array, type=rows.field(name).type)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=rows)


Piece = tuple[Bins | None, dict[str, Tensor]]
"""What images hold at each frequency, where it is kept, and their columns."""


def _shared_out(xs: Sequence[Tensor], ds: Sequence[Tensor], *, keep: bool) -> list[Piece]:
    """Return what is found in pieces of a batch, on a CPU each by a thread of its own.

    Threads that share a piece would wait for each other after every operation; and how they shared
    its products would show in the last digit.
    """
    measure = partial(_columns, keep=keep)
    threads = min(torch.get_num_threads(), len(xs))
    if xs[0].device.type != "cpu":
        return [measure(x, d) for x, d in zip(xs, ds, strict=True)]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(measure, xs, ds))
    finally:
        # A thread's setting is that of all threads that start after it.
        torch.set_num_threads(before)


# The mode of the caller does not reach a new thread.
@torch.no_grad()
def _columns(x: Tensor, d: Tensor, *, keep: bool) -> Piece:
    """Return what is found in a few images; what they hold at each frequency if it is to keep."""
    linf = d.abs().flatten(1).amax(dim=1).double()
    x, d = x.double(), d.double()
    found = bins(x, d)
    measures = by_shell(found)
    count = math.prod(x.shape[-2:])
    return found if keep else None, {
        # The transform keeps L2 norms but for the number of bins, so that energies give them.
        "l2": (measures.energies.sum(dim=1) / count).sqrt(),
        "linf": linf,
        "clean_l2": (measures.clean_energies.sum(dim=1) / count).sqrt(),
        "zero": linf == 0,
        "rct": rct(x, d),
        **vars(measures),
    }
