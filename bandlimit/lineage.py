"""What made a file: the code a script reaches, and the certificate that each output carries.

Snakemake sees the text of a script but not the modules it imports; `reach` lists them, so that
they can be inputs of a rule, and `certificate` names them with their hashes in every output.
Imports nothing heavy.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError

FORMAT = 1
"""Version of the certificate's layout."""

PACKAGES = (
    "foolbox",
    "matplotlib",
    "numpy",
    "pandas",
    "pillow",
    "pyarrow",
    "pyautoattack",
    "scipy",
    "seaborn",
    "snakemake",
    "statsmodels",
    "torch",
    "torchvision",
)
"""Packages whose versions a certificate names; the lock's hash stands for the rest."""

MARK = "bandlimit certificate:"
"""What precedes a certificate in a text file."""


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


def certificate(
    *,
    rule: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    code: Sequence[str],
    lock: str,
    home: str | os.PathLike[str],
    device: str,
) -> dict[str, Any]:
    """Return the certificate of a job's outputs. It holds no time and no place of a machine.

    Args:
        rule: name of the rule.
        params: named parameters, wildcards and seed included; must be representable as JSON.
        inputs: files that the job reads: the name in the certificate, and where the file lies.
        code: files of code that it runs.
        lock: the file that pins the environment.
        home: folder of the code and the lock.
        device: 'cpu', or the name of the card.
    """
    from bandlimit.store import sha256

    home = Path(home)
    changes = _git(home, "status", "--porcelain", "--untracked-files=no")
    return {
        "format": FORMAT,
        "rule": rule,
        "params": json.loads(json.dumps(params, sort_keys=True)),
        "inputs": {
            name: sha256(path) if os.path.isfile(path) else _folder_sha256(path)
            for name, path in sorted(inputs.items())
        },
        "code": {path: sha256(home / path) for path in code},
        "lock": sha256(home / lock),
        "versions": {"python": platform.python_version()} | versions(),
        "device": device,
        "commit": _git(home, "rev-parse", "HEAD"),
        "clean": None if changes is None else not changes,
    }


def _folder_sha256(path: str) -> str:
    """Return the sha256 of a list of all files of a folder with their sha256."""
    from bandlimit.store import sha256

    files = sorted(part for part in Path(path).rglob("*") if part.is_file())
    rows = [[part.relative_to(path).as_posix(), sha256(part)] for part in files]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that matter to results."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(home: Path, *arguments: str) -> str | None:
    """Return what git says, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(home), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def as_text(proof: Mapping[str, Any]) -> str:
    """Return a certificate as one line of ASCII that may stand in a comment of HTML or XML."""
    return json.dumps(proof, sort_keys=True, ensure_ascii=True).replace("--", "-\\u002d")


def read_text(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the certificate in a Markdown, LaTeX or CSV file.

    Raises:
        UserError: the file has none.
    """
    with open(path, encoding="utf-8") as file:
        for line in file:
            _, mark, rest = line.partition(MARK)
            if mark:
                return json.JSONDecoder().raw_decode(rest.strip())[0]
    raise UserError(f"The file {str(path)!r} carries no certificate of this workflow.")
