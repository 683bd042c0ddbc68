"""What the jobs of a run on a SLURM cluster waited, took and worked: a line for each.

Read from the accounting (`sacct`), the logs of the jobs (`logs/slurm`), the log of the run and
Snakemake's benchmarks; run it on the login node, in the folder of the project.

    python benchmarks/slurm_timeline.py [FOLDER]

Times are seconds. `submitted` counts from the first submission, `waited` is from there to the
start, `ran` from start to end, `worked` what Snakemake measured of the scripts themselves,
`overhead` the rest of `ran`: two starts of Python with Snakemake, and planning the job anew in
each. `seen` is from the end until the run knew of it.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

COLUMNS = ("id", "state", "submitted", "waited", "ran", "worked", "overhead", "seen", "job")


@dataclass
class Job:
    """A job as the accounting knows it, and what it was to make.

    Attributes:
        targets: rule and wildcards, as in 'attack/tiny/a/pgd/1of1'; several for a group.
        seen: when the run knew that it was over, where its log tells.
    """

    id: int
    state: str
    submitted: datetime
    started: datetime
    ended: datetime
    targets: list[str]
    seen: datetime | None


def targets_of(log: Path) -> list[str]:
    """Return what a job was to make, from the command in its log."""
    found = re.search(r"--target-jobs (.*?) --", log.read_text(encoding="utf-8", errors="replace"))
    named = (target.partition(":") for target in found[1].split()) if found else ()
    return [
        "/".join([rule, *(pair.partition("=")[2] for pair in wildcards.split(",") if pair)])
        for rule, _, wildcards in named
    ]


def seen_by_run(folder: Path) -> dict[int, datetime]:
    """Return when runs in a folder knew that jobs were over, by the id of the job."""
    seen: dict[int, datetime] = {}
    for log in sorted((folder / ".snakemake/log").glob("*.log")):
        sent: dict[str, int] = {}
        now = None
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if date := re.match(r"\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]", line):
                now = datetime.strptime(date[1], "%a %b %d %H:%M:%S %Y")
            elif job := re.match(r"Job (\S+) has been submitted with SLURM jobid (\d+)", line):
                sent[job[1]] = int(job[2])
            over = re.match(r"(?:Finished jobid:| +jobid:) (\d+)", line)
            if now and over and over[1] in sent:
                seen[sent.pop(over[1])] = now
    return seen


def read(folder: Path) -> list[Job]:
    """Return the jobs whose logs lie in a folder, by the time of their submission.

    Raises:
        SystemExit: there are none.
        subprocess.CalledProcessError: the accounting does not answer.
    """
    logs = {int(path.stem): path for path in (folder / "logs/slurm").glob("**/*.log")}
    if not logs:
        raise SystemExit(f"No logs of jobs lie in {str(folder / 'logs/slurm')!r}.")
    fields = "JobIDRaw,State,Submit,Start,End"
    told = subprocess.run(
        ["sacct", "-XPn", f"--format={fields}", f"--jobs={','.join(map(str, logs))}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    seen = seen_by_run(folder)
    jobs = []
    for line in told.splitlines():
        number, state, *times = line.split("|")
        if "Unknown" in times or "None" in times:
            continue
        job = int(number)
        submitted, started, ended = map(datetime.fromisoformat, times)
        name = state.split()[0]
        found = targets_of(logs[job])
        jobs.append(Job(job, name, submitted, started, ended, found, seen.get(job)))
    return sorted(jobs, key=lambda job: (job.submitted, job.id))


def worked(job: Job, folder: Path) -> float | None:
    """Return the seconds that Snakemake measured of a job's scripts, where it measured them all."""
    if job.state != "COMPLETED":
        return None
    total = 0.0
    for target in job.targets:
        # Trainings that keep different files are different rules.
        name = re.sub(r"^train_model_[0-9]+/", "train_model/", target)
        path = folder / f"results/benchmarks/{name}.tsv"
        if not path.is_file():
            return None
        with open(path, newline="") as file:
            total += float(next(csv.DictReader(file, delimiter="\t"))["s"])
    return total


def main() -> None:
    """Print a line for each job, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    folder = parser.parse_args().folder
    jobs = read(folder)
    print("".join(f"{name:>10}" for name in COLUMNS[:-1]), "", COLUMNS[-1])
    found: dict[str, list[float]] = {"waited": [], "overhead": [], "seen": []}
    for job in jobs:
        ran = (job.ended - job.started).total_seconds()
        work = worked(job, folder)
        times = {
            "submitted": (job.submitted - jobs[0].submitted).total_seconds(),
            "waited": (job.started - job.submitted).total_seconds(),
            "ran": ran,
            "worked": work,
            "overhead": None if work is None else ran - work,
            "seen": (job.seen - job.ended).total_seconds() if job.seen else None,
        }
        cells = "".join(f"{'-' if v is None else f'{v:.0f}':>10}" for v in times.values())
        print(f"{job.id:>10}{job.state[:9]:>10}{cells}  {' + '.join(job.targets)}")
        for name, values in found.items():
            if (value := times[name]) is not None:
                values.append(value)
    medians = (f"{k} {statistics.median(v):.0f} s" for k, v in found.items() if v)
    print(f"{len(jobs)} jobs; medians: {', '.join(medians)}")


if __name__ == "__main__":
    main()
