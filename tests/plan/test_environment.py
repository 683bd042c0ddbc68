from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUN, TEST, BOOTSTRAP = "requirements.lock", "requirements-test.lock", "envs/bootstrap.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}

# One pinned package: name, version, perhaps a marker, at least one hash; nothing else.
PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ; [^;@]+)?( --hash=sha256:[0-9a-f]{64})+")
# Where a pin comes from: the names of the packages, or of the .in file, that ask for it.
ORIGIN = re.compile(r"# via( (-[rc] )?[A-Za-z0-9._-]+)?|#   (-[rc] )?[A-Za-z0-9._-]+")


def pins(lock: str) -> list[str]:
    """Return the lines of a lock without comments, continued lines joined."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [line.strip() for line in text.splitlines() if line.strip()]


def locked(lock: str, **environment: str) -> dict[str, str]:
    """Return the version of each package that a lock installs, here or as `environment` says."""
    requirements = [Requirement(line.partition(" --hash")[0]) for line in pins(lock)]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def asked(file: str) -> list[Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def imported(*folders: str) -> dict[str, str]:
    """Return the foreign top-level modules that the folders import, each with a file that does."""
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    own = {"bandlimit"} | {file.stem for file in files if file.parent.name in folders}
    found: dict[str, str] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.partition(".")[0], str(file.relative_to(ROOT)))
    return {name: file for name, file in found.items() if name not in own | sys.stdlib_module_names}


def unasked(modules: dict[str, str], allowed: set[str]) -> dict[str, str]:
    """Return those of the modules that belong to no package among `allowed`, extras left out."""
    owners = packages_distributions()
    extras = PROJECT["optional-dependencies"]
    allowed = allowed | names([Requirement(text) for texts in extras.values() for text in texts])
    return {
        module: file
        for module, file in modules.items()
        if not allowed & {canonicalize_name(owner) for owner in owners.get(module, [module])}
    }


@pytest.mark.parametrize("lock", [RUN, TEST, BOOTSTRAP])
def test_lock_is_pins_with_hashes_and_nothing_else(lock):
    lines = pins(lock)
    assert lines
    assert [line for line in lines if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("lock", [RUN, TEST])
def test_comments_of_lock_name_packages_only(lock):
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    comments = [line.strip() for line in lines if line.lstrip().startswith("#")]
    assert [comment for comment in comments if not ORIGIN.fullmatch(comment)] == []


def test_both_locks_agree():
    run, test = locked(RUN), locked(TEST)
    assert {name: test[name] for name in run.keys() & test.keys() if run[name] != test[name]} == {}


@pytest.mark.parametrize(
    ("file", "lock"), [("requirements.in", RUN), ("requirements-test.in", TEST)]
)
def test_lock_holds_what_was_asked_for(file, lock):
    versions = locked(lock)
    for requirement in asked(file):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{file} asks for {requirement}: run `make lock`"
        assert requirement.specifier.contains(versions[name]), f"{requirement}: run `make lock`"


def test_package_depends_on_what_the_lock_holds():
    requirements = [Requirement(text) for text in PROJECT["dependencies"]]
    versions = locked(RUN)
    assert names(requirements) <= names(asked("requirements.in"))
    for requirement in requirements:
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_what_the_library_imports_is_a_dependency_of_the_package():
    dependencies = names([Requirement(text) for text in PROJECT["dependencies"]])
    assert unasked(imported("bandlimit"), dependencies) == {}


def test_what_library_and_scripts_import_was_asked_for():
    assert unasked(imported("bandlimit", "scripts"), names(asked("requirements.in"))) == {}


def test_what_the_tests_import_was_asked_for():
    known = names(asked("requirements.in") + asked("requirements-test.in"))
    modules = imported("tests", "bandlimit", "scripts")
    own = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    assert {k: v for k, v in unasked(modules, known).items() if k not in own} == {}


def test_conda_environment_has_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "envs/bandlimit.yaml").read_text(encoding="utf-8"))
    *conda, from_pip = environment["dependencies"]
    given = dict(re.split(r" ?=", entry, maxsplit=1) for entry in conda if "=" in entry)
    python = given.pop("python")
    given |= dict(entry.split("==") for entry in from_pip["pip"])
    given = {CONDA_NAMES.get(name, name): version for name, version in given.items()}

    versions = locked(RUN, python_version=python, python_full_version=f"{python}.0")
    assert given == {name: versions.get(name) for name in given}
    missing = names([Requirement(text) for text in PROJECT["dependencies"]]) - given.keys()
    assert missing == set()


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["title"] == PROJECT["name"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def set_up(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up of the Makefile in a folder that has nothing else but the locks."""
    (folder / "envs").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", RUN, TEST, BOOTSTRAP):
        shutil.copy(ROOT / name, folder / name)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=folder,
        env=outer,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_set_up_names_the_interpreter_that_is_not_there(tmp_path):
    done = set_up(tmp_path / "a folder, größer", "no-such-python")
    assert done.returncode != 0
    assert "there is no 'no-such-python'" in done.stderr
    assert not (tmp_path / "a folder, größer" / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_set_up_refuses_an_older_python(tmp_path):
    old = tmp_path / "old python"
    old.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c '
        "'import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])' \"$2\"\n"
    )
    old.chmod(0o755)
    done = set_up(tmp_path / "a folder, größer", str(old))
    assert done.returncode != 0
    assert f"needs Python 3.11 or newer, and {old} is 3.9" in done.stderr
    assert not (tmp_path / "a folder, größer" / ".venv").exists()
