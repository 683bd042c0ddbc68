"""Files of the user: what lies in a folder, and a digest that sees any change of it.

Reading, listing and hashing a folder all go by `files_in`, so that none sees a file which another
does not. Imports nothing heavy, since every start of the workflow asks for digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bandlimit.errors import UserError

KNOWN = Path(".snakemake") / "bandlimit-files.json"
"""What was hashed at an earlier start, in the working folder of the workflow."""

SETTLED = 2_000_000_000
"""Nanoseconds after which a further change of a file surely gives it another time."""

LITTER = re.compile(r"\..*|~\$.*|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r", re.IGNORECASE)
"""Names of what desktops and office programs leave in folders, with all that is hidden."""


def is_litter(name: str) -> bool:
    """Return whether a file is none of ours, by its name: hidden, or left by a desktop."""
    return LITTER.fullmatch(name) is not None


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return all files of a folder, sorted; links are followed.

    Litter is left out, and all that lies in hidden folders. A link to nothing is among
    them, so that who reads it tells.

    Raises:
        UserError: a folder in it can't be listed, or is a link that leads back to one it lies in.
    """
    if not os.path.isdir(folder):
        return []
    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unlisted):
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in folders:
            _check_loop(place, name)
        found += [Path(place, name) for name in names if not is_litter(name)]
    # Neither sockets nor pipes, from which reading may never end.
    return sorted(path for path in found if path.is_file() or not path.exists())


def _unlisted(error: OSError) -> NoReturn:
    raise UserError(
        f"The folder {str(error.filename)!r} can't be listed ({error.strerror}), so that nothing "
        "can tell what is in it; it must be readable."
    ) from error


def _check_loop(place: str, name: str) -> None:
    path = os.path.join(place, name)
    if not os.path.islink(path):
        return
    target, here = os.path.realpath(path), os.path.realpath(place)
    if os.path.commonpath([target, here]) == target:
        raise UserError(
            f"The link {path!r} leads back to a folder that it lies in, {target!r}; remove it."
        )


def digest(path: str | os.PathLike[str]) -> str | None:
    """Return a digest of a file, or of the files of a folder by name and content.

    None where nothing is. A file that was hashed at an earlier start in the same working folder is
    not read again, unless its size, its times or its place on the disk are others.

    Raises:
        UserError: a folder in it can't be listed.
    """
    path = Path(path)
    if not path.exists():
        return None
    files = files_in(path) if path.is_dir() else [path]
    known = _known()
    inside = os.path.abspath(path)
    kept = {k: v for k, v in known.items() if k != inside and not k.startswith(inside + os.sep)}
    rows = []
    for file in files:
        place = os.path.abspath(file)
        state = _state(file)
        before = known.get(place)
        if state is not None and before is not None and before[:-1] == state:
            sha256 = before[-1]
        else:
            sha256 = _sha256(file)
        # What was changed a moment ago may change again within one tick of the clock.
        if state is not None and time.time_ns() - max(state[1:3]) > SETTLED:
            kept[place] = [*state, sha256]
        rows.append([file.relative_to(path).as_posix(), sha256])
    if kept != known:
        _keep(kept)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _state(path: Path) -> list[int] | None:
    """Return what changes with a file: size, times in ns, inode; None where it can't be told."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _sha256(path: Path) -> str | None:
    """Return the sha256 of a file, or None where it can't be read; who needs it tells."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _known() -> dict[str, list[int | str | None]]:
    try:
        found = json.loads(KNOWN.read_bytes())
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(
        isinstance(row, list) and len(row) == 5 for row in found.values()
    )
    return found if whole else {}


def _keep(known: dict[str, list[int | str | None]]) -> None:
    """Write what was hashed; it only saves time, so that failing to is no error."""
    if not KNOWN.parent.is_dir():
        return
    temporary = KNOWN.with_name(f".{KNOWN.name}.{os.getpid()}")
    with suppress(OSError):
        temporary.write_text(json.dumps(known), encoding="ascii")
        os.replace(temporary, KNOWN)
