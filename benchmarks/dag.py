"""How long planning takes at the documents' full scale, and at many times as many shards.

Of a copy of the project, for `config/paper.yaml` with its shards multiplied:

* plan: a dry run from nothing, which builds the DAG and prints what would run;
* check: a run for which all is done. Its files are empty ones of one age. At the first scale
  `snakemake --touch` records each output as a run does, so that params and code are compared as
  after a real run; at larger scales it is left out, since it syncs a file per output to the disk.

Times are CPU seconds of Snakemake's process, memory is its greatest resident size.

    python benchmarks/dag.py --shards 1 10 40
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import copies
import yaml

TIMES = ("config/paper.yaml", "shards.yaml")
"""Overlays of a run."""


@dataclass(frozen=True)
class Measured:
    """What a call of Snakemake took: CPU seconds, and bytes at most."""

    seconds: float
    memory: int
    told: str

    @property
    def jobs(self) -> int:
        """Return the number of jobs that it would run."""
        found = re.findall(r"^total\s+(\d+)", self.told, flags=re.MULTILINE)
        return int(found[-1]) if found else 0


def snakemake(folder: Path, *options: str) -> Measured:
    """Run Snakemake on all of the run.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options, "--configfile", *TIMES]
    with tempfile.TemporaryFile("w+") as told:
        started = subprocess.Popen(
            [*command, "--config", "device=cpu"],
            cwd=folder,
            stdout=told,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
        _, status, used = os.wait4(started.pid, 0)
        told.seek(0)
        text = told.read()
    if status:
        sys.exit(text[-2000:])
    return Measured(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, text)


def prepare(folder: Path, factor: int) -> None:
    """Copy the project, and multiply the shards of the documents' experiments."""
    copies.copy(folder)
    paper = yaml.safe_load((copies.HOME / "config/paper.yaml").read_text(encoding="utf-8"))
    shards = {
        name: {"shards": entry["shards"] * factor}
        for name, entry in paper["experiments"].items()
        if entry.get("shards", 1) > 1
    }
    text = yaml.safe_dump({"experiments": shards})
    (folder / "shards.yaml").write_text(text, encoding="utf-8")
    # Planned, not read.
    (folder / "data/imagenet/val").mkdir(parents=True)


def pretend(folder: Path) -> int:
    """Make each output of the run an empty file, all of one age; return their number."""
    lines = snakemake(folder, "--summary").told.splitlines()
    names = {line.split("\t")[0] for line in lines if line.startswith("results/")}
    for name in sorted(names):
        path = folder / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    now = folder.stat().st_mtime
    for path in (folder / "results").rglob("*"):
        os.utime(path, (now, now))
    return len(names)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 10], metavar="TIMES")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| shards | jobs | files | plan, CPU s | ms a job | MB | check, CPU s | MB |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for factor in arguments.shards:
        with tempfile.TemporaryDirectory(prefix="bandlimit-dag-") as name:
            folder = Path(name).resolve()
            prepare(folder, factor)
            plan = snakemake(folder, "--dry-run", "--quiet", "rules")
            files = pretend(folder)
            if factor == 1:
                snakemake(folder, "--touch", "--quiet", "all")
            check = snakemake(folder, "--quiet", "rules")
            if "Nothing to be done" not in check.told:
                sys.exit(f"A check had work to do: {check.told[-2000:]}")
            print(
                f"| x {factor} | {plan.jobs} | {files} | {plan.seconds:.1f} "
                f"| {1000 * plan.seconds / plan.jobs:.1f} | {plan.memory / 1e6:.0f} "
                f"| {check.seconds:.1f} | {check.memory / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
