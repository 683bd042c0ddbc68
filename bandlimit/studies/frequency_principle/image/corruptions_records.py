"""What records of corrupted images hold: tables are made of them without torch."""

from __future__ import annotations

import pyarrow as pa

CLEAN, CORRUPTED, BAND = "clean", "corrupted", "band"
"""Kinds of rows: the image itself, a corrupted one, one with noise of a band."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int64()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("bandwidth", pa.int64()),
        ("l2", pa.float64()),
        ("high_fraction", pa.float64()),
        ("correct", pa.list_(pa.bool_())),
    ]
)
"""A row per image and what was done to it: nothing, the corruption `name`, or noise of a band, low
(in the square of `bandwidth`) or high (beyond it). `l2` is the norm of the change of pixels in
[0, 1], `high_fraction` the share of its energy beyond the square of the experiment, null where
nothing changed; `correct` has an answer of each network, in their order. Noise of a band is
not shown to networks behind a filter, which have no answers there."""
