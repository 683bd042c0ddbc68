"""The front page of Snakemake's report, which begins with what was found, as the site does."""

from __future__ import annotations

import base64
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bandlimit.files import contents

COMMENT = "{# {} #}"
"""Snakemake fills the page as a template. A comment of reStructuredText would do no good: docutils
reads no file with a line as long as a certificate."""

WIDTH = 76
"""Characters of a line of a picture, for the same reason."""


@dataclass(frozen=True)
class Page:
    """The page to write.

    Attributes:
        path: the file to write, in reStructuredText.
        template: what it is made from: a template with a place for what was found, which says
            something without it, too.
    """

    path: str | os.PathLike[str]
    template: str | os.PathLike[str]


def write(page: Page, told: Mapping[str, Any], root: Path, certificate: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        page: which file, and what it is made from.
        told: what `ledger.page` gives; of each study, `picture` may have the `picture` that stands
            for it and its `alt`.
        root: folder that the names of pictures are relative to.
        certificate: proof of origin.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(Path(page.template).read_text(encoding="utf-8")).render(
        alarms=[_plain(alarm) for alarm in told["alarms"]],
        found=[_found(study, told, root) for study in told["studies"]],
    )
    # It is read as a template once more, and no braces of a document may mean anything.
    text = f"{{% raw %}}\n{text}\n{{% endraw %}}\n{{proof}}\n"
    contents.write_text(page.path, text, certificate, COMMENT)


def _found(study: Mapping[str, Any], told: Mapping[str, Any], root: Path) -> dict[str, Any]:
    counts = {}
    for part, heading in told["parts"].items():
        pairs = study["counts"][part].items()
        counts[heading] = ", ".join(f"{count} {verdict}" for verdict, count in pairs if count)
    picture = study["picture"]
    return {
        "document": _plain(study["document"]),
        "sentence": _plain(study["sentence"]),
        "counts": counts,
        "picture": _data_uri(root / picture["picture"]) if picture else None,
        "alt": _plain(picture["alt"]) if picture else None,
    }


def _plain(text: str) -> str:
    r"""Return a text that reStructuredText shows as it is, in one line.

    >>> print(_plain("A *star* of `code`_"))
    A \*star\* of \`code\`\_
    """
    return re.sub(r"([\\*`|_<>:])", r"\\\1", " ".join(text.split()))


def _data_uri(path: Path) -> str:
    """Return a picture as an address that holds it, in lines that a directive may have."""
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    lines = textwrap.wrap(f"data:image/png;base64,{code}", WIDTH, break_on_hyphens=False)
    return ("\n" + " " * 3).join(lines)
