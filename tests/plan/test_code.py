import hashlib
import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from bandlimit.errors import UserError
from bandlimit.plan import code

HOME = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.relative_to(HOME / "scripts").with_suffix("").as_posix()
    for path in (HOME / "scripts").rglob("*.py")
)

TREE = {
    "scripts/draw.py": "from bandlimit import plots\nfrom job import run\n",
    "scripts/deep.py": "def main():\n    import bandlimit.attacks.fixed\n",
    "scripts/name.py": "from bandlimit.attacks import fixed, PGD\n",
    "scripts/alone.py": "import os, json.decoder\nfrom collections import abc\n",
    "scripts/job.py": "from bandlimit import lineage\n",
    "bandlimit/__init__.py": "",
    "bandlimit/errors.py": "",
    "bandlimit/lineage.py": "def late():\n    from bandlimit.store import sha256\n",
    "bandlimit/store.py": "from bandlimit.errors import UserError\n",
    "bandlimit/plots.py": "import bandlimit.lineage as line\n",
    "bandlimit/one.py": "if True:\n    from bandlimit import two\n",
    "bandlimit/two.py": "try:\n    from bandlimit import one\nexcept ImportError:\n    pass\n",
    "bandlimit/attacks/__init__.py": "from bandlimit.attacks.base import PGD\n",
    "bandlimit/attacks/base.py": "from bandlimit import one\n",
    "bandlimit/attacks/fixed.py": "",
    "bandlimit/attacks/other.py": "",
    "elsewhere/bandlimit/plots.py": "",
}


@pytest.fixture
def home(tmp_path):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


# What a script reaches --------------------------------------------------------------------------

ATTACKS = [
    "bandlimit/__init__.py",
    "bandlimit/attacks/__init__.py",
    "bandlimit/attacks/base.py",
    "bandlimit/attacks/fixed.py",
    "bandlimit/one.py",
    "bandlimit/two.py",
]


@pytest.mark.parametrize(
    ("script", "reached"),
    [
        # Over a module beside the script, and an import inside a function.
        (
            "draw",
            [
                "bandlimit/__init__.py",
                "bandlimit/errors.py",
                "bandlimit/lineage.py",
                "bandlimit/plots.py",
                "bandlimit/store.py",
                "scripts/job.py",
            ],
        ),
        # A module deep in a package: its packages run too; a circle ends; 'other' is not reached.
        ("deep", ATTACKS),
        ("name", ATTACKS),
        ("alone", []),
    ],
)
def test_imports_are_followed(home, script, reached):
    assert code.reach(f"scripts/{script}.py", home) == [f"scripts/{script}.py", *reached]


def test_the_folder_may_have_any_name(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("läuft überall") / "copy"
    shutil.copytree(home, other)
    assert code.reach("scripts/draw.py", other) == code.reach("scripts/draw.py", home)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_reaches_is_there(script):
    files = code.reach(f"scripts/{script}.py", HOME)
    assert all((HOME / path).is_file() for path in files)
    assert len(files) == len(set(files))
    assert "bandlimit/__init__.py" in files


@pytest.mark.parametrize(
    ("script", "not_reached"),
    [
        ("attack", ["defenses/", "attacks/adaptive/", "plots/", "studies/", "files/tables"]),
        ("evaluate_post_averaging", ["attacks/", "plots/", "studies/", "training/"]),
        (
            "bandlimiting/figure_2",
            ["models/", "data/", "attacks/minimal", "studies/bandlimiting/theory"],
        ),
        (
            "bandlimiting/table_1",
            ["models/", "data/", "attacks/", "plots/", "studies/bandlimiting/theory"],
        ),
        ("bandlimiting/theory", ["models/", "data/", "plots/", "studies/bandlimiting/rates"]),
        # Of attacks it needs their names and budgets.
        (
            "robustness/tables",
            [
                "models/",
                "data/",
                "attacks/adaptive/",
                *(f"attacks/{name}" for name in ("base", "catalogue", "fixed", "minimal")),
                *(f"attacks/{name}" for name in ("records", "selection")),
                "plots/",
                "studies/bandlimiting/",
            ],
        ),
        ("make_dataset", ["models/", "attacks/", "defenses/", "plots/", "studies/"]),
    ],
)
def test_scripts_reach_no_more_than_they_need(script, not_reached):
    """A module that is reached without need would re-run attacks for a colour."""
    files = code.reach(f"scripts/{script}.py", HOME)
    # The face of the folder of all studies belongs to each of them.
    parts = [f.removeprefix("bandlimit/") for f in files if not f.endswith("__init__.py")]
    assert [f for f in parts for name in not_reached if f.startswith(name)] == []


def used_by(module):
    """Yield the modules of the library whose objects a loaded module holds."""
    for value in vars(module).values():
        name = value.__name__ if isinstance(value, types.ModuleType) else None
        if inspect.isclass(value) or inspect.isfunction(value):
            name = value.__module__
        # Python itself binds the parts of a package to it.
        part = isinstance(value, types.ModuleType) and f"{name}.".startswith(f"{module.__name__}.")
        if name is not None and name.split(".")[0] == "bandlimit" and not part:
            yield name


def test_no_module_uses_another_that_it_does_not_reach():
    """What Python itself bound at import, against what the text says."""
    for path in (HOME / "bandlimit").rglob("*.py"):
        if path.stem == "__main__":
            continue
        parts = path.relative_to(HOME).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        module = __import__(name, fromlist=["x"])
        try:
            reached = {HOME / file for file in code.reach(path.relative_to(HOME), HOME)}
        except UserError:
            continue  # It loads by name, or reaches what does: no script may.
        for used in used_by(module):
            file = Path(inspect.getfile(sys.modules[used])).resolve()
            assert file in {p.resolve() for p in reached}, f"{name} uses {used}"


def project(folder, **files):
    """Return a folder with a small library and the given files, by path without '.py'."""
    texts = {
        "bandlimit/__init__": "",
        "bandlimit/a": "WIDTH = 3\n",
        "bandlimit/b": "",
        "bandlimit/room/__init__": "",
        "bandlimit/room/c": "",
        "scripts/beside": "",
    }
    for name, text in {**texts, **files}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "requirements.lock").write_text(LOCK, encoding="utf-8")
    return folder


LOCK = """\
numpy==2.3.5 ; python_full_version >= '3.12' \\
    --hash=sha256:00
numpy==2.2.6 ; python_full_version < '3.12' \\
    --hash=sha256:01
torch==2.9.1 \\
    --hash=sha256:02
    # via torchvision
"""


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("import beside", ["scripts/beside.py"]),
        ("import bandlimit.room.c", ["bandlimit/__init__", "bandlimit/room/__init__", "room/c"]),
        ("from bandlimit import a as width", ["bandlimit/__init__", "bandlimit/a"]),
        # An attribute is no module.
        ("from bandlimit.a import WIDTH", ["bandlimit/__init__", "bandlimit/a"]),
        ("from bandlimit.a import *", ["bandlimit/__init__", "bandlimit/a"]),
        ("class Late:\n    async def f(self):\n        import bandlimit.a", ["bandlimit/a"]),
        ("match 1:\n    case _:\n        from bandlimit import b", ["bandlimit/b"]),
        ("import importlib\nimportlib.import_module('bandlimit.b')", ["bandlimit/b"]),
        ("from importlib import import_module\nimport_module('bandlimit.b')", ["bandlimit/b"]),
        ("__import__('beside')", ["scripts/beside.py"]),
        ("import runpy\nrunpy.run_module('bandlimit.b')", ["bandlimit/b"]),
        ("import importlib\nimportlib.import_module('.c', 'bandlimit.room')", ["room/c"]),
        ("import importlib\nimportlib.import_module('.c', package='bandlimit.room')", ["room/c"]),
        ("import runpy\nrunpy.run_path('scripts/beside.py')", ["scripts/beside.py"]),
        # The project itself is where jobs look, and a folder needs no face.
        ("import scripts.beside", ["scripts/beside.py"]),
        ("from scripts import beside", ["scripts/beside.py"]),
        ("import importlib\nimportlib.import_module('numpy')", []),
        ("import importlib.util, sys\nimportlib.util.find_spec(sys.argv[1])", []),
        ("from __future__ import annotations", []),
    ],
)
def test_each_kind_of_import_is_followed(tmp_path, text, reached):
    found = code.reach("scripts/s.py", project(tmp_path, **{"scripts/s": text}))
    assert found[0] == "scripts/s.py"
    for part in reached:
        assert any(part in file for file in found[1:]), part
    others = [f for f in found[1:] if not any(part in f for part in [*reached, "__init__"])]
    assert others == []
    assert (len(found) > 1) == bool(reached)


def test_relative_imports_are_followed(tmp_path):
    home = project(
        tmp_path,
        **{
            "scripts/s": "import bandlimit.room.deep.d\n",
            "bandlimit/room/deep/__init__": "",
            "bandlimit/room/deep/d": "from . import e\nfrom ..c import x\nfrom ...a import WIDTH\n",
            "bandlimit/room/deep/e": "def late():\n    from ... import b\n",
        },
    )
    assert code.reach("scripts/s.py", home) == [
        "scripts/s.py",
        "bandlimit/__init__.py",
        "bandlimit/a.py",
        "bandlimit/b.py",
        "bandlimit/room/__init__.py",
        "bandlimit/room/c.py",
        "bandlimit/room/deep/__init__.py",
        "bandlimit/room/deep/d.py",
        "bandlimit/room/deep/e.py",
    ]


def test_a_face_starts_from_its_own_folder(tmp_path):
    home = project(
        tmp_path,
        **{"scripts/s": "import bandlimit.room", "bandlimit/room/__init__": "from .c import x"},
    )
    assert "bandlimit/room/c.py" in code.reach("scripts/s.py", home)


def test_a_script_in_a_folder_reaches_its_neighbours_and_the_scripts_above(tmp_path):
    home = project(
        tmp_path,
        **{
            "scripts/study/s": "import near\nimport beside\n",
            "scripts/study/near": "import bandlimit.a\n",
        },
    )
    assert code.reach("scripts/study/s.py", home) == [
        "scripts/study/s.py",
        "bandlimit/__init__.py",
        "bandlimit/a.py",
        "scripts/beside.py",
        "scripts/study/near.py",
    ]


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_what_only_type_hints_need_is_not_reached(tmp_path, test):
    text = f"import typing\nif {test}:\n    import bandlimit.a\nelse:\n    import bandlimit.b\n"
    found = code.reach("scripts/s.py", project(tmp_path, **{"scripts/s": text}))
    assert found == ["scripts/s.py", "bandlimit/__init__.py", "bandlimit/b.py"]


@pytest.mark.parametrize(
    "text",
    [
        "import bandlimit.nothing",
        "from bandlimit.nothing import x",
        "from bandlimit.a.deep import x",
        "def late():\n    import bandlimit.room.nothing",
        "import importlib\nimportlib.import_module('bandlimit.nothing')",
        "import importlib, sys\nimportlib.import_module(sys.argv[1])",
        "from importlib import import_module\nimport_module(f'bandlimit.{__name__}')",
        "__import__('band' + 'limit')",
        "import runpy\nrunpy.run_path(__file__)",
        "import runpy\nrunpy.run_module(__name__)",
        "from bandlimit import nothing",
        "from bandlimit.room import c, nothing",
        "from importlib import import_module as load",
        "import importlib\nload = importlib.import_module",
        "import importlib\nlist(map(importlib.import_module, []))",
        "import importlib\nimportlib.import_module('.c', __package__)",
        "import importlib\nimportlib.import_module('.c')",
        "__import__('bandlimit.room', fromlist=['c'])",
        "import runpy\nrunpy.run_path('scripts/gone.py')",
        "exec(open('scripts/beside.py').read())",
        "import os\nfrom importlib.util import spec_from_file_location as spec",
        "import os\nfrom importlib.machinery import SourceFileLoader",
        "from . import beside",
        "from .. import beside",
    ],
)
def test_an_import_that_cannot_be_resolved_is_refused_by_file_and_line(tmp_path, text):
    home = project(tmp_path, **{"scripts/s": text})
    line = len(text.splitlines())
    with pytest.raises(UserError, match=rf"Line {line} of 'scripts/s.py'") as refused:
        code.reach("scripts/s.py", home)
    assert "\n" not in str(refused.value)


def test_a_name_in_the_face_of_a_package_is_no_module(tmp_path):
    home = project(
        tmp_path,
        **{
            "scripts/s": "from bandlimit.room import LENGTH, area, Width, late",
            "bandlimit/room/__init__": "from bandlimit.room.c import late\nLENGTH = 1\n"
            "def area(): ...\nclass Width: ...\n",
        },
    )
    assert "bandlimit/room/c.py" in code.reach("scripts/s.py", home)


def test_what_lies_beside_a_script_elsewhere_is_reached(tmp_path):
    home = project(
        tmp_path, **{"tools/s": "import near\n", "tools/near": "from bandlimit import b\n"}
    )
    found = code.reach("tools/s.py", home)
    assert found == ["tools/s.py", "bandlimit/__init__.py", "bandlimit/b.py", "tools/near.py"]


def test_a_module_of_the_library_does_not_search_its_own_folder(tmp_path):
    home = project(
        tmp_path, **{"scripts/s": "import bandlimit.room.c", "bandlimit/room/c": "import d"}
    )
    (home / "bandlimit/room/d.py").write_text("", encoding="utf-8")
    assert "bandlimit/room/d.py" not in code.reach("scripts/s.py", home)


def test_another_case_of_what_only_hints_need_drops_that_alone(tmp_path):
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bandlimit.a\n"
        "elif TYPE_CHECKING:\n    import bandlimit.a\nelse:\n    import bandlimit.b\n"
    )
    home = project(tmp_path, **{"scripts/s": text})
    assert code.reach("scripts/s.py", home)[1:] == ["bandlimit/__init__.py", "bandlimit/b.py"]


def test_a_relative_import_beyond_the_top_is_refused(tmp_path):
    home = project(
        tmp_path,
        **{"scripts/s": "import bandlimit.room.c", "bandlimit/room/c": "\nfrom ... import x"},
    )
    with pytest.raises(UserError, match=r"Line 2 of 'bandlimit/room/c.py'"):
        code.reach("scripts/s.py", home)


def test_what_a_module_that_is_reached_cannot_resolve_is_refused_too(tmp_path):
    home = project(
        tmp_path, **{"scripts/s": "import bandlimit.a", "bandlimit/a": "import bandlimit.gone"}
    )
    with pytest.raises(UserError, match=r"Line 1 of 'bandlimit/a.py' imports 'bandlimit.gone'"):
        code.reach("scripts/s.py", home)


def test_a_script_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'scripts/gone.py' can't be read"):
        code.reach("scripts/gone.py", project(tmp_path))


# What code means --------------------------------------------------------------------------------

WRITTEN = '''\
"""What the module is for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 3
"""How wide it is."""


@dataclass(frozen=True)
class Setting:
    """A setting."""

    name: str
    """How it is called."""
    width: int = 2
    known: ClassVar[int] = 0


@staticmethod
def area(a: float, *rest: int, b: float = 1.5, **more: str) -> float:
    """Return the area."""
    total: float = a * b + len(rest)
    # The rest does not count.
    return total if total > 0 else 0.0


def say(x: Path, digits: int = 2) -> str:
    return f"{x!r:>{digits}.2f} of {WIDTH}"
'''

NOTHING = {
    "a comment": ("    # The rest does not count.\n", "    # It counts.  # Twice.\n"),
    "no comment": ("    # The rest does not count.\n", ""),
    "the docstring of the module": ('"""What the module is for."""', '"""Another."""\n'),
    "no docstring of the module": ('"""What the module is for."""\n\n', ""),
    "the docstring of a class": ('"""A setting."""', "'''Any.'''"),
    "the docstring of a function": ('    """Return the area."""\n', ""),
    "the docstring of a constant": ('"""How wide it is."""\n', ""),
    "the docstring of a field": ('    """How it is called."""\n', '    "Its name."\n'),
    "a new docstring": ("-> str:\n", '-> str:\n    """Say it."""\n'),
    "empty lines": ("WIDTH = 3\n", "\n\n\nWIDTH = 3\n\n"),
    "broken lines": (
        "return total if total > 0 else 0.0",
        "return (\n        total\n        if total > 0\n        else 0.0\n    )",
    ),
    "quotes": ('f"{x!r:>{digits}.2f} of {WIDTH}"', "(f'{x!r:>{digits}.2f}' \" of \" f'{WIDTH}')"),
    "another way to write a number": ("b: float = 1.5", "b: float = 1.50"),
    "the hint of an argument": ("a: float", "a: int"),
    "no hint of an argument": ("a: float", "a"),
    "the hint of a rest": ("*rest: int", "*rest: object"),
    "the hint of an argument by name": ("**more: str", "**more"),
    "the hint of what is returned": (") -> float:", ") -> 'int | None':"),
    "no hint of what is returned": (") -> float:", "):"),
    "the hint of a local name": ("total: float", "total: int"),
    "the hint of a field": ("width: int = 2", "width: int | None = 2"),
    "the hint of a field without default": ("name: str", "name: bytes"),
    "an import for hints": ("from pathlib import Path", "from os import PathLike as Path"),
    "no imports for hints": ("if TYPE_CHECKING:\n    from pathlib import Path\n", ""),
    "the end of lines": ("\n", "\r\n"),
    "a mark of the encoding": ('"""What the', '# -*- coding: utf-8 -*-\n"""What the'),
}

SOMETHING = {
    "a constant": ("WIDTH = 3", "WIDTH = 4"),
    "the type of a constant": ("WIDTH = 3", "WIDTH = 3.0"),
    "a truth for a number": ("known: ClassVar[int] = 0", "known: ClassVar[int] = False"),
    "the sign of zero": ("else 0.0", "else -0.0"),
    "a text for bytes": ("WIDTH = 3", "WIDTH = b'3'"),
    "a name": ("WIDTH = 3", "HEIGHT = 3"),
    "a default": ("b: float = 1.5", "b: float = 2.5"),
    "no default": ("digits: int = 2", "digits: int"),
    "an argument by position": ("*rest: int, b", "b"),
    "the order of arguments": ("(x: Path, digits: int = 2)", "(digits: Path, x: int = 2)"),
    "the argument of a decorator": ("frozen=True", "frozen=False"),
    "no decorator": ("@staticmethod\n", ""),
    "another decorator": ("@staticmethod", "@classmethod"),
    "a field more": ("    width: int = 2\n", "    width: int = 2\n    depth: int\n"),
    "a field less": ("    name: str\n", ""),
    "the name of a field": ("    name: str\n", "    title: str\n"),
    "the default of a field": ("width: int = 2", "width: int = 3"),
    "no field any more": ("width: int = 2", "width = 2"),
    "no ClassVar": ("known: ClassVar[int] = 0", "known: int = 0"),
    "a new ClassVar": ("width: int = 2", "width: ClassVar[int] = 2"),
    "a new InitVar": ("width: int = 2", "width: dataclasses.InitVar[int] = 2"),
    "a new ClassVar in quotes": ("width: int = 2", "width: 'ClassVar[int]' = 2"),
    "fields by name only": ("    name: str\n", "    _: dataclasses.KW_ONLY\n    name: str\n"),
    "the text of an f-string": (" of {WIDTH}", " by {WIDTH}"),
    "the value of an f-string": (" of {WIDTH}", " of {digits}"),
    "the conversion of an f-string": ("x!r:", "x!s:"),
    "the form of an f-string": (".2f}", ".3f}"),
    "an f-string for a text": (
        'f"{x!r:>{digits}.2f} of {WIDTH}"',
        '"{x!r:>{digits}.2f} of {WIDTH}"',
    ),
    "an operator": ("a * b", "a / b"),
    "a comparison": ("total > 0", "total >= 0"),
    "the order of operations": ("a * b + len(rest)", "a * (b + len(rest))"),
    "an import": ("import dataclasses\n", "import dataclasses\nimport os\n"),
    "another name for an import": ("import dataclasses\n", "import dataclasses as dataclasses_\n"),
    "an import from the future": ("from __future__ import annotations\n", ""),
    "hints read as they run": ("if TYPE_CHECKING:", "if not TYPE_CHECKING:"),
    "a statement": ("WIDTH = 3\n", "WIDTH = 3\nWIDTH += 1\n"),
    "an expression that does something": ('"""How wide it is."""', "print(WIDTH)"),
}


def meaning(folder, text):
    path = folder / "module.py"
    path.write_bytes(text.encode())
    return code.tree_digest(path)


@pytest.mark.parametrize("change", NOTHING)
def test_what_changes_nothing_keeps_the_digest(tmp_path, change):
    old, new = NOTHING[change]
    assert old in WRITTEN
    other = WRITTEN.replace(old, new)
    assert other != WRITTEN
    assert meaning(tmp_path, other) == meaning(tmp_path, WRITTEN)


@pytest.mark.parametrize("change", SOMETHING)
def test_what_changes_something_changes_the_digest(tmp_path, change):
    old, new = SOMETHING[change]
    assert old in WRITTEN
    other = WRITTEN.replace(old, new)
    assert meaning(tmp_path, other) != meaning(tmp_path, WRITTEN)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("def f(*, a, b=1): ...", "def f(*, a=1, b): ..."),
        ("def f(*, a=None): ...", "def f(*, a): ..."),
        ("x = {**y, 'a': 1}", "x = {'a': 1, **y}"),
        ("x = {None: y}", "x = {**y}"),
        ("def f():\n    return", "def f():\n    return None"),
        ("x[1:]", "x[:1]"),
        ("x[None:]", "x[:]"),
        ("x = None", "x = ..."),
        ("x = []", "x = ()"),
        ("x = 'None'", "x = None"),
        ("from . import a", "from .. import a"),
        ("[x for x in y]", "[x async for x in y]"),
        ("del x", "x"),
        ("match x:\n    case None: ...", "match x:\n    case True: ..."),
        ("x: int", "x: int = None"),
    ],
)
def test_texts_that_differ_by_nothing_but_a_place_or_none_mean_different_things(tmp_path, one, two):
    assert meaning(tmp_path, one) != meaning(tmp_path, two)


@pytest.mark.parametrize("hint", ["KW_ONLY", "ClassVar", "typing.ClassVar[int]", "InitVar[int]"])
def test_a_hint_that_a_dataclass_acts_on_counts(tmp_path, hint):
    text = "@dataclass\nclass Setting:\n    _: int\n    name: str\n"
    assert meaning(tmp_path, text.replace("int", hint)) != meaning(tmp_path, text)


@pytest.mark.parametrize("reads", ["__doc__", "f.__doc__", "getattr(f, '__doc__')"])
def test_a_module_that_reads_its_docstrings_keeps_them(tmp_path, reads):
    text = f'"""Used as help."""\ndef f(): ...\nprint({reads})\n'
    other = text.replace("help", "usage")
    assert meaning(tmp_path, text) != meaning(tmp_path, other)


KNOWN = "f43b8e95417b4b8398e006613361c27117119c0855b41d52dc03de45ce067ace"
"""The digest that Python 3.11, 3.12 and 3.13 give; another serialiser has another one."""


def test_a_digest_is_the_same_in_all_versions_of_python(tmp_path):
    match = "\n\nmatch WIDTH:\n    case [1, *_] | {'a': None, **rest}:\n        pass\n"
    lambdas = "late = lambda *a, k=None, **b: [i async for i in a if (n := i)]\n"
    assert meaning(tmp_path, WRITTEN + match + lambdas) == KNOWN


FACE = "42dd0e00cc2768c034b92e065622951e352a3b7c27025bd2d2cfac3e7d12fd6f"
"""The digest that all versions give, as above."""


def test_a_digest_does_not_depend_on_what_a_version_of_python_can_print(tmp_path):
    """Python 3.12 shows the face as it is, and ends the f-string with an empty text."""
    text = "face = '\U0001fae8'\nwide = f'{face:{len(face)}}'\n"
    assert meaning(tmp_path, text) == FACE


def test_a_file_that_is_no_python_counts_by_its_bytes(tmp_path):
    page = tmp_path / "page.html.j2"
    page.write_bytes(b"# A comment\n")
    assert code.tree_digest(page) == hashlib.sha256(b"# A comment\n").hexdigest()


@pytest.mark.parametrize("content", [b"def f(:\n", b"x = 1\0", b"x = '\xff'\n"])
def test_python_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.py' can't be read as Python"):
        code.tree_digest(path)


def test_an_expression_that_is_nested_too_deeply_is_named(tmp_path):
    with pytest.raises(UserError, match=r"module\.py' can't be read: .* nested too deeply"):
        meaning(tmp_path, f"x = {' + '.join('1' * 900)}\n")


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.py' can't be read: No such file"):
        code.tree_digest(tmp_path / "gone.py")


# What a job is told -----------------------------------------------------------------------------


def test_files_of_a_script_have_the_digests_of_their_trees(tmp_path):
    home = project(tmp_path, **{"scripts/s": "from bandlimit import a\nimport beside\n"})
    found = code.files_of("scripts/s.py", home)
    assert list(found) == code.reach("scripts/s.py", home)
    assert found == {name: code.tree_digest(home / name) for name in found}


def digest_of(folder, **files):
    files = {"scripts/s": "from bandlimit import a\n", **files}
    return code.digest("scripts/s.py", project(folder, **files))


@pytest.mark.parametrize(
    ("files", "same"),
    [
        ({}, True),
        ({"bandlimit/a": "# Three.\nWIDTH = 3  # or so\n"}, True),
        ({"bandlimit/a": "WIDTH = 4\n"}, False),
        ({"scripts/s": '"""A script."""\nfrom bandlimit import a\n'}, True),
        ({"scripts/s": "from bandlimit import a\n\na.f()\n"}, False),
        ({"bandlimit/__init__": "import os\n"}, False),
        # Out of reach.
        ({"bandlimit/b": "WIDTH = 4\n"}, True),
        ({"scripts/other": "import bandlimit.a\n"}, True),
        # A module that takes the place of an attribute.
        ({"scripts/s": "from bandlimit import a, b\n"}, False),
    ],
)
def test_a_digest_sees_what_a_script_reaches_and_no_more(tmp_path, files, same):
    before = digest_of(tmp_path / "one")
    assert (digest_of(tmp_path / "two", **files) == before) == same


def test_a_digest_does_not_depend_on_the_place(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "zwei, läuft"
    assert digest_of(one) == digest_of(two)
    monkeypatch.chdir(one)
    assert code.digest("scripts/s.py", ".") == code.digest("scripts/s.py", one)


@pytest.mark.parametrize(
    ("ran", "same"),
    [
        ({"numpy": "2.2.6", "torch": "2.9.1"}, True),
        # Any of the pins, and a build for a card.
        ({"numpy": "2.3.5", "torch": "2.9.1+cu128"}, True),
        # What is not installed, or not pinned.
        ({"numpy": "2.2.6", "pandas": "1.0"}, True),
        ({"numpy": "2.2.6", "torch": "2.9.0"}, False),
        ({"numpy": "2.4.0", "torch": "2.9.1"}, False),
    ],
)
def test_a_digest_sees_packages_that_the_lock_does_not_pin_so(tmp_path, monkeypatch, ran, same):
    monkeypatch.setattr(code, "versions", lambda: {"numpy": "2.2.6", "torch": "2.9.1"})
    before = digest_of(tmp_path / "one")
    monkeypatch.setattr(code, "versions", lambda: ran)
    assert (digest_of(tmp_path / "two") == before) == same


MORE = "tqdm==4.67.1\n"
"""A package that no certificate names, so that nothing but the lock itself tells of it."""


def test_a_digest_sees_the_lock(tmp_path):
    home = project(tmp_path, **{"scripts/s": "import os\n"})
    (home / "other.lock").write_text(LOCK + MORE, encoding="utf-8")
    one = code.digest("scripts/s.py", home)
    assert code.digest("scripts/s.py", home, "other.lock") != one


def test_a_digest_sees_that_the_lock_was_changed(tmp_path):
    home = project(tmp_path, **{"scripts/s": "import os\n"})
    one = code.digest("scripts/s.py", home)
    (home / "requirements.lock").write_text(LOCK + MORE, encoding="utf-8")
    assert code.digest("scripts/s.py", home) != one


def test_a_lock_that_is_missing_is_named(tmp_path):
    home = project(tmp_path, **{"scripts/s": "import os\n"})
    with pytest.raises(UserError, match=r"no\.lock' can't be read"):
        code.digest("scripts/s.py", home, "no.lock")


def test_pins_of_a_lock_are_read_for_all_versions_of_python(tmp_path):
    lock = project(tmp_path) / "requirements.lock"
    assert code.pins(lock) == {"numpy": ["2.3.5", "2.2.6"], "torch": ["2.9.1"]}


def test_deviations_are_said_in_words(tmp_path):
    lock = project(tmp_path) / "requirements.lock"
    ran = {"torch": "2.9.0+cpu", "numpy": "1.26.4", "pandas": "1.0"}
    assert code.deviations(lock, ran) == [
        "numpy 1.26.4 ran, and the lock has 2.3.5 or 2.2.6",
        "torch 2.9.0+cpu ran, and the lock has 2.9.1",
    ]


def test_versions_are_those_of_installed_packages_alone(monkeypatch):
    def version(name):
        if name != "numpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.2.6"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert code.versions() == {"numpy": "2.2.6"}


def test_the_lock_of_this_project_pins_all_packages_that_certificates_name():
    assert set(code.PACKAGES) <= set(code.pins(HOME / "requirements.lock"))


# What is kept between starts --------------------------------------------------------------------

START = """
import json, sys
from bandlimit.plan import code

parsed = []
parse = code.ast.parse
code.ast.parse = lambda *a, **k: parsed.append(k["filename"]) or parse(*a, **k)
found = code.files_of("scripts/s.py", sys.argv[1])
code.files_of("scripts/s.py", sys.argv[1])
code.files_of("scripts/beside.py", sys.argv[1])
print(json.dumps([found, sorted(name.rpartition("/")[2] for name in parsed)]))
"""


def start(home):
    """Return the files of a script as another process finds them, and what it parsed."""
    done = subprocess.run(
        [sys.executable, "-c", START, str(home)],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture
def kept(tmp_path):
    """Return a project whose second start has something to read."""
    home = project(tmp_path, **{"scripts/s": "from bandlimit import a\nimport beside\n"})
    (home / ".snakemake").mkdir()
    # Files that hold the same count once.
    (home / "bandlimit/__init__.py").write_text("LIBRARY = 1\n", encoding="utf-8")
    (home / "bandlimit/b.py").write_text("HEIGHT = 2\n", encoding="utf-8")
    return home


def test_a_second_start_parses_nothing(kept):
    found, parsed = start(kept)
    assert parsed == ["__init__.py", "a.py", "beside.py", "s.py"]
    assert start(kept) == [found, []]
    assert [path.name for path in (kept / ".snakemake").iterdir()] == ["bandlimit-code.json"]


def test_a_start_parses_what_was_changed_since_and_nothing_else(kept):
    before = start(kept)[0]
    (kept / "bandlimit/a.py").write_text("WIDTH = 4\nimport bandlimit.b\n", encoding="utf-8")
    after, parsed = start(kept)
    assert parsed == ["a.py", "b.py"]
    assert "bandlimit/b.py" in after
    assert after["bandlimit/a.py"] != before["bandlimit/a.py"]


def test_a_file_with_a_new_time_is_not_parsed(kept):
    start(kept)
    os.utime(kept / "bandlimit/a.py", (1, 1))
    assert start(kept)[1] == []


def test_a_change_is_seen_within_a_process(kept):
    before = code.digest("scripts/s.py", kept)
    (kept / "bandlimit/a.py").write_text("WIDTH = 3000\n", encoding="utf-8")
    after = code.digest("scripts/s.py", kept)
    assert after != before
    (kept / "bandlimit/a.py").write_text("# Another size.\nWIDTH = 3\n", encoding="utf-8")
    assert code.digest("scripts/s.py", kept) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": "of another module"}'])
def test_a_cache_that_cannot_be_read_is_none(kept, content):
    found, parsed = start(kept)
    cache = kept / ".snakemake/bandlimit-code.json"
    cache.write_text(content, encoding="utf-8")
    assert start(kept) == [found, parsed]
    assert start(kept) == [found, []]


def test_what_another_version_of_the_module_kept_is_not_read(kept):
    found, parsed = start(kept)
    cache = kept / ".snakemake/bandlimit-code.json"
    entries = json.loads(cache.read_text(encoding="utf-8"))["entries"]
    wrong = {key: ["0" * 64, [], []] for key in entries}
    text = json.dumps({"version": "0" * 64, "entries": wrong})
    cache.write_text(text, encoding="utf-8")
    assert start(kept) == [found, parsed]


def test_a_cache_that_cannot_be_written_is_no_error(kept):
    """A folder stands where the file would be; it stops root, too."""
    (kept / ".snakemake/bandlimit-code.json").mkdir()
    found, parsed = start(kept)
    assert start(kept) == [found, parsed]


def test_nothing_but_the_folder_of_snakemake_is_written_to(kept):
    shutil.rmtree(kept / ".snakemake")
    before = sorted(kept.rglob("*"))
    start(kept)
    assert [p for p in sorted(kept.rglob("*")) if ".snakemake" not in p.parts] == before


@pytest.mark.parametrize("path", sorted((HOME / "bandlimit").rglob("*.py")), ids=lambda p: p.name)
def test_documentation_of_the_library_means_nothing(tmp_path, path):
    text = path.read_text(encoding="utf-8")
    edited = tmp_path / path.name
    edited.write_text(text.replace('"""', '"""Otherwise. ', 1), encoding="utf-8")
    assert code.tree_digest(edited) == code.tree_digest(path)


def test_what_runs_keep_of_files_saves_parsing_where_a_project_is_named(tmp_path, monkeypatch):
    path = tmp_path / "scripts/one.py"
    path.parent.mkdir()
    path.write_text("value = 'of no other file'\n")
    (tmp_path / ".snakemake").mkdir()
    known = code.files_of("scripts/one.py", tmp_path)["scripts/one.py"]
    monkeypatch.setattr(code, "_SEEN", {})
    monkeypatch.setattr(code._Cache, "_all", {})
    monkeypatch.setattr(code, "_parsed", None)
    assert code.tree_digest(path, tmp_path) == known
