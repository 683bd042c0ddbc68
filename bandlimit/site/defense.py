"""The page of one defence: whether it holds, what it costs, and what was asked of it."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from bandlimit.files import contents
from bandlimit.studies.robustness.summaries import FAILS, HOLDS, OPEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {HOLDS: "yes", FAILS: "no", OPEN: "open"}

_FOUND = re.compile(rf"^## On (.+): ({HOLDS}|{FAILS}|{OPEN})\n\n(.+)$", re.MULTILINE)
"""What the Markdown says of an experiment: where, the verdict, and the sentence that says why."""


def write(
    html: str | os.PathLike[str],
    markdown: str | os.PathLike[str],
    *,
    defense: str,
    entry: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    figure: Figure,
    certificate: Mapping[str, Any],
) -> None:
    """Write the page as HTML, which needs nothing beside it, and as Markdown.

    Args:
        html: file to write.
        markdown: file to write.
        defense: its name.
        entry: its kind and parameters.
        found: as `summaries.summary` gives it.
        figure: accuracy under attack against epsilon.
        certificate: proof of origin.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"rate": _rate, "bound": _bound, "marked": lambda text: MARKS[text]}
    told = {"defense": defense, "entry": entry, "found": found, "title": f"The defence {defense}"}
    for path, template, comment, more in (
        (html, "defense.html.j2", "<!-- {} -->", {"picture": _picture(figure)}),
        (markdown, "defense.md.j2", "<!-- {} -->", {}),
    ):
        text = environment.get_template(template).render(**told, **more)
        contents.write_text(path, text, certificate, comment)


def verdicts(markdown: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Return what the page of a defence found, from its Markdown, for a page that leads to it.

    Returns:
        Of each experiment: on, dataset and model in words; verdict; mark, the class of its style;
        reading, the sentence that says why.
    """
    text = Path(markdown).read_text(encoding="utf-8")
    return [
        {"on": on, "verdict": verdict, "mark": MARKS[verdict], "reading": reading}
        for on, verdict, reading in _FOUND.findall(text)
    ]


def _picture(figure: Figure) -> str:
    # The site reads pages only, and this import takes seconds.
    from bandlimit.plots.style import DPI, style

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _rate(given: Mapping[str, Any], key: str = "mean") -> str:
    return f"{given[key]:.3f} [{given['low']:.3f}, {given['high']:.3f}]"


def _bound(epsilon: float) -> str:
    return f"{255 * epsilon:.3g}/255"
