"""`make smoke`: the whole workflow at its least size, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from conftest import HOME, Project

from bandlimit.claims.grammar import REPORTED, SUBSTANCE
from bandlimit.claims.verdicts import NOT_ASKED, NOT_RUN, UNDECIDED
from bandlimit.claims.wording import SMOKE
from bandlimit.files import contents, store

WHOLE = "BANDLIMIT_SMOKE"
"""Set where the whole run is wanted."""

DEFAULT = {"device": "cpu"}
ARTIFACTS = ("tables", "figures", "claims", "provenance", "site")


def copied() -> list[str]:
    """Return what `make smoke` copies."""
    text = (HOME / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^COPIED = (.*)$", text, re.MULTILINE)[0].split()


def copy_to(folder):
    """Return a copy of the project, with the overlay as its configuration."""
    for name in copied():
        source = HOME / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)
    project = Project(folder)
    project.config = yaml.safe_load((HOME / "config/smoke.yaml").read_text(encoding="utf-8"))
    return project


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return copy_to(tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="module")
def whole(smoke):
    """Return the copy after a run of all of it."""
    if WHOLE not in os.environ:
        pytest.skip(f"minutes of what every run of CI makes at a larger scale: set {WHOLE}=1")
    smoke.complete()
    return smoke


def rules(plan: dict[str, str]) -> set[str]:
    """Return the rules of a plan; those that train differ in what they keep alone."""
    return {re.sub(r"^train_model_\d+$", "train_model", rule) for rule in plan.values()}


def artifacts(plan: dict[str, str]) -> set[str]:
    return {path for path in plan if path.split("/")[1] in ARTIFACTS}


def test_smoke_has_a_job_of_every_rule_and_every_artifact(smoke):
    default, small = smoke.plan(DEFAULT), smoke.plan()
    assert rules(small) == rules(default)
    assert artifacts(small) == artifacts(default)
    assert len(artifacts(small)) > 100


def test_a_second_run_has_nothing_to_do(whole):
    assert whole.jobs() == Counter()


def test_smoke_decides_nothing_and_says_so(whole):
    claims = store.read(whole.folder / "results/claims/claims.parquet").to_pandas()
    assert set(claims[SUBSTANCE]) <= {UNDECIDED, NOT_ASKED}
    assert (claims[SUBSTANCE] == UNDECIDED).any()
    assert set(claims[REPORTED]) == {NOT_RUN}
    for page in ("index.html", "report.rst", "claims/claims.html", "claims/claims.md"):
        text = (whole.folder / "results" / page).read_text(encoding="utf-8")
        assert SMOKE in " ".join(text.replace("\\", "").split()), page
    for page in (whole.folder / "results/defenses").glob("*.md"):
        assert ": not shown" in page.read_text(encoding="utf-8"), page


@pytest.mark.parametrize(
    "command",
    [["verify"], ["audit", "results/index.html"], ["audit", "results/claims/claims.parquet"]],
)
def test_what_smoke_leaves_passes_the_audit(whole, command):
    done = subprocess.run(
        [sys.executable, "-m", "bandlimit", *command],
        cwd=whole.folder,
        env=whole.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_tables_and_figures_are_those_of_one_shard(whole, tmp_path):
    other = copy_to(tmp_path)
    base = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
    asked = other.config.setdefault("experiments", {})
    for name in base["experiments"]:
        # Of some there are two images.
        shards = 2 if "imagenet" in name else 3
        asked[name] = {**asked.get(name, {}), "shards": shards}
    other.complete()
    made = {
        path.relative_to(whole.folder)
        for ending in ("tables/**/*.parquet", "figures/**/*.png", "spectrum_maps/**/*.parquet")
        for path in (whole.folder / "results").glob(ending)
    }
    # Times are measured.
    made = {path for path in made if path.stem != "table_2_time"}
    assert len(made) > 100
    differing = {
        path.as_posix()
        for path in made
        if contents.digest(whole.folder / path) != contents.digest(other.folder / path)
    }
    assert differing == set()
