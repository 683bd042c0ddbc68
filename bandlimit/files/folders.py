"""Folders of files: what lies in one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return all files of a folder, sorted; links are followed, hidden files left out."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def listing(path: str | os.PathLike[str]) -> str | None:
    """Return a digest of the files of a folder by name and size, None where there is no folder."""
    if not os.path.isdir(path):
        return None
    rows = [(part.relative_to(path).as_posix(), part.stat().st_size) for part in files_in(path)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()
