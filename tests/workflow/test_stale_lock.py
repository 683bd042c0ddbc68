"""The lock of a killed run goes, that of a run that may be alive stays."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
from pathlib import Path

import pytest
from conftest import HOME

LOCK = Path(".snakemake/locks/0.output.lock")
ALIVE = Path(".snakemake/alive")


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Return the helpers of the workflow, in a folder where a run has left its lock."""
    spec = importlib.util.spec_from_file_location("workflow_helpers", HOME / "workflow/helpers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    LOCK.parent.mkdir(parents=True)
    LOCK.touch()
    return module


@pytest.mark.parametrize("earlier", ["", "this machine", "this machine before its restart"])
def test_the_lock_of_a_run_that_was_killed_on_this_machine_goes(helpers, earlier):
    own = helpers.machine()
    ALIVE.write_text({"": "", "this machine": " ".join(own)}.get(earlier, f"{own[0]} another-boot"))
    with helpers.release_stale_lock():
        assert not LOCK.exists()
        assert ALIVE.read_text().split() == own


def test_what_a_run_on_another_machine_left_stays(helpers):
    """It may be alive: a network file system need not know of its file lock."""
    ALIVE.write_text("login2 another-boot")
    for _ in range(2):
        with helpers.release_stale_lock():
            assert LOCK.exists()
    LOCK.unlink()
    with helpers.release_stale_lock():
        assert ALIVE.read_text().split() == helpers.machine()


def test_the_lock_of_a_run_that_is_alive_stays(helpers):
    with open(ALIVE, "w") as run:
        fcntl.flock(run, fcntl.LOCK_EX)
        assert helpers.release_stale_lock() is None
    assert LOCK.exists()


def test_a_run_waits_for_a_dry_run_beside_it(helpers, monkeypatch, capsys):
    """Otherwise nothing would tell the next one that it is alive."""
    LOCK.unlink()
    looks = []
    with open(ALIVE, "w") as dry_run:
        fcntl.flock(dry_run, fcntl.LOCK_EX)

        def sleep(seconds):
            looks.append(seconds)
            if len(looks) == 60:
                fcntl.flock(dry_run, fcntl.LOCK_UN)

        monkeypatch.setattr(helpers.time, "sleep", sleep)
        run = helpers.release_stale_lock()
        with run, pytest.raises(BlockingIOError):
            fcntl.flock(dry_run, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert capsys.readouterr().err == "Waiting for another snakemake in this folder.\n"


def test_a_file_system_without_locks_tells_nothing(helpers, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(helpers.fcntl, "flock", flock)
    assert helpers.release_stale_lock() is None
    assert LOCK.exists()
