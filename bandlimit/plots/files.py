"""Pictures as files, each with its certificate."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

# isort: off
from bandlimit.plots import backend  # noqa: F401 (before matplotlib)

# isort: on

from matplotlib.figure import Figure
from PIL import Image

from bandlimit.files import certificates, contents, store
from bandlimit.plots.style import DPI, style


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
    with style(), ExitStack() as stack:
        # All three are drawn before any takes its place.
        places = [stack.enter_context(store.atomic(path)) for path in (png, pdf, svg)]
        drawn = [
            _png(figure, png, certificate),
            _vector(figure, "pdf", pdf, certificate),
            _vector(figure, "svg", svg, certificate),
        ]
        for place, data in zip(places, drawn, strict=True):
            place.write_bytes(data)


def _png(figure: Figure, path: str | os.PathLike[str], certificate: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    with Image.open(buffer, formats=["PNG"]) as image:
        proof = certificates.sealed(certificate, path, contents.pixels(image))
    return contents.with_png_text(buffer.getvalue(), certificates.as_text(proof))


def _vector(
    figure: Figure, form: str, path: str | os.PathLike[str], certificate: Mapping[str, Any]
) -> bytes:
    """Return a PDF or SVG; it is drawn with a blank certificate, since a PDF counts its bytes."""
    blank = certificates.blank(certificate, path)
    text = f"{certificates.MARK} {certificates.as_text(blank)}"
    metadata = {
        "pdf": {"CreationDate": None, "Keywords": text},
        "svg": {"Date": None, "Description": text},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata[form])
    return contents.fill(buffer.getvalue(), certificate, path)
