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
from bandlimit.claims.grammar import NUMBERS, PARTS, fields
from bandlimit.claims.verdicts import COLUMNS, FACTS, VERDICTS
from bandlimit.claims.wording import number
from bandlimit.files import contents, store

TITLE = "Ledger of claims"
NOTE = (
    "Each claim is asked twice. In substance: its statement without the document's numbers, of "
    "every network of this run that has the records, stand-ins included. It holds, or does not "
    "hold, where the 95% interval of what was measured leaves no other answer; it is mixed where "
    "networks differ, and undecided where the interval is too wide. As reported: the document's "
    "numbers, which only its own data and models decide. Such a claim is reproduced if its tests "
    "hold, contradicted if one fails by more than its interval or as far as it says itself, not "
    "reproduced if one fails but not so far, and not run at this scale where nothing in this run "
    "decides it, such as a stand-in alone. N counts the cases behind a value."
)
HEADINGS = {"in_substance": "In substance", "as_reported": "As reported"}
"""Of the parts of a claim."""

MARKS = {
    "holds": "yes",
    "does not hold": "no",
    "mixed": "open",
    "undecided": "open",
    "not asked": "none",
    "reproduced": "yes",
    "not reproduced": "open",
    "contradicted": "no",
    "not run at this scale": "none",
}
"""Names of the verdicts in the style sheet."""

TYPES = {"str": pa.string(), "float64": pa.float64(), "boolean": pa.bool_()}
SCHEMA = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()])

Figures = Mapping[str, Sequence[str | os.PathLike[str]]]


def write(
    frame: pd.DataFrame,
    claims_files: Sequence[str | os.PathLike[str]],
    figures: Figures,
    *,
    alarms: Sequence[str] = (),
    markdown: str | os.PathLike[str],
    html: str | os.PathLike[str],
    parquet: str | os.PathLike[str],
    certificate: Mapping[str, Any],
) -> None:
    """Write the ledger as Parquet, and as a page in Markdown and in HTML.

    The page begins with what was found: for each document a sentence, a picture and the counts of
    verdicts. Then come the claims. The HTML file holds its pictures, needs nothing beside it, and
    no script.

    Args:
        frame: rows of `verdicts.evaluate`, of all files together.
        claims_files: the files that the rows come from, in the order of the page.
        figures: pictures (PNG) by the id of the claim or the name of the study they belong to; the
            first of a study stands beside its sentence.
        alarms: sentences that no reader may miss.
        markdown: file to write; it links to the pictures.
        html: file to write.
        parquet: file to write.
        certificate: proof of origin.

    Raises:
        ValueError: a row is of none of the files, or a picture of no claim and no study.
    """
    shown = page(frame, claims_files, figures, alarms)
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
    environment.filters["stem"] = lambda path: Path(path).stem.replace("_", " ")
    template = environment.get_template("ledger.html.j2")
    contents.write_text(html, template.render(shown), certificate, "<!-- {} -->")


def summary(document: Mapping[str, Any], frame: pd.DataFrame) -> str:
    """Return the first sentence of a document's summary whose conditions hold.

    Its conditions and numbers are those of claims in substance. A sentence with the number of
    something that was not measured does not apply.

    Args:
        document: a claims file, as `reported.read` gives it.
        frame: the rows of its claims.
    """
    known = {row["id"].split(".")[1]: row for row in frame.to_dict("records")}
    for variant in document["summary"]:
        asked = variant.get("when", {}).items()
        if any(known[name]["in_substance"] != verdict for name, verdict in asked):
            continue
        used = [name.split(".") for name in fields(variant["say"])]
        if not any(pd.isna(known[claim][f"in_substance_{fact}"]) for claim, fact in used):
            values = {
                name: SimpleNamespace(**{fact: row[f"in_substance_{fact}"] for fact in NUMBERS})
                for name, row in known.items()
            }
            return Formatter().vformat(variant["say"], (), values)
    raise ValueError(f"no sentence sums up {document['document']!r}: the last must always hold")


def page(
    frame: pd.DataFrame,
    claims_files: Sequence[str | os.PathLike[str]],
    figures: Figures,
    alarms: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the page shows in each form; see `write`."""
    studies = []
    for path in claims_files:
        document = reported.read(path)
        ids = [claim["id"] for claim in document["claims"]]
        own = frame[frame["id"].isin(ids)]
        study = ids[0].split(".")[0]
        pictures = list(figures.get(study, []))
        studies.append(
            {
                "name": study,
                "document": document["document"],
                "sentence": summary(document, own),
                "face": pictures[0] if pictures else None,
                "counts": {
                    part: {verdict: int((own[part] == verdict).sum()) for verdict in VERDICTS[part]}
                    for part in PARTS
                },
                "total": len(own),
                "claims": [_shown(row, figures) for row in own.to_dict("records")],
                "figures": pictures[1:],
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
        "alarms": list(alarms),
        "note": NOTE,
        "parts": HEADINGS,
        "verdicts": VERDICTS,
        "marks": MARKS,
        "studies": studies,
    }


def _shown(row: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """Return a claim with its numbers as a reader wants them; a missing one reads as a dash."""
    parts = {}
    for name in PARTS:
        found = {fact: row[f"{name}_{fact}"] for fact in FACTS}
        measured = _text(found["measured"])
        if not pd.isna(found["low"]) and found["low"] < found["high"]:
            measured = f"{measured} [{number(found['low'])}, {number(found['high'])}]"
        parts[name] = {
            **found,
            "verdict": row[name],
            "mark": MARKS[row[name]],
            "measured": measured,
            "cases": _text(found["cases"]),
        }
    return {
        **{key: row[key] for key in ("id", "where", "statement", "substance")},
        "number": row["id"].split(".")[1],
        "reported": _text(row["reported"]),
        **parts,
        "figures": list(figures.get(row["id"], [])),
    }


def _text(value: float) -> str:
    return "–" if pd.isna(value) else number(value)


def _data_uri(path: str | os.PathLike[str]) -> str:
    return f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode('ascii')}"


def _markdown(page: Mapping[str, Any], folder: Path) -> str:
    studies = page["studies"]
    parts = [
        f"# {page['title']}",
        *(f"**{alarm}**" for alarm in page["alarms"]),
        _table(["Document", "In a sentence"], [[s["document"], s["sentence"]] for s in studies]),
    ]
    parts += [_picture(study["face"], folder) for study in studies if study["face"]]
    for part, heading in page["parts"].items():
        rows = [[s["name"], *s["counts"][part].values(), s["total"]] for s in studies]
        totals = [sum(row[i] for row in rows) for i in range(1, len(rows[0]))]
        parts.append(
            _table([heading, *page["verdicts"][part], "claims"], [*rows, ["all", *totals]])
        )
    parts.append(page["note"])
    for study in studies:
        parts.append(f"## {study['document']}")
        for part, heading in page["parts"].items():
            substance = part == "in_substance"
            parts.append(
                _table(
                    [
                        "Claim",
                        "Where",
                        "Statement",
                        heading,
                        *([] if substance else ["Reported"]),
                        "Measured",
                        "N",
                        "Reading",
                    ],
                    [
                        [
                            claim["id"],
                            claim["where"],
                            claim["substance" if substance else "statement"],
                            f"**{claim[part]['verdict']}**",
                            *([] if substance else [claim["reported"]]),
                            claim[part]["measured"],
                            claim[part]["cases"],
                            claim[part]["reading"],
                        ]
                        for claim in study["claims"]
                    ],
                )
            )
        parts.append("What decides:")
        parts.append(
            _table(
                ["Claim", "Part", "Networks", "Records", "Rows", "Row numbers, from 0"],
                [
                    [
                        claim["id"],
                        heading,
                        claim[part]["networks"] or "–",
                        claim[part]["records"],
                        f"`{claim[part]['rows']}`",
                        claim[part]["decided_by"] or "–",
                    ]
                    for claim in study["claims"]
                    for part, heading in page["parts"].items()
                ],
            )
        )
        pictures = [*study["figures"], *(p for c in study["claims"] for p in c["figures"])]
        parts += [_picture(path, folder) for path in dict.fromkeys(map(Path, pictures))]
    parts.append("{proof}")
    return "\n\n".join(parts) + "\n"


def _picture(path: str | os.PathLike[str], folder: Path) -> str:
    link = Path(os.path.relpath(path, folder)).as_posix().replace(" ", "%20")
    return f"![{Path(path).stem}]({link})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
