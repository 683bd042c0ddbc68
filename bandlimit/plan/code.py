"""The code that a job depends on: which files its script reaches, and what they mean.

One truth for what runs again: the workflow puts `digest` among the params of each job, certificates
name `files_of`, and the audit compares the same. Code counts by its syntax tree, so that a comment,
a docstring, the layout or a type hint changes nothing. Imports nothing heavy.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError

LIBRARY = "bandlimit"

SCRIPTS = "scripts"

CACHE = ".snakemake/bandlimit-code.json"
"""What files mean, by the sha256 of their bytes, so that a start of the workflow parses nothing."""

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

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;+]+)", re.MULTILINE)
"""A package and its version in a lock."""

_LOADERS = ("import_module", "__import__", "run_path", "run_module")
"""Functions that import what only their argument tells."""

_BINDING = ("ClassVar", "InitVar", "KW_ONLY")
"""Annotations that a dataclass acts on."""


def reach(script: str | os.PathLike[str], home: str | os.PathLike[str]) -> list[str]:
    """Return the code files that a script reaches, relative to `home`, itself first, then sorted.

    Imports are followed through the library and the folders of scripts, also those inside
    functions; packages' own `__init__` files belong to what is reached.

    Raises:
        UserError: a file is missing or no Python, or an import can't be resolved.
    """
    return list(files_of(script, home))


def files_of(script: str | os.PathLike[str], home: str | os.PathLike[str]) -> dict[str, str]:
    """Return what `reach` does, each file with the digest of its syntax tree.

    Raises:
        UserError: as `reach`.
    """
    return dict(_Project.at(Path(home)).files_of(Path(script).as_posix()))


def digest(
    script: str | os.PathLike[str],
    home: str | os.PathLike[str],
    lock: str = "requirements.lock",
) -> str:
    """Return one digest of the code that a script reaches, and of the environment.

    The latter is the lock, and the packages that are installed in another version.

    Args:
        script: relative to `home`.
        home: folder of the project.
        lock: the file that pins the environment, relative to `home`.

    Raises:
        UserError: as `reach`, or the lock can't be read.
    """
    found = {"code": files_of(script, home), "environment": _environment(Path(home) / lock)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def tree_digest(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of what a file of code means; of one that is not Python, of its bytes.

    Raises:
        UserError: the file can't be read, or is no Python.
    """
    return _read(Path(path)).digest


# The environment


@functools.cache
def _environment(lock: Path) -> list[str]:
    try:
        content = lock.read_bytes()
    except OSError as error:
        raise UserError(f"The lock {str(lock)!r} can't be read: {error.strerror}.") from error
    return [hashlib.sha256(content).hexdigest(), *deviations(lock, versions())]


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that matter to results."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def pins(lock: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return the versions of each package in a lock: several, for several versions of Python."""
    path = Path(lock)
    return _pins(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=4)
def _pins(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for package, version in _PIN.findall(text):
        found.setdefault(package, []).append(version)
    return found


def deviations(lock: str | os.PathLike[str], ran: Mapping[str, str]) -> list[str]:
    """Return in words which packages have another version than the lock says.

    A package that the lock does not name is no deviation.
    """
    known = pins(lock)
    # A build for a card or a processor has a name behind a plus.
    return [
        f"{package} {version} ran, and the lock has {' or '.join(known[package])}"
        for package, version in sorted(ran.items())
        if package in known and str(version).partition("+")[0] not in known[package]
    ]


# Files


class _Code:
    """What is known of one file: the digest of its tree, and what it imports.

    An import is [name, names that are taken from it, level, line]; it names a module of the
    library, or one that may lie beside the file.
    """

    def __init__(self, digest: str, imports: list[list[Any]], odd: list[list[Any]]) -> None:
        self.digest = digest
        self.imports = imports
        self.odd = odd
        """[line, source] of imports that can't be resolved."""


class _Project:
    """The code of one project; each file is looked at once."""

    _all: dict[Path, _Project] = {}

    def __init__(self, home: Path) -> None:
        self.home = home
        self._edges: dict[str, list[str]] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._known: dict[str, _Code] = {}

    @classmethod
    def at(cls, home: Path) -> _Project:
        whole = Path(os.path.abspath(home))
        return cls._all.setdefault(whole, cls(whole))

    def files_of(self, script: str) -> dict[str, str]:
        found: dict[str, str] = {}
        waiting = [script]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = self._code(name).digest
                waiting += self._imports(name)
        _Cache.at(self.home).keep()
        rest = sorted(name for name in found if name != script)
        return {script: found[script], **{name: found[name] for name in rest}}

    def _code(self, name: str) -> _Code:
        path = self.home / name
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(
                f"The file of code {name!r} can't be read: {error.strerror}."
            ) from error
        stamp = (status.st_mtime_ns, status.st_size)
        if self._stamps.get(name) != stamp:
            self._known[name] = _read(path, _Cache.at(self.home))
            self._stamps[name] = stamp
            self._edges.pop(name, None)
        return self._known[name]

    def _imports(self, name: str) -> list[str]:
        if name not in self._edges:
            code = self._code(name)
            if code.odd:
                line, source = code.odd[0]
                raise UserError(
                    f"Line {line} of {name!r} imports what can't be told before it runs: {source}; "
                    "a name in quotes or an import statement is allowed in code that jobs reach."
                )
            found: dict[str, None] = {}
            for module, names, level, line in code.imports:
                for part in self._resolved(name, module, names, level, line):
                    found[part] = None
            self._edges[name] = list(found)
        return self._edges[name]

    def _resolved(
        self, name: str, module: str, names: list[str], level: int, line: int
    ) -> Iterator[str]:
        """Yield the files of an import: packages, the module, and modules taken of it."""
        here = Path(name).parent
        if level:
            folder = here
            for _ in range(level - 1):
                folder = folder.parent
            if folder.parts[:1] != (LIBRARY,):
                raise UserError(
                    f"Line {line} of {name!r} is a relative import that leads out of {LIBRARY!r}."
                )
            parts = [*folder.parts, *filter(None, module.split("."))]
            roots = [Path()]
        else:
            parts = module.split(".")
            roots = [Path()] if parts[0] == LIBRARY else [here, Path(SCRIPTS)]
        for root in roots:
            if parts[0] != LIBRARY and root.parts[:1] != (SCRIPTS,):
                continue
            files = list(self._files(root, parts))
            if files or parts[0] == LIBRARY:
                if len(files) < len(parts):
                    raise UserError(
                        f"Line {line} of {name!r} imports {'.'.join(parts)!r}, which is no module "
                        "of this project."
                    )
                yield from files
                for taken in names:
                    yield from list(self._files(root, [*parts, taken]))[len(parts) :]
                return

    def _files(self, root: Path, parts: list[str]) -> Iterator[str]:
        """Yield the files of a module and of the packages that it lies in, as far as there are."""
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            for candidate in (base / "__init__.py", base.with_suffix(".py")):
                if (self.home / candidate).is_file():
                    yield candidate.as_posix()
                    break
            else:
                return


_SEEN: dict[str, list[Any]] = {}
"""What this process learnt of files, by the sha256 of their bytes."""


def _read(path: Path, cache: _Cache | None = None) -> _Code:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The file of code {str(path)!r} can't be read: {error.strerror}."
        ) from error
    key = hashlib.sha256(content).hexdigest()
    if path.suffix != ".py":
        return _Code(key, [], [])
    known = _SEEN.get(key) or (cache.entries.get(key) if cache else None)
    if known is None:
        known = _parsed(content, path)
    _SEEN[key] = known
    if cache and key not in cache.entries:
        cache.add(key, known)
    return _Code(*known)


def _parsed(content: bytes, path: Path) -> list[Any]:
    try:
        tree = ast.parse(content, filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"The file of code {str(path)!r} can't be read as Python: {error}."
        ) from error
    documented = any(isinstance(n, ast.Name) and n.id == "__doc__" for n in ast.walk(tree))
    bare = _Bare(documented).visit(tree)
    text = json.dumps(_plain(bare), separators=(",", ":"))
    imports: list[list[Any]] = []
    odd: list[list[Any]] = []
    for node in ast.walk(bare):
        if isinstance(node, ast.Import):
            imports += [[alias.name, [], 0, node.lineno] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name != "*"]
            imports.append([node.module or "", names, node.level, node.lineno])
        elif isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else ""
            called = function.id if isinstance(function, ast.Name) else called
            if called in _LOADERS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    imports.append([first.value, [], 0, node.lineno])
                else:
                    odd.append([node.lineno, ast.unparse(node)])
    return [hashlib.sha256(text.encode()).hexdigest(), imports, odd]


class _Bare(ast.NodeTransformer):
    """Drops from a syntax tree what changes nothing that a job computes."""

    def __init__(self, documented: bool) -> None:
        self.documented = documented

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop docstrings, unless the module reads them."""
        value = node.value
        text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        return None if text and not self.documented else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        """Drop imports that only type hints need."""
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
        if name != "TYPE_CHECKING":
            return self.generic_visit(node)
        return [self.visit(part) for part in node.orelse] or None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Drop the annotation of an argument."""
        node.annotation = None
        return node

    def _function(self, node: Any) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Keep of an annotation that there is one, and what a dataclass acts on."""
        if not any(word in ast.unparse(node.annotation) for word in _BINDING):
            node.annotation = ast.Constant(None)
        node.value = self.visit(node.value) if node.value else None
        return node


def _plain(node: Any) -> Any:
    """Return a tree as lists and texts that are equal in all versions of Python."""
    if isinstance(node, ast.AST):
        fields = [
            [name, _plain(value)]
            for name, value in ast.iter_fields(node)
            if name not in ("ctx", "kind", "type_comment") and value not in (None, [])
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_plain(part) for part in node]
    return [type(node).__name__, repr(node)]


class _Cache:
    """What files mean, on the disk; a cache that can't be read or written is none."""

    _all: dict[Path, _Cache] = {}

    def __init__(self, home: Path) -> None:
        self.path = home / CACHE
        # Another version of this module may mean something else by a digest.
        self.version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self.entries: dict[str, list[Any]] = {}
        self.changed = False
        try:
            found = json.loads(self.path.read_bytes())
            if found["version"] == self.version:
                self.entries = found["entries"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    @classmethod
    def at(cls, home: Path) -> _Cache:
        if home not in cls._all:
            cls._all[home] = cls(home)
        return cls._all[home]

    def add(self, key: str, entry: list[Any]) -> None:
        self.entries[key] = entry
        self.changed = True

    def keep(self) -> None:
        if not self.changed or not self.path.parent.is_dir():
            return
        self.changed = False
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"version": self.version, "entries": self.entries}, file)
            os.replace(name, self.path)
        except OSError:
            return
