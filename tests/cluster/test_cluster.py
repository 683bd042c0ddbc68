"""A whole run on a cluster that fails in all the ways it can gives what a run at home gives."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pytest
import slurm
import yaml
from conftest import HOME, build

TROUBLE = {
    "linear_regions": """
    import time
    from pathlib import Path

    slow = Path("slow")
    if slow.exists():
        slow.unlink()
        time.sleep(900)
""",
    "evaluate_undefended": """
    from pathlib import Path

    broken = Path("broken")
    if broken.exists():
        broken.unlink()
        raise RuntimeError("Broken once.")
""",
    "attack": """
    import os
    from pathlib import Path

    import bandlimit

    seen = Path("seen")
    if seen.exists():
        seen.write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {bandlimit.__file__}")
""",
}
"""What a script does first where a file of that name lies in the folder of the project."""

AFTER_TIMES = (
    "results/tables/bandlimiting/table_2_time",
    "results/claims/",
    "results/site/",
    "results/index.html",
    "results/report.rst",
    "results/provenance/",
)
"""A table of seconds, and what is made from all tables."""

GROUP = "small_evaluate_post_averaging"
"""What the accounting calls jobs of a group that the tests make."""

QUIET, AWAY = 6, 10
"""Seconds without news after which the controller is killed, and for which it stays away.

It writes down what it knows every few seconds, and what it does not know any more is another test.
"""


@pytest.fixture(scope="module")
def cluster():
    """Return a cluster on this machine, or skip where there can be none."""
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    # Short, since the path of a socket has a hundred characters.
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        started = slurm.Cluster(Path(folder))
        try:
            started.start()
            yield started
        finally:
            started.stop()


def troubled(parent: Path, data: Path):
    """Return a project of one small network, whose scripts have what it takes to fail."""
    project = build(parent, data)
    project.folder = project.folder.rename(parent / "project")
    project.config["only"] = ["model_b"]
    for name, trouble in TROUBLE.items():
        path = project.folder / f"scripts/{name}.py"
        text = path.read_text(encoding="utf-8")
        assert text.count("def main(job):\n") == 1
        path.write_text(text.replace("def main(job):\n", f"def main(job):{trouble}"))
    project.command()
    return project


def documented(what: str) -> list[str]:
    """Return the command of docs/cluster.md that starts so, for the interpreter and config here."""
    lines = (HOME / "docs/cluster.md").read_text(encoding="utf-8").splitlines()
    (line,) = {line for line in lines if line.startswith(f".venv/bin/python -m {what} ".rstrip())}
    words = line.replace("config/paper.yaml", "overlay.yaml").split()
    return [sys.executable, *words[1:]]


def site(project) -> None:
    """Do what docs/cluster.md asks of a user, and set what makes a test of it short."""
    path = project.folder / "profiles/slurm/config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert profile["default-resources"]["slurm_account"] == "lab"
    assert profile["default-resources"]["slurm_partition"] == "main"
    profile["slurm-init-seconds-before-status-checks"] = 2
    profile["latency-wait"] = 10
    resources = profile["set-resources"]
    resources["attack"]["gpu"] = 1
    resources["linear_regions"] = {"runtime": "attempt"}
    # Two small jobs in one, as others at full scale.
    resources["evaluate_post_averaging"] = {"turn": 1, "gpu": 1}
    profile["groups"]["evaluate_post_averaging"] = "small"
    profile["group-components"]["small"] = 2
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")


def accounts(cluster) -> list[dict[str, str]]:
    """Return what the accounting says of each job, in the order of their start."""
    fields = ["JobID", "State", "Comment", "NodeList", "AllocTRES", "Timelimit", "ReqMem"]
    told = cluster.ask("sacct", "-XPn", "--format=" + ",".join(fields), "--starttime=now-1hour")
    return [dict(zip(fields, line.split("|"), strict=True)) for line in told.splitlines()]


@pytest.fixture(scope="module")
def runs(cluster, tmp_path_factory, tiny_data):
    """Return the project after a run on the cluster, and its like after a run without."""
    project = troubled(tmp_path_factory.mktemp("cluster"), tiny_data)
    alone = troubled(tmp_path_factory.mktemp("alone"), tiny_data)
    site(project)
    for name in ("slow", "broken", "seen"):
        (project.folder / name).touch()
    environment = project.environment() | cluster.environment()
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "SLURM_CONF"):
        environment.pop(name, None)
    log = project.folder / "run.log"
    with open(log, "w") as told:
        running = subprocess.Popen(
            documented("snakemake"),
            cwd=project.folder,
            env=environment,
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    try:
        status = outage(cluster, running, project)
        alone.complete()
        code = running.wait(900)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    assert code == 0, f"{log.read_text()[-6000:]}\n{project.logs()}"
    return project, alone, status


def outage(cluster, running, project) -> str:
    """Kill the controller while jobs run, and return what `bandlimit status` says meanwhile."""
    before, since = "", time.monotonic()
    while (project.folder / "slow").exists() or time.monotonic() < since + QUIET:
        assert running.poll() is None, "the run is over"
        now = cluster.ask("squeue", "-h", "-o", "%A %T", "--states=all")
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.5)
    assert "RUNNING" in before
    cluster.kill_controller()
    back = time.monotonic() + AWAY
    told = say(project, "bandlimit status")
    time.sleep(max(0, back - time.monotonic()))
    cluster.start_controller()
    return told


def say(project, what: str) -> str:
    """Return what a command of docs/cluster.md prints."""
    done = subprocess.run(
        documented(what), cwd=project.folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def jobs(cluster, runs):
    """Return what the accounting says of the jobs, by rule."""
    found = defaultdict(list)
    for job in accounts(cluster):
        rule = job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]
        found[rule].append(job)
    return found


def test_results_are_those_of_a_run_without_a_cluster(runs):
    project, alone, _ = runs
    names = project.results()
    assert names == alone.results()
    same = [name for name in names if not name.as_posix().startswith(AFTER_TIMES)]
    assert len(same) > 60
    different = [
        name.as_posix()
        for name in same
        if (project.folder / name).read_bytes() != (alone.folder / name).read_bytes()
    ]
    assert different == []


def test_audit_passes_and_nothing_is_left_to_do(runs):
    project, *_ = runs
    assert "results/claims/claims.parquet" in say(project, "bandlimit audit")
    assert project.jobs() == {}


def test_status_knows_what_runs_on_the_nodes(runs):
    project, _, during = runs
    assert "linear_regions" in during.partition("Running")[2].partition("To do")[0]
    assert say(project, "bandlimit status").startswith("20 of 20 jobs done.")


def test_login_node_makes_what_is_not_worth_a_job(jobs):
    assert set(jobs) == {
        "make_dataset",
        "linear_regions",
        "evaluate_undefended",
        "attack",
        GROUP,
        "bandlimiting_table_2_time",
    }


def test_job_that_fails_is_tried_again(jobs, runs):
    assert [job["State"] for job in jobs["evaluate_undefended"]][:2] == ["FAILED", "COMPLETED"]
    assert not (runs[0].folder / "broken").exists()


def test_job_out_of_time_is_tried_again_with_more(jobs):
    killed, again = jobs["linear_regions"]
    assert (killed["State"], killed["Timelimit"]) == ("TIMEOUT", "00:01:00")
    assert (again["State"], again["Timelimit"]) == ("COMPLETED", "00:02:00")
    assert (killed["ReqMem"], again["ReqMem"]) == ("8000M", "16000M")


def test_job_gets_the_card_and_the_library_of_its_project(jobs, runs):
    project, *_ = runs
    assert "gres/gpu=1" in jobs["attack"][-1]["AllocTRES"]
    assert jobs["attack"][-1]["NodeList"] == "n1"
    library = project.folder / "bandlimit/__init__.py"
    assert (project.folder / "seen").read_text() == f"0 {library}"


def test_jobs_of_a_group_share_one_card_in_turns(jobs):
    *_, group = jobs[GROUP]
    assert group["State"] == "COMPLETED"
    assert "gres/gpu=1" in group["AllocTRES"]
    # Time for both, one after another.
    assert group["Timelimit"] == "04:00:00"


def test_timeline_has_each_job(cluster, jobs, runs):
    project, *_ = runs
    command = [sys.executable, str(HOME / "benchmarks/slurm_timeline.py")]
    done = subprocess.run(
        command, cwd=project.folder, env=cluster.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    told = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:-1]}
    assert set(told) == {job["JobID"] for those in jobs.values() for job in those}
    killed, again = (told[job["JobID"]] for job in jobs["linear_regions"])
    assert (killed[1], killed[5]) == ("TIMEOUT", "-")
    assert float(killed[4]) >= 60
    assert 0 < float(again[5]) <= float(again[4])
    assert again[-1] == "linear_regions"
