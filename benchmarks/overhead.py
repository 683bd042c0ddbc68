"""What the workflow costs over the bare work: a whole run, beside its scripts in one process.

The whole run is `snakemake` from nothing in a copy of the project: planning, a process for each
job with its imports, hashing, certificates, the manifest and the research object. The bare work is
the same scripts, each job's once, on the inputs that the run left behind, called one after another
in a single Python process that imports each package once and proves nothing. Times are CPU seconds
of processes and their children, in which waiting for other processes does not count.

    python benchmarks/overhead.py                          # the embedded run
    python benchmarks/overhead.py --configfile config/smoke.yaml
    python benchmarks/overhead.py --finished FOLDER --seconds 1900   # a run that was measured
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import copies

from bandlimit.files import contents, folders
from bandlimit.provenance import replay

BARE = "--bare"


def spent(command: list[str], folder: Path) -> float:
    """Run a command in a folder; return the CPU seconds of it and all that it started.

    Raises:
        SystemExit: it failed.
    """
    started = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)})
    _, status, used = os.wait4(started.pid, 0)
    if status:
        sys.exit(f"{command} ended with {status}.")
    return used.ru_utime + used.ru_stime


def bare(folder: Path) -> None:
    """Run the script of each job of a finished run in this process, and print what it took."""
    jobs = {}
    for path in folders.files_in(folder / "results"):
        certificate = contents.certificate(path)
        if certificate is not None:
            jobs.setdefault(str(sorted(replay.Files(certificate["writes"]))), certificate)
    seconds: dict[str, float] = defaultdict(float)
    left: dict[str, str] = {}
    for certificate in jobs.values():
        job = replay.Job(certificate, folder / "results", folder)
        before = time.process_time()
        try:
            with job.stage() as stage:
                job.run(stage, job.params, job.wildcards)
        except replay.Stop as stop:
            left[job.rule] = stop.detail
            continue
        seconds[job.rule] += time.process_time() - before
    print(f"{len(jobs) - len(left)} jobs in one process")
    for rule, value in sorted(seconds.items(), key=lambda item: -item[1])[:15]:
        print(f"  {rule}: {value:.1f} CPU s")
    for rule, why in left.items():
        print(f"  left out: {rule}: {why}")


def main() -> None:
    """Measure both sides, and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="*", default=[])
    parser.add_argument("--finished", type=Path, help="a project with a finished run")
    parser.add_argument("--seconds", type=float, help="the CPU seconds of that run")
    parser.add_argument(BARE, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare)
        return
    if (arguments.finished is None) != (arguments.seconds is None):
        parser.error("--finished and --seconds belong together")
    with tempfile.TemporaryDirectory(prefix="bandlimit-overhead-") as name:
        if arguments.finished is None:
            folder = Path(name).resolve()
            copies.copy(folder)
            overlay = ["--configfile", *arguments.configfile] if arguments.configfile else []
            command = [sys.executable, "-m", "snakemake", "--cores", "all", "--quiet", "all"]
            whole = spent([*command, *overlay], folder)
        else:
            folder, whole = arguments.finished.resolve(), arguments.seconds
        command = [sys.executable, str(folder / "benchmarks/overhead.py"), BARE, str(folder)]
        alone = spent(command, folder)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"whole run {whole:.0f} CPU s, bare work {alone:.0f} CPU s: {whole / alone:.2f} times")


if __name__ == "__main__":
    main()
