"""Code of the user's own: a network or a defence that the configuration names by file and name.

A source is `path/to/file.py:Name`, relative to the working folder, or to another where code runs
as if there (`named_from`). The file and what it imports beside it are data to this project: their
bytes identify the jobs that run them. Imports nothing heavy, since every start of the workflow pays
for it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError, suggest

SUFFIX = ".py"

PREFIX = "own_code_"
"""How the modules are called that such code is loaded as."""

_ROOT: ContextVar[Path] = ContextVar("_ROOT", default=Path())


_only: Collection[str] | None = None
"""Sources that may be run, where not all may; of the whole process, so that threads know it too."""


class Unlike(UserError):
    """Code of the user's own is not here, or is not what it was when a job was planned."""


@contextlib.contextmanager
def named_from(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Let sources be relative to a folder; afterwards they are relative to what they were."""
    before = _ROOT.set(Path(folder))
    try:
        yield
    finally:
        _ROOT.reset(before)


@contextlib.contextmanager
def only(sources: Collection[str]) -> Iterator[None]:
    """Let no other sources be run, in any thread."""
    global _only
    before, _only = _only, sources
    try:
        yield
    finally:
        _only = before


def is_source(text: str) -> bool:
    """Return whether a text names code of the user's own, by its form."""
    path, _, name = text.rpartition(":")
    return path.endswith(SUFFIX) and bool(name)


def split(source: str, place: str) -> tuple[Path, str]:
    """Return the file, where it lies, and the name of a source.

    Args:
        source: path/to/file.py:Name.
        place: where the configuration has it, for errors.

    Raises:
        UserError: it has another form.
        Unlike: there is no such file.
    """
    path, _, name = source.rpartition(":")
    if not is_source(source) or not name.isidentifier():
        raise UserError(
            f"{place} must name a file and what to take from it, as in 'path/to/file.py:Name', got "
            f"{source!r}."
        )
    file = _ROOT.get() / path
    if not file.is_file():
        raise Unlike(
            f"{place} names the file {path!r}, and there is none; a path is relative to "
            f"{os.path.abspath(_ROOT.get())!r}."
        )
    return file, name


def files(source: str, place: str, more: Sequence[str] = ()) -> dict[str, str]:
    """Return the sha256 of the file of a source, and of each file beside it that it imports.

    Names are as the source gives them, in alphabetical order. An import counts where the folder of
    the file, or below it a package, has a module of that name.

    Args:
        source: path/to/file.py:Name.
        place: where the configuration has it, for errors.
        more: further files that it reads, such as weights; named as a source names its file.

    Raises:
        UserError: as `split`; the file can't be read as Python; or the name is not defined there.
        Unlike: a file is not there.
    """
    found = {**_code(source, place), **_data(more, place)}
    root = _ROOT.get()
    # An absolute path stays as it is.
    names = {path: path.relative_to(root) if path.is_relative_to(root) else path for path in found}
    return {names[path].as_posix(): found[path] for path in sorted(found)}


def _data(names: Sequence[str], place: str) -> dict[Path, str]:
    """Return the sha256 of files that code reads."""
    found = {}
    for name in names:
        path = _ROOT.get() / name
        if not path.is_file():
            raise Unlike(
                f"{place} reads the file {name!r}, as 'files' beside it says, and there is none; a "
                f"path is relative to {os.path.abspath(_ROOT.get())!r}."
            )
        with open(path, "rb") as file:
            found[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _code(source: str, place: str) -> dict[Path, str]:
    """Return the sha256 of the file of a source, and of each file beside it that it imports."""
    first, name = split(source, place)
    found: dict[Path, str] = {}
    waiting = [first]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        content, tree = _parsed(path, place)
        found[path] = hashlib.sha256(content).hexdigest()
        if path == first:
            _check_defined(tree, first, name, place)
        waiting += _beside(tree, path, first.parent)
    return found


def _parsed(path: Path, place: str) -> tuple[bytes, ast.Module]:
    try:
        content = path.read_bytes()
        return content, ast.parse(content, filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{place} needs the file {str(path)!r}, which can't be read as Python: {error}."
        ) from error


def _check_defined(tree: ast.Module, path: Path, name: str, place: str) -> None:
    """Refuse a name that a file does not define, unless it may define any."""
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    if name not in defined and "*" not in defined:
        # What it may define in other ways is taken; told are its own functions and classes.
        kinds = (ast.FunctionDef, ast.ClassDef)
        public = [n.name for n in tree.body if isinstance(n, kinds) and n.name[0] != "_"]
        raise UserError(
            f"{place} takes {name!r} from {str(path)!r}, which does not define it; "
            f"{suggest(name, public)}."
        )


def _beside(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """Yield the files below a folder that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = root if not node.level else path.parents[node.level - 1]
            parts = (node.module or "").split(".") if node.module else []
            yield from _modules(base, parts)
            for alias in node.names:
                yield from _modules(base, [*parts, alias.name])


def _modules(root: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files of a module and of its packages, as far as there are any."""
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        for candidate in (base / "__init__.py", base.with_suffix(SUFFIX)):
            if candidate.is_file():
                yield candidate


def load(
    source: str,
    place: str,
    expected: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Any:
    """Return what a source names: it runs the file.

    Args:
        source: path/to/file.py:Name.
        place: where the configuration has it, for errors.
        expected: as `files` returned it when the job was planned; None checks nothing.
        more: further files that it reads.

    Raises:
        UserError: as `files`; the file can't be run; or the name is not there then.
        Unlike: code, or a file that it reads, is no longer what is expected; or it may not be run.
    """
    if _only is not None and source not in _only:
        raise Unlike(f"{place} names {source!r}, which the configuration of this project does not.")
    found = files(source, place, more)
    if expected is not None and dict(expected) != found:
        changed = sorted({*expected.items()} ^ {*found.items()})[0][0]
        raise Unlike(
            f"{place} was planned with other code: {changed!r} was changed since; run it again."
        )
    path, name = split(source, place)
    # A name of its own, so that two files of one name are two modules; also two of equal content,
    # since each may read what lies beside it.
    own = "".join([str(path.resolve()), *found.values()])
    module = PREFIX + hashlib.sha256(own.encode()).hexdigest()[:16]
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, path)
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[module] = made
        try:
            with _found_beside(path.parent, list(_code(source, place))):
                spec.loader.exec_module(made)
        except Exception as error:
            del sys.modules[module]
            raise UserError(
                f"{place} needs the file {str(path)!r}, which ends in an error when it is run: "
                f"{type(error).__name__}: {error}."
            ) from error
    try:
        return getattr(sys.modules[module], name)
    except AttributeError as error:
        raise UserError(
            f"{place} takes {name!r} from {str(path)!r}, which does not define it when it is run."
        ) from error


@contextlib.contextmanager
def _found_beside(folder: Path, found: list[Path]) -> Iterator[None]:
    """Let a file import its neighbours, and not those of another file of one name."""
    place = str(folder.resolve())
    own = {path.relative_to(folder).parts[0].removesuffix(SUFFIX) for path in found}
    hidden = {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in own
    }
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
        # What is imported inside functions comes later.
        if place not in sys.path:
            sys.path.append(place)
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            if name in hidden:
                del sys.modules[name]
        sys.modules.update(hidden)
