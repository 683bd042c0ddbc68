"""What a job took: when it ran, and its memory, processor time and traffic with the disk.

All of it is from the benchmark that Snakemake writes as a job ends. These are the only figures of a
research object that differ between equal runs.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bandlimit.errors import UserError

MEBIBYTE = "https://qudt.org/vocab/unit/MebiBYTE"
SECOND = "https://qudt.org/vocab/unit/SEC"

QUANTITIES = {
    "max_rss": ("peak memory", MEBIBYTE),
    "cpu_time": ("processor time", SECOND),
    "io_in": ("read from disk", MEBIBYTE),
    "io_out": ("written to disk", MEBIBYTE),
}
"""Columns of a benchmark: name and unit of what they hold."""

DEFINED = "https://github.com/snakemake/snakemake/blob/main/src/snakemake/benchmark.py#:~:text="
"""Where each column is defined: with its name behind it, what identifies the quantity."""

ABSENT = ("NA", "-")
"""What stands for a quantity of a job that ended before it was measured."""


@dataclass(frozen=True)
class Measures:
    """What a job took.

    Attributes:
        start: when it began, in seconds of Unix time.
        end: when it had ended, likewise.
        usage: values by columns of `QUANTITIES`, as the benchmark writes them.
    """

    start: float
    end: float
    usage: Mapping[str, str]


def read(path: str | os.PathLike[str]) -> Measures | None:
    """Return what a benchmark says; None where there is none.

    A job ends when its benchmark is written, which the age of the file tells: one that was copied
    without its time says when that was.

    Raises:
        UserError: the file can't be read, or is no benchmark.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        end = os.stat(path).st_mtime
        seconds = float(row["s"])
        usage = {key: row[key] for key in QUANTITIES if row.get(key, ABSENT[0]) not in ABSENT}
        for value in usage.values():
            float(value)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"The benchmark {str(path)!r} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise UserError(
            f"The benchmark {str(path)!r} is damaged: delete it, or run its job again."
        ) from error
    return Measures(end - seconds, end, usage)


def when(moment: float) -> str:
    """Return a moment of Unix time in ISO 8601, in UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
