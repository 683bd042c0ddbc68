"""What the documents report, read from the claims files; the only place their numbers live."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
import yaml

from bandlimit.errors import UserError, suggest
from bandlimit.files import yamls


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a claims file: 'document', 'summary', 'claims' and, mostly, 'reported' tables.

    Raises:
        UserError: a key is written twice.
    """
    with open(path, encoding="utf-8") as file:
        try:
            found: dict[str, Any] = yaml.load(file, yamls.Loader)  # noqa: S506 (a safe one)
        except yamls.Twice as error:
            raise UserError(
                f"In the claims file {os.fspath(path)!r} {error}; each key is allowed once in its "
                "mapping."
            ) from error
    return found


def reported(path: str | os.PathLike[str], table: str) -> pd.DataFrame:
    """Return a table of a document as it reports it.

    Raises:
        UserError: the claims file has no such table.
    """
    tables = read(path).get("reported", {})
    if table not in tables:
        raise UserError(
            f"The claims file {str(path)!r} has no table {table!r}; {suggest(table, tables)}."
        )
    return pd.DataFrame(tables[table])
