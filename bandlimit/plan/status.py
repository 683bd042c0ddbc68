"""How far a run is: what is done, running, failed and to do, and how long the rest will take.

Snakemake itself is asked what is up to date, in processes that lock nothing and change nothing; its
markers of jobs that were begun, the logs and the benchmarks say the rest. Imports nothing heavy.
"""

from __future__ import annotations

import base64
import csv
import fcntl
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bandlimit.config import overlays
from bandlimit.errors import UserError
from bandlimit.plan.last import Given
from bandlimit.progress import clock

DONE, RUNNING, FAILED, WAITING = "done", "running", "failed", "to do"
STATES = (DONE, RUNNING, FAILED, WAITING)

LOOKING = "BANDLIMIT_LOOKING"
"""Environment variable that tells the workflow that it is looked at, not run."""

SHOWN = 10
"""Jobs of a state that are listed by name."""


@dataclass(frozen=True)
class Job:
    """A job of the plan.

    Attributes:
        rule: name of its rule.
        outputs: files that it makes.
        current: whether a run would leave it as it is.
        missing: whether an output is not there; where nothing needs it, the job is current still.
    """

    rule: str
    outputs: tuple[str, ...]
    current: bool
    missing: bool


@dataclass(frozen=True)
class Times:
    """What benchmarks say: mean seconds and number of jobs by rule, and how many ran at a time."""

    seconds: Mapping[str, float]
    counts: Mapping[str, int]
    together: float | None


def report(
    results: str | os.PathLike[str] = "results",
    logs: str | os.PathLike[str] = "logs",
    *,
    given: Given | None = None,
    cores: int | None = None,
) -> str:
    """Return how far the run in the working folder is, as a page for a terminal.

    A run that is going on is not disturbed: nothing is locked, written or removed.

    Args:
        results: the folder of the results, with the benchmarks.
        logs: the folder of the logs of jobs.
        given: what the run was given besides config.yaml.
        cores: jobs at a time where the benchmarks don't tell; all of the machine by default.

    Raises:
        UserError: the workflow can't be planned, as where its configuration is wrong.
    """
    given = given or Given()
    jobs = plan(given)
    begun = started_outputs()
    since = run_started()
    now = time.time()
    states: dict[Job, str] = {}
    lines: dict[str, list[str]] = {RUNNING: [], FAILED: [], WAITING: []}
    left: dict[Job, float] = {}
    times = measured(Path(results) / "benchmarks")
    found = _Logs(Path(logs))
    for job in jobs:
        start = max((begun[name] for name in job.outputs if name in begun), default=None)
        log = None if job.current else found.of(job)
        running = since is not None and start is not None and start >= since
        if running and not job.current:
            states[job] = RUNNING
            said = _last_line(log)
            took = clock(now - (start or now))
            lines[RUNNING].append(f"{_name(job)}, for {took}{f': {said}' if said else ''}")
        elif job.current:
            states[job] = DONE
            continue
        elif (error := _error(log)) is not None:
            states[job] = FAILED
            lines[FAILED].append(f"{_name(job)}: {error} ({log})")
        else:
            states[job] = WAITING
            lines[WAITING].append(_name(job))
        if job.rule in times.seconds:
            spent = now - start if running and start is not None else 0.0
            left[job] = max(0.0, times.seconds[job.rule] - spent)
    page = _page(states, lines, left, times, cores or _cores(), since)
    whose = f", as {given.of} had it; another by --configfile" if given.of else ""
    return f"{page}\nConfiguration: {given}{whose}.\n"


# What there is to do


def plan(given: Given) -> list[Job]:
    """Return all jobs of the workflow in the working folder, as Snakemake plans them.

    Raises:
        UserError: it can't be planned, or an overlay can't be read.
    """
    # Of a file that is not there, Snakemake says so by a traceback.
    overlays.read(given.configfiles)
    options = ["--nolock", *given.options()]
    # The summary lists files; how many files a job of each rule has, the plan of all jobs tells.
    asked = (["--summary"], ["--dry-run", "--forceall", "--quiet", "rules"])
    started = [_snakemake([*words, *options]) for words in asked]
    summary, counts = (_said(process) for process in started)
    return _jobs(summary, _counts(counts))


def _snakemake(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, LOOKING: "1"},
    )


def _said(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate()
    if process.returncode:
        lines = [line for line in (errors or out).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("Error: ")]
        raise UserError(
            told[0].removeprefix("Error: ")
            if told
            else f"Snakemake can't plan the workflow: {' '.join(lines[-3:]) or 'it says nothing'}."
        )
    return out + errors if "Job stats:" in errors else out


def _counts(text: str) -> dict[str, int]:
    """Return how many jobs each rule has, by the table of a dry run."""
    rows = re.findall(r"^(\w+)\s+(\d+)\s*$", text.partition("Job stats:")[2], re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule != "total"}


def _jobs(summary: str, counts: Mapping[str, int]) -> list[Job]:
    """Return the jobs of a summary, whose rows are files, those of one job after each other."""
    lines = [line for line in summary.splitlines() if "\t" in line]
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    files = Counter(row["rule"] for row in rows)
    jobs, at = [], 0
    while at < len(rows):
        rule = rows[at]["rule"]
        size = max(1, files[rule] // counts.get(rule, 1))
        part = rows[at : at + size]
        current = all(row["plan"] == "no update" for row in part)
        missing = any(row["status"] == "missing" for row in part)
        jobs.append(Job(rule, tuple(row["output_file"] for row in part), current, missing))
        at += size
    return jobs


# What is going on


def run_started() -> float | None:
    """Return when the run that is going on in the working folder began, or None without one."""
    try:
        locks = [lock.stat().st_mtime for lock in Path(".snakemake/locks").iterdir()]
        with open(".snakemake/alive", encoding="utf-8") as alive:
            if not locks:
                return None
            # The run holds this lock exclusively; a killed one leaves only the files above.
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        # The file system may round times.
        return min(locks) - 2
    except OSError:
        return None
    return None


def started_outputs() -> dict[str, float]:
    """Return when the jobs of outputs that Snakemake holds for unfinished began, by output."""
    found = {}
    root = Path(".snakemake/incomplete")
    for path in root.rglob("*"):
        try:
            if path.is_file():
                # A long name is cut into folders, whose names begin with an @.
                code = "".join(part.removeprefix("@") for part in path.relative_to(root).parts)
                name = base64.urlsafe_b64decode(code).decode()
                found[name] = path.stat().st_mtime
        except (OSError, ValueError):
            continue
    return found


class _Logs:
    """The logs of jobs, found by rule and by what the path of an output names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[str, list[tuple[tuple[str, ...], Path]]] = {}

    def of(self, job: Job) -> Path | None:
        """Return the log of a job, if there is one."""
        alone = self._folder / f"{job.rule}.log"
        if alone.is_file():
            return alone
        if job.rule not in self._logs:
            root = self._folder / job.rule
            self._logs[job.rule] = [
                (path.relative_to(root).with_suffix("").parts, path)
                for path in sorted(root.rglob("*.log"))
            ]
        for output in job.outputs:
            parts = Path(output).with_suffix("").parts
            fitting = [(len(w), path) for w, path in self._logs[job.rule] if _within(w, parts)]
            if fitting:
                return max(fitting)[1]
        return None


def _within(words: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether all words occur among the parts, in order."""
    rest = iter(parts)
    return all(word in rest for word in words)


def _lines(log: Path | None) -> list[str]:
    try:
        return [] if log is None else log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []


def _last_line(log: Path | None) -> str:
    lines = [line for line in _lines(log) if line.startswith("INFO ")]
    return lines[-1].removeprefix("INFO ") if lines else ""


def _error(log: Path | None) -> str | None:
    """Return the sentence with which a job failed, or None."""
    lines = _lines(log)
    starts = [i for i, line in enumerate(lines) if line.startswith("ERROR ")]
    if not starts:
        return None
    rest = [line.strip() for line in lines[starts[-1] :] if line.strip()]
    # Of a traceback its last line says most.
    return rest[-1] if "Traceback" in rest[0] else rest[0].removeprefix("ERROR ")


# How long it takes


def measured(benchmarks: str | os.PathLike[str]) -> Times:
    """Return what the benchmarks of finished jobs say of their times."""
    root = Path(benchmarks)
    seconds: dict[str, list[float]] = {}
    spans = []
    for path in sorted(root.rglob("*.tsv")):
        rule = path.relative_to(root).with_suffix("").parts[0]
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
            end = path.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            # Half written by a job that ends just now.
            continue
        if rows:
            seconds.setdefault(rule, []).append(sum(rows) / len(rows))
            spans.append((end - sum(rows), end))
    return Times(
        seconds={rule: sum(values) / len(values) for rule, values in seconds.items()},
        counts={rule: len(values) for rule, values in seconds.items()},
        together=_together(spans),
    )


def _together(spans: Iterable[tuple[float, float]]) -> float | None:
    """Return how many of the spans of time overlap, on average over the time that any covers."""
    busy = covered = 0.0
    last = float("-inf")
    for start, end in sorted(spans):
        busy += end - start
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return busy / covered if covered > 0 else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The page


def _page(
    states: Mapping[Job, str],
    lines: Mapping[str, Sequence[str]],
    left: Mapping[Job, float],
    times: Times,
    cores: int,
    since: float | None,
) -> str:
    totals = Counter(states.values())
    unknown = [job for job in states if states[job] != DONE and job not in left]
    # Benchmarks that were copied have the time of the copying.
    together = min(max(times.together or cores, 1.0), cores)
    parts = [_headline(totals, len(states), sum(left.values()) / together, unknown, since)]
    if totals[DONE] < len(states):
        parts.append(_table(states, left, times))
    for state, title in ((RUNNING, "Running"), (FAILED, "Failed"), (WAITING, "To do")):
        if lines[state]:
            parts.append("\n".join([title, *_cut(lines[state])]))
    gone = [_name(job) for job in states if job.current and job.missing]
    if gone:
        title = "Not there, and not made again, since what depends on it is up to date"
        parts.append("\n".join([title, *_cut(gone)]))
    if totals[DONE] < len(states):
        parts.append(_assumptions(times, together, cores, unknown))
    return "\n\n".join(parts) + "\n"


def _cut(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [f"  {line}" for line in lines[:SHOWN]] + ([f"  … and {more} more"] if more > 0 else [])


def _headline(
    totals: Mapping[str, int],
    jobs: int,
    seconds: float,
    unknown: Sequence[Job],
    since: float | None,
) -> str:
    said = [f"{totals.get(state, 0)} {state}" for state in STATES[1:] if totals.get(state)]
    text = f"{totals.get(DONE, 0)} of {jobs} jobs done{''.join(f', {part}' for part in said)}"
    if totals.get(DONE, 0) < jobs:
        rest = f"about {_duration(seconds)} of work left" if seconds else "time left unknown"
        several = f"{len(unknown)} jobs" if len(unknown) > 1 else "a job"
        plus = f", and {several} of unknown length" if unknown and seconds else ""
        text += f"; {rest}{plus}"
    if since is None:
        return f"{text}. No run is going on."
    return f"{text}. A run has been going on since {time.strftime('%H:%M', time.localtime(since))}."


def _table(states: Mapping[Job, str], left: Mapping[Job, float], times: Times) -> str:
    counts: dict[str, Counter[str]] = {}
    rest: dict[str, float] = {}
    for job, state in states.items():
        counts.setdefault(job.rule, Counter())[state] += 1
        rest[job.rule] = rest.get(job.rule, 0.0) + left.get(job, 0.0)
    rows = [["rule", *STATES, "a job takes", "left"]]
    finished = 0
    for rule, count in counts.items():
        if count[DONE] == sum(count.values()):
            finished += 1
            continue
        mean = times.seconds.get(rule)
        rows.append(
            [
                rule,
                *(str(count[state]) if count[state] else "·" for state in STATES),
                "unknown" if mean is None else _duration(mean),
                "unknown" if mean is None else _duration(rest[rule]),
            ]
        )
    if finished:
        rows.append([f"({finished} rule{' is' if finished == 1 else 's are'} done)"])
    rows = [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _assumptions(times: Times, together: float, cores: int, unknown: Sequence[Job]) -> str:
    count = sum(times.counts.values())
    text = (
        f"The time left assumes that a job takes as long as those of its rule did on average "
        f"({count} were measured), and that {together:.2g} run at a time"
    )
    text += " as so far" if times.together else f", since the machine has {cores} cores"
    text += "; a chain of jobs that wait for each other takes longer."
    if unknown:
        rules = sorted({job.rule for job in unknown})
        text += f" Never measured here: {', '.join(rules)}."
    return text


def _name(job: Job) -> str:
    more = f" and {len(job.outputs) - 1} more" if len(job.outputs) > 1 else ""
    return f"{job.rule}: {job.outputs[0]}{more}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
