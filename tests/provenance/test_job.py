"""What every script shares, run on a stand-in for what Snakemake hands to a script."""

import errno
import logging
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.plan import code
from bandlimit.provenance import job
from bandlimit.provenance.replay import Files

HOME = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def logs():
    """Put back what a job sets in its process."""
    handlers = logging.getLogger().handlers[:]
    yield
    logging.captureWarnings(False)
    logging.getLogger("bandlimit").setLevel(logging.NOTSET)
    logging.getLogger().handlers[:] = handlers
    logging.raiseExceptions = True


@pytest.fixture
def home(tmp_path):
    for name in ("scripts/draw.py", "requirements.lock", "given.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1\n", encoding="utf-8")
    return tmp_path


def handed(home, script="scripts/draw.py", **params):
    """Return what Snakemake hands to a script: one input, its code, one output."""
    return SimpleNamespace(
        rule="draw",
        scriptdir=str((home / script).parent),
        input=Files({"given": str(home / "given.txt")}),
        output=Files({"drawn": str(home / "drawn.txt")}),
        params={"identity": {"seed": 1}, "script": script, **params},
        wildcards={"model": "m"},
        threads=1,
        log=[str(home / "draw.log")],
        config={},
    )


def test_a_job_hands_its_parameters_and_its_certificate_to_the_script(home):
    found = []

    def main(this):
        found.append((this.params.seed, this.wildcards, this.certificate()))

    job.run(main, handed(home))
    ((seed, wildcards, certificate),) = found
    assert (seed, wildcards) == (1, {"model": "m"})
    assert list(certificate["inputs"]) == ["given.txt"]
    assert certificate["code"] == code.files_of("scripts/draw.py", home)
    assert certificate["script"] == "scripts/draw.py"


def test_a_script_in_the_folder_of_a_study_knows_its_project(home):
    (home / "scripts/study").mkdir()
    (home / "scripts/study/table_1.py").write_text("1\n", encoding="utf-8")
    found = []
    job.run(lambda this: found.append(this.home), handed(home, "scripts/study/table_1.py"))
    assert found == [home]


@pytest.mark.parametrize("name", ["scripts/draw.py", "requirements.lock"])
def test_a_job_fails_whose_code_is_changed_while_it_runs(home, name):
    def main(this):
        (home / name).write_text("2\n", encoding="utf-8")
        this.certificate()

    with pytest.raises(SystemExit, match=f"{name}' was changed while the job ran"):
        job.run(main, handed(home))


def test_a_job_fails_whose_code_is_not_what_the_run_was_planned_with(home):
    planned = code.digest("scripts/draw.py", home)
    job.run(lambda this: None, handed(home, code=planned))
    # As of a process with other packages, such as that of an environment of the job's own.
    elsewhere = f"{planned.split('.')[0]}.{'0' * 64}"
    job.run(lambda this: None, handed(home, code=elsewhere))
    (home / "scripts/draw.py").write_text("2\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="is no longer what this run was planned with"):
        job.run(lambda this: None, handed(home, code=planned))


def test_a_job_refuses_another_library_than_that_of_its_project(home):
    (home / "bandlimit").mkdir()
    with pytest.raises(SystemExit, match="The library that is running lies in .*, and the code of"):
        job.run(lambda this: None, handed(home))


def test_a_table_of_several_and_a_figure_know_their_files(home):
    given = handed(home)
    given.output = Files({form: [f"a.{form}", f"b.{form}"] for form in job.FORMS})
    this = job.Job(given)
    assert this.forms(1) == {form: f"b.{form}" for form in job.FORMS}
    given.output = Files({form: f"a.{form}" for form in (*job.FORMS, "png", "pdf", "svg")})
    assert job.Job(given).forms()["latex"] == "a.latex"
    assert job.Job(given).pictures() == {form: f"a.{form}" for form in ("png", "pdf", "svg")}


MEMORY = """
import ctypes, resource, sys

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
# Huge pages would be one fault for what are 512 pages.
PR_SET_THP_DISABLE = 41
assert libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0

BLOCKS, BYTES, PASSES = 4, 6 << 20, 20
PAGES = BLOCKS * BYTES // resource.getpagesize()


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(PASSES):
        blocks = [libc.malloc(BYTES) for _ in range(BLOCKS)]
        for block in blocks:
            ctypes.memset(block, 1, BYTES)
        for block in blocks:
            libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


faults()
without = faults() / PASSES / PAGES
from bandlimit.provenance import job

job.keep_memory()
faults()
print(without, faults() / PASSES / PAGES)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
def test_a_job_keeps_the_memory_of_a_pass_for_the_next():
    """Thresholds that the environment fixes: without the job's own, each block is given back."""
    # What else sets an allocator, or another one, would decide the outcome.
    others = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONMALLOC")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(others)}
    given = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=HOME,
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    without, kept = map(float, done.stdout.split())
    # As shares of the pages that a pass touches: all of them, and next to none.
    assert without > 0.99
    assert kept < 0.01


# What the workflow puts before a script is a `snakemake`.
COLLECTOR = """
import gc
snakemake = None
from bandlimit.provenance import job
assert not gc.isenabled()
import types
given = types.SimpleNamespace(log=["log"], rule="draw", threads=1, output=[], scriptdir="")
try:
    job.run(None, given)
except IndexError:
    print(gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def test_the_collector_waits_for_the_imports_of_a_script_and_of_no_other_program(tmp_path):
    def printed(code):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HOME)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert printed(COLLECTOR) == ["True", "True"]
    other = "import gc; from bandlimit.provenance import job; print(gc.isenabled())"
    assert printed(other) == ["True"]


def test_a_full_disk_ends_a_job_by_one_sentence(home):
    logging.getLogger().handlers[:] = []

    def main(this):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit, match="^Error in rule draw: The disk of '.*' is full: make"):
        job.run(main, handed(home))
    said = (home / "draw.log").read_text(encoding="utf-8")
    assert said.startswith("ERROR The disk of ") and "Traceback" not in said


def test_a_log_that_cannot_be_written_does_not_drown_the_sentence(home, capfd):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    given = handed(home)
    given.log = ["/dev/full"]
    logging.getLogger().handlers[:] = []

    def main(this):
        raise UserError("The seed is no number.")

    with pytest.raises(SystemExit, match="The seed is no number"):
        job.run(main, given)
    assert capfd.readouterr().err == ""


def test_the_log_of_a_job_says_how_much_memory_it_took(home):
    if job.most_memory() is None:
        pytest.skip("needs /proc, as Linux has it")
    logging.getLogger().handlers[:] = []

    def main(this):
        # Not zeros alone: each page is touched.
        bytearray(b"x") * (300 << 20)

    job.run(main, handed(home))
    (line,) = (home / "draw.log").read_text(encoding="utf-8").splitlines()
    told = re.fullmatch(r"INFO Memory at most: (\d+) MiB\.", line)
    assert 300 <= int(told[1]) < 300 << 10


def test_a_job_that_is_asked_to_stop_says_so_and_ends_with_a_status_of_its_own(home, capfd):
    logging.getLogger().handlers[:] = []
    before = signal.getsignal(signal.SIGTERM)
    schema = pa.schema([("n", pa.int64())])

    def ask(value):
        os.kill(os.getpid(), signal.SIGTERM)
        return pa.table({"n": [value]})

    def main(this):
        with this.parts({this.output.drawn: schema}, "cpu") as parts:
            for value in range(3):
                parts.add(ask, value)

    for steps in (1, 2, 3):
        with pytest.raises(SystemExit) as ended:
            job.run(main, handed(home))
        assert ended.value.code == 75
        said = f"The rule draw was asked to stop: what is finished, {steps} of its steps, is kept"
        assert f"ERROR {said}" in (home / "draw.log").read_text(encoding="utf-8")
        assert capfd.readouterr().err.startswith(said)
        assert not (home / "drawn.txt").exists()
        logging.getLogger().handlers[:] = []
    job.run(main, handed(home))
    assert store.read(home / "drawn.txt")["n"].to_pylist() == [0, 1, 2]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_job_that_keeps_nothing_ends_at_once(home):
    def main(this):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal was not heard")

    with pytest.raises(SystemExit) as ended:
        job.run(main, handed(home))
    assert ended.value.code == 75


def test_a_job_removes_what_killed_attempts_left_half_written(home):
    (home / ".drawn.0123456789ab.txt").write_bytes(b"half")
    job.run(lambda this: None, handed(home))
    assert sorted(path.name for path in home.glob("*drawn*")) == []
