import base64
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from bandlimit import cli
from bandlimit.errors import UserError
from bandlimit.plan import status

SNAKEFILE = """
rule all:
    input: expand("results/slow/{n}.txt", n=["a", "b"]), "results/bad.txt", "results/last.txt"
rule quick:
    output: "results/quick/{n}.txt", "results/quick/{n}.log"
    shell: "touch {output}"
rule slow:
    input: "results/quick/{n}.txt"
    output: "results/slow/{n}.txt"
    log: "logs/slow/{n}.log"
    shell:
        "echo 'INFO images 3 of 9' > {log}; for i in $(seq 6000); do"
        " [ -e go ] && touch {output} && exit; sleep 0.1; done; exit 1"
rule bad:
    output: "results/bad.txt"
    log: "logs/bad.log"
    shell: "echo 'ERROR The image x is none.' > {log}; exit 1"
rule last:
    input: "results/bad.txt"
    output: "results/last.txt"
    shell: "touch {output}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    return tmp_path


def benchmark(folder, name, seconds, end):
    path = folder / f"results/benchmarks/{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t0\n", encoding="utf-8")
    os.utime(path, (end, end))


def rows(page):
    return {line.split()[0]: line.split()[1:] for line in page.splitlines() if line.strip()}


def test_a_run_is_seen_from_beside_and_goes_on(folder):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--quiet", "all"]
    os.makedirs(".snakemake", exist_ok=True)
    with open(".snakemake/alive", "w") as alive:
        # What the workflow does at the start of a run.
        fcntl.flock(alive, fcntl.LOCK_EX)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        run = subprocess.Popen(command, **quiet, start_new_session=True)
        try:
            # Each job waits a minute or more for a file; that they began is all that counts here.
            end = time.monotonic() + 300
            while len([*folder.glob("logs/slow/*.log")]) < 2:
                assert time.monotonic() < end and run.poll() is None
                time.sleep(0.1)
            locks = sorted(os.listdir(".snakemake/locks"))
            during = status.report(cores=2)
            assert sorted(os.listdir(".snakemake/locks")) == locks != []
            (folder / "go").touch()
            run.wait(300)
        finally:
            # The jobs too, which would go on without their run.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert "A run has been going on since" in during
    assert rows(during)["slow"][:4] == ["·", "2", "·", "·"]
    assert "slow: results/slow/a.txt, for 0:" in during and ": images 3 of 9" in during
    after = status.report(cores=2)
    assert "No run is going on." in after
    assert "bad: results/bad.txt: The image x is none. (logs/bad.log)" in after
    assert rows(after)["last"][:4] == ["·", "·", "·", "1"]
    assert "slow" not in rows(after)


def test_a_workflow_that_cannot_be_planned_is_one_sentence(folder):
    (folder / "Snakefile").write_text('import sys\nsys.exit("Error: The seed is no number.")\n')
    with pytest.raises(UserError, match=r"^The seed is no number\.$"):
        status.report()


def test_an_overlay_that_is_not_there_is_one_sentence(folder, capsys):
    assert cli.main(["status", "--configfile", "nofile.yaml"]) == 1
    said = capsys.readouterr().err
    assert "The configuration 'nofile.yaml' can't be read: No such file or directory;" in said
    assert len(said.splitlines()) == 1


def test_files_of_one_job_are_counted_as_one_job():
    lines = ["output_file\tdate\trule\tlog-file(s)\tstatus\tplan"]
    for name in "ab":
        lines.append(f"{name}.md\t-\tdraw\t-\tok\tno update")
        lines.append(f"{name}.txt\t-\tdraw\t-\tmissing\tno update")
    jobs = status._jobs("\n".join(lines), {"draw": 2})
    assert [job.outputs for job in jobs] == [("a.md", "a.txt"), ("b.md", "b.txt")]
    assert all(job.current and job.missing for job in jobs)


def test_what_is_gone_and_not_needed_is_said(folder, monkeypatch):
    jobs = [status.Job("draw", ("a.md",), True, True), status.Job("draw", ("b.md",), True, False)]
    monkeypatch.setattr(status, "plan", lambda given: jobs)
    page = status.report()
    assert page.startswith("2 of 2 jobs done. No run is going on.\n")
    assert "Not there, and not made again" in page and "draw: a.md" in page and "b.md" not in page


def test_times_are_means_by_rule_and_tell_how_many_jobs_ran_together(tmp_path):
    benchmark(tmp_path, "attack/d/pgd", 10, 1010)
    benchmark(tmp_path, "attack/d/fgsm", 20, 1020)
    benchmark(tmp_path, "table_1", 5, 1035)
    (tmp_path / "results/benchmarks/half.tsv").write_text("s\th:m:s\n", encoding="utf-8")
    times = status.measured(tmp_path / "results/benchmarks")
    assert times.seconds == {"attack": 15, "table_1": 5}
    assert times.counts == {"attack": 2, "table_1": 1}
    assert times.together == pytest.approx(35 / 25)


@pytest.mark.parametrize(
    "arguments",
    [["--configfile", "a.yaml", "b.yaml"], ["--configfile=a.yaml", "--configfile=b.yaml"]],
)
def test_several_overlays_are_named_as_snakemake_takes_them(folder, monkeypatch, capsys, arguments):
    found = []
    monkeypatch.setattr(
        status, "report", lambda given, cores: found.append(given.configfiles) or ""
    )
    assert cli.main(["status", *arguments]) == 0
    assert found == [("a.yaml", "b.yaml")]


def test_without_benchmarks_the_time_left_is_unknown(folder, monkeypatch):
    jobs = [status.Job("draw", ("a.md",), False, True)]
    monkeypatch.setattr(status, "plan", lambda given: jobs)
    page = status.report(cores=3)
    assert "0 of 1 jobs done, 1 to do; time left unknown." in page
    assert "since the machine has 3 cores" in page and "Never measured here: draw." in page


def test_rules_with_open_jobs_have_a_row_and_finished_rules_a_number(folder, monkeypatch):
    jobs = [status.Job("draw", (f"{name}.md",), name == "a", False) for name in "abc"]
    jobs += [
        status.Job("last", ("d.md",), False, True),
        status.Job("first", ("e.md",), True, False),
    ]
    monkeypatch.setattr(status, "plan", lambda given: jobs)
    benchmark(folder, "draw/a", 2.0, 100)
    page = status.report(cores=2)
    assert page.startswith("2 of 5 jobs done, 3 to do; about 4.0 s of work left, and a job of")
    assert rows(page)["draw"] == ["1", "·", "·", "2", "2.0", "s", "4.0", "s"]
    assert rows(page)["last"] == ["·", "·", "·", "1", "unknown", "unknown"]
    assert "(1 rule is done)" in page


def test_a_job_has_run_a_while_and_has_the_rest_left(folder, monkeypatch):
    jobs = [status.Job("draw", ("a.md",), False, True), status.Job("draw", ("b.md",), False, True)]
    monkeypatch.setattr(status, "plan", lambda given: jobs)
    now = 1_000_000.0
    monkeypatch.setattr(status.time, "time", lambda: now)
    monkeypatch.setattr(status, "run_started", lambda: now - 100)
    monkeypatch.setattr(status, "started_outputs", lambda: {"a.md": now - 30, "b.md": now - 500})
    benchmark(folder, "draw/a", 90, now)
    page = status.report(cores=1)
    # The mark of b is of an earlier run, which was killed.
    assert "1 running, 1 to do; about 2 min of work left" in page
    assert "draw: a.md, for 0:30" in page


def test_marks_of_long_names_are_put_together(folder):
    name = f"results/{'x' * 300}.parquet"
    code = base64.urlsafe_b64encode(name.encode()).decode()
    mark = folder / ".snakemake/incomplete" / f"@{code[:200]}" / code[200:]
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert list(status.started_outputs()) == [name]


def test_locks_of_a_killed_run_are_no_run(folder):
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.output.lock").touch()
    (folder / ".snakemake/alive").touch()
    assert status.run_started() is None


def test_the_log_of_a_job_is_found_by_what_its_output_names(folder):
    for name in ("attack/d/net/pgd/1of2", "attack/d/net/pgd/2of2", "attack/d/net/fgsm/2of2"):
        path = folder / f"logs/{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    job = status.Job("attack", ("results/adversarial/d/net/pgd/2of2.parquet",), False, True)
    logs = status._Logs(folder / "logs")
    assert logs.of(job) == folder / "logs/attack/d/net/pgd/2of2.log"


def test_a_traceback_is_told_by_its_last_line(folder):
    log = folder / "job.log"
    log.write_text("ERROR Traceback (most recent call last):\n  File x\nValueError: no\n\n")
    assert status._error(log) == "ValueError: no"
