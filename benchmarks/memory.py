"""How much memory each rule takes, at the images of a run, at 4 times and at 16 times as many.

The same run is made in copies of the project, each with its images multiplied: those of the
datasets that are attacked, and those that the studies ask for. Models, trainings and batches stay
as they are. Memory is the greatest resident size of a job, as its log says
(`bandlimit.provenance.job`); of a rule, that of its largest job. What a rule holds besides images
(packages, a network, a batch) is in the first column; the last says how it grows.

    python benchmarks/memory.py --configfile config/smoke.yaml
    python benchmarks/memory.py --times 1 2 4
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import copies
import yaml

from bandlimit.config import overlays

MEMORY = re.compile(r"^INFO Memory at most: (\d+) MiB\.$", flags=re.MULTILINE)
GROWTH = 8
"""MiB of growth that are shown: less is chance."""


def larger(config: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """Return an overlay by which each dataset that is attacked has so many times its images.

    A dataset of all images of its source has no more.

    Args:
        config: what the run is given, overlays laid over.
        factor: so many times as many, and likewise of each study's choice of them.
    """
    experiments = config["experiments"]
    used = {experiments[name]["dataset"] for name in config.get("only", experiments)}
    counts = {name: config["datasets"][name].get("images") for name in sorted(used)}
    found: dict[str, Any] = {
        "datasets": {name: {"images": factor * count} for name, count in counts.items() if count}
    }
    # Of these there are twenty in all.
    found["datasets"].pop("imagenet_samples", None)
    for study in ("perturbation_spectra", "high_frequency", "frequency_principle", "robustness"):
        asked = (config.get(study) or {}).get("experiments") or {}
        chosen = {
            name: {"images": factor * entry["images"]}
            for name, entry in asked.items()
            if "images" in entry
        }
        if chosen:
            found[study] = {"experiments": chosen}
    return found


def run(folder: Path, overlays_: list[str]) -> dict[str, int]:
    """Make all results of a copy of the project; return the MiB of each rule.

    Raises:
        SystemExit: the run failed.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--quiet", "all"]
    done = subprocess.run(
        [*command, "--configfile", *overlays_],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:])
    found: dict[str, int] = {}
    for rule, memory in told(folder):
        found[rule] = max(memory, found.get(rule, 0))
    return found


def told(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of the rule and the MiB of each job of a run."""
    for path in sorted((folder / "logs").rglob("*.log")):
        name = path.relative_to(folder / "logs").with_suffix("").parts[0]
        for memory in MEMORY.findall(path.read_text(encoding="utf-8")):
            yield name, int(memory)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="*", default=["config/smoke.yaml"])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    config = overlays.read([str(copies.HOME / "config.yaml"), *map(str, arguments.configfile)])
    columns = []
    for factor in arguments.times:
        with tempfile.TemporaryDirectory(prefix="bandlimit-memory-") as name:
            folder = Path(name).resolve()
            copies.copy(folder)
            text = yaml.safe_dump(larger(config, factor))
            (folder / "images.yaml").write_text(text, encoding="utf-8")
            columns.append(run(folder, [*arguments.configfile, "images.yaml"]))
    heads = [f"{factor} x, MiB" for factor in arguments.times]
    print("| rule | " + " | ".join(heads) + " | further 1 x, MiB |")
    print("|---|" + "--:|" * (len(heads) + 1))
    further = (arguments.times[-1] - arguments.times[0]) / arguments.times[0]
    for rule in sorted(columns[0], key=lambda rule: columns[0][rule] - columns[-1][rule]):
        values = [column.get(rule, 0) for column in columns]
        growth = values[-1] - values[0]
        shown = f"{growth / further:.1f}" if growth >= GROWTH else "–"
        print(f"| {rule} | " + " | ".join(map(str, values)) + f" | {shown} |")


if __name__ == "__main__":
    main()
