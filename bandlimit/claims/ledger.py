"""The page that shows what became of each claim: HTML and Markdown from the verdicts."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any

import jinja2
import pandas as pd
import pyarrow as pa

from bandlimit.claims import reported
from bandlimit.claims.grammar import fields
from bandlimit.claims.verdicts import COLUMNS, VERDICTS
from bandlimit.claims.wording import number
from bandlimit.files import contents, store

TITLE = "Ledger of claims"
NOTE = (
    "A claim is reproduced if its test holds; contradicted if the test fails by more than the 95% "
    "interval of what was measured, if that is exact, or as far as the test itself says; not "
    "reproduced if the test fails, but not so far; not run at this scale if nothing in this run "
    "can decide it, such as a rate of the document of which only a stand-in was measured. N "
    "counts the cases behind the measured value, which is that of the claim's first test."
)
MARKS = dict(zip(VERDICTS, ("yes", "open", "no", "none"), strict=True))
"""Names of the verdicts in the style sheet."""

TYPES = {"str": pa.string(), "float64": pa.float64(), "boolean": pa.bool_()}
SCHEMA = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()])

Figures = Mapping[str, Sequence[str | os.PathLike[str]]]


def write(
    frame: pd.DataFrame,
    claims_files: Sequence[str | os.PathLike[str]],
    figures: Figures,
    *,
    markdown: str | os.PathLike[str],
    html: str | os.PathLike[str],
    parquet: str | os.PathLike[str],
    certificate: Mapping[str, Any],
) -> None:
    """Write the ledger as Parquet, and as a page in Markdown and in HTML.

    The first table of the page has a sentence for each document, the second counts verdicts, the
    others are the claims. The HTML file holds its pictures, needs nothing beside it, and no script.

    Args:
        frame: rows of `verdicts.evaluate`, of all files together.
        claims_files: the files that the rows come from, in the order of the page.
        figures: pictures (PNG) by the id of the claim or the name of the study they belong to.
        markdown: file to write; it links to the pictures.
        html: file to write.
        parquet: file to write.
        certificate: proof of origin.

    Raises:
        ValueError: a row is of none of the files, or a picture of no claim and no study.
    """
    shown = page(frame, claims_files, figures)
    table = pa.Table.from_pandas(frame[list(COLUMNS)], schema=SCHEMA, preserve_index=False)
    store.write(parquet, table, certificate)
    text = _markdown(shown, Path(markdown).parent)
    contents.write_text(markdown, text, certificate, "<!-- {} -->")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bandlimit.claims", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    template = environment.get_template("ledger.html.j2")
    contents.write_text(html, template.render(shown), certificate, "<!-- {} -->")


def summary(document: Mapping[str, Any], frame: pd.DataFrame) -> str:
    """Return the first sentence of a document's summary whose conditions hold.

    A sentence with the number of something that was not measured does not apply.

    Args:
        document: a claims file, as `reported.read` gives it.
        frame: the rows of its claims.
    """
    known = {row["id"].split(".")[1]: row for row in frame.to_dict("records")}
    for variant in document["summary"]:
        if any(known[name]["verdict"] != asked for name, asked in variant.get("when", {}).items()):
            continue
        used = [name.split(".") for name in fields(variant["say"])]
        if not any(pd.isna(known[claim][column]) for claim, column in used):
            values = {name: SimpleNamespace(**row) for name, row in known.items()}
            return Formatter().vformat(variant["say"], (), values)
    raise ValueError(f"no sentence sums up {document['document']!r}: the last must always hold")


def page(
    frame: pd.DataFrame, claims_files: Sequence[str | os.PathLike[str]], figures: Figures
) -> dict[str, Any]:
    """Return what the page shows in each form; see `write`."""
    studies = []
    for path in claims_files:
        document = reported.read(path)
        ids = [claim["id"] for claim in document["claims"]]
        own = frame[frame["id"].isin(ids)]
        study = ids[0].split(".")[0]
        counts = [int((own["verdict"] == verdict).sum()) for verdict in VERDICTS]
        studies.append(
            {
                "name": study,
                "document": document["document"],
                "sentence": summary(document, own),
                "counts": counts,
                "total": len(own),
                "claims": [_shown(row, figures) for row in own.to_dict("records")],
                "figures": list(figures.get(study, [])),
            }
        )
    known = {study["name"] for study in studies} | {
        claim["id"] for study in studies for claim in study["claims"]
    }
    strangers = [name for name in [*figures, *frame["id"]] if name not in known]
    if strangers:
        raise ValueError(f"{strangers[0]!r} is no claim and no study of the claims files")
    return {
        "title": TITLE,
        "note": NOTE,
        "verdicts": VERDICTS,
        "marks": MARKS,
        "studies": studies,
        "totals": [sum(study["counts"][i] for study in studies) for i in range(len(VERDICTS))],
    }


def _shown(row: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """Return a claim with its numbers as a reader wants them; a missing one reads as a dash."""
    measured = _text(row["measured"])
    if not pd.isna(row["low"]) and row["low"] < row["high"]:
        measured = f"{measured} [{number(row['low'])}, {number(row['high'])}]"
    return {
        **row,
        "mark": MARKS[row["verdict"]],
        "number": row["id"].split(".")[1],
        "reported": _text(row["reported"]),
        "measured": measured,
        "images": _text(row["images"]),
        "figures": list(figures.get(row["id"], [])),
        "place": row["measured_on"] + (", a stand-in" if row["stand_in"] is True else ""),
    }


def _text(value: float) -> str:
    return "–" if pd.isna(value) else number(value)


def _data_uri(path: str | os.PathLike[str]) -> str:
    return f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode('ascii')}"


def _markdown(page: Mapping[str, Any], folder: Path) -> str:
    studies = page["studies"]
    parts = [
        f"# {page['title']}",
        _table(["Document", "In a sentence"], [[s["document"], s["sentence"]] for s in studies]),
        _table(
            ["Study", *VERDICTS, "claims"],
            [
                *([s["name"], *s["counts"], s["total"]] for s in studies),
                ["all", *page["totals"], sum(page["totals"])],
            ],
        ),
        page["note"],
    ]
    for study in studies:
        parts.append(f"## {study['document']}")
        parts.append(
            _table(
                ["Claim", "Where", "Statement", "Verdict", "Reported", "Measured", "N", "Reading"],
                [
                    [
                        claim["id"],
                        claim["where"],
                        claim["statement"],
                        f"**{claim['verdict']}**",
                        claim["reported"],
                        claim["measured"],
                        claim["images"],
                        claim["reading"],
                    ]
                    for claim in study["claims"]
                ],
            )
        )
        parts.append("What decides:")
        parts.append(
            _table(
                ["Claim", "Measured on", "Records", "Rows", "Row numbers, from 0"],
                [
                    [
                        claim["id"],
                        claim["place"] or "–",
                        claim["records"],
                        f"`{claim['rows']}`",
                        claim["decided_by"] or "–",
                    ]
                    for claim in study["claims"]
                ],
            )
        )
        pictures = [*study["figures"], *(p for c in study["claims"] for p in c["figures"])]
        for path in dict.fromkeys(map(Path, pictures)):
            link = Path(os.path.relpath(path, folder)).as_posix().replace(" ", "%20")
            parts.append(f"![{path.stem}]({link})")
    parts.append("{proof}")
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
