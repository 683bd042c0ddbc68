"""The house: imports point downwards, no room is part of a circle, faces import nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bandlimit.studies import STUDIES

HOME = Path(__file__).parents[1]
PACKAGE = HOME / "bandlimit"
FLOORS = [
    {"errors", "keys", "statistics", "stopping"},
    {"files"},
    {"progress"},
    {"data", "spectral", "plots"},
    {"models"},
    {"training", "defenses"},
    {"attacks"},
    {"config"},
    {"claims"},
    {"studies"},
    {"plan"},
    {"provenance"},
    {"site"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the ground up; those of one floor know nothing of each other."""

LIGHT = (
    "errors",
    "keys",
    *(f"config.{name}" for name in ("run", "paths", "overlays", "registry", "schema", "moved")),
    *("attacks.kinds", "defenses.kinds", "plan.load", "plan.catalogue", "plan.jobs", "plan.code"),
    *("plan.status", "plan.last", "plan.own_data", "data.class_folders", "data.listings"),
    *(f"studies.{study}.{name}" for study in STUDIES for name in ("settings", "artifacts")),
    *("cli", "files.certificates", "files.folders"),
)
"""What each start of the workflow, or of the command, may import."""

HEAVY = (
    "torch",
    "torchvision",
    "foolbox",
    "pandas",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "scipy",
    "numpy",
)


COMPUTES = (
    "average_spectra",
    "convert_model",
    "linear_regions",
    *(f"frequency_principle/{name}" for name in ("filtering", "kernel", "label_noise")),
    *(f"frequency_principle/{name}" for name in ("linear_principle", "manifolds", "sinusoids")),
    *(f"frequency_principle/{name}" for name in ("one_dimension", "projection")),
    *(f"high_frequency/{name}" for name in ("figure_7", "figure_detection", "kernels")),
)
"""Scripts that need torch though they call for no device: they train, or look into networks."""

ALONE = """
import ast, importlib.abc, pathlib, sys

class Refused(ImportError):
    pass

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise Refused(name)

sys.meta_path.insert(0, Refusing())
for path in sys.argv[1:]:
    tree = ast.parse(pathlib.Path(path).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    try:
        exec(compile(tree, path, "exec"), {})
    except Refused:
        print(path)
"""
"""Prints which scripts can't be imported without torch."""


def modules() -> dict[str, Path]:
    """Return all modules of the library by name, such as 'files.store'; packages end in a dot."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1]) + "." if parts[-1] == "__init__" else ".".join(parts)] = path
    return found


def imported(path: Path, *, hints: bool = False) -> set[str]:
    """Return the modules of the library that a file imports, wherever in it.

    What is imported for type hints alone does not count, unless it is asked for.
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not hints:
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    known = modules()
    found = set()
    for name in names:
        if not name.startswith("bandlimit."):
            continue
        inside = name.removeprefix("bandlimit.")
        # The last part may be a name in a module.
        found |= {part for part in (inside, inside.rpartition(".")[0]) if part in known}
    return found


def room(name: str) -> str:
    return name.split(".")[0]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downwards(name):
    if not room(name):
        return
    for other in imported(modules()[name], hints=True):
        same = room(other) == room(name)
        assert same or floor(other) < floor(name), f"{name} imports {other}"


def test_each_room_stands_on_a_floor():
    assert {room(name) for name in modules()} - {""} == set().union(*FLOORS)


def test_no_modules_import_each_other_in_a_circle():
    edges = {name: imported(path) for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_data_of_one_s_own_are_not_committed():
    """The example names a folder for them, which git passes over."""
    example = yaml.safe_load((HOME / "config/own_data.yaml").read_text(encoding="utf-8"))
    entries = [*example["datasets"].values(), *example["models"].values()]
    ignored = (HOME / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {f"/{Path(entry['path']).parts[0]}/" for entry in entries} <= set(ignored)


ROOT = {
    *(".gitattributes", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff"),
    *("CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "Snakefile", "config.yaml"),
    *("pyproject.toml", "requirements-test.in", "requirements-test.lock"),
    *("requirements.in", "requirements.lock"),
}
"""Files that lie beside the folders; what else was put there was left behind."""


def test_nothing_was_left_at_the_root():
    listed = subprocess.run(["git", "ls-files"], cwd=HOME, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git repository")
    assert {name for name in listed.stdout.splitlines() if "/" not in name} == ROOT


def test_faces_of_packages_import_nothing():
    """But `os`, for what must be set before any package is imported."""
    for name, path in modules().items():
        if name.endswith("."):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
            own = name == "." and [ast.unparse(each) for each in found] == ["import os"]
            assert not found or own, name
            assert ast.get_docstring(tree), name


def test_what_every_start_pays_for_is_light():
    names = ", ".join(f"bandlimit.{name}" for name in LIGHT)
    program = f"import sys, {names}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_scripts_that_run_no_network_start_without_torch():
    """Its start takes longer than most tables and figures do."""
    scripts = {
        path.relative_to(HOME / "scripts").with_suffix("").as_posix(): path
        for path in sorted((HOME / "scripts").rglob("*.py"))
    }
    assert set(COMPUTES) <= set(scripts)
    light = [
        str(path)
        for name, path in scripts.items()
        if name not in COMPUTES and "device" not in path.read_text(encoding="utf-8")
    ]
    assert len(light) > 80
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *light], cwd=HOME, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_studies_know_nothing_of_each_other():
    for name, path in modules().items():
        if name.startswith("studies.") and name.count(".") > 1:
            study = name.split(".")[1]
            for other in imported(path):
                if other.startswith("studies.") and other.count(".") > 1:
                    assert other.split(".")[1] == study, f"{name} imports {other}"
