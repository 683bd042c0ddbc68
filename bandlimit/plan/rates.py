"""How fast a machine attacks each network, as the jobs of a run here measured it.

A plan counts forward passes; how long they take shows only where they run. A run with a few images
on the machine in question, at the scale in question, leaves benchmarks behind, and its adversarial
sets say by how many passes they were made.
"""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from bandlimit.config.run import Run
from bandlimit.errors import UserError
from bandlimit.files import contents
from bandlimit.plan import cost


@dataclass(frozen=True)
class Rate:
    """What the attacks on a network took.

    Attributes:
        seconds: of all jobs, their start included.
        forwards: passes that these made, about.
        jobs: number of them.
        devices: what they ran on, 'cpu' or names of cards.
    """

    seconds: float
    forwards: int
    jobs: int
    devices: frozenset[str]

    def hours(self, forwards: int) -> float:
        """Return the hours of so many forward passes of a gradient; without one they take less."""
        return forwards * self.seconds / self.forwards / 3600


def measured(results: str | os.PathLike[str]) -> dict[str, Rate]:
    """Return the rates of the networks that were attacked in a run, by the name of the network.

    Args:
        results: the folder of the results, with the benchmarks of the run.

    Raises:
        UserError: a file is damaged.
    """
    found: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
    places = Path(results, "benchmarks/attack")
    for path in sorted(places.rglob("*.tsv")):
        dataset, model, attack, shard = path.relative_to(places).with_suffix("").parts
        records = Path(results, "adversarial", dataset, model, attack, f"{shard}.parquet")
        seconds = _seconds(path)
        if seconds is None or not records.is_file():
            continue
        certificate = contents.certificate(records) or {}
        parameters = certificate.get("params", {}).get("parameters", {})
        images = pq.read_metadata(records).num_rows / len(parameters.get("epsilons", (None,)))
        forwards = round(cost.per_image(attack, parameters) * images)
        if forwards:
            found[model].append((seconds, forwards, str(certificate.get("device", "cpu"))))
    return {
        model: Rate(
            seconds=sum(seconds for seconds, _, _ in rows),
            forwards=sum(forwards for _, forwards, _ in rows),
            jobs=len(rows),
            devices=frozenset(device for _, _, device in rows),
        )
        for model, rows in found.items()
    }


def _seconds(path: Path) -> float | None:
    """Return the seconds that a benchmark states; None where the job was not measured."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        return float(row["s"])
    except (StopIteration, KeyError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"The file {str(path)!r} is no benchmark of Snakemake: {error}.") from error


def report(run: Run, rates: Mapping[str, Rate], minutes: float | None = None) -> str:
    """Return how long a run takes, network by network, in Markdown.

    Args:
        run: what is planned.
        rates: of `measured`.
        minutes: what an attack's job should take; then the shards of each experiment that has
            longer ones are proposed.
    """
    hours: dict[str, float] = defaultdict(float)
    longest: dict[tuple[str, str], tuple[float, str]] = {}
    for row in cost.costs(run):
        if row.model in rates:
            forwards = row.attack_forwards + row.defense_forwards + row.training_forwards
            hours[row.model] += rates[row.model].hours(forwards)
            job = rates[row.model].hours(row.attack_forwards)
            pair = row.dataset, row.model
            longest[pair] = max(longest.get(pair, (0.0, "")), (job, row.inputs))
    devices = sorted({device for rate in rates.values() for device in rate.devices})
    lines = ["| model | hours, at most about | measured in jobs |", "|---|--:|--:|"]
    lines += [
        f"| {model} | {value:,.2f} | {rates[model].jobs} |"
        for model, value in sorted(hours.items(), key=lambda item: -item[1])
    ]
    lines.append(f"| **all** | {sum(hours.values()):,.2f} | |")
    lines += ["", f"By attacks measured in this folder, on {', '.join(devices)}."]
    left = sorted({row.model for row in cost.costs(run)} - set(hours))
    if left:
        lines.append(f"Not attacked here yet, so not counted: {', '.join(left)}.")
    if minutes is not None:
        lines += ["", f"Shards for attacks of {minutes:g} minutes:"]
        for name, e in run.experiments.items():
            job, inputs = longest.get((e.dataset, e.model), (0.0, ""))
            wanted = math.ceil(job * 60 / minutes)
            if wanted > 1:
                now = f"now {e.shards}, {job * 60 / e.shards:,.0f} minutes"
                lines.append(f"experiments.{name}.shards: {wanted}  # {inputs}; {now}")
    return "\n".join(lines)
