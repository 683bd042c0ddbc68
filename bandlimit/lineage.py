"""The files that a job hangs on: the code that its script reaches, all that lies in a folder.

Snakemake sees the text of a script but not the modules it imports; `reach` lists them, so that
they can be inputs of a rule, and named in certificates. Imports nothing heavy.
"""

from __future__ import annotations

import ast
import functools
import os
from pathlib import Path


def reach(script: str | os.PathLike[str], home: str | os.PathLike[str]) -> list[str]:
    """Return the code files that a script reaches, relative to `home`, itself first, then sorted.

    Imports are followed through `bandlimit` and the folder of the script, also those inside
    functions; packages' own `__init__` files belong to what is reached.
    """
    home = Path(home)
    first = Path(script)
    found: set[Path] = set()
    waiting = [home / first]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [p for p in _imports(path, home) if p not in found]
    rest = sorted(path.relative_to(home).as_posix() for path in found - {home / first})
    return [first.as_posix(), *rest]


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return all files of a folder, sorted; links are followed, hidden files left out."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


@functools.cache
def _imports(path: Path, home: Path) -> tuple[Path, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from a import b` may name a module b of a package a.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files: list[Path] = []
    for name in names:
        parts = name.split(".")
        roots = [home] if parts[0] == "bandlimit" else [path.parent]
        for root in roots:
            for depth in range(1, len(parts) + 1):
                base = root.joinpath(*parts[:depth])
                for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                    if candidate.is_file():
                        files.append(candidate)
    return tuple(files)
