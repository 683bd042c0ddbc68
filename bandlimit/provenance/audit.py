"""Is a file what its certificate says, and so on back to images, weights, code and settings?

An audit starts at a file of the results, or at a copy of one that came by mail, and walks from
certificate to certificate to the leaves. Each step is an edge with a verdict. It reads files and
nothing else: no workflow system, no repository, no card, nothing written.

| verdict | meaning |
|---|---|
| OK | the file is the one that the certificate names |
| STALE | it is sound, but not the one that was used: it was changed or made again since |
| MISSING | it is not there, or what could decide is not |
| TAMPERED | it contradicts its own certificate, or has none and is not the file that was used |
| NOT COMPARED | nothing could be made again to compare with, such as measured times |
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bandlimit.config import overlays
from bandlimit.config.run import Run
from bandlimit.errors import UserError, suggest
from bandlimit.files import certificates, contents, own_code, store
from bandlimit.plan import code, jobs, last, load
from bandlimit.provenance import origin, own_sources, replay, samples
from bandlimit.provenance.verdicts import Verdict
from bandlimit.studies.artifact import MEASURED, REDRAWN, SAMPLED

LEVELS = ("meta", "hash", "redraw", "sample")
"""How deep an audit looks; each does what the one before does.

`meta` reads certificates and sizes only; `hash` hashes every file on the way, and what it holds;
`redraw` makes the audited file again from its inputs; `sample` attacks and judges a few images.
"""

PROJECT = ("bandlimit", "scripts", "workflow")
"""Folders of the project whose files change by honest work: another content there is STALE."""


@dataclass(frozen=True)
class Edge:
    """One step from a file to something it rests on.

    Attributes:
        kind: 'content' (the file against its own certificate), 'certificate' (that against its
            seal, at level `meta`), 'copy' (a lone file against the
            results), 'input', 'code', 'lock', 'versions' (those that ran against the lock),
            'settings', 'redraw' or 'sample'.
        name: what the step leads to.
        verdict: what became of it.
        detail: why, where there is more to say.
    """

    kind: str
    name: str
    verdict: Verdict
    detail: str = ""


@dataclass
class Node:
    """A file on the way.

    Attributes:
        name: as certificates name it.
        path: where it lies, or would.
        rule: the rule that made it; None for a leaf.
        edges: what it rests on.
    """

    name: str
    path: str
    rule: str | None
    edges: list[Edge] = field(default_factory=list)


@dataclass
class Audit:
    """What an audit of one file found; `nodes` holds the file itself first, by name."""

    file: str
    level: str
    nodes: dict[str, Node]

    def findings(self) -> Iterator[tuple[Node, Edge]]:
        """Yield what is not OK."""
        for node in self.nodes.values():
            yield from ((node, edge) for edge in node.edges if edge.verdict != Verdict.OK)

    def counts(self) -> dict[Verdict, int]:
        """Return how many edges have each verdict, those that occur."""
        count = Counter(edge.verdict for node in self.nodes.values() for edge in node.edges)
        return {verdict: count[verdict] for verdict in reversed(Verdict) if count[verdict]}

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all edges."""
        found = {edge.verdict for node in self.nodes.values() for edge in node.edges}
        return next((verdict for verdict in Verdict if verdict in found), Verdict.OK)

    @property
    def status(self) -> int:
        """Exit status: 0 all OK, 1 something differs, 2 nothing differs but files are missing."""
        return {Verdict.OK: 0, Verdict.NOT_COMPARED: 0, Verdict.MISSING: 2}.get(self.verdict, 1)

    def as_dict(self) -> dict[str, Any]:
        """Return the audit for JSON."""
        return {
            "file": self.file,
            "level": self.level,
            "verdict": self.verdict,
            "status": self.status,
            "counts": self.counts(),
            "nodes": [asdict(node) for node in self.nodes.values()],
        }


class Auditor:
    """Audits files of one results tree; what it learns of a file serves all audits.

    Args:
        results: folder of the results; by default found from the file, else `results` here.
        home: folder of the project, with code, lock and configuration; by default the folder that
            holds the results, or this one.
        level: one of `LEVELS`.
        configfiles: configuration files to hold params against, instead of those that certificates
            name.
        overrides: what is set besides, likewise.
        images: how many images of each set `sample` attacks and judges again.
        seed: which ones.
        tolerance: how far a number may be off at level `sample`; None takes that of `replay`.

    Raises:
        UserError: there is no such level, or a folder does not exist.
    """

    def __init__(
        self,
        results: str | os.PathLike[str] | None = None,
        home: str | os.PathLike[str] | None = None,
        *,
        level: str = "hash",
        configfiles: Sequence[str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        images: int = 2,
        seed: int = 0,
        tolerance: float | None = None,
    ) -> None:
        if level not in LEVELS:
            raise UserError(f"There is no audit level {level!r}; {suggest(level, LEVELS)}.")
        for name, folder in (("results", results), ("home", home)):
            if folder is not None and not os.path.isdir(folder):
                raise UserError(f"--{name} must be an existing folder, got {os.fspath(folder)!r}.")
        self.level = level
        self._results = None if results is None else Path(results)
        self._home = None if home is None else Path(home)
        self._configfiles = configfiles
        self._overrides = overrides
        self._replay = {"images": images, "seed": seed, "tolerance": tolerance}
        self._facts: dict[Path, _Facts] = {}
        self._edges: dict[tuple[str, str], list[Edge]] = {}
        self._hashes: dict[Path, str | None] = {}
        self._trees: dict[Path, str | None] = {}
        self._runs: dict[str, Run | UserError | FileNotFoundError] = {}
        self._replayed: dict[str, list[Edge]] = {}

    def audit(self, path: str | os.PathLike[str]) -> Audit:
        """Audit one file.

        Raises:
            UserError: the file is missing, damaged, or carries no certificate; or its results are
                nowhere to be found.
        """
        if os.path.isdir(path):
            raise UserError(
                f"{os.fspath(path)!r} is a folder: name files in it, or hold the whole tree "
                "against its manifest by 'bandlimit verify'."
            )
        first = contents.certificate(path)
        if first is None:
            raise UserError(
                f"The file {os.fspath(path)!r} carries no certificate of this workflow: it is not "
                "one of its results, or a program saved it again without the certificate."
            )
        if odd := _malformed(first):
            raise UserError(
                f"This version can't read the certificate of {os.fspath(path)!r}: {odd}."
            )
        target = first["file"]
        places = self._places(Path(path), target)
        nodes: dict[str, Node] = {}
        proofs = {target: first}
        waiting = [target]
        while waiting:
            name = waiting.pop()
            if name in nodes:
                continue
            place = Path(path) if name == target else places(name)
            proof = proofs.get(name) or self._at(place).certificate
            nodes[name] = Node(name, os.fspath(place), None if proof is None else proof["rule"])
            if proof is not None:
                proofs[name] = proof
                waiting += sorted(proof["inputs"], reverse=True)
        self._look({Path(node.path) for node in nodes.values()})
        for name, node in nodes.items():
            if name in proofs:
                node.edges = [*self._known(node, proofs[name], places)]
        if places(target).resolve() != Path(path).resolve():
            nodes[target].edges.insert(0, self._copy(first, Path(path), places(target)))
        if self.level in ("redraw", "sample"):
            self._run_again(nodes, proofs, target)
        return Audit(target, self.level, nodes)

    def _places(self, path: Path, target: str) -> Any:
        """Return a function from names to places."""
        results = self._results
        parts = Path(target).parts[1:]
        # As it is named, since the results may be a link to another disk.
        whole = Path(os.path.abspath(path))
        if results is None and parts and whole.parts[-len(parts) :] == parts:
            results = whole.parents[len(parts) - 1]
        if results is None:
            results = Path("results")
            if not results.is_dir():
                raise UserError(
                    f"The results that {os.fspath(path)!r} belongs to are not here: name their "
                    "folder by --results."
                )
        home = self._home
        if home is None:
            beside = Path(os.path.abspath(results)).parent
            candidates = (beside, results.resolve().parent, Path.cwd())
            home = next((c for c in candidates if (c / "bandlimit").is_dir()), candidates[0])
        self._project = home

        def place(name: str) -> Path:
            if name.startswith("results/"):
                return results / name.removeprefix("results/")
            return home / name

        self._tree = results
        return place

    # Facts of files

    def _at(self, path: Path) -> _Facts:
        if path not in self._facts:
            self._facts[path] = _Facts.of(path)
        return self._facts[path]

    def _look(self, paths: set[Path]) -> None:
        """Learn of files what the level asks for, several at once."""
        if self.level == "meta":
            return
        new = [p for p in sorted(paths) if not self._at(p).hashed]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda path: self._at(path).hash(), new))

    def _sha256(self, path: Path) -> str | None:
        """Return the sha256 of a file such as the lock, or None where it is missing."""
        if path not in self._hashes:
            self._hashes[path] = store.sha256(path) if path.is_file() else None
        return self._hashes[path]

    def _meaning(self, path: Path) -> str | None:
        """Return the digest of what a file of code means, or None where it is missing."""
        if path not in self._trees:
            self._trees[path] = origin.meaning(path)
        return self._trees[path]

    # Edges

    def _known(self, node: Node, proof: Mapping[str, Any], places: Any) -> list[Edge]:
        """Return the edges of a file; audits of one run share most files on the way."""
        key = (node.path, str(proof.get("seal")))
        if key not in self._edges:
            self._edges[key] = list(self._own(node, proof, places))
        return self._edges[key]

    def _own(self, node: Node, proof: Mapping[str, Any], places: Any) -> Iterator[Edge]:
        path = Path(node.path)
        if self.level == "meta":
            fault = contents.disagreement(proof, proof["content"])
        else:
            fault = self._at(path).fault
        remark = self._at(path).remark
        kind = "certificate" if self.level == "meta" else "content"
        yield Edge(kind, node.name, Verdict.TAMPERED if fault else Verdict.OK, fault or remark)
        yield self._settings(proof)
        for kind, digest in (("code", self._meaning), ("lock", self._sha256)):
            for name, recorded in proof[kind].items():
                found = digest(places(name))
                verdict = {recorded: Verdict.OK, None: Verdict.MISSING}.get(found, Verdict.STALE)
                detail = {
                    Verdict.STALE: "it was changed since",
                    Verdict.MISSING: "it is not there",
                }
                yield Edge(kind, name, verdict, detail.get(verdict, ""))
        yield from self._versions(proof, places)
        for name, recorded in proof["inputs"].items():
            yield self._input(name, recorded, places(name))

    def _input(self, name: str, recorded: Mapping[str, Any], path: Path) -> Edge:
        facts = self._at(path)
        own = facts.certificate
        content, seal = recorded.get("content"), recorded.get("seal")
        if not facts.exists:
            return Edge("input", name, Verdict.MISSING, "it is not there")
        if facts.fault:
            return Edge("input", name, Verdict.TAMPERED, facts.fault)
        if self.level == "meta":
            # What a certificate says of its content; of the rest the size, unless it is a folder.
            if content is None and facts.size in (None, recorded["bytes"]):
                return Edge("input", name, Verdict.OK)
            if own is not None and (own["content"], own["seal"]) == (content, seal):
                return Edge("input", name, Verdict.OK)
        elif facts.sha256 == recorded["sha256"]:
            return Edge("input", name, Verdict.OK)
        same = content is not None and content == facts.held(self.level)
        if own is None and same:
            return Edge(
                "input", name, Verdict.MISSING, "the same content, but its certificate is gone"
            )
        if own is not None and own["file"] != name:
            return Edge("input", name, Verdict.TAMPERED, f"it is another result: {own['file']}")
        if own is not None and own["seal"] == seal and same:
            return Edge("input", name, Verdict.OK, "other bytes, but the same content")
        if own is not None:
            but = "of the same content, but made otherwise" if same else "with other content"
            return Edge("input", name, Verdict.STALE, f"it was made again since, {but}")
        if Path(name).parts[0] in PROJECT:
            return Edge("input", name, Verdict.STALE, "it was changed since")
        return Edge("input", name, Verdict.TAMPERED, "it is not the file that was used")

    def _versions(self, proof: Mapping[str, Any], places: Any) -> Iterator[Edge]:
        """Hold the versions of packages that ran against those of the lock, if it is the same."""
        for name, recorded in proof["lock"].items():
            if self._sha256(places(name)) != recorded:
                continue
            other = code.deviations(places(name), proof.get("versions", {}))
            verdict = Verdict.STALE if other else Verdict.OK
            yield Edge("versions", name, verdict, "; ".join(other))

    def _settings(self, proof: Mapping[str, Any]) -> Edge:
        """Hold the params of a job against what the configuration would give it today."""
        files = list(self._configfiles or proof.get("config", ["config.yaml"]))
        name = " + ".join(file if isinstance(file, str) else file["name"] for file in files)
        here = [file for file in files if isinstance(file, str)]
        missing = [file for file in here if not (self._project / file).is_file()]
        if missing:
            return Edge("settings", name, Verdict.MISSING, f"{missing[0]} is not there")
        own = proof.get("overrides", {})
        run = self._run(files, own if self._overrides is None else self._overrides)
        if isinstance(run, FileNotFoundError):
            name = os.path.relpath(run.filename, self._project)
            return Edge("settings", name, Verdict.MISSING, "it is not there, and says what is set")
        if isinstance(run, UserError):
            return Edge("settings", name, Verdict.STALE, f"the configuration is refused: {run}")
        recorded = dict(proof["params"])
        wildcards = SimpleNamespace(**recorded.pop("wildcards", {}))
        try:
            with own_code.named_from(self._project):
                given = json.loads(json.dumps(jobs.identity(run, proof["rule"], wildcards)))
        except UserError as error:
            return Edge("settings", name, Verdict.STALE, str(error))
        except (KeyError, AttributeError, IndexError, StopIteration):
            return Edge(
                "settings", name, Verdict.STALE, "the configuration has no such job any more"
            )
        if given.get("files", "") is None:
            # The listing of a folder that is elsewhere; what it held is an input of its own.
            given["files"] = recorded.get("files")
        differences = list(_differences(recorded, given))
        if not differences:
            return Edge("settings", name, Verdict.OK)
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        return Edge("settings", name, Verdict.STALE, f"{differences[0]}{more}")

    def _run(
        self, files: Sequence[Any], overrides: Mapping[str, Any]
    ) -> Run | UserError | FileNotFoundError:
        key = json.dumps([files, overrides, os.fspath(self._project)])
        if key not in self._runs:
            try:
                config: dict[str, Any] = {}
                for file in files:
                    if isinstance(file, str):
                        overlays.lay_over(config, overlays.read([self._project / file]))
                    else:
                        # It lay elsewhere, and the certificate holds it whole.
                        overlays.lay_over(config, file["values"])
                overlays.lay_over(config, overrides)
                with own_code.named_from(self._project):
                    self._runs[key] = load.load(config, self._project, files=False)
            # Of a project that is not here, its schemas and registries are missing.
            except (UserError, FileNotFoundError) as error:
                self._runs[key] = error
        return self._runs[key]

    def _copy(self, proof: Mapping[str, Any], given: Path, path: Path) -> Edge:
        """Hold a lone file against the one of its name in the results."""
        inside = Path(os.path.abspath(given)), Path(os.path.abspath(self._tree))
        crate = inside[1] / "provenance"
        if inside[0].is_relative_to(inside[1]) and not inside[0].is_relative_to(crate):
            detail = f"it lies where another result belongs, at {os.fspath(given)}"
            return Edge("copy", proof["file"], Verdict.TAMPERED, detail)
        facts = self._at(path)
        if not facts.exists:
            return Edge("copy", proof["file"], Verdict.MISSING, "the results have no such file")
        own = facts.certificate or {}
        if own.get("seal") == proof.get("seal"):
            return Edge("copy", proof["file"], Verdict.OK)
        if own.get("content") == proof.get("content"):
            return Edge(
                "copy", proof["file"], Verdict.STALE, "the results hold it from another run"
            )
        return Edge("copy", proof["file"], Verdict.STALE, "the results hold another version of it")

    # Making again

    def _run_again(self, nodes: dict[str, Node], proofs: Mapping[str, Any], target: str) -> None:
        where: dict[str, Any] = {
            "results": self._tree.resolve(),
            "home": self._project.resolve(),
            "own": self._own_sources(),
        }
        done: set[str] = set()
        if jobs.replay_kind(proofs[target]["rule"]) is None:
            detail = f"what the rule {proofs[target]['rule']!r} makes is not made again"
            nodes[target].edges.append(Edge("redraw", target, Verdict.NOT_COMPARED, detail))
        for name, node in nodes.items():
            proof = proofs.get(name)
            if proof is None:
                continue
            again = jobs.replay_kind(proof["rule"])
            redrawn = name == target and again in (REDRAWN, MEASURED)
            sampled = self.level == "sample" and again == SAMPLED
            if not redrawn and not sampled:
                continue
            # A job may have several outputs on the way; a mailed copy may be of another run of it.
            own = ("file", "content", "seal")
            job = json.dumps({k: v for k, v in proof.items() if k not in own}, sort_keys=True)
            if job in done:
                continue
            done.add(job)
            if job not in self._replayed:
                kind = "redraw" if redrawn else "sample"
                found = (
                    replay.redraw(proof, **where)
                    if redrawn
                    else samples.sample(proof, **where, **self._options())
                )
                self._replayed[job] = [Edge(kind, f.file, f.verdict, f.detail) for f in found]
            node.edges += self._judged(node, proof, self._replayed[job])

    def _own_sources(self) -> frozenset[str]:
        """Return the code of the user's own that may run: what the project itself names.

        By the configuration that the audit was given, else that of the last run here; never by one
        that a certificate names or holds, since whoever wrote it chose that.
        """
        if self._configfiles is not None:
            given = last.Given(self._configfiles, self._overrides or {})
        else:
            noted = last.noted(self._project) or last.Given()
            given = last.Given(
                [last.CONFIG, *noted.configfiles],
                noted.overrides if self._overrides is None else self._overrides,
            )
        run = self._run(given.configfiles, given.overrides)
        return own_sources.named(run) if isinstance(run, Run) else frozenset()

    def _judged(self, node: Node, proof: Mapping[str, Any], found: list[Edge]) -> list[Edge]:
        """Return what was made again; a difference proves nothing where other code made it."""
        causes = [
            e for e in node.edges if e.kind in ("input", "code", "lock") and e.verdict != Verdict.OK
        ]
        other = code.versions()
        drifted = [p for p, v in proof.get("versions", {}).items() if other.get(p, v) != v]
        if not causes and not drifted:
            return found
        why = f"{causes[0].name} is another" if causes else f"{drifted[0]} is {other[drifted[0]]}"
        return [
            replace(e, verdict=Verdict.NOT_COMPARED, detail=f"{e.detail} But {why} now.")
            if e.verdict == Verdict.TAMPERED
            else e
            for e in found
        ]

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self._replay.items() if value is not None}


class _Facts:
    """What is known of a file; hashes only once they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Nothing else has an end, such as a device that a forged certificate names.
        self.exists = path.is_file() or path.is_dir()
        self.size: int | None = None
        self.certificate: dict[str, Any] | None = None
        self.fault: str | None = None
        self.remark = ""
        self.sha256: str | None = None
        self.content: str | None = None
        self.hashed = not self.exists

    @classmethod
    def of(cls, path: Path) -> _Facts:
        facts = cls(path)
        if path.is_file():
            facts.size = path.stat().st_size
            try:
                facts.certificate = contents.certificate(path)
            except UserError as error:
                facts.fault = str(error)
            if facts.certificate is not None and (odd := _malformed(facts.certificate)):
                facts.certificate, facts.fault = None, f"its certificate can't be read: {odd}"
        return facts

    def held(self, level: str) -> str | None:
        """Return the digest of what the file holds; by its own word at level `meta`."""
        if level == "meta":
            return None if self.certificate is None else self.certificate["content"]
        if self.content is None and self.path.is_file():
            self.content = contents.examine(self.path)[1]
        return self.content

    def hash(self) -> None:
        self.hashed = True
        self.sha256 = origin.identity(self.path, content=False)["sha256"]
        if self.certificate is not None and self.fault is None:
            self.fault, self.content = contents.examine(self.path)
            self.remark = contents.habits(self.path) or ""


_FORM = {
    **{name: str for name in ("file", "content", "seal", "rule", "script")},
    **{name: dict for name in ("params", "writes", "inputs", "code", "lock", "versions")},
    "config": list,
    "overrides": dict,
}
"""What the audit reads of a certificate."""


def _malformed(proof: Mapping[str, Any]) -> str | None:
    """Return why a certificate can't be followed, or None."""
    if proof.get("format") != certificates.FORMAT:
        return f"its format is {proof.get('format')!r}, and {certificates.FORMAT} is known"
    for name, kind in _FORM.items():
        if not isinstance(proof.get(name), kind):
            return f"its {name!r} is {proof.get(name)!r}"
    if not isinstance(proof["params"].get("wildcards", {}), dict):
        return "its wildcards are not a mapping"
    for file in proof["config"]:
        if not isinstance(file, str) and not {"name", "values"} <= set(file):
            return f"its configuration {file!r} is not a file"
    own = [proof["file"], *proof["code"], *proof["lock"]]
    for name in [*own, *proof["inputs"]]:
        if ".." in Path(name).parts or (name in own and os.path.isabs(name)):
            return f"it names {name!r}, which leads out of its folder"
        if Path(name).parts[:2] in (("/", "proc"), ("/", "sys"), ("/", "dev")):
            return f"it names {name!r}, which is no file of data"
    for name, recorded in {**proof["code"], **proof["lock"]}.items():
        if not isinstance(recorded, str):
            return f"its {name!r} has no digest"
    for name, recorded in proof["inputs"].items():
        if not isinstance(recorded, dict) or not {"sha256", "bytes"} <= set(recorded):
            return f"its input {name!r} has no sha256 and size"
    return None


def _differences(recorded: Any, given: Any, place: str = "") -> Iterator[str]:
    """Yield where two params differ, the configuration's second."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*recorded, *given]):
            missing = object()
            one, two = recorded.get(name, missing), given.get(name, missing)
            where = f"{place}.{name}" if place else str(name)
            if two is missing:
                yield f"{where} was {_short(one)}, and is not set any more"
            elif one is missing:
                yield f"{where} was not set, and is {_short(two)} now"
            else:
                yield from _differences(one, two, where)
    elif isinstance(recorded, list) and isinstance(given, list) and len(recorded) == len(given):
        for i, (one, two) in enumerate(zip(recorded, given, strict=True)):
            yield from _differences(one, two, f"{place}[{i}]")
    elif recorded != given:
        yield f"{place} was {_short(recorded)}, and is {_short(given)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# For readers


def text(audit: Audit) -> str:
    """Return an audit as a tree for a terminal: each file once, with what is wrong beside it."""
    lines: list[str] = []
    seen: set[str] = set()

    def show(name: str, verdict: str, detail: str, lead: str, rest: str) -> None:
        node = audit.nodes.get(name)
        rule = f"  by {node.rule}" if node is not None and node.rule else ""
        again = node is not None and name in seen and bool(node.rule)
        seen.add(name)
        note = f"  ({detail})" if detail else ""
        lines.append(f"{lead}{verdict:8} {name}{rule}{'  (above)' if again else ''}{note}")
        if node is None or again:
            return
        own = [edge for edge in node.edges if edge.kind != "input"]
        inputs = [edge for edge in node.edges if edge.kind == "input"]
        wrong = [edge for edge in own if edge.verdict != Verdict.OK]
        kinds = Counter(edge.kind for edge in own if edge.verdict == Verdict.OK)
        if kinds:
            parts = [kind if n == 1 else f"{kind} ({n})" for kind, n in kinds.items()]
            lines.append(f"{rest}   OK       {', '.join(parts)}")
        wrong += [edge for edge in own if edge.kind == "content" and edge not in wrong]
        for edge in (e for e in wrong if e.detail or e.verdict != Verdict.OK):
            lines.append(f"{rest}   {edge.verdict:8} {edge.kind} {edge.name}  ({edge.detail})")
        for i, edge in enumerate(inputs):
            last = i == len(inputs) - 1
            show(
                edge.name,
                edge.verdict,
                edge.detail,
                f"{rest}{'└─' if last else '├─'} ",
                f"{rest}{'  ' if last else '│ '} ",
            )

    edges = [edge for edge in audit.nodes[audit.file].edges if edge.kind != "input"]
    own = min((edge.verdict for edge in edges), key=list(Verdict).index)
    show(audit.file, own, "" if own == audit.verdict else f"{audit.verdict} below", "", "")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in audit.counts().items())
    lines.append("")
    lines.append(f"{audit.verdict}: {len(audit.nodes)} files on the way, {counts}.")
    # One cause may show at many files, such as a module that they all ran.
    causes: dict[Edge, list[str]] = {}
    for node, edge in audit.findings():
        causes.setdefault(edge, []).append(node.name)
    for edge, names in causes.items():
        of = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        what = "" if names == [edge.name] else f", {edge.kind} of {of}"
        lines.append(f"  {edge.verdict}: {edge.name}{what}: {edge.detail}")
    if all(
        e.verdict == Verdict.MISSING
        for n in audit.nodes.values()
        for e in n.edges
        if e.kind == "lock"
    ):
        lines.append("The project with its code and lock is not here: name its folder by --home.")
    # A forged name must not look like a line of ours, nor move the cursor.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)
