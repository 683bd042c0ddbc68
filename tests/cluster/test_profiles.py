"""Each job of a cluster says what it needs, and asks for more where that was not enough."""

from __future__ import annotations

import copy
import re

import pytest
from conftest import CONFIG, TRAINED

PROFILES = ("slurm", "slurm-gres")


def needs(project, profile: str, attempt: int = 1) -> dict[str, dict[str, str]]:
    """Return the resources of the jobs of a run, by rule."""
    done = project.run(
        *("--dry-run", "--workflow-profile", f"profiles/{profile}", "--attempt", str(attempt))
    )
    assert done.returncode == 0, done.stdout[-3000:]
    told = re.findall(
        r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout, flags=re.MULTILINE
    )
    assert {rule for rule, _ in told} >= {"make_dataset", "static_site"}
    return {
        rule: dict(pair.split("=", 1) for pair in resources.split(", ")) for rule, resources in told
    }


@pytest.fixture(params=[CONFIG, TRAINED], ids=["attacked", "trained"])
def planned(request, project):
    """Return a project that is planned for cards, and says of each job which resources it takes."""
    project.config = copy.deepcopy(request.param) | {"device": "cuda"}
    for path in project.folder.glob("workflow/rules/*.smk"):
        # Where a rule has a message, Snakemake prints that in place of its resources.
        text = re.sub(r"^ +message:\n.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")
    return project


def test_jobs_ask_for_memory_time_and_cards_and_grow(planned):
    with_card = {}
    for profile in PROFILES:
        first, second = needs(planned, profile), needs(planned, profile, attempt=2)
        for rule in first:
            for what, least in (("mem_mb", 4000), ("runtime", 30)):
                asked = int(first[rule][what])
                assert asked >= least, (rule, what)
                assert int(second[rule][what]) == 2 * asked, (rule, what)
            assert first[rule]["slurm_partition"] == "main"
            assert first[rule]["slurm_account"] == "lab"
        with_card[profile] = {
            rule for rule, asked in first.items() if int(asked.get("gpu", 0)) or "gres" in asked
        }
        if profile == "slurm-gres":
            for rule in with_card[profile]:
                assert first[rule]["gres"] == "gpu:1"
                assert (first[rule]["gpu"], first[rule]["card"]) == ("0", "1")
    # Where a rule is forgotten in the second profile, its job would ask by --gpus all the same.
    assert with_card["slurm"] == with_card["slurm-gres"]
    assert with_card["slurm"] & {"attack", "train_model"}
    assert "make_dataset" not in with_card["slurm"]
