"""All that a run makes: the catalogues of its studies, resolved, and what follows from them.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bandlimit.config.run import Run
from bandlimit.studies import STUDIES
from bandlimit.studies.artifact import Artifact, Made, Records


@dataclass(frozen=True)
class Entry:
    """An entry of a catalogue in a run.

    Attributes:
        study: name of the study.
        artifact: as the catalogue has it.
        made: what the job makes in this run.
        reads: its inputs by keyword.
        identity: what identifies it besides.
    """

    study: str
    artifact: Artifact
    made: tuple[Made, ...]
    reads: Mapping[str, Any]
    identity: Mapping[str, Any]

    @property
    def rule(self) -> str:
        """Name of its rule."""
        return f"{self.study}_{self.artifact.name}"

    @property
    def script(self) -> str:
        """Its script, without folder and suffix."""
        return f"{self.study}/{self.artifact.name}"

    @property
    def message(self) -> str:
        """What the job does, for those who watch."""
        titles = [f"{one.where}: {one.shows}" for one in self.made]
        return titles[0] if len(titles) == 1 else f"{study_title(self.study)}: tables"

    def file(self, made: Made, form: str) -> str:
        """Return the file of something made, in one form."""
        artifact = self.artifact
        return f"results/{artifact.kind}/{self.study}/{made.name}.{artifact.forms[form]}"

    def outputs(self) -> dict[str, Any]:
        """Return the files by keyword: a list each where the job makes several tables."""
        found: dict[str, Any] = {
            form: [self.file(made, form) for made in self.made] for form in self.artifact.forms
        }
        if not self.artifact.makes:
            found = {form: files[0] for form, files in found.items()}
        return {**found, **self.artifact.more}

    def files(self) -> list[str]:
        """Return the files of all forms, those of one table or figure together."""
        return [self.file(made, form) for made in self.made for form in self.artifact.forms]

    def captions(self) -> list[str]:
        """Return the templates of the captions, one for each table or figure."""
        return [f"workflow/report/{self.study}/{made.name}.rst" for made in self.made]


def module(study: str) -> ModuleType:
    """Return the module that holds the catalogue of a study."""
    return importlib.import_module(f"bandlimit.studies.{study}.artifacts")


def study_title(study: str) -> str:
    """Return the title of a study."""
    title: str = module(study).TITLE
    return title


def canonical(value: Any) -> Any:
    """Return a value with the keys of all its mappings in alphabetical order.

    Snakemake compares params as text, and the order of keys in a configuration means nothing. That
    of a list does.
    """
    if isinstance(value, Mapping):
        return {key: canonical(value[key]) for key in sorted(value)}
    return [canonical(item) for item in value] if isinstance(value, list | tuple) else value


def of(run: Run) -> list[Entry]:
    """Return the entries of all studies that run, those without records to make them left out."""
    return [
        Entry(study, artifact, tuple(made), artifact.reads(run), canonical(artifact.identity(run)))
        for study in run.studies
        for artifact in module(study).ARTIFACTS
        if artifact.when(run) and (made := artifact.made(run))
    ]


def records() -> dict[str, Records]:
    """Return the rules of all studies that make records, by name."""
    return {name: one for study in STUDIES for name, one in module(study).RECORDS.items()}


def artifacts() -> Iterator[tuple[str, Artifact]]:
    """Yield each study and entry of all catalogues."""
    for study in STUDIES:
        yield from ((study, artifact) for artifact in module(study).ARTIFACTS)


def table_names(run: Run | None = None) -> list[str]:
    """Return the tables of a run, or without one of any run, as claims name them."""
    if run is not None:
        return [
            f"tables/{entry.study}/{made.name}"
            for entry in of(run)
            if entry.artifact.kind == "tables"
            for made in entry.made
        ]
    return [
        f"tables/{study}/{made.name}"
        for study, artifact in artifacts()
        if artifact.kind == "tables"
        for made in artifact.made()
    ]


def pictures(run: Run) -> list[list[str]]:
    """Return [study, picture] of what the ledger shows, first what stands for the study."""
    shown = [entry for entry in of(run) if entry.artifact.in_ledger]
    shown.sort(key=lambda entry: (list(run.studies).index(entry.study), not entry.artifact.face))
    return [[entry.study, entry.file(made, "png")] for entry in shown for made in entry.made]


def pages(run: Run) -> list[str]:
    """Return the pages of their own that the studies write, such as one for each defence."""
    return [
        page
        for study in run.studies
        for page in getattr(module(study), "pages", lambda run: [])(run)
    ]


def faces(run: Run) -> dict[str, str]:
    """Return of each study the picture that stands for it; of one without pictures, none."""
    return {study: picture for study, picture in reversed(pictures(run))}


def claims_files(run: Run) -> list[str]:
    """Return the claims files of the studies that run."""
    return [module(study).CLAIMS for study in run.studies]


def listing(study: str) -> str:
    """Return what a study makes as a table in Markdown, for readers."""
    lines = ["| file | rule | what it shows |", "|---|---|---|"]
    for artifact in module(study).ARTIFACTS:
        form = "md" if artifact.kind == "tables" else "png"
        for made in artifact.made():
            what = (
                f"{made.where}: {made.shows}"
                if made.where not in ("Table", "Figure")
                else made.shows
            )
            file = f"{artifact.kind}/{study}/{made.name}.{form}"
            lines.append(f"| `{file}` | `{study}_{artifact.name}` | {what} |")
    return "\n".join(lines)
