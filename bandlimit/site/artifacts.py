"""Tables and figures as the site shows them, read from the files of a run."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import jinja2
from docutils.core import Publisher, publish_parts
from markupsafe import Markup
from PIL import Image

from bandlimit.claims.wording import number
from bandlimit.errors import UserError
from bandlimit.files import contents, store

ROWS = 400
"""Rows of a table that a page shows; its files have all of them."""

PRIMARY = (".parquet", ".png")
"""Forms whose lineage stands for the artifact's: the others were written by the same job."""

FORMS = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".md": "Markdown",
    ".html": "HTML",
    ".tex": "LaTeX",
    ".png": "PNG",
    ".pdf": "PDF",
    ".svg": "SVG",
}
_NUMBER = re.compile(r"[-+–]?[\d,]*\.?\d*(e[-+]?\d+)?%?( \[[\d.–]+, [\d.–]+\])?|nan|inf")
_DPI = 300
_SHARPNESS = 125
"""Dots of a figure per inch of 96 pixels on a screen: larger than on paper, and still sharp."""


@dataclass
class Artifact:
    """A table or a figure in all its forms.

    Attributes:
        stem: its name without a suffix: 'results/tables/bandlimiting/table_1'.
        names: its files.
        rule: the rule that made it, or None where it carries no certificate.
        title: heading.
        caption: what a reader must know, as HTML.
        note: the same, as the table's own files say it.
        head: headings of a table's columns.
        kinds: of each column 'digits', 'words' for long text, or ''.
        rows: its cells as text.
        shared: heading and text of columns that say the same in all rows, which are not shown.
        total: how many rows it has.
        numbered: whether row i is row i of the Parquet file, which the claims name.
        size: width and height of a figure in CSS pixels.
        inputs: files that its job read.
    """

    stem: str
    names: list[str] = field(default_factory=list)
    rule: str | None = None
    title: str = ""
    caption: Markup = field(default_factory=Markup)
    note: str = ""
    head: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0
    numbered: bool = False
    size: tuple[int, int] = (0, 0)
    inputs: list[str] = field(default_factory=list)

    @property
    def study(self) -> str:
        """Name of the study that it belongs to."""
        return PurePosixPath(self.stem).parent.name

    @property
    def id(self) -> str:
        """Its name in links of a page."""
        kind, study, name = PurePosixPath(self.stem).parts[-3:]
        return re.sub(r"[^\w.-]", "-", f"{kind.removesuffix('s')}-{study}-{name}")

    @property
    def primary(self) -> str:
        """The file whose lineage stands for all forms."""
        return min(self.names, key=lambda name: (Path(name).suffix not in PRIMARY, name))

    @property
    def is_figure(self) -> bool:
        """Whether it is a figure, not a table."""
        return self.form(".png") is not None

    def form(self, suffix: str) -> str | None:
        """Return the file with a suffix, or None."""
        return next((name for name in self.names if name.endswith(suffix)), None)


def read(
    names: Sequence[str], captions: Sequence[str | os.PathLike[str]], root: Path
) -> list[Artifact]:
    """Return the artifacts that some files are forms of, in their order.

    Args:
        names: files of tables and figures, relative to `root`.
        captions: reStructuredText templates, each with the name of its artifact in a folder of its
            study; they are filled from the parameters in the artifact's own certificate.
        root: folder of the project.

    Raises:
        UserError: a file is missing or damaged, or a caption asks for a parameter that is not
            there.
    """
    found: dict[str, Artifact] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        found.setdefault(stem, Artifact(stem)).names.append(name)
    templates = {(Path(path).parent.name, Path(path).stem): Path(path) for path in captions}
    for artifact in found.values():
        proof = contents.certificate(root / artifact.primary)
        if proof:
            artifact.rule = proof["rule"]
            artifact.inputs = list(proof["inputs"])
        _fill(artifact, root)
        template = templates.get((artifact.study, PurePosixPath(artifact.stem).name))
        if proof and template:
            try:
                text = template.read_text(encoding="utf-8")
                artifact.caption = caption(text, proof["params"])
            except jinja2.UndefinedError as error:
                raise UserError(
                    f"The caption {str(template)!r} asks for what the certificate of "
                    f"{artifact.primary!r} does not say: {error.message}."
                ) from error
    return list(found.values())


def caption(template: str, params: Mapping[str, Any]) -> Markup:
    """Return a caption of the workflow's report as HTML, filled from a job's parameters."""
    job = SimpleNamespace(
        params=SimpleNamespace(identity=params), wildcards=params.get("wildcards")
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(snakemake=job)
    parts = publish_parts(text, writer="html5", settings=_settings().copy())
    return Markup(parts["fragment"])


@functools.cache
def _settings() -> Any:
    """Return how captions are read; docutils takes longer to gather it than to read one."""
    publisher = Publisher("standalone", "restructuredtext", "html5")
    own = {"file_insertion_enabled": False, "raw_enabled": False, "report_level": 5}
    publisher.process_programmatic_settings(None, own, None)
    return publisher.settings


def plain(html: Markup) -> str:
    """Return the first sentence of a caption as plain text."""
    text = " ".join(html.striptags().split())
    return re.split(r"(?<=[a-z)])\. ", text)[0].rstrip(".") + "." if text else ""


def _fill(artifact: Artifact, root: Path) -> None:
    """Read what an artifact shows."""
    stem = PurePosixPath(artifact.stem).name
    artifact.title = stem.replace("_", " ").capitalize()
    picture, page = artifact.form(".png"), artifact.form(".md")
    records = artifact.form(".parquet")
    if picture:
        artifact.title = re.sub(r"^Figure (?!\d)", "Figure: ", artifact.title)
        with Image.open(root / picture) as image:
            wide, high = (round(side * _SHARPNESS / _DPI) for side in image.size)
        artifact.size = wide, high
        return
    if page:
        _markdown(artifact, (root / page).read_text(encoding="utf-8"))
    elif records:
        frame = store.read(root / records).to_pandas()
        artifact.head = [str(name) for name in frame.columns]
        artifact.rows = [[_cell(value) for value in row] for row in frame.values.tolist()]
    artifact.total = len(artifact.rows)
    if records:
        first = store.columns(root / records)[:1]
        artifact.numbered = len(store.read(root / records, first)) == artifact.total
    columns = list(zip(*artifact.rows, strict=True)) or [()] * len(artifact.head)
    kinds = [_kind(column) for column in columns]
    same = [
        kind != "digits" and len(set(column)) == 1 < len(column)
        for kind, column in zip(kinds, columns, strict=True)
    ]
    artifact.shared = [(artifact.head[i], columns[i][0]) for i, once in enumerate(same) if once]
    kept = [i for i, once in enumerate(same) if not once]
    artifact.head = [artifact.head[i] for i in kept]
    artifact.kinds = [kinds[i] for i in kept]
    artifact.rows = [[row[i] for i in kept] for row in artifact.rows[:ROWS]]


def _markdown(artifact: Artifact, text: str) -> None:
    """Read title, cells and note of a table as `tables.save` writes them."""
    text = text.partition("<!--")[0]
    notes = []
    lines: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("# "):
            artifact.title = line[2:].strip()
        elif line.startswith("|"):
            lines.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif line.strip():
            notes.append(line.strip())
    artifact.note = " ".join(notes)
    if lines:
        artifact.head, artifact.rows = lines[0], lines[2:]


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "–"
    return number(value) if isinstance(value, float) else str(value)


def _kind(column: Sequence[str]) -> str:
    if column and all(_NUMBER.fullmatch(cell) for cell in column):
        return "digits"
    return "words" if any(len(cell) > 40 for cell in column) else ""
