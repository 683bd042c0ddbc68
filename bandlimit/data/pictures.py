"""Pictures as files or as bytes, brought to arrays as people see them.

A picture with an orientation flag (EXIF) is turned, and transparent pixels are shown on white.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bandlimit.data.source import by_times
from bandlimit.errors import UserError

BACKGROUND = "white"
"""What lies behind transparent pixels."""

_MODES_OF_8_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")

_GRAY = ("1", "L", "LA")

_ORIENTATION = 0x0112
"""The tag of EXIF that says how a picture is turned; from 5 on, width and height change places."""

_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)

File = str | os.PathLike[str] | bytes
"""A path, or what a file holds."""


def picture(
    file: File,
    channels: int,
    resize: int | None = None,
    crop: int | None = None,
    *,
    name: str | None = None,
) -> np.ndarray:
    """Return a picture as C x H x W, uint8, resized and cropped as torchvision does with PIL.

    Args:
        file: its path, or its bytes.
        channels: 1 for gray, 3 for colour; the other kind is converted.
        resize: pixels of the shorter side; None leaves the size.
        crop: pixels of both sides of the square that is cut from the centre; None for all.
        name: of the picture in errors; its path if not given.

    Raises:
        UserError: it can't be read, has other pixels than of 8 bits, or is smaller than the crop.
    """
    place = _name(file, name)
    try:
        with _open(file) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except _DAMAGE as error:
        raise UserError(f"The image {place} can't be read ({error}).") from error
    if image.mode not in _MODES_OF_8_BITS:
        raise UserError(
            f"The image {place} has pixels of the type {image.mode!r}, "
            "where 8 bits per channel are needed."
        )
    if image.has_transparency_data:
        behind = Image.new("RGBA", image.size, BACKGROUND)
        image = Image.alpha_composite(behind, image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if resize is not None:
        short = min(image.size)
        # The shorter side becomes exactly `resize`; the longer is rounded down.
        width, height = (int(resize * side / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if crop is not None:
        if min(image.size) < crop:
            raise UserError(
                f"The image {place} has {by_times(image.size)} pixels, fewer than "
                f"the crop of {crop} x {crop}."
            )
        left, top = (round((side - crop) / 2) for side in image.size)
        image = image.crop((left, top, left + crop, top + crop))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def is_gray(file: File, *, name: str | None = None) -> bool:
    """Return whether a picture has no colour, by its header.

    Raises:
        UserError: it can't be read.
    """
    return _header(file, name)[0] in _GRAY


def size(file: File) -> tuple[int, int]:
    """Return width and height of a picture as people see it, by its header.

    Raises:
        UserError: it can't be read.
    """
    return _header(file, None)[1]


def _header(file: File, name: str | None) -> tuple[str, tuple[int, int]]:
    try:
        with _open(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return image.mode, (height, width) if turned else (width, height)
    except _DAMAGE as error:
        raise UserError(f"The image {_name(file, name)} can't be read ({error}).") from error


def _open(file: File) -> Image.Image:
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)


def _name(file: File, name: str | None) -> str:
    return repr(str(Path(os.fsdecode(file))) if name is None else name)
