"""Folders of files: what lies in one."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

LITTER = re.compile(r"\..*|~\$.*|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r", re.IGNORECASE)
"""Names of what desktops and office programs leave in folders, with all that is hidden."""


def is_litter(name: str) -> bool:
    """Return whether a file is none of ours, by its name: hidden, or left by a desktop."""
    return LITTER.fullmatch(name) is not None


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return all files of a folder, sorted; links are followed, litter is left out."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_litter(name)]
        found += [Path(place, name) for name in names if not is_litter(name)]
    return sorted(path for path in found if path.is_file())


def listing(path: str | os.PathLike[str]) -> str | None:
    """Return a digest of the files of a folder by name and size, None where there is no folder."""
    if not os.path.isdir(path):
        return None
    rows = [(part.relative_to(path).as_posix(), part.stat().st_size) for part in files_in(path)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()
