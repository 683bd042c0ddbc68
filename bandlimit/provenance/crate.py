"""The run as a research object: an RO-Crate that says which job made which file from what.

The crate follows the Provenance Run Crate profile, so that tools that know nothing of bandlimit
can read the chain of jobs. It is made of the manifest and the certificates alone. Tables, figures,
claims, code and configuration lie in it; records, weights and images, which can be huge and may
not be ours to give, are named by their content.

No action has a time: results hold no times, so that equal runs give equal bytes; how long a job
took stands in `results/benchmarks`. Nor does it have an agent: a signature says who ran it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import yaml

from bandlimit.config import registry
from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.provenance import manifest, origin
from bandlimit.provenance.verdicts import Finding, Verdict

RO_CRATE = "1.1"
WORKFLOW_RO_CRATE = "1.0"
PROFILE = "0.5"
"""Version of the Workflow Run Crate profiles, which is on RO-Crate 1.1; 0.6 moves to 1.3."""

PROFILES = {
    f"https://w3id.org/ro/wfrun/process/{PROFILE}": "Process Run Crate",
    f"https://w3id.org/ro/wfrun/workflow/{PROFILE}": "Workflow Run Crate",
    f"https://w3id.org/ro/wfrun/provenance/{PROFILE}": "Provenance Run Crate",
    f"https://w3id.org/workflowhub/workflow-ro-crate/{WORKFLOW_RO_CRATE}": "Workflow RO-Crate",
}

TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
"""What the profiles add to the context of RO-Crate 1.1, as far as it is used here."""

METADATA = "ro-crate-metadata.json"
INSIDE = ("results/tables/", "results/figures/", "results/claims/", manifest.NAME)
"""Results that lie in the crate; all others are named only, unless they are few bytes."""

WORKFLOW = "Snakefile"
CITATION = "CITATION.cff"
LICENCE = "LICENSE"
REGISTRIES = {
    "make_dataset": ("workflow/registry/datasets.csv", "source"),
    "convert_model": ("workflow/registry/models.csv", "model"),
}
"""Rules that bring in the work of others: their registry, and the parameter that names a row."""

TYPES = {
    ".cff": "application/yaml",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "text/x-tex",
    ".yaml": "application/yaml",
}
"""Media types of what lies in a crate; the system's own list differs between machines."""


def write(
    folder: str | os.PathLike[str],
    archive: str | os.PathLike[str] | None = None,
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
    sources: Iterable[str],
    limit: int = 0,
) -> None:
    """Write the crate of a run, as a folder and perhaps as a zip file of the same.

    Args:
        folder: the crate; what is there is replaced.
        archive: the zip file; its bytes depend on the content alone.
        results: folder of the results, with the manifest in it.
        home: folder of the project.
        sources: files of the project that belong to the crate, relative to it: Snakefile, rules,
            configuration, registries, lock, licence and citation. Code that certificates name
            needs no mention.
        limit: where all results together are not larger than this many bytes, all lie in the
            crate.

    Raises:
        UserError: a file is missing or not what the manifest says, or the code has changed since
            it made the results.
    """
    run = _Run.read(Path(results), Path(home), sources, limit)
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        _Builder(run).build().write(temporary)
        wrong = [f for f in check(temporary) if f.verdict is not Verdict.OK]
        if wrong:
            name = wrong[0].file.partition("/")[2]
            raise UserError(f"The file {name!r} changed while it was put into the crate.")
        if archive is not None:
            with store.atomic(archive) as place:
                _zip(temporary, place)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check(
    folder: str | os.PathLike[str],
    archive: str | os.PathLike[str] | None = None,
    listed: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Hold the files of a crate against its metadata, and that against the manifest.

    Args:
        folder: the crate.
        archive: the zip file of the same, if there is one.
        listed: the manifest, as `manifest.read` returns it.

    Returns:
        A finding for each file in the crate, for what the metadata names besides, and for the zip
        file. It needs no package beyond the library's own.

    Raises:
        UserError: the crate has no metadata that can be read.
    """
    folder = Path(folder)
    known: dict[str, str] = {}
    if listed is not None:
        known = {name: entry["sha256"] for name, entry in listed["files"].items()}
    trees = listed["code"] if listed is not None else {}
    found = []
    stated: dict[str, str | None] = {}
    for identifier, name, sha256 in _stated(folder):
        # What has an absolute URI does not lie in the crate.
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", identifier):
            stated[unquote(identifier)] = sha256
        elif known.get(name, sha256) != sha256:
            text = "the crate's metadata states another sha256 than the manifest"
            found.append(Finding(f"{folder.name}: {name}", Verdict.STALE, text))
    for name, sha256 in sorted(stated.items()):
        path = folder / name
        verdict, text = Verdict.OK, ""
        if not path.is_file():
            verdict, text = Verdict.MISSING, "the crate's metadata names it, and it is gone"
        elif sha256 is None:
            verdict, text = Verdict.TAMPERED, "the crate's metadata states no sha256 of it"
        elif store.sha256(path) != sha256:
            verdict, text = Verdict.TAMPERED, "it is not what the crate's metadata says"
        elif known.get(name, sha256) != sha256 or (
            name in trees and origin.meaning(path) != trees[name]
        ):
            verdict, text = Verdict.STALE, "the manifest names another"
        found.append(Finding(f"{folder.name}/{name}", verdict, text))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in stated and path.name not in (METADATA, manifest.STAMP):
            text = "the crate's metadata does not name it"
            found.append(Finding(f"{folder.name}/{name}", Verdict.UNKNOWN, text))
    if archive is not None:
        found.append(_check_zip(folder, Path(archive)))
    return found


def _stated(folder: Path) -> list[tuple[str, str, str | None]]:
    """Return identifier, name and sha256 of each file that a crate describes."""
    path = folder / METADATA
    try:
        graph = json.loads(path.read_bytes())["@graph"]
        files = [entity for entity in graph if "File" in _listed(entity["@type"])]
        return [(str(e["@id"]), str(e.get("name")), e.get("sha256")) for e in files]
    except OSError as error:
        raise UserError(f"The crate {str(folder)!r} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The metadata {str(path)!r} of the crate is damaged ({error}).") from error


def _check_zip(folder: Path, archive: Path) -> Finding:
    verdict, text = Verdict.OK, ""
    try:
        with zipfile.ZipFile(archive) as file:
            packed = {n: hashlib.sha256(file.read(n)).hexdigest() for n in file.namelist()}
    except FileNotFoundError:
        return Finding(archive.name, Verdict.MISSING, "the crate as a zip file is gone")
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        return Finding(archive.name, Verdict.TAMPERED, f"it is damaged ({error})")
    if packed != {path.relative_to(folder).as_posix(): store.sha256(path) for path in _all(folder)}:
        verdict, text = Verdict.TAMPERED, "it holds other files than the crate's folder"
    return Finding(archive.name, verdict, text)


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != manifest.STAMP)


def _zip(folder: Path, path: Path) -> None:
    """Pack a folder into a zip file whose bytes tell neither when nor where it was made."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for part in _all(folder):
            # The earliest date that the format knows, and the permissions of any file.
            info = zipfile.ZipInfo(part.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            file.writestr(info, part.read_bytes())


# What there is to say


@dataclass
class _Job:
    """What one run of a rule read and wrote: all its outputs carry the same of it."""

    proof: dict[str, Any]
    outputs: list[str] = field(default_factory=list)

    @property
    def rule(self) -> str:
        return str(self.proof["rule"])

    @property
    def wildcards(self) -> dict[str, Any]:
        return dict(self.proof["params"].get("wildcards", {}))

    @property
    def script(self) -> str:
        """The script of the rule."""
        return str(self.proof["script"])


@dataclass
class _Run:
    results: Path
    home: Path
    files: dict[str, dict[str, Any]]
    targets: list[str]
    outside: dict[str, dict[str, Any]]
    project: dict[str, str]
    inside: set[str]
    jobs: list[_Job]
    citation: dict[str, Any]

    @classmethod
    def read(cls, results: Path, home: Path, sources: Iterable[str], limit: int) -> _Run:
        listed = manifest.read(_place(results, manifest.NAME))
        files = dict(listed["files"])
        files[manifest.NAME] = origin.identity(_place(results, manifest.NAME))
        whole = sum(entry["bytes"] for entry in files.values()) <= limit
        outside = dict(listed["outside"])
        jobs = _jobs(results, files)
        # Also that of the job that made the manifest, which the manifest does not list.
        own = {*sources, *listed["lock"], *(name for job in jobs for name in job.proof["code"])}
        # Overlays that lie elsewhere are the user's own: the parameters of the jobs say it all.
        config = [name for job in jobs for name in job.proof.get("config", ())]
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
        said += [(name, origin.meaning(home / name) == digest) for name, digest in sorted(trees)]
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


def _place(results: Path, name: str) -> Path:
    return results / name.removeprefix("results/")


def _jobs(results: Path, files: Iterable[str]) -> list[_Job]:
    """Return the jobs that wrote the files, in an order in which they can have run."""
    jobs: dict[str, _Job] = {}
    makers: dict[str, _Job] = {}
    for name in sorted(files):
        proof = contents.certificate(_place(results, name))
        if proof is not None:
            key = json.dumps([proof["rule"], proof["params"].get("wildcards")], sort_keys=True)
            makers[name] = jobs.setdefault(key, _Job(proof))
            makers[name].outputs.append(name)
    depths: dict[int, int] = {}

    def depth(job: _Job) -> int:
        if id(job) not in depths:
            depths[id(job)] = 0  # a certificate that names its own file ends here
            before = [makers[name] for name in job.proof["inputs"] if name in makers]
            depths[id(job)] = 1 + max(map(depth, before), default=0)
        return depths[id(job)]

    return sorted(jobs.values(), key=lambda job: (depth(job), job.rule, str(job.wildcards)))


# Saying it

Reference = dict[str, str]


class _Builder:
    """The entities of a crate, in an order and with names that the run alone decides."""

    def __init__(self, run: _Run) -> None:
        # Heavy, and only here: the rest of the module checks crates.
        from rocrate.rocrate import ROCrate

        self._run = run
        self._crate = ROCrate(version=RO_CRATE)
        self._crate.metadata.extra_terms.update(TERMS)
        self._ids: dict[str, str] = {}
        self._roles: dict[str, set[str]] = {}

    def build(self) -> Any:
        """Return the crate, ready to be written."""
        run = self._run
        self._ids = {name: self._id(name) for name in [*run.files, *run.outside, *run.project]}
        self._about()
        steps = self._steps()
        tools = [step["workExample"] for step in steps.values()]
        self._software(run.jobs)
        actions = [self._action(job) for job in run.jobs]
        controls = [
            self._add(
                f"#control/{_slug(job)}",
                "ControlAction",
                name=f"Start of {_label(job)}",
                instrument=_ref(steps[job.rule]["@id"]),
                object=_ref(action["@id"]),
            )
            for job, action in zip(run.jobs, actions, strict=True)
        ]
        inputs = self._parameter("#parameter/workflow/inputs", "inputs", "File", many=True)
        outputs = self._parameter("#parameter/workflow/artifacts", "artifacts", "File", many=True)
        artifacts = [part for name in run.targets for part in self._parts(name)]
        for names, role in ((list(run.outside), inputs), (artifacts, outputs)):
            for name in names:
                self._roles.setdefault(self._ids[name], set()).add(role["@id"])
        whole = self._add(
            "#run",
            "CreateAction",
            name="The run of the workflow",
            description="All jobs that led to the final artifacts.",
            instrument=_ref(WORKFLOW),
            object=_refs(self._ids[name] for name in run.outside),
            result=_refs(self._ids[name] for name in artifacts),
            actionStatus="http://schema.org/CompletedActionStatus",
        )
        engines = [pair for pair in sorted(_packages(run.jobs)) if pair[0] == "snakemake"]
        engine = self._add(
            "#engine-run",
            "OrganizeAction",
            name="What Snakemake did",
            instrument=_refs(_package(*pair) for pair in engines),
            object=_refs(control["@id"] for control in controls),
            result=_ref(whole["@id"]),
        )
        mentions = [whole, engine, *actions, *controls]
        self._crate.root_dataset["mentions"] = _refs(entity["@id"] for entity in mentions)
        self._workflow(steps, tools, inputs, outputs)
        self._data()
        return self._crate

    # Entities

    def _add(self, identifier: str, kind: str | list[str], **properties: Any) -> dict[str, Any]:
        from rocrate.model import ContextEntity

        kept = {key: value for key, value in properties.items() if value not in (None, [])}
        entity = ContextEntity(self._crate, identifier, properties={"@type": kind, **kept})
        self._crate.add(entity)
        return dict(entity.as_jsonld())

    def _id(self, name: str) -> str:
        """Return the identifier of a file: its place in the crate, or what it holds."""
        run = self._run
        if name in run.project or name in run.inside:
            return quote(name)
        entry = run.files.get(name) or run.outside[name]
        # A name by content after RFC 6920; that of a folder is of the list of its files.
        digest = base64.urlsafe_b64encode(bytes.fromhex(entry["sha256"])).decode().rstrip("=")
        return f"ni:///sha-256;{digest}"

    def _about(self) -> None:
        """Say what the crate is, and whose."""
        citation = self._run.citation
        root = self._crate.root_dataset
        try:
            root["name"] = f"A run of {citation['title']} {citation['version']}"
            root["description"] = " ".join(str(citation["abstract"]).split())
            # Not when the crate was made: the date is that of the version.
            root["datePublished"] = str(citation["date-released"])
            licence, authors = str(citation["license"]), citation["authors"]
        except KeyError as error:
            raise UserError(
                f"The file {CITATION!r} has no {error.args[0]!r}, which a crate needs."
            ) from error
        root["license"] = self._licence(licence)
        people = []
        for number, author in enumerate(authors, 1):
            whole = " ".join(str(author[k]) for k in ("given-names", "family-names") if k in author)
            kind = "Organization" if "name" in author else "Person"
            identifier = str(author.get("orcid", f"#author/{number}"))
            people.append(self._add(identifier, kind, name=str(author.get("name", whole)))["@id"])
        root["author"] = _refs(people)
        for identifier, name in PROFILES.items():
            version = identifier.rpartition("/")[2]
            self._add(identifier, "CreativeWork", name=name, version=version)
        root["conformsTo"] = _refs(PROFILES)

    def _licence(self, text: str) -> Any:
        """Return a licence: the entity of one that SPDX names, else the words themselves."""
        if not re.fullmatch(r"[A-Za-z0-9.+-]+", text):
            return text
        identifier = f"https://spdx.org/licenses/{text}"
        self._add(identifier, "CreativeWork", name=text, url=identifier)
        return _ref(identifier)

    def _parameter(
        self, identifier: str, name: str, kind: str, *, many: bool = False
    ) -> dict[str, Any]:
        return self._add(
            identifier,
            "FormalParameter",
            name=name,
            additionalType=kind,
            multipleValues="True" if many else None,
            conformsTo=_ref("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
        )

    def _steps(self) -> dict[str, dict[str, Any]]:
        """Return the step of each rule; its position is when its first job can run."""
        steps: dict[str, dict[str, Any]] = {}
        for job in self._run.jobs:
            if job.rule not in steps:
                steps[job.rule] = self._add(
                    f"#step/{quote(job.rule)}",
                    "HowToStep",
                    name=job.rule,
                    position=str(len(steps) + 1),
                    workExample=_ref(quote(job.script)),
                )
        return steps

    def _software(self, jobs: Sequence[_Job]) -> None:
        for name, version in sorted(_packages(jobs)):
            identifier = _package(name, version)
            self._add(identifier, "SoftwareApplication", name=name, softwareVersion=version)

    def _action(self, job: _Job) -> dict[str, Any]:
        """Return one job: what it ran, read and wrote, with the parameters it was given."""
        proof, rule = job.proof, quote(job.rule)
        given = {**proof["params"], "device": proof["device"], "commit": proof["commit"]}
        values = []
        for name, value in sorted(given.items()):
            role = self._parameter(f"#parameter/{rule}/{quote(name)}", name, _kind(value))
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            identifier = f"#value/{rule}/{quote(name)}/{digest}"
            self._add(
                identifier, "PropertyValue", name=name, value=text, exampleOfWork=_ref(role["@id"])
            )
            values.append(identifier)
        for slot in ("reads", "writes"):
            for keyword, names in proof[slot].items():
                self._role(job, slot, keyword, [names] if isinstance(names, str) else names)
        read = [part for name in proof["inputs"] for part in self._parts(name)]
        return self._add(
            f"#job/{_slug(job)}",
            "CreateAction",
            name=_label(job),
            description=f"One job of the rule {job.rule!r}, on {proof['device']}.",
            instrument=_ref(quote(job.script)),
            object=_refs([*(self._ids[name] for name in read), *values]),
            result=_refs(self._ids[name] for name in job.outputs),
            actionStatus="http://schema.org/CompletedActionStatus",
        )

    def _role(self, job: _Job, slot: str, keyword: str, names: Sequence[str]) -> None:
        """Say of files as what a rule reads or writes them."""
        if not names:
            return
        identifier = f"#parameter/{quote(job.rule)}/{slot}/{quote(keyword)}"
        self._parameter(identifier, keyword, "File", many=len(names) != 1)
        for name in names:
            for part in self._parts(name):
                self._roles.setdefault(self._ids[part], set()).add(identifier)

    def _parts(self, name: str) -> list[str]:
        """Return a file, or the files of a folder of the results."""
        if name in self._ids:
            return [name]
        return [part for part in self._run.files if part.startswith(f"{name}/")]

    def _workflow(
        self,
        steps: Mapping[str, Mapping[str, Any]],
        tools: Sequence[Reference],
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
    ) -> None:
        run = self._run
        properties = {
            **self._facts(WORKFLOW, run.project[WORKFLOW], (run.home / WORKFLOW).stat().st_size),
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": str(run.citation["title"]),
            "version": str(run.citation["version"]),
            "license": self._crate.root_dataset.as_jsonld()["license"],
            "conformsTo": _ref("https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"),
            "step": _refs(step["@id"] for step in steps.values()),
            "hasPart": _refs(tool["@id"] for tool in tools),
            "input": _ref(inputs["@id"]),
            "output": _ref(outputs["@id"]),
        }
        self._crate.add_workflow(
            run.home / WORKFLOW, WORKFLOW, properties=properties, main=True, lang="snakemake"
        )

    # Files

    def _data(self) -> None:
        """Add all files: those of the project, those of the results, and what lies elsewhere."""
        run = self._run
        tools: dict[str, list[_Job]] = {}
        for job in run.jobs:
            tools.setdefault(job.script, []).append(job)
        for name, sha256 in run.project.items():
            if name != WORKFLOW:
                path = run.home / name
                properties = self._facts(name, sha256, path.stat().st_size)
                if name.endswith(".py"):
                    properties |= {
                        "@type": ["File", "SoftwareSourceCode"],
                        "version": str(run.citation["version"]),
                        "programmingLanguage": "Python",
                    }
                if name == "README.md":
                    properties["about"] = _ref("./")
                if name in tools:
                    properties |= self._tool(name, tools[name])
                self._crate.add_file(path, name, properties=properties)
        works = self._works()
        for name, entry in sorted({**run.files, **run.outside}.items()):
            properties = self._facts(name, entry["sha256"], entry["bytes"])
            properties |= works.get(name, {})
            if name in run.inside:
                self._crate.add_file(_place(run.results, name), name, properties=properties)
            else:
                self._named(name, properties)

    def _facts(self, name: str, sha256: str, size: int) -> dict[str, Any]:
        other = "text/plain" if name in self._run.project else "application/octet-stream"
        roles = sorted(self._roles.get(self._ids[name], ()))
        facts = {
            "name": name,
            "sha256": sha256,
            "contentSize": str(size),
            "encodingFormat": TYPES.get(Path(name).suffix, other),
            "exampleOfWork": _refs(roles),
        }
        return {key: value for key, value in facts.items() if value}

    def _named(self, name: str, properties: dict[str, Any]) -> None:
        """Add a file or folder that does not lie in the crate; equal ones are one entity."""
        from rocrate.model import DataEntity

        known = self._crate.get(self._ids[name])
        if known is not None:
            known.append_to("alternateName", name, compact=True)
            return
        kind = "File"
        if name in self._run.outside and (self._run.home / name).is_dir():
            # Its hash is of the list of its files.
            kind, properties["identifier"] = "Dataset", properties.pop("sha256")
        properties = {"@type": kind, **properties}
        self._crate.add(DataEntity(self._crate, self._ids[name], properties=properties))

    def _tool(self, name: str, jobs: Sequence[_Job]) -> dict[str, Any]:
        """Return what a script is made of: its modules, packages and parameters."""
        code = {part for job in jobs for part in job.proof["code"]} - {name}
        prefix = f"#parameter/{quote(jobs[0].rule)}/"
        known = [e.id for e in self._crate.get_entities() if e.id.startswith(prefix)]
        return {
            "hasPart": _refs(quote(part) for part in sorted(code)),
            "softwareRequirements": _refs(_package(*pair) for pair in sorted(_packages(jobs))),
            "input": _refs(sorted(i for i in known if not i.startswith(f"{prefix}writes/"))),
            "output": _refs(sorted(i for i in known if i.startswith(f"{prefix}writes/"))),
        }

    def _works(self) -> dict[str, dict[str, Any]]:
        """Return of each file that holds others' work what the registry says of that work."""
        found: dict[str, dict[str, Any]] = {}
        for job in self._run.jobs:
            if job.rule not in REGISTRIES:
                continue
            place, key = REGISTRIES[job.rule]
            given = {**job.proof["params"], **job.wildcards}
            row = _row(self._run, place, str(given.get(key)))
            if row is None:
                continue
            licence = self._licence(row["licence"])
            work = self._add(
                f"#work/{Path(place).stem}/{quote(row['name'])}",
                "CreativeWork",
                name=row["name"],
                citation=row["reference"],
                license=licence,
                url=_compact([url for url in row["urls"].split() if "://" in url]),
            )
            said = {"isBasedOn": _ref(work["@id"]), "license": licence}
            read = [part for name in job.proof["inputs"] for part in self._parts(name)]
            found |= {name: said for name in [*job.outputs, *read]}
        return found


def _row(run: _Run, name: str, entry: str) -> dict[str, str] | None:
    """Return an entry of a registry of the project, where it has one."""
    return registry.read(run.home / name).get(entry) if name in run.project else None


def _package(name: str, version: str) -> str:
    """Return the package URL of an installed package: a name for it that tools agree on."""
    return f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{quote(version)}"


def _packages(jobs: Iterable[_Job]) -> set[tuple[str, str]]:
    """Return name and version of the packages that jobs ran with."""
    return {pair for job in jobs for pair in job.proof["versions"].items()}


def _slug(job: _Job) -> str:
    parts = [job.rule, *(f"{key}={value}" for key, value in sorted(job.wildcards.items()))]
    return "/".join(quote(part, safe="=") for part in parts)


def _label(job: _Job) -> str:
    parts = ", ".join(f"{key} {value}" for key, value in sorted(job.wildcards.items()))
    return f"{job.rule} ({parts})" if parts else job.rule


def _kind(value: Any) -> str:
    """Return the type of a parameter's value; lists and mappings are JSON text."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    return "Float" if isinstance(value, float) else "Text"


def _ref(identifier: str) -> Reference:
    return {"@id": identifier}


def _refs(identifiers: Iterable[str]) -> Any:
    """Return references to entities, each once, in the order given; of one, itself."""
    return _compact([_ref(identifier) for identifier in dict.fromkeys(identifiers)])


def _compact(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
