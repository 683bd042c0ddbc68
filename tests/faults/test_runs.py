"""Faults around a run: two at once, wrong clocks, lost records, results that are read-only."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Project, build

from bandlimit.files import contents, store

EVALUATION = "results/evaluations/tiny/model_a/clean/undefended/1of1.parquet"
MODEL = "results/models/model_a.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    """Return a project of which a model has been evaluated."""
    project = build(tmp_path_factory.mktemp("made"), tiny_data)
    project.complete(EVALUATION)
    return project


@pytest.fixture
def copied(made, tmp_path):
    """Return a copy of it, as old as it was."""
    shutil.copytree(made.folder, tmp_path / "copy")
    return Project(tmp_path / "copy")


def held(project):
    return {path.as_posix(): contents.digest(project.folder / path) for path in project.results()}


def test_a_second_run_in_the_folder_of_a_first_is_refused_and_harms_nothing(copied, made):
    shutil.rmtree(copied.folder / "results")
    first = subprocess.Popen(
        copied.command(EVALUATION),
        cwd=copied.folder,
        env=copied.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not any((copied.folder / ".snakemake/locks").glob("*.lock")):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        second = copied.run(EVALUATION)
        alive = first.poll() is None
    finally:
        assert first.wait(timeout=600) == 0
    assert alive and second.returncode != 0
    assert "cannot be locked" in second.stdout or "incomplete" in second.stdout
    assert held(copied) == held(made)


@pytest.mark.parametrize("lost", ["records", "cut", "all"])
def test_without_the_records_of_snakemake_results_are_as_they_were(copied, made, lost):
    records = [path for path in (copied.folder / ".snakemake").rglob("*") if path.is_file()]
    records = [path for path in records if "metadata" in path.parts]
    assert records
    if lost == "all":
        shutil.rmtree(copied.folder / ".snakemake")
    for path in records if lost != "all" else ():
        if lost == "records":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:20])
    # A result is no proof of itself: certificates say what it rests on.
    again = audit(copied)
    assert again.returncode == 0, again.stdout[-2000:]
    copied.complete(EVALUATION)
    assert held(copied) == held(made)


def audit(project, path=EVALUATION):
    command = [sys.executable, "-m", "bandlimit", "audit", path, "--level", "hash"]
    overlay = ["--configfile", "overlay.yaml"]
    return subprocess.run(
        [*command, *overlay],
        cwd=project.folder,
        env={**project.environment(), "PYTHONPATH": str(project.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def test_an_input_from_the_future_is_told(copied, made):
    """Snakemake goes by times: what was made from it would look older for ever."""
    path = copied.folder / "weights/a.th"
    future = time.time() + 86_400
    os.utime(path, (future, future))
    done = copied.run(EVALUATION)
    assert done.returncode != 0
    assert "weights/a.th" in done.stdout and "clock" in done.stdout
    os.utime(path)
    copied.complete(EVALUATION)
    assert held(copied) == held(made)


@pytest.fixture
def read_only(copied):
    """Mount the results so that nobody can write to them, not even root."""
    place = copied.folder / "results"

    def mount(*arguments):
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0

    if os.geteuid() != 0 or not mount("--bind", str(place), str(place)):
        pytest.skip("only root may mount a folder, and not everywhere")
    try:
        if not mount("-o", "remount,bind,ro", str(place)):
            pytest.skip("a folder can't be mounted for reading alone")
        yield copied
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_results_that_can_not_be_written_are_audited_and_read(read_only, made):
    project = read_only
    with pytest.raises(OSError, match="Read-only"):
        (project.folder / "results/new").write_text("")
    done = audit(project)
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(store.read(project.folder / EVALUATION)) == 20
    # A run that would write says so before any job.
    done = project.run(EVALUATION)
    assert done.returncode != 0
    assert "'results' can't be written" in done.stdout
    assert "Traceback" not in done.stdout
    assert held(project) == held(made)


def test_a_flipped_bit_of_a_result_is_found_by_an_audit(copied):
    path = copied.folder / EVALUATION
    whole = path.read_bytes()
    times = path.stat()
    for place in (len(whole) // 8, len(whole) - 300):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        done = audit(copied)
        assert done.returncode != 0, (place, done.stdout[-2000:])
        assert Path(EVALUATION).name in done.stdout
