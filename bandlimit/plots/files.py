"""Pictures as files, and the certificate that each carries."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matplotlib.figure import Figure
from PIL import Image

from bandlimit import lineage, store
from bandlimit.errors import UserError
from bandlimit.plots.style import DPI, style

PNG_KEY = "bandlimit.certificate"
"""Name of the text chunk of a PNG that holds the certificate."""


def save(
    figure: Figure,
    png: str | os.PathLike[str],
    pdf: str | os.PathLike[str],
    svg: str | os.PathLike[str],
    certificate: Mapping[str, Any],
) -> None:
    """Write a figure as PNG (300 dpi), PDF and SVG, all or none of them, with its certificate.

    Equal figures and certificates give equal bytes: the files hold no date and no random name.

    Raises:
        UserError: a folder can't be written.
    """
    text = lineage.as_text(certificate)
    marked = f"{lineage.MARK} {text}"
    with style(), ExitStack() as stack:
        # All three are drawn before any takes its place.
        paths = [stack.enter_context(store.atomic(path)) for path in (png, pdf, svg)]
        figure.savefig(paths[0], format="png", dpi=DPI, metadata={PNG_KEY: text})
        figure.savefig(paths[1], format="pdf", metadata={"CreationDate": None, "Keywords": marked})
        figure.savefig(paths[2], format="svg", metadata={"Date": None, "Description": marked})


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the certificate of a picture that `save` wrote; what it is shows by its content.

    Raises:
        UserError: the file is missing, is no PNG, PDF or SVG, or has no certificate.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The picture {str(path)!r} can't be read: {error.strerror}.") from error
    try:
        if data.startswith(b"\x89PNG"):
            text = _png_text(data)
        elif data.startswith(b"%PDF"):
            text = _pdf_text(data)
        else:
            text = _svg_text(data)
        if text is not None:
            return json.loads(text)
    # Damaged files: OSError and SyntaxError by Pillow (ParseError of XML is one), ValueError by
    # JSON and decoding.
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read as a PNG, PDF or SVG picture with a certificate "
            f"({error})."
        ) from error
    raise UserError(f"The picture {str(path)!r} carries no certificate of this workflow.")


def _png_text(data: bytes) -> str | None:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return image.info.get(PNG_KEY)


def _pdf_text(data: bytes) -> str | None:
    """Return the certificate in a PDF's document information, the newest where it was updated.

    matplotlib writes that dictionary uncompressed, and ASCII text as a string in parentheses, with
    a backslash before each parenthesis and backslash of its own.
    """
    pattern = rb"/Keywords\s*\(" + re.escape(lineage.MARK.encode()) + rb"((?:\\.|[^\\()])*)\)"
    found = re.findall(pattern, data, re.DOTALL)
    return re.sub(rb"\\(.)", rb"\1", found[-1], flags=re.DOTALL).decode("ascii") if found else None


def _svg_text(data: bytes) -> str | None:
    for element in ElementTree.fromstring(data).iter(
        "{http://purl.org/dc/elements/1.1/}description"
    ):
        _, mark, text = (element.text or "").partition(lineage.MARK)
        if mark:
            return text
    return None
