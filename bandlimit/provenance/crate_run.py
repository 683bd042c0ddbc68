"""What a research object tells of: the files of a run by its manifest, the jobs by certificates.

What jobs took is what certificates do not say: benchmarks do.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.provenance import crate_measures, manifest, origin
from bandlimit.provenance.crate_measures import Measures

INSIDE = ("results/tables/", "results/figures/", "results/claims/", manifest.NAME)
"""Results that lie in the crate; all others are named only, unless they are few bytes."""

WORKFLOW = "Snakefile"
CITATION = "CITATION.cff"
LICENCE = "LICENSE"


@dataclass
class Job:
    """What one run of a rule read and wrote: all its outputs carry the same of it."""

    proof: dict[str, Any]
    outputs: list[str] = field(default_factory=list)
    measures: Measures | None = None

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return str(self.proof["rule"])

    @property
    def wildcards(self) -> dict[str, Any]:
        """Their values by name."""
        return dict(self.proof["params"].get("wildcards", {}))

    @property
    def script(self) -> str:
        """The script of the rule."""
        return str(self.proof["script"])

    def files(self, slot: str) -> dict[str, list[str]]:
        """Return the files that it 'reads' or 'writes', by the keywords of the rule."""
        given = self.proof[slot].items()
        return {k: [names] if isinstance(names, str) else list(names) for k, names in given}


@dataclass
class Run:
    """A run: its folders, its files with what the manifest says of them, and its jobs.

    Attributes:
        results: folder of the results.
        home: folder of the project.
        files: results by name.
        targets: names of the final artifacts.
        outside: inputs that are neither results nor the project's own.
        project: sha256 of the project's own files by name.
        inside: results that lie in the crate.
        jobs: in an order in which they can have run.
        citation: what the citation file says.
    """

    results: Path
    home: Path
    files: dict[str, dict[str, Any]]
    targets: list[str]
    outside: dict[str, dict[str, Any]]
    project: dict[str, str]
    inside: set[str]
    jobs: list[Job]
    citation: dict[str, Any]

    @classmethod
    def read(
        cls,
        results: Path,
        home: Path,
        sources: Iterable[str],
        benchmarks: Mapping[str, str],
        limit: int,
    ) -> Run:
        """Return a run; the arguments are those of `crate.write`.

        Raises:
            UserError: a file is missing or damaged, or the code has changed since it made the
                results.
        """
        listed = manifest.read(place(results, manifest.NAME))
        files = dict(listed["files"])
        files[manifest.NAME] = origin.identity(place(results, manifest.NAME))
        whole = sum(entry["bytes"] for entry in files.values()) <= limit
        outside = dict(listed["outside"])
        jobs = _jobs(results, files, benchmarks)
        # Also that of the job that made the manifest, which the manifest does not list.
        own = {*sources, *listed["lock"], *(name for job in jobs for name in job.proof["code"])}
        config = [name for job in jobs for name in job.proof["config"]]
        # Of overlays that lie elsewhere certificates hold what they say.
        own |= {name for name in config if isinstance(name, str)}
        # Inputs that are the project's own belong to it: claims, schemas, templates.
        own |= {name for name in outside if name.startswith(("bandlimit/", "workflow/"))}
        for name in (WORKFLOW, CITATION, LICENCE):
            if name not in own:
                raise UserError(f"The crate needs the file {name!r} among its sources.")
        project = {}
        for name in sorted(own):
            try:
                project[name] = store.sha256(home / name)
            except OSError as error:
                raise UserError(
                    f"The file {name!r}, which belongs to the crate, can't be read in "
                    f"{str(home)!r}: {error.strerror}."
                ) from error
        said = [
            (name, value["sha256"] == project[name])
            for name, value in outside.items()
            if name in project
        ]
        trees = {pair for job in jobs for pair in job.proof["code"].items()}
        # The run that is described has parsed all of this.
        said += [
            (name, origin.meaning(home / name, home) == digest) for name, digest in sorted(trees)
        ]
        for name, same in said:
            if not same:
                raise UserError(
                    f"The file {name!r} is not the one that made the results: run the workflow "
                    "again."
                )
        return cls(
            results,
            home,
            files,
            listed["targets"],
            {name: value for name, value in outside.items() if name not in project},
            project,
            {name for name in files if whole or name.startswith(INSIDE)},
            jobs,
            yaml.safe_load((home / CITATION).read_text(encoding="utf-8")),
        )

    def environment(self, jobs: Iterable[Job]) -> list[str]:
        """Return the files that the environment of jobs is built from.

        That is the lock that their certificates name, and what Snakemake builds it from where it
        is told to use conda, at the same versions.
        """
        return sorted({*self._conda, *(name for job in jobs for name in job.proof["lock"])})

    @functools.cached_property
    def _conda(self) -> list[str]:
        return [name for name in self.project if PurePosixPath(name).match("envs/*.yaml")]


def place(results: Path, name: str) -> Path:
    """Return where a result lies."""
    return results / name.removeprefix("results/")


def _jobs(results: Path, files: Iterable[str], benchmarks: Mapping[str, str]) -> list[Job]:
    """Return the jobs that wrote the files, in an order in which they can have run."""
    jobs: dict[str, Job] = {}
    makers: dict[str, Job] = {}
    for name in sorted(files):
        proof = contents.certificate(place(results, name))
        if proof is not None:
            key = json.dumps([proof["rule"], proof["params"].get("wildcards")], sort_keys=True)
            makers[name] = jobs.setdefault(key, Job(proof))
            makers[name].outputs.append(name)
    for job in jobs.values():
        if job.rule in benchmarks:
            name = benchmarks[job.rule].format_map(job.wildcards)
            job.measures = crate_measures.read(place(results, name))
    depths: dict[int, int] = {}

    def depth(job: Job) -> int:
        if id(job) not in depths:
            depths[id(job)] = 0  # a certificate that names its own file ends here
            before = [makers[name] for name in job.proof["inputs"] if name in makers]
            depths[id(job)] = 1 + max(map(depth, before), default=0)
        return depths[id(job)]

    return sorted(jobs.values(), key=lambda job: (depth(job), job.rule, str(job.wildcards)))
