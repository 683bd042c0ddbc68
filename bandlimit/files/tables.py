"""Tables as files: Parquet with all digits, Markdown, LaTeX and CSV for readers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import pyarrow as pa

from bandlimit.files import contents, store

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5rem; }}
h1 {{ font-size: 1.25rem; }}
p {{ max-width: 50rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; }}
th {{ position: sticky; top: 0; background: #fff; vertical-align: bottom; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{note}</p>
{table}
{{proof}}
</body>
</html>
"""
"""A table as a page of HTML, its certificate last."""


@dataclass(frozen=True)
class Column:
    """How a column reads: its heading, its digits, and what unit it is shown in.

    Attributes:
        title: heading.
        digits: digits after the point; None leaves the value as it is.
        scale: what values are multiplied by, such as 100 for percent or 255 for pixel steps.
        interval: columns of its lower and upper bound, which are shown in brackets behind it.
    """

    title: str
    digits: int | None = None
    scale: float = 1.0
    interval: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table with what its readers see of it.

    Attributes:
        frame: all columns and digits, written to Parquet and CSV.
        columns: what Markdown, HTML and LaTeX show of it, in order.
        title: a line above the table.
        note: what a reader must know, below it.
    """

    frame: pd.DataFrame
    columns: Mapping[str, Column]
    title: str
    note: str


def read_all(paths: Sequence[str], **names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of Parquet files as one frame, without images.

    Args:
        paths: files of one schema.
        names: columns to add, with one value per file.
    """
    frames = []
    for i, path in enumerate(paths):
        columns = [name for name in store.columns(path) if name != "image"]
        frame = store.read(path, columns).to_pandas()
        for name, values in names.items():
            frame[name] = values[i]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def show(frame: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return the columns of a frame as text for a reader; a missing value reads as a dash."""

    def text(value: Any, column: Column) -> str:
        if pd.isna(value):
            return "–"
        if column.digits is None:
            return str(value)
        return f"{value * column.scale:.{column.digits}f}"

    def cell(column: Column, value: Any, *bounds: Any) -> str:
        if not bounds or pd.isna(value):
            return text(value, column)
        low, high = (text(bound, column) for bound in bounds)
        return f"{text(value, column)} [{low}, {high}]"

    # Column by column: a row would turn whole numbers into floats.
    return pd.DataFrame(
        {
            column.title: [
                cell(column, *values)
                for values in zip(
                    *(frame[part] for part in (name, *(column.interval or ()))), strict=True
                )
            ]
            for name, column in columns.items()
        }
    )


def save(
    table: Table,
    *,
    parquet: str | os.PathLike[str],
    markdown: str | os.PathLike[str],
    latex: str | os.PathLike[str],
    csv: str | os.PathLike[str],
    html: str | os.PathLike[str],
    certificate: Mapping[str, Any],
) -> None:
    """Write a table in its five forms, each with the certificate.

    Args:
        table: what to write.
        parquet: file to write.
        markdown: file to write.
        latex: file to write; needs the package booktabs.
        csv: file to write; its first line is a comment that begins with '#'.
        html: file to write; a page that needs nothing beside it, for the report.
        certificate: proof of origin.
    """
    frame, title, note = table.frame, table.title, table.note
    shown = show(frame, table.columns)
    store.write(parquet, pa.Table.from_pandas(frame, preserve_index=False), certificate)
    body = shown.to_markdown(index=False, disable_numparse=True)
    tabular = shown.map(_escape).rename(columns=_escape).to_latex(index=False, escape=False)
    # Cells are cut to a width of the screen otherwise.
    with pd.option_context("display.max_colwidth", None):
        rows = shown.to_html(index=False, border=0)
    page = PAGE.format(title=escape(title), note=escape(note), table=rows)
    values = frame.to_csv(index=False, lineterminator="\n")
    for path, text, comment in (
        (markdown, f"# {title}\n\n{body}\n\n{note}\n\n{{proof}}\n", "<!-- {} -->"),
        (html, page, "<!-- {} -->"),
        (latex, f"{{proof}}\n% {title}\n{tabular}% {note}\n", "% {}"),
        (csv, f"{{proof}}\n{values}", "# {}"),
    ):
        contents.write_text(path, text, certificate, comment)


def _escape(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text.replace("–", "--").replace("±", "$\\pm$").replace("ε", "$\\epsilon$")
