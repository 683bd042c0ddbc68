"""What records of images and their parts hold: tables and figures are made of them without torch.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", sections 3 and 8.
"""

from __future__ import annotations

import pyarrow as pa

IMAGE, FOURIER, SVD = "image", "fourier", "svd"
"""Kinds of rows: the image itself, its frequencies, what its singular values span."""

CONVENTIONS = ("text", "clipped", "maximum", "strict")
"""How the part of an image is taken: frequencies up to the radius, values as they are ('text');
the same clipped to [0, 1], or divided by the greatest value, as the code does; and frequencies
below the radius only, as the code does."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int64()),
        ("kind", pa.string()),
        ("part", pa.string()),
        ("radius", pa.float64()),
        ("convention", pa.string()),
        ("prediction", pa.int64()),
        ("probability", pa.float64()),
        ("correct", pa.bool_()),
        ("l2", pa.float64()),
        ("linf", pa.float64()),
        ("energy", pa.float64()),
    ]
)
"""A row per image and part of it. `probability` is that of the prediction; l2 and linf
are the distance from the image, in [0, 1] pixels; `energy` is the part's over the image's."""
