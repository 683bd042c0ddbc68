"""What every script shares, run on a stand-in for what Snakemake hands to a script."""

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bandlimit.provenance.replay import Files

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def job():
    spec = importlib.util.spec_from_file_location("job_of_scripts", SCRIPTS / "job.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    logging.captureWarnings(False)
    logging.getLogger("bandlimit").setLevel(logging.NOTSET)


@pytest.fixture
def home(tmp_path):
    for name in ("scripts/draw.py", "requirements.lock", "given.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1\n", encoding="utf-8")
    return tmp_path


def handed(home):
    """Return what Snakemake hands to a script: one input, its code, one output."""
    code = [str(home / "scripts" / "draw.py")]
    return SimpleNamespace(
        rule="draw",
        scriptdir=str(home / "scripts"),
        input=Files({"given": str(home / "given.txt"), "code": code}),
        output=Files({"drawn": str(home / "drawn.txt")}),
        params={"named": {"seed": 1}},
        wildcards={"model": "m"},
        threads=1,
        log=[str(home / "draw.log")],
        config={},
    )


def test_a_job_hands_its_parameters_and_its_certificate_to_the_script(job, home):
    found = []

    def main(this):
        found.append((this.params.seed, this.wildcards, this.certificate()))

    job.run(main, handed(home))
    ((seed, wildcards, certificate),) = found
    assert (seed, wildcards) == (1, {"model": "m"})
    assert list(certificate["inputs"]) == ["given.txt"]
    assert list(certificate["code"]) == ["scripts/draw.py"]


@pytest.mark.parametrize("name", ["scripts/draw.py", "requirements.lock"])
def test_a_job_fails_whose_code_is_changed_while_it_runs(job, home, name):
    def main(this):
        (home / name).write_text("2\n", encoding="utf-8")
        this.certificate()

    with pytest.raises(SystemExit, match=f"{name}' was changed while the job ran"):
        job.run(main, handed(home))


MEMORY = """
import resource, sys, torch
sys.path.insert(0, sys.argv[1])
import job

torch.set_num_threads(1)

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        maps = [torch.ones(6 << 18) for _ in range(4)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
without = page_faults()
job.keep_memory()
page_faults()
print(without, page_faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's malloc")
def test_a_job_keeps_the_memory_of_a_pass_for_the_next():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(SCRIPTS)], capture_output=True, text=True, check=True
    )
    without, kept = map(int, done.stdout.split())
    assert without > 50 * 1000  # else there is nothing to keep, and the test shows nothing
    assert kept < 50
