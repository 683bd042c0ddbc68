"""The form of a certificate: the proof of origin that each file of the results carries.

A certificate is one mapping. A job states what it knows (`origin.certificate`); the writer of a
file adds the file's name, a digest of its content, and a seal over it all, so that a lone file
can be held against itself, a certificate edited by hand shows, and content that was merely encoded
anew is recognised. The seal is no signature: who changes a file on purpose can seal it anew, which
only the signed manifest shows. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 3
"""Version of the certificate's layout."""

KEY = "bandlimit.certificate"
"""Name of the certificate in the metadata of Parquet, safetensors and PNG files."""

MARK = "bandlimit certificate:"
"""What precedes a certificate in text, PDF and SVG files."""

ORDERED = ("config", "overrides")
"""What a certificate says of settings: the order of their keys is kept, since rows follow it."""

_BLANK = "0" * 64
_MARKED = re.compile(re.escape(MARK).encode() + rb'(?:":)?\s*(?=\{)')


def name_of(path: str | os.PathLike[str]) -> str:
    """Return how certificates name a file: relative to the working folder if it lies in there."""
    path = Path(os.path.abspath(path))
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else Path(path.name)).as_posix()


def sealed(
    certificate: Mapping[str, Any], path: str | os.PathLike[str], content: str
) -> dict[str, Any]:
    """Return the certificate as the file `path` carries it.

    Args:
        certificate: what the job says of all its outputs.
        path: the file that will carry it.
        content: digest of what the file holds besides, as `contents.digest` computes it.
    """
    full = {**certificate, "file": name_of(path), "content": content}
    full.pop("seal", None)
    return {**full, "seal": seal(full)}


def blank(certificate: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a stand-in as long as the sealed certificate, to be filled when content is known."""
    return {**certificate, "file": name_of(path), "content": _BLANK, "seal": _BLANK}


def filled(text: str, content: str) -> str:
    """Return the text of a blank certificate with its content and seal.

    It is `as_text` of what `sealed` returns, without writing the certificate out once more.
    """
    text = text.replace(f'"content":"{_BLANK}"', f'"content":"{content}"')
    # The content stands before it, so that a comma does.
    rest = text.replace(f',"seal":"{_BLANK}"', "")
    return text.replace(
        f'"seal":"{_BLANK}"', f'"seal":"{hashlib.sha256(rest.encode()).hexdigest()}"'
    )


def seal(certificate: Mapping[str, Any]) -> str:
    """Return the sha256 of a certificate without its seal, in canonical form."""
    rest = {name: value for name, value in certificate.items() if name != "seal"}
    return hashlib.sha256(as_text(rest).encode()).hexdigest()


def as_text(certificate: Mapping[str, Any]) -> str:
    """Return a certificate in canonical form: one line of ASCII, fit for a comment in any text.

    Keys are in alphabetical order, but for those of settings (`ORDERED`). What would end a comment
    of HTML or mean something to XML is written as its number.
    """
    parts = (
        f"{_json(name)}:{_json(certificate[name], sort_keys=name not in ORDERED)}"
        for name in sorted(certificate)
    )
    text = f"{{{','.join(parts)}}}"
    # Outside strings JSON has none of these.
    for character in "-<>&":
        if character == "-":
            text = text.replace("--", "-\\u002d")
        else:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json(value: Any, *, sort_keys: bool = True) -> str:
    return json.dumps(value, sort_keys=sort_keys, ensure_ascii=True, separators=(",", ":"))


def find_text(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the certificate in a text, and the text without it; None where it has none.

    In a comment the mapping follows the mark; in JSON the mark is the key of the mapping.

    Raises:
        ValueError: what follows the mark begins like a mapping, but is not one.
    """
    found = _MARKED.search(data)
    if found is None:
        return None
    start = found.end()
    rest = data[start:].decode("utf-8")
    certificate, end = json.JSONDecoder().raw_decode(rest)
    return certificate, data[:start] + data[start + len(rest[:end].encode()) :]
