"""The lineage of a file of the results, told to a reader.

A certificate names the files that a job read; those carry certificates of their own, so that the
way back to images, weights and code can be told without Snakemake and git. This module tells what
certificates say; whether that is true is the audit's question. Imports no torch.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bandlimit.claims import reported
from bandlimit.config import registry
from bandlimit.errors import UserError
from bandlimit.files import contents, store

CONFIG = "config.yaml"
"""The configuration of a run that names no other."""

PARTS = {"in_substance": "In substance", "as_reported": "As reported"}
"""Parts of a claim, by the names of their columns in the ledger, and how a reader knows them."""

SHOWN = 8
"""Items of a list, or lines of one, beyond which the rest is counted only."""

PACKAGE = Path(__file__).resolve().parents[2]
"""Folder of this project, for results that lie in a tree without registry or claims."""


def lineage(
    path: str | os.PathLike[str],
    results: str | os.PathLike[str] | None = None,
    *,
    tree: Tree | None = None,
) -> dict[str, Any]:
    """Return what certificates say of the origin of a file.

    Args:
        path: any file with a certificate; it may be a renamed copy that lies elsewhere.
        results: the folder of the results whose files are followed; else the folder that the file
            lies in, or that of the working folder.
        tree: what was read of these results before, where many files are asked for.

    Returns:
        Mapping with, of the file, `file` (its name in the project), `rule`, `does` (what that rule
        does), `params`, `command` (what makes it again), `inputs`, `code`, `lock`, `versions`,
        `device`, `container`, `commit`, `clean`, and `fault`, how it differs from its own
        certificate or None;
        of its lineage `steps`, the files on the way back, origins first (`name`, `rule`, `params`,
        `does`), `origins`, what no rule made, and `lost`, names of steps that are not there or are
        no longer what was read; `registered`, entries of the registries behind it; `claims`, ids of
        the claims that rest on it, and `ledger`, what is known of these and of `shown`, the claims
        that rest on the tables it was made from; `unasked`, claims whose tables are not here. An
        input or origin has `name`, `sha256`, `bytes`, `content`, `rule` (that made it, or None),
        `missing` and `changed`.

    Raises:
        UserError: the file is missing or damaged, or carries no certificate.
    """
    proof = contents.certificate(path)
    if proof is None:
        raise UserError(
            f"The file {str(path)!r} carries no certificate, so its origin is unknown; every "
            "file under 'results' that a rule wrote carries one, except downloads and benchmarks."
        )
    try:
        return _lineage(path, proof, tree or _tree(path, proof, results))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"The certificate of {str(path)!r} can't be explained ({error}): it is of another "
            "version."
        ) from error


def _lineage(path: str | os.PathLike[str], proof: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    steps, origins, lost = tree.ancestors(proof)
    chain = [*({**step, "name": name} for name, step in steps.items()), {**proof, "name": None}]
    resting, shown, ledger, unasked = _claims(proof, tree)
    return {
        "file": proof["file"],
        "rule": proof["rule"],
        "script": proof["script"],
        "does": tree.does(proof["script"]),
        "params": proof["params"],
        "command": command(proof),
        "inputs": [tree.entry(name, known) for name, known in sorted(proof["inputs"].items())],
        **{name: proof.get(name) for name in ("code", "lock", "versions", "device", "container")},
        **{name: proof.get(name) for name in ("commit", "clean")},
        "claims": resting,
        "shown": shown,
        "ledger": ledger,
        "unasked": unasked,
        "origins": origins,
        "steps": [
            {
                "name": name,
                "rule": step["rule"],
                "params": step["params"],
                "does": tree.does(step.get("script")),
            }
            for name, step in steps.items()
        ],
        "lost": lost,
        "registered": _registered(chain, tree.home),
        "fault": contents.fault(path),
    }


def command(proof: Mapping[str, Any]) -> str:
    """Return the command that makes a file again, by its certificate."""
    words = ["snakemake", "--cores", "all", "--force", proof["file"]]
    # One that lay elsewhere is named as a file of its own, since the certificate holds it whole.
    named = [c if isinstance(c, str) else c["name"] for c in proof.get("config") or [CONFIG]]
    others = [name for name in named if name != CONFIG]
    overrides = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in sorted((proof.get("overrides") or {}).items())
    ]
    if others:
        words += ["--configfile", *others]
    if overrides:
        words += ["--config", *overrides]
    return shlex.join(words)


def _tree(
    path: str | os.PathLike[str],
    proof: Mapping[str, Any],
    results: str | os.PathLike[str] | None,
) -> Tree:
    """Return the tree that a file belongs to."""
    if results is not None:
        folder = Path(os.path.abspath(results))
        if not folder.is_dir():
            raise UserError(
                f"The folder of results {str(results)!r} does not exist; the folder 'results' of a "
                "project, or a copy of it, is needed."
            )
        return Tree(folder.parent, folder)
    here, named = Path(os.path.abspath(path)), Path(proof["file"]).parts[1:]
    if named and here.parts[-len(named) :] == named:
        folder = here.parents[len(named) - 1]
        return Tree(folder.parent, folder)
    return Tree(Path.cwd())


class Tree:
    """The files of one project, and the certificates they carry, each read once."""

    def __init__(self, home: Path, results: Path | None = None) -> None:
        self.home = home
        self.results = results or home / "results"
        self._found: dict[str, dict[str, Any] | None] = {}
        self._scripts: dict[str, str | None] = {}
        self._asked: list[tuple[dict[str, Any], dict[str, set[str]]]] | None = None
        self._verdicts: dict[str, dict[str, str]] | None = None

    @property
    def verdicts(self) -> dict[str, dict[str, str]]:
        """The verdicts on each claim in this tree, by its parts."""
        if self._verdicts is None:
            self._verdicts = _verdicts(self.results)
        return self._verdicts

    def asked(self) -> list[tuple[dict[str, Any], dict[str, set[str]]]]:
        """Return each claim with its tables, and of each table the files it was made from."""
        if self._asked is None:
            behind: dict[str, set[str]] = {}
            self._asked = []
            for path in _claims_files(self.home):
                for claim in reported.read(path)["claims"]:
                    names = [f"results/{table}" for table in _tables(claim)]
                    for name in names:
                        if name not in behind:
                            found = self.certificate(f"{name}.parquet")
                            steps = self.ancestors(found)[0] if found else {}
                            behind[name] = {name, *steps, *(found["inputs"] if found else ())}
                    self._asked.append((claim, {name: behind[name] for name in names}))
        return self._asked

    def place(self, name: str) -> Path:
        """Return where a file lies, by its name in certificates."""
        if name.startswith("results/"):
            return self.results / name.removeprefix("results/")
        return self.home / name

    def certificate(self, name: str) -> dict[str, Any] | None:
        """Return the certificate of a file by its name, or None where it can't be read."""
        if name not in self._found:
            try:
                # A user's own data may be a folder.
                whole = self.place(name)
                self._found[name] = contents.certificate(whole) if whole.is_file() else None
            except UserError:
                self._found[name] = None
        return self._found[name]

    def entry(self, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of an input: what was read, and what lies there now."""
        place = self.place(name)
        found = self.certificate(name)
        missing = not place.exists()
        if "content" in known:
            changed = not missing and (found is None or found.get("content") != known["content"])
        else:
            size = known.get("bytes")
            changed = place.is_file() and size is not None and place.stat().st_size != size
        return {
            "name": name,
            "sha256": known["sha256"],
            "bytes": known.get("bytes"),
            "content": known.get("content"),
            "rule": found["rule"] if found else None,
            "missing": missing,
            "changed": changed,
        }

    def ancestors(
        self, proof: Mapping[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[str]]:
        """Return the certificates on the way back, what no rule made, and names that are lost.

        The certificates are in an order in which each follows those of its inputs.
        """
        depths: dict[str, int] = {}
        origins: dict[str, dict[str, Any]] = {}
        lost: set[str] = set()

        def follow(inputs: Mapping[str, Mapping[str, Any]]) -> int:
            depth = 0
            for name, known in inputs.items():
                entry = self.entry(name, known)
                found = self.certificate(name)
                if "content" not in known:
                    origins.setdefault(name, entry)
                elif found is None or entry["changed"]:
                    lost.add(name)
                else:
                    if name not in depths:
                        # Jobs form no circle; a certificate written by hand may.
                        depths[name] = 0
                        depths[name] = follow(found["inputs"])
                    depth = max(depth, depths[name] + 1)
            return depth

        follow(proof["inputs"])
        order = sorted(depths, key=lambda name: (depths[name], name))
        steps = {name: self._found[name] or {} for name in order}
        return steps, [origins[name] for name in sorted(origins)], sorted(lost)

    def does(self, script: str | None) -> str | None:
        """Return what a script does, as its first line says; None without it."""
        if script is None:
            return None
        if script not in self._scripts:
            self._scripts[script] = None
            for folder in (self.home, PACKAGE):
                place = folder / script
                if place.is_file():
                    # A copy of the project may hold anything under this name.
                    with contextlib.suppress(SyntaxError, ValueError, OSError):
                        words = ast.get_docstring(ast.parse(place.read_text(encoding="utf-8")))
                        self._scripts[script] = (words or "").partition("\n")[0] or None
                    break
        return self._scripts[script]


# Claims


def _claims(
    proof: Mapping[str, Any], tree: Tree
) -> tuple[list[str], list[str], dict[str, dict[str, Any]], list[str]]:
    """Return ids of claims that rest on a file, of those on its inputs, and what is known of both.

    Last come the ids of claims whose tables are not here, so that it can't be known.

    A claim rests on a file if its table is that file, in any form, or was made from it.
    """
    wanted, inputs = _stem(proof["file"]), {_stem(name) for name in proof["inputs"]}
    resting, shown, ledger, unasked = [], [], {}, []
    for claim, behind in tree.asked():
        if any(proof["file"] in files or wanted in files for files in behind.values()):
            resting.append(claim["id"])
        elif inputs & behind.keys():
            shown.append(claim["id"])
        else:
            if any(tree.certificate(f"{name}.parquet") is None for name in behind):
                unasked.append(claim["id"])
            continue
        ledger[claim["id"]] = {
            "statement": claim["statement"],
            "where": claim["where"],
            **dict.fromkeys(PARTS),
            **tree.verdicts.get(claim["id"], {}),
        }
    return resting, shown, ledger, unasked


def _tables(claim: Mapping[str, Any]) -> list[str]:
    """Return the tables that the tests of both parts of a claim read."""
    found = []
    for part in PARTS:
        usual = claim[part].get("records", claim.get("records"))
        found += [test.get("records", usual) for test in claim[part]["tests"]]
    return list(dict.fromkeys(found))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _claims_files(home: Path) -> list[Path]:
    for folder in (home, PACKAGE):
        found = sorted((folder / "workflow" / "claims").glob("*.yaml"))
        if found:
            return found
    return []


def _verdicts(results: Path) -> dict[str, dict[str, str]]:
    """Return the verdicts on each claim in this tree, as far as its ledger was made."""
    try:
        rows = store.read(results / "claims/claims.parquet", ["id", *PARTS]).to_pylist()
    except UserError:
        return {}
    return {row["id"]: {part: row[part] for part in PARTS} for row in rows}


# Registries


def _registered(steps: Iterable[Mapping[str, Any]], home: Path) -> list[dict[str, Any]]:
    """Return the registries' entries of the datasets and models that were made on the way."""
    sources = {
        "make_dataset": ("dataset", lambda params: params.get("source")),
        "convert_model": ("model", lambda params: params.get("wildcards", {}).get("model")),
    }
    registries = {kind: _registry(home, kind) for kind, _ in sources.values()}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for step in steps:
        if step["rule"] in sources:
            kind, name_of = sources[step["rule"]]
            name = name_of(step["params"])
            row = registries[kind].get(name)
            if row is not None:
                entry = found.setdefault((kind, name), {"kind": kind, "name": name, "files": []})
                entry["files"].append(step["name"] or step["file"])
                entry |= {
                    "loader": row.get("loader") or row.get("source"),
                    "authors": row["reference"],
                    "licence": row["licence"],
                    "urls": row["urls"].split(),
                    "sha256": row["sha256"].split(),
                }
    return [found[key] for key in sorted(found)]


def _registry(home: Path, kind: str) -> dict[str, dict[str, str]]:
    for folder in (home, PACKAGE):
        path = folder / "workflow" / "registry" / f"{kind}s.csv"
        if path.is_file():
            return registry.read(path)
    return {}


# The page

KINDS = {
    "results/models": "Weights of a network, or the history of its training",
    "results/datasets": "A set of images",
    "results/adversarial": "Records of an attack on a network, a row per image",
    "results/defense_attacks": "Records of an attack that knows the defence, a row per image",
    "results/evaluations": "Records of what a network or defence says, a row per image",
    "results/judgements": "Records of a defence judged on fresh draws, a row per image and draw",
    "results/symptoms": "Signs that gradients of a defence can't be trusted",
    "results/controls": "Records of cheap transforms beside the defence, a row per image",
    "results/scalings": "Records of stretched perturbations, a row per image",
    "results/crossings": "Records of hyperplanes crossed, a row per image and layer",
    "results/trajectories": "Perturbations measured along the training of a network",
    "results/curves": "Accuracy and loss along the training of networks",
    "results/responses": "Outputs along the training of networks, a row per image and step",
    "results/theory": "Numbers of a computation",
    "results/tables": "A table",
    "results/figures": "A figure",
    "results/claims": "The ledger of claims",
}
"""What the files of each folder are."""

WORDS = {
    "radius": "radius r",
    "main_radius": "main radius r",
    "directions": "directions K",
    "main_directions": "main directions K",
    "sha256": "checksum",
}
"""Names of parameters that a reader knows by another."""


def text(found: Mapping[str, Any]) -> str:
    """Return a lineage as a page in Markdown.

    Args:
        found: what `lineage` returns.
    """
    parts = [f"# {found['file']}", _opening(found), *_faults(found)]
    for title, lines in (
        ("Parameters", _parameters(found["params"])),
        ("Images, weights and other origins", _origins(found)),
        ("The way here", _way(found)),
        ("Read by this job", _inputs(found)),
        ("Claims", _claim_lines(found)),
        ("Made with", _environment(found)),
        ("To make it again", _again(found)),
    ):
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _opening(found: Mapping[str, Any]) -> str:
    kind = KINDS.get("/".join(found["file"].split("/")[:2]), "A file")
    does = f" {found['does']}" if found["does"] else ""
    where = ", ".join(
        f"{_word(name)} `{value}`"
        for name, value in sorted(found["params"].get("wildcards", {}).items())
    )
    return (
        f"{kind}, made by the rule `{found['rule']}`{f' ({where})' if where else ''}.{does} "
        "What follows is what its certificate and those of the files behind it say; "
        "`bandlimit audit` checks it."
    )


def _faults(found: Mapping[str, Any]) -> list[str]:
    return [f"**Not to be trusted:** {found['fault']}."] if found["fault"] else []


def _parameters(params: Mapping[str, Any]) -> list[str]:
    own = {name: value for name, value in params.items() if name != "wildcards"}
    return _bullets(own) or ["None."]


def _bullets(values: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in values.items():
        if value is None:
            continue
        title = f"{indent}- {_word(name)}:"
        if isinstance(value, Mapping):
            if value:
                lines += [title, *_bullets(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            lines.append(title)
            for item in value[:SHOWN]:
                said = [f"{_word(k)} {_value(k, v)}" for k, v in item.items() if v is not None]
                lines.append(f"{indent}  - {', '.join(said)}")
            if len(value) > SHOWN:
                lines.append(f"{indent}  - … ({len(value)} in all)")
        else:
            lines.append(f"{title} {_value(name, value)}")
    return lines


def _word(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _value(name: str, value: Any) -> str:
    """Return a value as a reader wants it: bounds as k/255, long lists cut, hashes short."""
    if isinstance(value, list):
        if name == "settings" and all(isinstance(v, list) and len(v) == 3 for v in value):
            value = [f"r = {r:g} with K = {k} and draws {n}" for r, k, n in value]
            return ", ".join(_cut(value))
        inner = [f"[{_value(name, v)}]" if isinstance(v, list) else _value(name, v) for v in value]
        return ", ".join(_cut(inner)) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{_word(k)} {_value(k, v)}" for k, v in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if "epsilon" in name or name == "largest":
            return f"{value * 255:.4g}/255"
        return f"{value:.6g}"
    if value is None:
        return "none"
    if name == "sha256":
        return f"`{str(value)[:12]}…`" if len(str(value)) > 16 else f"`{value}`"
    return f"`{value}`" if isinstance(value, str) else str(value)


def _cut(items: list[str]) -> list[str]:
    return [*items[:SHOWN], f"… ({len(items)} in all)"] if len(items) > SHOWN else items


def _size(count: int | None) -> str:
    if count is None:
        return "size unknown"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"


def _state(entry: Mapping[str, Any]) -> str:
    if entry["missing"]:
        return ", **not here**"
    return ", **another file lies there now**" if entry["changed"] else ""


def _origins(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for entry in found["registered"]:
        files = ", ".join(_cut([f"`{name}`" for name in entry["files"]]))
        lines.append(f"- {entry['kind']} `{entry['name']}`, which became {files}:")
        lines.append(f"  - authors: {entry['authors']}")
        lines.append(f"  - licence: {entry['licence']}")
        sources = [_link(url) for url in entry["urls"]] or [f"`{entry['loader']}`"]
        lines += [f"  - source: {source}" for source in sources]
        lines += [f"  - sha256: `{digest}`" for digest in entry["sha256"]]
    for entry in found["origins"]:
        size = _size(entry["bytes"])
        lines.append(f"- `{entry['name']}` ({size}{_state(entry)}), sha256 `{entry['sha256']}`")
    return lines or ["None: it is computed from its parameters and the code alone."]


def _link(url: str) -> str:
    return f"<{url}>" if "://" in url else f"`{url}`"


def _way(found: Mapping[str, Any]) -> list[str]:
    counts = Counter(step["rule"] for step in found["steps"])
    does = {step["rule"]: step["does"] for step in found["steps"]}
    lines = []
    for number, (rule, count) in enumerate(counts.items(), 1):
        words = f": {does[rule]}" if does[rule] else ""
        lines.append(f"{number}. {_files(count)} by `{rule}`{words}")
    lines.append(f"{len(counts) + 1}. this file by `{found['rule']}`")
    if found["lost"]:
        lost = found["lost"]
        lines += ["", "Steps that can't be followed, since the file is not here or has changed:"]
        lines += ["", *(f"- `{name}`" for name in lost[:SHOWN])]
        if len(lost) > SHOWN:
            lines.append(f"- … ({len(lost)} in all)")
    return lines


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _inputs(found: Mapping[str, Any]) -> list[str]:
    shown = found["inputs"][: 3 * SHOWN]
    lines = [
        f"- `{entry['name']}` ({_size(entry['bytes'])}{_state(entry)}"
        f"{', by `' + entry['rule'] + '`' if entry['rule'] else ''}), sha256 `{entry['sha256']}`"
        for entry in shown
    ]
    if len(found["inputs"]) > len(shown):
        lines.append(f"- … ({len(found['inputs'])} in all)")
    return lines or ["Nothing but its code."]


def _claim_lines(found: Mapping[str, Any]) -> list[str]:
    if found["claims"]:
        lines = ["These rest on it:", "", *_listed(found, found["claims"])]
    elif found["shown"]:
        first = "None rests on this file itself; these rest on tables that it was made from:"
        lines = [first, "", *_listed(found, found["shown"])]
    else:
        lines = ["None rests on it."]
    if found["unasked"]:
        names = ", ".join(_cut(found["unasked"]))
        lines += [
            "",
            f"Whether these rest on it is unknown, since their tables are not here: {names}.",
        ]
    return lines


def _listed(found: Mapping[str, Any], ids: Sequence[str]) -> list[str]:
    lines = []
    for name in ids:
        known = found["ledger"][name]
        verdicts = [
            f"{heading}: **{known[part] or 'no verdict here'}**." for part, heading in PARTS.items()
        ]
        lines.append(f"- {name} ({known['where']}): {known['statement']} {' '.join(verdicts)}")
    return lines


def _image(container: Mapping[str, Any] | None) -> list[str]:
    """Return the line that names the image that a job ran in, if any."""
    if not container:
        return []
    built = f", identifier `{container['id']}`" if "id" in container else ""
    return [f"- Apptainer image: `{container['name']}`{built}"]


def _environment(found: Mapping[str, Any]) -> list[str]:
    clean = {
        True: "with the tree as committed",
        False: "with changes that were not committed",
        None: "whether the tree was as committed is not known",
    }
    if found["commit"]:
        commit = f"commit `{found['commit']}`, {clean[found['clean']]}"
    else:
        commit = "no commit is known: the project was no git repository, or git was not there"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    locks = ", ".join(f"`{name}`, sha256 `{digest}`" for name, digest in found["lock"].items())
    return [
        f"- {commit}",
        f"- device: {found['device']}",
        *_image(found["container"]),
        f"- versions: {versions}",
        f"- all packages: {locks}",
        f"- code: {_files(len(found['code']))}, from `{found['script']}`",
    ]


def _again(found: Mapping[str, Any]) -> list[str]:
    lines = ["In the folder of the project, with the environment of its lock:", "", "```"]
    if found["commit"]:
        lines.append(f"git checkout {found['commit']}")
    return [*lines, found["command"], "```"]
