"""What a long job keeps of its finished steps, and what another attempt takes up."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bandlimit import stopping
from bandlimit.errors import MachineError, UserError
from bandlimit.files import attempts, parts, store

HOME = Path(__file__).parents[2]
SHAPE = (1, 4, 4)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("epsilon", pa.float64()),
        ("losses", pa.list_(pa.float32())),
        ("image", store.image_type(SHAPE, "float32")),
    ]
)
SECOND = pa.schema([("image_id", pa.string()), ("value", pa.float64())])
STEPS = 7


def made(step):
    """Return the rows of a step: the last has fewer, one has none."""
    count = {3: 0, STEPS: 2}.get(step, 3)
    random = np.random.default_rng(step)
    ids = [f"{step}/{row}" for row in range(count)]
    table = pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "epsilon": pa.array([None if row % 2 else 0.5 for row in range(count)], pa.float64()),
            "losses": pa.array([[1.0] * (row + 1) for row in range(count)], SCHEMA.types[2]),
            "image": store.image_column(random.random((count, *SHAPE), dtype=np.float32)),
        },
        schema=SCHEMA,
    )
    return table, pa.table({"image_id": pa.array(ids, pa.string()), "value": random.random(count)})


CERTIFICATE = {"format": 3, "rule": "r", "params": {"seed": 1}, "commit": "a", "code": {"x": "1"}}


class Killed(BaseException):
    """Stands for SIGKILL: nothing is done on the way out."""


class Job:
    """A job of two outputs, whose work can end in its midst."""

    def __init__(self, folder, **change):
        folder.mkdir(exist_ok=True)
        self.folder, self.certificate = folder, {**CERTIFICATE, **change}
        self.outputs = {str(folder / "a.parquet"): SCHEMA, str(folder / "b.parquet"): SECOND}
        self.kept = folder / ".a.parquet.parts"
        self.worked = []

    def go(self, at=None, what=None, *, after=None):
        def work(step):
            if step == at:
                what()
            self.worked.append(step)
            return made(step)

        self.worked.clear()
        with parts.Parts(self.outputs, lambda: self.certificate) as kept:
            for step in range(1, STEPS + 1):
                kept.add(work, step)
            kept.finish()
            if after:
                after()
        assert sorted(os.listdir(self.folder)) == ["a.parquet", "b.parquet"]
        return {os.path.basename(path): open(path, "rb").read() for path in self.outputs}


def fails(error):
    def what():
        raise error

    return what


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(stopping.Pace, "due", lambda self: True)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Return what a job makes that nothing interrupts, which also is what a plain writer makes."""
    monkeypatch.chdir(tmp_path)
    found = Job(tmp_path / "job").go()
    for number, (name, schema) in enumerate((("a", SCHEMA), ("b", SECOND))):
        path = tmp_path / f"job/{name}.parquet"
        with store.TableWriter(path, schema, CERTIFICATE) as writer:
            for step in range(1, STEPS + 1):
                writer.write(made(step)[number])
        assert path.read_bytes() == found[path.name]
        path.unlink()
    return found


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_job_that_is_killed_goes_on_to_the_same_bytes(tmp_path, whole, at):
    job = Job(tmp_path / "job")
    with pytest.raises(Killed):
        job.go(at, fails(Killed()))
    assert job.worked == list(range(1, at))
    assert not (job.folder / "a.parquet").exists()
    assert job.go() == whole
    assert job.worked == list(range(at, STEPS + 1))


@pytest.mark.usefixtures("always")
def test_a_job_goes_on_after_several_ends(tmp_path, whole):
    job = Job(tmp_path / "job")
    for at in (2, 3, 4, 7):
        with pytest.raises(Killed):
            job.go(at, fails(Killed()))
    assert job.go() == whole
    assert job.worked == [7]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), UserError("The label is none."), RuntimeError("an error")]
)
def test_a_job_that_fails_keeps_what_it_has_finished(tmp_path, whole, error):
    """Though it was not due yet."""
    job = Job(tmp_path / "job")
    with pytest.raises(type(error)):
        job.go(5, fails(error))
    assert job.go() == whole
    assert job.worked == [5, 6, 7]


def test_a_job_that_is_asked_to_stop_finishes_the_step_and_keeps_it(tmp_path, whole):
    job = Job(tmp_path / "job")

    def ask():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    with stopping.listening(), pytest.raises(stopping.Stopped, match="4 of its steps, is kept"):
        job.go(4, ask)
    assert job.worked == [1, 2, 3, 4]
    assert os.listdir(job.folder) == [job.kept.name]
    assert job.go() == whole
    assert job.worked == [5, 6, 7]


def test_a_job_that_is_asked_to_stop_in_its_last_step_goes_on_without_a_step(tmp_path, whole):
    job = Job(tmp_path / "job")
    with stopping.listening(), pytest.raises(stopping.Stopped, match="7 of its steps"):
        job.go(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert job.go() == whole
    assert job.worked == []


def test_a_job_ends_at_once_where_nothing_is_kept():
    with stopping.listening(), pytest.raises(stopping.Stopped, match="nothing was kept"):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal was not heard")


@pytest.mark.usefixtures("always")
def test_what_a_later_check_refuses_is_not_kept(tmp_path, whole):
    job = Job(tmp_path / "job")
    with pytest.raises(UserError):
        job.go(after=fails(UserError("The record does not hold.")))
    assert not job.kept.exists()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "error",
    [
        # Killed after the outputs were written, of which the workflow knows nothing.
        Killed(),
        stopping.Stopped("nothing was kept"),
        MachineError("The disk is full."),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_fails_after_the_end_for_another_reason_than_a_check_loses_nothing(
    tmp_path, whole, error
):
    job = Job(tmp_path / "job")
    with pytest.raises(type(error)):
        job.go(after=fails(error))
    assert job.go() == whole
    assert job.worked == []


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "change",
    [
        {"params": {"seed": 2}},
        {"code": {"x": "2"}},
        {"rule": "another"},
        {"inputs": {"d.parquet": {"sha256": "0"}}},
        {"versions": {"torch": "3"}},
        {"device": "a card"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_another_job_kept_is_removed(tmp_path, whole, caplog, change):
    job = Job(tmp_path / "job", **change)
    with pytest.raises(Killed):
        job.go(5, fails(Killed()))
    (stale,) = {path.name for path in job.kept.iterdir()} & {"000000.0.parquet"}
    assert stale
    job = Job(tmp_path / "job")
    with caplog.at_level(logging.INFO, logger="bandlimit.files.parts"):
        assert job.go() == whole
    assert job.worked == list(range(1, STEPS + 1))
    assert "of another job, or damaged: removed" in caplog.text


@pytest.mark.usefixtures("always")
def test_another_commit_of_the_same_code_goes_on(tmp_path, whole):
    job = Job(tmp_path / "job", commit="b")
    with pytest.raises(Killed):
        job.go(5, fails(Killed()))
    job = Job(tmp_path / "job")
    assert job.go() == whole
    assert job.worked == [5, 6, 7]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


DAMAGE = {
    "bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "another": lambda path: path.write_bytes((path.parent / "000000.0.parquet").read_bytes()),
    "not sealed": lambda path: store.write(path, store.read(path)),
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["000002.0.parquet", "000002.1.parquet"])
def test_a_damaged_part_is_not_used_nor_what_follows(tmp_path, whole, name, damage):
    job = Job(tmp_path / "job")
    with pytest.raises(Killed):
        job.go(6, fails(Killed()))
    DAMAGE[damage](job.kept / name)
    assert job.go() == whole
    assert job.worked == [3, 4, 5, 6, 7]


@pytest.mark.usefixtures("always")
def test_half_files_in_the_folder_are_removed(tmp_path, whole):
    job = Job(tmp_path / "job")
    with pytest.raises(Killed):
        job.go(3, fails(Killed()))
    (job.kept / ".000002.0.0123456789ab.parquet").write_bytes(b"half")
    (job.kept / "000007.0.parquet").write_bytes((job.kept / "000001.0.parquet").read_bytes())
    assert job.go() == whole


def test_a_short_job_leaves_no_trace_on_the_way(tmp_path):
    job = Job(tmp_path / "job")
    job.go(7, lambda: os.listdir(job.folder) == [] or pytest.fail("it kept steps"))


def test_what_waits_in_memory_is_bounded_whatever_the_pace(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(stopping.Pace, "due", lambda self: False)
    sizes = [sum(table.nbytes for table in made(step)) for step in range(1, STEPS + 1)]
    # The first two may wait; the next that has rows, the fourth, is one too many.
    monkeypatch.setattr(parts, "WAITING_BYTES", sizes[0] + sizes[1])
    job = Job(tmp_path / "job")
    with pytest.raises(Killed):
        job.go(5, fails(Killed()))
    assert [path.name for path in job.kept.glob("*.0.parquet")] == ["000000.0.parquet"]
    assert job.go() == whole
    assert job.worked == [5, 6, 7]


def test_rows_may_be_arranged_at_the_end(tmp_path):
    schema = pa.schema([("n", pa.int64())])
    path = str(tmp_path / "a.parquet")
    with parts.Parts({path: schema}, lambda: CERTIFICATE, lambda t: t.sort_by("n")) as kept:
        for value in (3, 1, 2):
            kept.add(lambda n: pa.table({"n": [n]}), value)
    assert store.read(path)["n"].to_pylist() == [1, 2, 3]
    with parts.Parts({path: schema}, lambda: CERTIFICATE, lambda t: t.sort_by("n")):
        pass
    assert store.read(path)["n"].to_pylist() == []


# An orphan


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_older_attempt_replaces_nothing(workflow):
    path = workflow / "results/a.parquet"
    old, new = pa.table({"n": [1]}), pa.table({"n": [2]})
    first = attempts.Attempt("results/a.parquet")
    with first.newest():
        pass
    second = attempts.Attempt(path)
    with second.newest():
        pass
    with pytest.raises(attempts.Superseded, match="newer attempt at 'results/a.parquet' has begun"):
        first.newest().__enter__()
    with attempts.begun("results/a.parquet"):
        store.write(path, old)
        # Another process begins the same job, and ends it.
        attempts.Attempt("results/a.parquet")
        with pytest.raises(attempts.Superseded):
            store.write(path, new)
        with pytest.raises(attempts.Superseded):
            store.write(path.with_name("other.parquet"), new)
    assert store.read(path).equals(old)
    assert os.listdir(path.parent) == ["a.parquet"]


def test_attempts_at_other_jobs_do_not_meet(workflow):
    with attempts.begun("results/a.parquet"):
        attempts.Attempt("results/b.parquet")
        store.write("results/a.parquet", pa.table({"n": [1]}))


@pytest.mark.usefixtures("always")
def test_an_orphan_leaves_what_the_newest_attempt_keeps(workflow):
    job = Job(workflow / "job")
    with attempts.begun(job.folder / "a.parquet"):
        with pytest.raises(attempts.Superseded):
            job.go(4, lambda: attempts.Attempt(job.folder / "a.parquet"))
        # It had kept three steps while it was the newest.
        assert len(list(job.kept.glob("*.0.parquet"))) == 3
    job.go()
    assert job.worked == [4, 5, 6, 7]


def test_an_attempt_whose_token_is_gone_ends_as_it_would(workflow):
    with attempts.begun("results/a.parquet"):
        for path in (workflow / attempts.FOLDER).iterdir():
            path.unlink()
        store.write("results/a.parquet", pa.table({"n": [1]}))


def test_outside_of_a_workflow_no_token_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with attempts.begun("a.parquet"):
        store.write("a.parquet", pa.table({"n": [1]}))
    assert os.listdir(tmp_path) == ["a.parquet"]


def test_halves_of_killed_attempts_are_removed_and_nothing_else(tmp_path):
    names = ["a.parquet", ".a.0123456789ab.csv", ".b.0123456789ab.parquet", ".a.parquet.parts"]
    for name in (*names, ".a.0123456789ab.parquet"):
        (tmp_path / name).write_bytes(b"x")
    store.remove_halves(tmp_path / "a.parquet")
    assert sorted(os.listdir(tmp_path)) == sorted(names)


WORKER = """
import sys, time
from bandlimit.files import attempts
with attempts.begun(sys.argv[1]):
    print("begun", flush=True)
    time.sleep(600)
"""
WATCHER = f"""
import subprocess, sys
command = [sys.executable, "-c", {WORKER!r}, sys.argv[1]]
sys.exit(subprocess.run(command).returncode)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs the processes of Linux")
def test_a_new_attempt_ends_the_orphan_and_the_process_that_watches_over_it(workflow):
    """Which is told from the main process of a run by how it was started."""
    for words, ended in ((["--mode", "subprocess"], True), ([], False)):
        output = f"results/{ended}.parquet"
        command = [sys.executable, "-c", WATCHER, output, "snakemake", *words]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(HOME)}
        ) as watcher:
            assert watcher.stdout.readline() == b"begun\n"
            attempts.Attempt("results/another.parquet")
            assert watcher.poll() is None
            attempts.Attempt(output)
            # Where it lives on, it says that the worker was killed.
            assert watcher.wait(timeout=60) == (-signal.SIGKILL if ended else 247)
            # The worker has ended too: nobody holds the other end.
            assert watcher.stdout.read() == b""


def test_a_token_that_can_not_be_read_is_of_nobody(workflow):
    with attempts.begun("results/a.parquet"):
        (path,) = (workflow / attempts.FOLDER).iterdir()
        for content in (b"", b"{", b"[]"):
            path.write_bytes(content)
            store.write("results/a.parquet", pa.table({"n": [1]}))
