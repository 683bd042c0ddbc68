"""Whether two files that should be equal are, and the first place where they differ."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageChops

from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, store
from bandlimit.provenance.verdicts import Finding, Verdict

KEYS = (
    *("image_id", "against", "attack", "inputs", "control", "defense", "sampler", "kind", "layer"),
    *("perturbation", "cutoff", "epsilon", "confidence", "factor", "radius", "directions"),
    *("restart", "draw"),
)
"""Columns by which the rows of records differ."""


def redrawn(name: str, stored: Path, found: Path, certificate: Mapping[str, Any]) -> Finding:
    """Compare a result with what was made again."""
    if not stored.exists():
        return Finding(name, Verdict.MISSING, "It is not in the results.")
    try:
        own, digest = contents.read(stored)
    except UserError as error:
        return Finding(name, Verdict.TAMPERED, str(error))
    if not found.exists():
        return Finding(
            name, Verdict.TAMPERED, "The job that its certificate names does not make it."
        )
    if digest == contents.digest(found):
        return Finding(name, Verdict.OK, f"equal{_size(stored)}")
    detail = _where(stored, found)
    apart = ("file", "content", "seal")
    if {k: v for k, v in (own or {}).items() if k not in apart} != {
        k: v for k, v in certificate.items() if k not in apart
    }:
        detail += " Its certificate is not that of the other results of the job."
    return Finding(name, Verdict.TAMPERED, detail)


def _size(path: Path) -> str:
    """Return how much was compared, for a sentence."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return f", {count(len(store.read(path)), 'row')}"
    if head.startswith(contents.PNG):
        with Image.open(path) as image:
            return f", {image.width} x {image.height} pixels"
    return ""


def _where(stored: Path, found: Path) -> str:
    """Return a sentence on the first place where two files differ."""
    old, new = stored.read_bytes(), found.read_bytes()
    if old.startswith(b"PAR1") and new.startswith(b"PAR1"):
        return _where_rows(store.read(stored), store.read(found))
    if old.startswith(contents.PNG) and new.startswith(contents.PNG):
        return _where_pixels(old, new)
    texts = []
    for data in (old, new):
        with contextlib.suppress(ValueError):
            parts = certificates.find_text(data)
            texts.append((data if parts is None else parts[1]).decode("utf-8").splitlines())
    if len(texts) < 2 or old.startswith(b"%PDF"):
        return "It differs from what is made again."
    for number, (a, b) in enumerate(itertools.zip_longest(*texts, fillvalue=""), start=1):
        if a != b:
            return f"Line {number} is {_cut(a)}; made again it is {_cut(b)}."
    return "It differs from what is made again by the ends of its lines."


def _cut(text: str, length: int = 160) -> str:
    return repr(text if len(text) <= length else text[:length] + "...")


def _where_pixels(old: bytes, new: bytes) -> str:
    with Image.open(io.BytesIO(old)) as a, Image.open(io.BytesIO(new)) as b:
        if a.size != b.size:
            return "It has {} x {} pixels; made again {} x {}.".format(*a.size, *b.size)
        apart = ImageChops.difference(a.convert("RGBA"), b.convert("RGBA"))
    changed = np.asarray(apart).any(axis=2)
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return "Its pixels are of another kind than those made again."
    return (
        f"Of its pixels {len(rows)} differ from those made again, between column {columns.min()} "
        f"and {columns.max()}, row {rows.min()} and {rows.max()} (from 0, at the top left)."
    )


def _where_rows(stored: pa.Table, found: pa.Table) -> str:
    if wrong := other_columns(stored.schema, found.schema):
        return wrong
    if len(stored) != len(found):
        return f"It has {count(len(stored), 'row')}; made again it has {len(found)}."
    for number, (a, b) in enumerate(zip(rows(stored), rows(found), strict=True)):
        for name in a:
            if apart_by(a[name], b[name]):
                return f"Row {number} (from 0), column {name!r}: {_both(a[name], b[name])}."
    return "It differs from what is made again by the kind of a missing value."


def other_columns(stored: pa.Schema, found: pa.Schema) -> str | None:
    """Return a sentence on the first column that has another name or type, or None."""
    pairs = itertools.zip_longest(*([f"{f.name} ({f.type})" for f in s] for s in (stored, found)))
    for number, (a, b) in enumerate(pairs):
        if a != b:
            return f"Its column {number} (from 0) is {a or 'missing'}; made again {b or 'missing'}."
    return None


Row = Mapping[str, Any]

Key = tuple[tuple[str, Any], ...]


def by_key(table: pa.Table) -> dict[Key, list[Row]]:
    """Return the rows of a table by their keys: names and values of the key columns."""
    names = [name for name in KEYS if name in table.column_names]
    found: dict[Key, list[Row]] = {}
    for row in rows(table):
        found.setdefault(tuple((name, row[name]) for name in names), []).append(row)
    return found


def other_rows(stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]]) -> str | None:
    """Return a sentence on the first row that is missing in one table, or there twice, or None."""
    for key in [*stored, *found]:
        old, new = len(stored.get(key, [])), len(found.get(key, []))
        if old != new:
            return f"{_called(key)} has {count(old, 'row')} stored, and {new} made again."
    return None


def pairs(
    stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]]
) -> Iterator[tuple[Key, str, tuple[Any, Any]]]:
    """Yield key, column and both values of all values of tables that have the same rows."""
    for key, rows in stored.items():
        for old, new in zip(rows, found[key], strict=True):
            for name in old:
                yield key, name, (old[name], new[name])


def other_values(
    stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]], tolerance: float
) -> str | None:
    """Return a sentence on the first value that lies too far off, or None."""
    wrong = [place for place in pairs(stored, found) if apart_by(*place[-1]) > tolerance]
    if not wrong:
        return None
    key, name, values = wrong[0]
    rows = len({key for key, *_ in wrong})
    return (
        f"{_called(key)}, column {name!r}: {_both(*values)}; {rows} of "
        f"{count(len(stored), 'row')} {'differs' if rows == 1 else 'differ'}."
    )


def _called(key: Key) -> str:
    """Return a row by its key, for a sentence."""
    (_, image), *rest = key
    parts = ", ".join(f"{name} {value!r}" for name, value in rest if value is not None)
    return f"Image {image!r}" + (f" ({parts})" if parts else "")


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table; images and lists of numbers are arrays."""
    columns: dict[str, list[Any]] = {}
    for field in table.schema:
        if isinstance(field.type, pa.FixedShapeTensorType):
            columns[field.name] = list(store.images_of(table, field.name)) if len(table) else []
        else:
            columns[field.name] = table[field.name].to_pylist()
    return [{name: values[row] for name, values in columns.items()} for row in range(len(table))]


def apart_by(stored: Any, found: Any) -> float:
    """Return how far two values lie apart: 0 if equal, infinite unless both are numbers alike.

    Of fractions the distance is relative to the stored one or to 1; whole numbers count as texts.
    """
    if isinstance(stored, np.ndarray | list) and isinstance(found, np.ndarray | list):
        return _arrays_apart(stored, found)
    if isinstance(stored, float) and isinstance(found, float):
        return _arrays_apart([stored], [found])
    same = type(stored) is type(found) and bool(stored == found)
    return 0.0 if same else math.inf


def _arrays_apart(stored: Any, found: Any) -> float:
    try:
        a, b = np.asarray(stored, dtype=np.float64), np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        return 0.0 if repr(stored) == repr(found) else math.inf
    if a.shape != b.shape:
        return math.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not (np.isfinite(a) & np.isfinite(b))[~same].all():
        return math.inf
    return float(np.max(np.abs(a - b)[~same] / np.maximum(1.0, np.abs(a[~same]))))


def _both(stored: Any, found: Any) -> str:
    """Return two values that differ, for a sentence; of arrays the entry that differs most."""
    arrays = [
        np.asarray(value) for value in (stored, found) if isinstance(value, np.ndarray | list)
    ]
    if len(arrays) == 2:
        a, b = arrays
        if a.shape != b.shape:
            return f"{a.shape} values are stored, {b.shape} made again"
        if np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number):
            apart = np.nan_to_num(np.abs(a.astype(float) - b), nan=math.inf)
            place = np.unravel_index(int(np.argmax(apart)), a.shape)
            where = ", ".join(str(int(number)) for number in place)
            return f"at ({where}) {_shown(a[place])} is stored, {_shown(b[place])} made again"
    return f"{_shown(stored)} is stored, {_shown(found)} made again"


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.9g}"
    return "nothing" if value is None else _cut(value) if isinstance(value, str) else repr(value)


def count(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}" + "s" * (number != 1)
