"""The research object of a finished run answers the questions that the profile's authors keep."""

import json
from datetime import datetime

import pytest
import questions

FOLDER = "results/provenance/ro-crate"


@pytest.fixture(scope="module")
def graph(tiny_run):
    return questions.read(tiny_run.folder / FOLDER)


@pytest.fixture(scope="module")
def jobs(tiny_run):
    """Return the identifiers of all jobs."""
    text = (tiny_run.folder / FOLDER / "ro-crate-metadata.json").read_text(encoding="utf-8")
    return {e["@id"] for e in json.loads(text)["@graph"] if e["@id"].startswith("#job/")}


def test_every_job_has_its_times_within_those_of_the_run(graph, jobs):
    [(_, first, last)] = questions.ask(graph, "time of the run")
    first, last = datetime.fromisoformat(first), datetime.fromisoformat(last)
    found = questions.ask(graph, "time of a step")
    assert {action for action, *_ in found} == jobs
    spans = [
        (datetime.fromisoformat(start), datetime.fromisoformat(end)) for _, start, end in found
    ]
    assert all(first <= start <= end <= last for start, end in spans)
    assert (min(start for start, _ in spans), max(end for _, end in spans)) == (first, last)


def test_jobs_that_take_a_while_tell_memory_and_processor_time(graph, jobs):
    used = {
        (action, quantity.partition("text=")[2]): float(value)
        for action, quantity, _, value in questions.ask(graph, "resources")
    }
    attacks = {job for job in jobs if job.startswith("#job/attack/")}
    assert len(attacks) > 2
    # All of them import torch: 100 MiB and a second are less than that takes.
    assert all(used[job, "max_rss"] > 100 and used[job, "cpu_time"] > 1 for job in attacks)


def test_the_run_was_successful_and_used_no_container(graph, jobs):
    assert {action for action, _ in questions.ask(graph, "success")} == {"#run", *jobs}
    assert questions.ask(graph, "containers") == []


def test_configuration_environment_and_versions_are_those_of_the_project(graph, tiny_run):
    told = {file for (file,) in questions.ask(graph, "configuration")}
    assert told == {"config.yaml", "overlay.yaml", "profiles/default/config.yaml"}
    steps = {of for of, *_ in questions.ask(graph, "environment") if of.startswith("#step/")}
    assert {"#step/attack", "#step/make_dataset", "#step/manifest"} < steps
    files = {file for _, file, *_ in questions.ask(graph, "environment")}
    assert files == {"envs/bandlimit.yaml", "requirements.lock"}
    lock = (tiny_run.folder / "requirements.lock").read_text(encoding="utf-8")
    versions = dict(questions.ask(graph, "versions"))
    assert f"snakemake=={versions['snakemake']} " in lock
    wrapped = {row[1] for row in questions.ask(graph, "requirements")}
    assert wrapped == {"#library"}


def test_settings_and_images_flow_into_jobs(graph):
    flow = {(given, *rest) for given, _, *rest in questions.ask(graph, "flow")}
    assert ("overlay.yaml", "parameters", "#step/attack") in flow
    assert ("overlay.yaml", "seed", "#step/make_dataset") in flow
    # How Snakemake runs its jobs says nothing of what they make.
    assert not {row for row in flow if row[0].startswith("profiles/")}
    assert len(questions.ask(graph, "inputs")) > 3
    assert len(questions.ask(graph, "outputs")) > 80
