"""The code that a job depends on: which files its script reaches, and what they mean.

One truth for what runs again: the workflow puts `digest` among the params of each job, certificates
name `files_of`, and the audit compares the same. Code counts by its syntax tree, so that a comment,
a docstring, the layout or a type hint changes nothing. Imports nothing heavy.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
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

_OPAQUE = ("exec", "exec_module", "load_module", "spec_from_file_location", "SourceFileLoader")
"""Functions that run code from anywhere: no argument of theirs is followed."""

OWN_CODE = "bandlimit/files/own_code.py"
"""Runs code that the user's configuration names; its files identify the jobs that run it."""

_DOC = "__" + "doc__"
"""Put together, so that this file is not taken for one that reads its own documentation."""

_PATH = -1
"""The level of an import that names a file, relative to the project, and no module."""

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
    """Return a digest of the code that a script reaches and of the lock, and one of deviations.

    The latter, behind a dot, is of the packages that are installed in another version than the
    lock's. A job that runs in an environment of its own has the former alone in common with the
    process that planned it.

    Args:
        script: relative to `home`.
        home: folder of the project.
        lock: the file that pins the environment, relative to `home`.

    Raises:
        UserError: as `reach`, or the lock can't be read.
    """
    place = Path(home) / lock
    try:
        status = place.stat()
        environment = _environment(place, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UserError(f"The lock {str(place)!r} can't be read: {error.strerror}.") from error
    pinned, *deviating = environment
    parts = ({"code": files_of(script, home), "lock": pinned}, deviating)
    return ".".join(
        hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for part in parts
    )


def tree_digest(path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> str:
    """Return the sha256 of what a file of code means; of one that is not Python, of its bytes.

    Args:
        path: the file.
        home: folder of a project, if what its runs keep of files they parsed is to be believed.

    Raises:
        UserError: the file can't be read, or is no Python.
    """
    cache = None if home is None else _Cache.at(Path(os.path.abspath(home)))
    return _read(Path(path), cache).digest


# The environment


@functools.lru_cache(maxsize=16)
def _environment(lock: Path, time: int, size: int) -> list[str]:
    """Return the digest of a lock and what deviates from it; `time` and `size` tell of an edit."""
    content = lock.read_bytes()
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

    def __init__(
        self, digest: str, imports: list[list[Any]], odd: list[list[Any]], bound: list[str] | None
    ) -> None:
        self.digest = digest
        self.imports = imports
        self.odd = odd
        """[line, source] of imports that can't be resolved."""
        self.bound = bound
        """Names that the file binds anywhere; None where only running it tells."""


class _Project:
    """The code of one project; each file is looked at once."""

    _all: dict[Path, _Project] = {}

    def __init__(self, home: Path) -> None:
        self.home = home
        self._edges: dict[str, list[str]] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._known: dict[str, _Code] = {}
        self._own: dict[tuple[str, str], bool] = {}

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
            if code.odd and name != OWN_CODE:
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
        """Yield the files of an import: packages on the way, the module, modules taken of it."""
        here = Path(name).parent
        if level == _PATH:
            if not (self.home / module).is_file():
                raise UserError(
                    f"Line {line} of {name!r} runs {module!r}, which is no file of this project."
                )
            yield Path(module).as_posix()
            return
        if level:
            folder = here
            for _ in range(level - 1):
                folder = folder.parent
            if folder.parts[:1] != (LIBRARY,):
                raise UserError(
                    f"Line {line} of {name!r} is a relative import that leads out of {LIBRARY!r}."
                )
            parts = [*folder.parts, *filter(None, module.split("."))]
        else:
            parts = module.split(".")
        if parts[0] == LIBRARY:
            yield from self._of_library(name, parts, names, line)
            return
        # Jobs find the project itself, too; the library's own folders are not searched.
        inside = here.parts[:1] == (LIBRARY,)
        for root in [*([] if inside else [here]), Path(SCRIPTS), Path()]:
            # Most imports are of packages that are installed: each is looked for once.
            top = (str(root), parts[0])
            if top not in self._own:
                self._own[top] = self._files(root, parts[:1])[1] > 0
            if not self._own[top]:
                continue
            found = self._files(root, parts)[0]
            for taken in names:
                found += self._files(root, [*parts, taken])[0]
            if found:
                yield from dict.fromkeys(found)
                return

    def _of_library(self, name: str, parts: list[str], names: list[str], line: int) -> list[str]:
        found, depth = self._files(Path(), parts)
        if depth < len(parts):
            raise UserError(
                f"Line {line} of {name!r} imports {'.'.join(parts)!r}, which is no module of this "
                "project."
            )
        # The face of a package says all its names; a module may get some as it runs.
        face = found[-1] if found and found[-1].endswith("__init__.py") else None
        for taken in names:
            files, depth = self._files(Path(), [*parts, taken])
            if depth > len(parts):
                found += files
                continue
            bound = self._code(face).bound if face else None
            if bound is not None and taken not in bound:
                raise UserError(
                    f"Line {line} of {name!r} imports {taken!r} from {'.'.join(parts)!r}, which "
                    "has neither a module nor a name like this."
                )
        return list(dict.fromkeys(found))

    def _files(self, root: Path, parts: list[str]) -> tuple[list[str], int]:
        """Return the files of a module and its packages, and how many parts of its name exist.

        A folder without `__init__` is a part that has no file.
        """
        found = []
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            for candidate in (base / "__init__.py", base.with_suffix(".py")):
                if (self.home / candidate).is_file():
                    found.append(candidate.as_posix())
                    break
            else:
                if not (self.home / base).is_dir():
                    return found, depth - 1
        return found, len(parts)


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
        return _Code(key, [], [], None)
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
    try:
        documented = any(_says(node, _DOC) for node in ast.walk(tree))
        bare = _Bare(documented).visit(tree)
        text = json.dumps(_plain(bare), separators=(",", ":"))
    except RecursionError as error:
        raise UserError(
            f"The file of code {str(path)!r} can't be read: an expression is nested too deeply."
        ) from error
    imports: list[list[Any]] = []
    odd: list[list[Any]] = []
    called: set[int] = set()
    bound: set[str] = set()
    open_ended = False
    for node in ast.walk(bare):
        if isinstance(node, ast.Import):
            imports += [[alias.name, [], 0, node.lineno] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name != "*"]
            imports.append([node.module or "", names, node.level, node.lineno])
            open_ended |= len(names) < len(node.names)
            if any(
                a.name in _OPAQUE or (a.name in _LOADERS and a.asname not in (None, a.name))
                for a in node.names
            ):
                odd.append([node.lineno, ast.unparse(node)])
        elif isinstance(node, ast.Call) and _name(node.func) in _LOADERS:
            called.add(id(node.func))
            found = _loaded(node)
            if found is None:
                odd.append([node.lineno, ast.unparse(node)])
            else:
                imports.append(found)
        elif (
            isinstance(node, ast.Name | ast.Attribute)
            and _name(node) in (*_LOADERS, *_OPAQUE)
            # A call comes before its parts. Under another name it could not be followed.
            and id(node) not in called
        ):
            odd.append([node.lineno, ast.unparse(node)])
        if isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
            open_ended |= node.name == "__getattr__"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Call) and _name(node.func) == "globals":
            open_ended = True
    digest = hashlib.sha256(text.encode()).hexdigest()
    return [digest, imports, odd, None if open_ended else sorted(bound)]


def _name(node: ast.AST) -> str:
    """Return the last part of a name such as `importlib.import_module`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _says(node: ast.AST, word: str) -> bool:
    """Return whether a node is a name, or a text for `getattr`, that is this word."""
    return _name(node) == word or (isinstance(node, ast.Constant) and node.value == word)


def _loaded(node: ast.Call) -> list[Any] | None:
    """Return what a call of a loader imports, or None where only running it tells."""
    given = [*node.args, *(k.value for k in node.keywords if k.arg in ("package", "fromlist"))]
    texts = [a.value if isinstance(a, ast.Constant) else None for a in given]
    loader = _name(node.func)
    if not node.args or not isinstance(texts[0], str):
        return None
    name = texts[0]
    if loader == "run_path":
        return [name, [], _PATH, node.lineno]
    if loader == "__import__" and len(node.args) + len(node.keywords) > 1:
        return None
    if not name.startswith("."):
        return [name, [], 0, node.lineno]
    try:
        package = texts[1] if len(texts) > 1 else None
        whole = importlib.util.resolve_name(name, package if isinstance(package, str) else None)
    except ImportError:
        return None
    return [whole, [], 0, node.lineno]


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
        kept = ast.If(node.test, [], node.orelse)
        # What is dropped, and what becomes several, is settled as in any other list.
        return ast.NodeTransformer.generic_visit(self, kept).orelse  # type: ignore[attr-defined]

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
            for name, value in _fields(node)
            if name not in ("ctx", "kind", "type_comment") and value not in (None, [])
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_plain(part) for part in node]
    # Which characters `repr` shows depends on the version of Python.
    return [type(node).__name__, ascii(node)]


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr) and name == "values":
            # Python 3.12 ends some f-strings with an empty text.
            value = [v for v in value if getattr(v, "value", None) != ""]
        yield name, value


class _Cache:
    """What files mean, kept on the disk. Where that fails, files are parsed at each start."""

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
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({"version": self.version, "entries": self.entries}, file)
                os.replace(name, self.path)
            except OSError:
                os.unlink(name)
