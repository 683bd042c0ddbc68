"""Jobs run in an image where Snakemake is told to use one; a stand-in for Apptainer shows how."""

import os
import re
from pathlib import Path

from conftest import HOME, build

RECIPES = ("envs/Containerfile", "envs/bandlimit.def")
APPTAINER = """#!/usr/bin/env bash
if [ "$1" = --version ]; then echo "apptainer version 1.3.4"; exit; fi
printf '%s\\n' "$*" >> "$ASKED"
while [ "$1" != bash ]; do shift; done
exec "$@"
"""


def test_the_recipes_install_the_lock_and_nothing_else():
    """No copy of the library either: jobs take that of the project, and refuse another."""
    for recipe in RECIPES:
        text = (HOME / recipe).read_text(encoding="utf-8")
        (line,) = re.findall(r"pip install .*", text)
        assert "--require-hashes --requirement" in line, line
        copied = re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE)
        copied += re.findall(r"^ {4}(\S+) /\S+$", text, flags=re.MULTILINE)
        assert copied == ["requirements.lock"]


def test_jobs_run_in_the_image_with_the_cards_of_the_host(tmp_path, tiny_data, monkeypatch):
    project = build(tmp_path / "made", tiny_data)
    # Snakemake gives Apptainer the paths of scripts without quotes.
    project.folder = project.folder.rename(tmp_path / "plain")
    tool = tmp_path / "bin/apptainer"
    tool.parent.mkdir()
    tool.write_text(APPTAINER, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    image = project.folder / "envs/bandlimit.sif"
    image.touch()
    options = ("--software-deployment-method", "apptainer", "--apptainer-args= --nv")
    target = next(iter(name for name in project.plan_of() if name.endswith("equation_6.parquet")))
    project.complete(target, *options)
    (asked,) = Path(tmp_path, "asked").read_text(encoding="utf-8").splitlines()
    assert asked.startswith("exec ") and " --nv " in asked
    assert " envs/bandlimit.sif bash -c " in asked
    assert (project.folder / target).is_file()
