"""Processes killed at random moments: the same command then completes the run, to the same results.

A small project attacks, defends and trains, in jobs of many slow steps of which each is kept. A run
of it is killed again and again, jobs and Snakemake itself; what then ends undisturbed must hold
what a run holds that nothing has disturbed, and no trace of the way there.
"""

import copy
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import CONFIG, Project, build

from bandlimit.files import contents

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux")

READ = (
    "results/datasets/tiny.parquet",
    "results/datasets/tiny_train.parquet",
    "results/models/model_a.safetensors",
)
TARGETS = (
    "results/adversarial/tiny/model_a/pgd/1of1.parquet",
    "results/evaluations/tiny/model_a/pgd/post_averaging/1of1.parquet",
    "results/evaluations/tiny/small/clean/undefended/1of1.parquet",
    "results/models/small.safetensors",
    "results/models/small_history.parquet",
)

KILLS = ["job"] * 9 + ["term"] * 4 + ["snakemake"] * 4 + ["all"] * 3
"""A job by SIGKILL or by SIGTERM; Snakemake, so that its jobs are orphans; or all at once."""

SLOW = {
    "scripts/attack.py": ("BATCH = {True: 256, False: 8}", "BATCH = {True: 3, False: 3}"),
    "scripts/evaluate_post_averaging.py": ("BATCH = 64", "BATCH = 2"),
    "scripts/evaluate_undefended.py": ("BATCH = 256", "BATCH = 2"),
}
"""How jobs are cut into many steps."""

STEPS = """

_plain, _taken = Parts.add, Parts._take_up


def _slow(self, make, *arguments):
    import time

    _plain(self, make, *arguments)
    if not self.resuming():
        time.sleep(0.8)


def _told(self):
    _taken(self)
    with open("events", "a") as file:
        file.write(f"steps {self._kept}\\n")


Parts.add, Parts._take_up = _slow, _told
"""
STATES = """

_plain, _taken = save, load


def save(*arguments):
    import time

    _plain(*arguments)
    time.sleep(0.8)


def load(*arguments):
    found = _taken(*arguments)
    with open("events", "a") as file:
        file.write(f"batches {0 if found is None else 5 * found[0].epochs + found[0].batches}\\n")
    return found
"""
PACE = "\nPace.due = lambda self: True\n"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, tiny_data):
    """Return the project, of which what the long jobs read has been made."""
    project = build(tmp_path_factory.mktemp("fresh"), tiny_data)
    for name, (before, after) in SLOW.items():
        path = project.folder / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, name
        path.write_text(text.replace(before, after), encoding="utf-8")
    for name, text in (
        ("files/parts.py", STEPS),
        ("training/states.py", STATES),
        ("stopping.py", PACE),
    ):
        with open(project.folder / "bandlimit" / name, "a", encoding="utf-8") as file:
            file.write(text)
    project.config = settings()
    project.complete(*READ)
    return project


def settings():
    config = copy.deepcopy(CONFIG)
    config["datasets"]["tiny_train"] = {
        "loader": "imagefolder",
        "path": "training images",
        "classes": 10,
        "shape": [1, 28, 28],
    }
    config["training"] = {
        "small": {
            "dataset": "tiny_train",
            "epochs": 3,
            "batch_size": 8,
            "architecture": "small_cnn_no_batchnorm",
            "optimizer": "adam",
            "learning_rate": 0.002,
        }
    }
    config["experiments"]["small"] = {
        "dataset": "tiny",
        "model": "small",
        "epsilon": "8/255",
        "attacks": {"fgsm_minimal": {"max_epsilon": 0.1}},
    }
    config["bandlimiting"]["experiments"]["small"] = {"radius": 2, "directions": 2}
    config["only"] = ["model_a", "model_b", "small"]
    return config


def another(project, folder):
    shutil.copytree(project.folder, folder)
    copied = Project(folder)
    copied.config = settings()
    return copied


def held(project):
    """Return the digest of what each file of the results holds."""
    return {path.as_posix(): contents.digest(project.folder / path) for path in project.results()}


@pytest.fixture(scope="module")
def undisturbed(fresh, tmp_path_factory):
    project = another(fresh, tmp_path_factory.mktemp("undisturbed") / "project")
    project.complete(*TARGETS)
    return project


def processes(folder):
    """Return the processes that run in a folder, with their words and their parents."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(place / "cwd") == str(folder):
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[int(place.name)] = words
        except OSError:
            continue
    return found


def jobs(folder):
    """Return the processes of jobs, not those that watch over them."""
    return [
        number
        for number, words in processes(folder).items()
        if len(words) > 1 and re.search(r"\.snakemake/scripts/\w+\.\w+\.py$", words[1])
    ]


class Disturbed:
    """A run that is killed at the moments of a seed."""

    def __init__(self, project, seed):
        self.project = project
        self.random = random.Random(seed)
        self.kills = self.random.sample(KILLS, len(KILLS))
        self.done: Counter[str] = Counter()
        self.orphans = self.again = 0
        self.running: subprocess.Popen | None = None
        self.said = open(project.folder.parent / "said", "ab")  # noqa: SIM115 (of all runs)

    def go(self):
        while self.kills:
            self.start()
            self.wait()
            self.kill(self.kills[-1])
        if self.running is not None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()

    def start(self):
        if self.running is not None and self.running.poll() == 0:
            # All is there before all kills were made.
            for name in ("adversarial", "evaluations"):
                shutil.rmtree(self.project.folder / "results" / name)
            self.again += 1
        if self.running is None or self.running.poll() is not None:
            self.running = subprocess.Popen(
                # What is killed begins anew at once, without another start of Snakemake.
                self.project.command("--retries", "3", *TARGETS),
                cwd=self.project.folder,
                env=self.project.environment(),
                stdout=self.said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self):
        """Wait for a job to be there, mostly, and then for a while."""
        deadline = time.monotonic() + 300
        if self.random.random() < 0.9:
            while not self.working() and self.running.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        time.sleep(self.random.uniform(0.0, 2.5))

    def working(self):
        return [number for number in jobs(self.project.folder) if self.log_of(number)]

    def log_of(self, number):
        """Return whether a job has come to its work: its log is open."""
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{number}/fd").iterdir()]
        except OSError:
            return False
        return any("/logs/" in link and link.endswith(".log") for link in links)

    def kill(self, what):
        # What SIGTERM does before a job listens is what SIGKILL does.
        there = self.working() if what == "term" else jobs(self.project.folder)
        if self.running.poll() is not None or (what in ("job", "term") and not there):
            return
        if what == "all":
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        elif what == "snakemake":
            self.orphans += len(there)
            os.kill(self.running.pid, signal.SIGKILL)
            self.running.wait()
        else:
            number = self.random.choice(there)
            try:
                os.kill(number, signal.SIGKILL if what == "job" else signal.SIGTERM)
            except ProcessLookupError:
                return
        self.done[what] += 1
        self.kills.pop()


def test_a_run_that_is_killed_at_random_ends_in_the_same_results(
    fresh, undisturbed, tmp_path, record_property
):
    project = another(fresh, tmp_path / "project")
    disturbed = Disturbed(project, seed=1)
    disturbed.go()
    # By the same command as ever, with the project's own profile.
    project.complete(*TARGETS)
    deadline = time.monotonic() + 120
    while processes(project.folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes(project.folder) == {}
    events = (project.folder / "events").read_text(encoding="utf-8").splitlines()
    resumed = [event.split() for event in events if not event.endswith(" 0")]
    told = {
        **disturbed.done,
        "attempts": len(events),
        "resumed": len(resumed),
        **{what: sum(int(n) for w, n in resumed if w == what) for what in ("steps", "batches")},
        "asked to stop": (tmp_path / "said").read_bytes().count(b" was asked to stop: "),
        "orphans": disturbed.orphans,
        "done before the last kill": disturbed.again,
    }
    record_property("kills", str(told))
    print(told)
    assert held(project) == held(undisturbed)
    assert [p for p in (project.folder / "results").rglob(".*") if p.name[1] != "s"] == []
    assert sum(disturbed.done.values()) == len(KILLS)
    assert resumed
    # And nothing is left to do.
    assert project.plan_of(*TARGETS) == {}


LITTLE = """

_whole = Halving._try


def _try(self, batch):
    def work(batch):
        if len(batch[-1]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(batch)

    whole, self._work = self._work, work
    try:
        return _whole(self, batch)
    finally:
        self._work = whole


Halving._try = _try
"""


def test_a_device_with_memory_for_one_image_gives_the_same_results(fresh, undisturbed, tmp_path):
    project = another(fresh, tmp_path / "project")
    with open(project.folder / "bandlimit/models/memory.py", "a", encoding="utf-8") as file:
        file.write(LITTLE)
    project.complete(*TARGETS)
    for name in ("attack/tiny/model_a/pgd", "evaluate_undefended/tiny/small"):
        log = (project.folder / f"logs/{name}/1of1.log").read_text(encoding="utf-8")
        assert "going on with 1, to the same results" in log
    assert held(project) == held(undisturbed)
