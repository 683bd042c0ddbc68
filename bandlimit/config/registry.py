"""The registries: datasets and models that the workflow knows, with their checksums."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from bandlimit.errors import UserError, suggest


def read(
    path: str | os.PathLike[str], schema: str | os.PathLike[str] | None = None
) -> dict[str, dict[str, str]]:
    """Return the rows of a registry, a CSV file, by name.

    Args:
        path: the file.
        schema: a JSON schema that each row must match; without one rows are taken as they are.

    Raises:
        UserError: the file can't be read, a row has more or fewer cells than there are columns or
            does not match the schema, or a name is missing or there twice.
    """
    place = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"The registry {place!r} can't be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The registry {place!r} is not a CSV file in UTF-8: {error}.") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(
                f"Row {number} of the registry {place!r} needs a cell for each of its columns, "
                f"got {row.get('name')!r} with {'more' if None in row else 'fewer'}."
            )
        if not row.get("name"):
            raise UserError(f"Row {number} of the registry {place!r} needs a 'name'.")
    if schema is not None:
        # Imported here: looking up a row needs no JSON schema.
        from bandlimit.config.schema import check, read_schema

        rule = read_schema(Path(schema))
        for row in rows:
            check(row, rule, f"the entry {row['name']!r} of {place}")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["name"] in found:
            raise UserError(
                f"The registry {place!r} has two rows named {row['name']!r}; each name is allowed "
                "once."
            )
        found[row["name"]] = row
    return found


def urls(path: str | os.PathLike[str], name: str) -> list[str]:
    """Return the addresses of an entry of a registry, in order of preference.

    Raises:
        UserError: the registry has no such entry, or can't be read.
    """
    rows = read(path)
    if name not in rows:
        raise UserError(
            f"The registry {os.fspath(path)!r} has no entry {name!r}; {suggest(name, rows)}."
        )
    return rows[name]["urls"].split()


def shape(text: str) -> tuple[int, ...]:
    """Return the lengths in a cell such as '3 32 32' or '3x32x32'."""
    return tuple(int(length) for length in text.replace("x", " ").split())


def pairs(text: str) -> Iterator[list[str]]:
    """Return name and value of each part of a cell such as 'train:50000 test:10000'."""
    return (part.split(":") for part in text.split())
