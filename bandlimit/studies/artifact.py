"""What an entry of a study's catalogue is: a table or a figure, or a rule that makes records.

A catalogue is all that the project knows of what a study makes. The rules of the workflow, its
targets, the labels and captions of the report, the order of the site, the pictures of the ledger,
what the audit can make again, and the README's list come from it. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bandlimit.config.run import Run

FORMS = {"parquet": "parquet", "markdown": "md", "html": "html", "latex": "tex", "csv": "csv"}
"""Keywords of the files of a table, and their suffixes."""

PICTURES = {"png": "png", "pdf": "pdf", "svg": "svg"}
"""Keywords of the files of a figure, and their suffixes."""

REDRAWN, SAMPLED, MEASURED = "redrawn", "sampled", "measured"
"""How the audit makes something again: whole, for a few images, or not, since it holds times."""

Reads = Callable[[Run], Mapping[str, Any]]
Identity = Callable[[Run], Mapping[str, Any]]


def nothing(run: Run) -> dict[str, Any]:
    """Return the identity of a job that its inputs and its code determine."""
    return {}


def always(run: Run) -> bool:
    """Return that an artifact is made in every run of its study."""
    return True


@dataclass(frozen=True)
class Records:
    """A rule that makes records.

    Attributes:
        identity: what makes the output what it is besides its inputs, from run and wildcards.
        again: how the audit makes it again, or None.
        images: keyword of the inputs that hold the images of its rows, where it is sampled.
    """

    identity: Callable[[Run, Any], Mapping[str, Any]]
    again: str | None = None
    images: str = "dataset"


@dataclass(frozen=True)
class Made:
    """One table of a job that makes several; see `Artifact`."""

    name: str
    where: str
    shows: str
    when: Callable[[Run], bool] = always


@dataclass(frozen=True)
class Artifact:
    """A table or a figure, or several tables of one job.

    Attributes:
        name: in its study; the script is `scripts/{study}/{name}.py`, the rule `{study}_{name}`.
        where: its place in the document, as the report lists it.
        shows: what it shows, in a few words.
        reads: files that its job reads, by keyword.
        identity: what makes it what it is besides its inputs.
        when: whether a run has what it is made from.
        makes: the tables of a job that makes several.
        more: further files that the job writes, by keyword.
        group: a part of the study, where the report lists it apart.
        gpu: whether the job runs a model.
        again: how the audit makes it again.
        in_ledger: whether the ledger shows the picture.
        face: whether it is the picture that stands for the study, beside its sentence.
    """

    name: str
    where: str = ""
    shows: str = ""
    reads: Reads = nothing
    identity: Identity = nothing
    when: Callable[[Run], bool] = always
    makes: Sequence[Made] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    gpu: bool = False
    again: str = REDRAWN
    in_ledger: bool = False
    face: bool = False

    kind = "tables"
    forms = FORMS

    def made(self, run: Run | None = None) -> list[Made]:
        """Return what the job makes in a run; without a run, what it may make in some."""
        own = self.makes or [Made(self.name, self.where, self.shows)]
        return [one for one in own if run is None or one.when(run)]


class Table(Artifact):
    """A table; `makes` names several of one job."""


class Figure(Artifact):
    """A figure."""

    kind = "figures"
    forms = PICTURES
