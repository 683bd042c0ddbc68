import inspect
import shutil
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
        ("robustness/tables", ["models/", "data/", "attacks/", "plots/", "studies/bandlimiting/"]),
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
