"""The pages of the site: an index, and for each file on the way back a page of its lineage.

The index begins with what was found: of each document a sentence, a picture and the verdicts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
from PIL import Image

from bandlimit.claims import ledger
from bandlimit.claims.grammar import PARTS
from bandlimit.claims.wording import number
from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, store
from bandlimit.provenance import explain
from bandlimit.site import artifacts, browser, defense, front
from bandlimit.site.artifacts import Artifact

TITLE = "Bandlimit: what holds, and where each number comes from"
COMMENT = "<!-- {} -->"

NAMED = 8
"""Files that a warning names; of more it says how many there are."""


def write(
    index: str | os.PathLike[str],
    pages: str | os.PathLike[str],
    *,
    claims: str | os.PathLike[str],
    documents: Sequence[str | os.PathLike[str]],
    files: Sequence[str | os.PathLike[str]],
    captions: Sequence[str | os.PathLike[str]],
    certificate: Mapping[str, Any],
    faces: Mapping[str, str | os.PathLike[str]] | None = None,
    defenses: Sequence[str | os.PathLike[str]] = (),
    page: str | os.PathLike[str] | None = None,
    choice: browser.Choice | None = None,
    report: front.Page | None = None,
    alarms: Sequence[str] = (),
) -> None:
    """Write the site; what the folder of its pages held before is gone.

    Args:
        index: the page to begin with, in the folder of the results.
        pages: folder of all other pages and pictures, beside it.
        claims: the ledger as Parquet.
        documents: the claims files that its rows come from, in the order of the page.
        files: those of tables and figures, in all their forms, in the order of the page.
        captions: templates of captions, each with the name of its artifact in a folder of its
            study.
        certificate: proof of origin.
        faces: of a study the picture that stands for it, one of the files.
        defenses: pages of the defences that were examined, as HTML; the Markdown lies beside it.
        page: the ledger as a page.
        choice: images to show one by one, if any.
        report: the front page of Snakemake's report, if it is to be written too.
        alarms: sentences that no reader of any page may miss.

    Raises:
        UserError: a file is missing or damaged.
        ValueError: a claim is of none of the documents.
    """
    site = _Site(Path(index), Path(pages), certificate)
    shutil.rmtree(pages, ignore_errors=True)
    shown = artifacts.read([site.name(path) for path in files], captions, site.root)
    frame = store.read(claims).to_pandas()
    named = {study: [site.name(path)] for study, path in (faces or {}).items()}
    told = ledger.page(frame, documents, named, alarms)
    told["file"] = site.name(claims)
    way = _Files(site.root, [site.name(claims), *(a.primary for a in shown)])
    site.learn(way, shown, told, certificate)
    site.write_lineages()
    site.write_index(shown, site.name(page) if page else None, choice, defenses)
    if report:
        front.write(report, told, site.root, certificate)


class _Files:
    """All files on the ways back from some, what jobs read of each, and what was made from it."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.root = root
        self.certificates: dict[str, dict[str, Any] | None] = {}
        self.read: dict[str, dict[str, dict[str, Any]]] = {}
        """Of each file what jobs read, by sha256: one entry, unless it changed in between."""
        self.children: dict[str, set[str]] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self.certificates:
                continue
            self.certificates[name] = proof = self._certificate(name)
            for parent, known in (proof["inputs"] if proof else {}).items():
                self.saw(parent, known)
                self.children.setdefault(parent, set()).add(name)
                waiting.append(parent)

    def saw(self, name: str, known: Mapping[str, Any]) -> None:
        """Note what a job read."""
        self.read.setdefault(name, {})[known["sha256"]] = dict(known)

    def _certificate(self, name: str) -> dict[str, Any] | None:
        # A user's own data may be a folder; what is damaged is named on the page.
        try:
            place = self.root / name
            found = contents.certificate(place) if place.is_file() else None
        except UserError:
            return None
        return found if found and found.get("format") == certificates.FORMAT else None


class _Site:
    """Where the pages lie, and what they share."""

    def __init__(self, index: Path, pages: Path, certificate: Mapping[str, Any]) -> None:
        self.index = index
        self.pages = pages
        self.root = Path(os.path.abspath(index)).parent.parent
        self.results = Path(os.path.abspath(index)).parent
        self.certificate = certificate
        self.environment = jinja2.Environment(
            loader=jinja2.PackageLoader("bandlimit.site", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters |= {
            "link": _link,
            "quoted": shlex.quote,
            "compact": _compact,
            "rows": _columns,
        }

    def name(self, path: str | os.PathLike[str]) -> str:
        """Return the name of a file as certificates have it: relative to the project, if inside."""
        whole = Path(os.path.abspath(path))
        inside = whole.is_relative_to(self.root)
        return (whole.relative_to(self.root) if inside else whole).as_posix()

    def learn(
        self,
        files: _Files,
        shown: Sequence[Artifact],
        told: dict[str, Any],
        certificate: Mapping[str, Any],
    ) -> None:
        """Take what all pages tell of files, artifacts and claims, and link these to each other."""
        self.files = files
        for name, known in certificate.get("inputs", {}).items():
            if name in files.certificates:
                files.saw(name, known)
        self.told = told
        self.by_stem = {artifact.stem: artifact for artifact in shown}
        self.claims = {claim["id"]: claim for study in told["studies"] for claim in study["claims"]}
        self.tree = explain.Tree(self.root)
        self.lineages: dict[str, dict[str, Any]] = {}
        folder = self.name(self.pages)
        self.links = {name: f"{folder}/lineage/{_page_name(name)}" for name in files.certificates}
        drawn = {artifact.stem: self.drawn(artifact) for artifact in shown}
        for study in told["studies"]:
            face = self.by_stem[os.path.splitext(study["face"])[0]] if study["face"] else None
            study["picture"] = self._picture(face) if face else None
        for claim in self.claims.values():
            asked: set[str] = set()
            for part in PARTS:
                tables = filter(None, claim[part]["records"].split("; "))
                stems = list(dict.fromkeys(os.path.splitext(name)[0] for name in tables))
                found = [self.by_stem[stem] for stem in stems if stem in self.by_stem]
                numbers = _row_numbers(claim[part]["decided_by"])
                claim[part]["places"] = [_place(artifact, numbers) for artifact in found]
                asked |= set(stems)
            claim["pictures"] = [
                artifact
                for artifact in shown
                if artifact.is_figure and {one.stem for one in drawn[artifact.stem]} & asked
            ]

    def drawn(self, artifact: Artifact) -> list[Artifact]:
        """Return the tables that an artifact was made from."""
        stems = dict.fromkeys(os.path.splitext(name)[0] for name in artifact.inputs)
        return [self.by_stem[stem] for stem in stems if stem in self.by_stem]

    def deciding(self, artifact: Artifact) -> list[str]:
        """Return ids of the claims that a table decides, or the tables that a figure shows."""
        own = {part.id for part in (self.drawn(artifact) if artifact.is_figure else [artifact])}
        return [
            name
            for name, claim in self.claims.items()
            if own & {place["id"] for part in PARTS for place in claim[part]["places"]}
        ]

    # Pages

    def write_lineages(self) -> None:
        """Write a page for each file on the way back."""
        for name, page in self.links.items():
            proof = self.files.certificates[name]
            found = explain.lineage(self.root / name, tree=self.tree) if proof else None
            if found:
                self.lineages[name] = found
            self._write(page, "lineage.html.j2", self._lineage(name, found, page))

    def _lineage(self, name: str, found: dict[str, Any] | None, page: str) -> dict[str, Any]:
        read = self.files.read.get(name, {})
        identity = {"sha256": None, "bytes": None, "content": None}
        if len(read) == 1:
            identity |= next(iter(read.values()))
        if found:
            proof = self.files.certificates[name]
            assert proof is not None
            identity["content"] = proof["content"]
        artifact = self.by_stem.get(os.path.splitext(name)[0])
        exists = (self.root / name).exists()
        alarms = list(self.told["alarms"])
        if found and found["fault"]:
            alarms.append(f"Not to be trusted: {found['fault']}.")
        if len(read) > 1:
            digests = " and ".join(sorted(read))
            alarms.append(f"It changed between the jobs that read it: they saw sha256 {digests}.")
        if not exists:
            alarms.append("The file is not here.")
        return {
            "title": f"{name}: where it comes from",
            "here": page,
            "name": name,
            "found": found,
            "identity": identity,
            "exists": exists,
            "alarms": alarms,
            "opening": _opening(name, found),
            "way": _way(found) if found else "",
            "commit": _commit(found) if found else "",
            "resting": self._resting(found) if found else None,
            "places": [artifact] if artifact else [],
            "children": sorted(self.files.children.get(name, ())),
            "parts_of_claims": ledger.HEADINGS,
            "marks": ledger.MARKS,
            "pages": self.links,
        }

    def _resting(self, found: Mapping[str, Any]) -> dict[str, Any] | None:
        ids = found["claims"] or found["shown"]
        if not ids:
            return None
        rests = "These rest on it:"
        shows = "None rests on this file itself; these rest on the tables that it was made from:"
        return {
            "title": rests if found["claims"] else shows,
            "claims": [{"id": i, "known": i in self.claims, **found["ledger"][i]} for i in ids],
        }

    def write_index(
        self,
        shown: Sequence[Artifact],
        page: str | None,
        choice: browser.Choice | None,
        defenses: Sequence[str | os.PathLike[str]],
    ) -> None:
        """Write the page to begin with."""
        studies: dict[str, list[dict[str, Any]]] = {}
        for artifact in shown:
            studies.setdefault(artifact.study, []).append(self._part(artifact))
        self._write(
            self.name(self.index),
            "index.html.j2",
            {
                "title": TITLE,
                "claims": self.told,
                "studies": [
                    {"name": name, "title": name.replace("_", " "), "parts": parts}
                    for name, parts in studies.items()
                ],
                "defenses": [
                    {
                        "name": Path(path).stem,
                        "page": self.name(path),
                        "found": defense.verdicts(Path(path).with_suffix(".md")),
                    }
                    for path in defenses
                ],
                "browser": browser.show(choice, self._save) if choice else None,
                "origin": self._origin(),
                "pages": self.links,
                "ledger": page,
            },
        )

    def _picture(self, artifact: Artifact) -> dict[str, Any]:
        about = artifacts.plain(artifact.caption)
        return {
            "id": artifact.id,
            "title": artifact.title,
            "picture": artifact.form(".png"),
            "alt": f"{artifact.title}. {about}" if about else artifact.title,
            "width": artifact.size[0],
            "height": artifact.size[1],
        }

    def _part(self, artifact: Artifact) -> dict[str, Any]:
        drawn = self.drawn(artifact)
        return {
            **self._picture(artifact),
            "caption": artifact.caption,
            "note": artifact.note,
            "head": artifact.head,
            "kinds": artifact.kinds,
            "rows": artifact.rows,
            "shared": artifact.shared,
            "more": artifact.total - len(artifact.rows),
            "lineage": self.links[artifact.primary],
            "files": [
                {
                    "name": name,
                    "form": artifacts.FORMS.get(Path(name).suffix, Path(name).suffix),
                    "size": _size((self.root / name).stat().st_size),
                }
                for name in artifact.names
            ],
            "drawn": [{"link": f"#{other.id}", "title": other.title} for other in drawn],
            "claims": self.deciding(artifact),
        }

    def _origin(self) -> dict[str, Any]:
        """Return what holds of all files on all ways back."""
        proofs = [proof for proof in self.files.certificates.values() if proof]
        origins: dict[str, dict[str, Any]] = {}
        registered: dict[tuple[str, str], dict[str, Any]] = {}
        for found in self.lineages.values():
            origins |= {entry["name"]: entry for entry in found["origins"]}
            registered |= {(e["kind"], e["name"]): e for e in found["registered"]}
        rules = len({proof["rule"] for proof in proofs})
        devices = sorted({proof["device"] for proof in proofs})
        commits = Counter(_commit(proof) for proof in proofs)
        lines = [
            f"The claims, tables and figures of this page depend on {len(proofs)} files made by "
            f"{rules} rules, and on {len(origins)} files that no rule made: images, weights, "
            "templates and the files of claims, listed here. Each name leads to a page that says "
            "what made the file and what was made from it.",
            f"Computed on: {', '.join(devices)}.",
            *(f"{_files(count)} made at {commit}." for commit, count in sorted(commits.items())),
        ]
        changed = [name for name, read in self.files.read.items() if len(read) > 1]
        lost = {name for found in self.lineages.values() for name in found["lost"]}
        alarms = [
            f"{name} is not to be trusted: {found['fault']}."
            for name, found in self.lineages.items()
            if found["fault"]
        ]
        if changed:
            alarms.append(f"Changed between the jobs that read them: {_names(changed)}.")
        if lost:
            alarms.append(f"Not here, or no longer what was read: {_names(lost)}.")
        return {
            "lines": lines,
            "alarms": alarms,
            "files": [origins[name] for name in sorted(origins)],
            "registered": [registered[key] for key in sorted(registered)],
        }

    # Files

    def _write(self, name: str, template: str, values: Mapping[str, Any]) -> None:
        text = self.environment.get_template(template).render(values)
        contents.write_text(self.root / name, text, self.certificate, COMMENT)

    def _save(self, picture: Image.Image, name: str) -> str:
        """Keep a picture: a small one in the page, others as files with their certificates."""
        png = browser.encoded(picture)
        if len(png) <= browser.INLINE:
            return browser.data_uri(png)
        path = self.root / self.name(self.pages) / "images" / f"{name}.png"
        with Image.open(io.BytesIO(png)) as read:
            proof = certificates.sealed(self.certificate, path, contents.pixels(read))
        with store.atomic(path) as place:
            place.write_bytes(contents.with_png_text(png, certificates.as_text(proof)))
        return _link(self.name(path), self.name(self.index))


def _place(artifact: Artifact, numbers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return the link to a table and to those of its rows that decided a claim."""
    rows = next((found for name, found in numbers.items() if artifact.stem.endswith(name)), [])
    known = [row for row in rows if artifact.numbered and row < len(artifact.rows)]
    return {
        "id": artifact.id,
        "title": artifact.title,
        "rows": [{"id": f"{artifact.id}-{row}", "number": row} for row in known],
    }


def _row_numbers(text: str) -> dict[str, list[int]]:
    """Return the row numbers of each table in the ledger's column 'decided_by'.

    >>> _row_numbers("tables/one: 0, 2; tables/two: 1")
    {'tables/one': [0, 2], 'tables/two': [1]}
    """
    found = {}
    for part in filter(None, text.split("; ")):
        name, _, numbers = part.partition(": ")
        found[name] = [int(digits) for digits in re.findall(r"\d+", numbers)]
    return found


def _page_name(name: str) -> str:
    """Return the file of a lineage page; a file outside of the project is named by a hash."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"elsewhere/{hashlib.sha256(name.encode()).hexdigest()[:12]}-{path.name}.html"
    return f"{name.removeprefix('results/')}.html"


def _link(name: str, here: str) -> str:
    """Return a relative link from one file of the project to another, or to one elsewhere."""
    if PurePosixPath(name).is_absolute():
        return Path(name).as_uri()
    return quote(os.path.relpath(name, PurePosixPath(here).parent))


def _compact(value: Any, name: str = "") -> str:
    """Return a parameter as text, a bound of epsilon also in steps of a pixel.

    >>> _compact(8 / 255, "epsilon"), _compact(["a", 1]), _compact("auto")
    ('0.03137254901960784 (8/255)', '["a", 1]', 'auto')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and "epsilon" in name:
        return f"{value} ({number(value * 255)}/255)"
    return json.dumps(value, ensure_ascii=False)


def _columns(value: Any) -> list[str]:
    """Return the keys of a list of mappings in their order; none of anything else.

    >>> _columns([{"a": 1}, {"b": 2, "a": 3}]), _columns([1]), _columns("ab")
    (['a', 'b'], [], [])
    """
    if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
        return []
    return list(dict.fromkeys(key for part in value for key in part))


def _opening(name: str, found: Mapping[str, Any] | None) -> str:
    if not found:
        return (
            "No rule of the workflow made this file, or it carries no certificate that can be "
            "read: the way back ends here. Its sha256 is what jobs that read it have seen."
        )
    kind = explain.KINDS.get("/".join(name.split("/")[:2]), "A file")
    words = ", ".join(f"{k} {v}" for k, v in found["params"].get("wildcards", {}).items())
    does = f" What the rule does: {found['does']}" if found["does"] else ""
    return f"{kind}, made by the rule {found['rule']}{f' ({words})' if words else ''}.{does}"


def _way(found: Mapping[str, Any]) -> str:
    counts = Counter(step["rule"] for step in found["steps"])
    if not counts:
        return f"One step: {found['rule']}."
    parts = [f"{rule} ({_files(count)})" for rule, count in counts.items()]
    return f"{', '.join(parts)}, then {found['rule']}."


def _commit(proof: Mapping[str, Any]) -> str:
    if not proof["commit"]:
        return "no known commit: there was no git repository"
    clean = {True: "as committed", False: "with changes that were not committed"}
    return f"commit {proof['commit']}, {clean.get(proof['clean'], 'state of the tree unknown')}"


def _names(names: Iterable[str]) -> str:
    """Return some names in a line, not all if they are many."""
    found = sorted(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{', '.join(found[:NAMED])}{more}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _size(count: int) -> str:
    """Return a size in bytes as a reader wants it.

    >>> _size(532), _size(4300), _size(25_300_000)
    ('532 B', '4.3 kB', '25 MB')
    """
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return (
                f"{count / scale:.2g} {unit}"
                if count < 10 * scale
                else f"{count / scale:.0f} {unit}"
            )
    return f"{count} B"
