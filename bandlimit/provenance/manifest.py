"""The manifest of a run: every file of the results with its hash, and one hash over them all.

A certificate proves the origin of one file, but whoever changes a file on purpose can seal it
again, and it can't show that a file is gone or was slipped in. The manifest, made at the end of a
run, names all files that led to its artifacts; signed, it settles what the run made. Checking
needs neither Snakemake nor git nor torch, writes nothing, and works on results that were moved.

Its root is a Merkle tree hash as in RFC 6962: the hash of a leaf is sha256(0x00 + leaf), that of a
node sha256(0x01 + left + right), and a list is split at the largest power of two below its length.
A leaf is one entry, `[section, name, value]`, as compact JSON with sorted keys, ASCII only; leaves
stand in the order of `SECTIONS`, then by name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, folders, parts, store
from bandlimit.provenance import origin
from bandlimit.provenance.verdicts import Finding, Verdict

FORMAT = 1
"""Version of the manifest's layout."""

NAME = "results/provenance/manifest.json"
"""How the manifest names itself."""

SECTIONS = ("files", "outside", "code", "lock")
"""Parts of the manifest that its root is computed over, in this order."""

UNLISTED = re.compile(
    r"results/(benchmarks/.*|report\.html|provenance/"
    r"(manifest\.json|manifest\.dsse\.json|ro-crate\.zip|ro-crate/.*))"
)
"""Files that no certificate names: measured times, what is made of the manifest, the report."""

STAMP = ".snakemake_timestamp"
"""What Snakemake leaves in each folder that is an output."""


def build(
    results: str | os.PathLike[str], targets: Iterable[str | os.PathLike[str]]
) -> dict[str, Any]:
    """Return the manifest of all files that led to the final artifacts.

    Certificates are walked from the artifacts back: to their inputs, and to what else the same
    jobs wrote. Each file is held against what the jobs that read it say of it; one that no job
    read, against its own certificate.

    Args:
        results: the folder of the results.
        targets: the final artifacts, files in that folder.

    Returns:
        Mapping with `format`, `root`, `targets` (names) and
        `files` (name: sha256, bytes and, by the file's certificate, content, seal and rule),
        `outside` (inputs that are not results: what the certificates say of them),
        `code` (file: digest of its syntax tree) and
        `lock` (file: each sha256 that certificates name).

    Raises:
        UserError: a file is missing, damaged, or not what a certificate says; or certificates
            disagree.
    """
    results = Path(results)
    names = sorted(_name(results, path) for path in targets)
    files: dict[str, dict[str, Any]] = {}
    said: dict[str, tuple[dict[str, Any], str]] = {}
    code: dict[str, tuple[str, str]] = {}
    lock: dict[str, set[str]] = {}
    heard: dict[str, list[Any]] = {}
    waiting = [(name, "") for name in names]
    seen = set(names)
    while waiting:
        name, witness = waiting.pop()
        for part in _parts(results, name, witness):
            if part in files:
                continue
            proof = _certificate(results, part)
            files[part] = {} if proof is None else _kept(proof)
            if proof is None:
                continue
            # All outputs of a job say the same, which is heard once.
            saying = [proof[key] for key in ("inputs", "code", "lock", "writes")]
            if saying == heard.get(proof["rule"]):
                continue
            heard[proof["rule"]] = saying
            for key, value in proof["inputs"].items():
                _agree(said.setdefault(key, (value, part)), value, part, key)
            for key, value in proof["code"].items():
                first, other = code.setdefault(key, (value, part))
                if first != value:
                    raise _disagreement(other, part, key)
            for key, value in proof["lock"].items():
                lock.setdefault(key, set()).add(value)
            for found in [*proof["inputs"], *_names(proof["writes"])]:
                if found.startswith("results/") and found not in seen:
                    seen.add(found)
                    waiting.append((found, part))
    sizes = _each(_measure, [_path(results, name) for name in files])
    files = {n: size | entry for (n, entry), size in zip(files.items(), sizes, strict=True)}
    _hold(results, files, said)
    manifest = {
        "targets": names,
        "files": dict(sorted(files.items())),
        "outside": {n: v for n, (v, _) in sorted(said.items()) if not n.startswith("results/")},
        "code": {name: value for name, (value, _) in sorted(code.items())},
        "lock": {name: sorted(values) for name, values in sorted(lock.items())},
    }
    return {"format": FORMAT, "root": root(manifest), **manifest}


def write(
    path: str | os.PathLike[str], manifest: Mapping[str, Any], certificate: Mapping[str, Any]
) -> None:
    """Write a manifest as JSON, with the certificate of the job that made it, atomically."""
    body = {name: value for name, value in manifest.items() if name != certificates.MARK}
    text = json.dumps({**body, certificates.MARK: None}, indent=1, ensure_ascii=True) + "\n"
    blank = certificates.as_text(certificates.blank(certificate, path))
    start, _, end = text.rpartition("null")
    with store.atomic(path) as temporary:
        temporary.write_bytes(contents.fill((start + blank + end).encode(), certificate, path))


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest in a file.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    try:
        manifest = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"The manifest {str(path)!r} can't be read: {error.strerror}; a run ends with it."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The manifest {str(path)!r} is damaged: it is not JSON ({error})."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(f"The manifest {str(path)!r} has format {found!r}; known: {FORMAT}.")
    if not _is_whole(manifest):
        raise UserError(
            f"The manifest {str(path)!r} is damaged: it needs {', '.join(SECTIONS)}, with the "
            "sha256 of each file."
        )
    return manifest


def check(
    results: str | os.PathLike[str], home: str | os.PathLike[str] | None = None
) -> list[Finding]:
    """Hold all files of the results, and perhaps of the project, against the manifest.

    A file whose bytes differ is STALE if it carries a certificate of its own that fits, so that a
    rule made it again since; else TAMPERED. Changed code and inputs from outside are STALE, since
    it is unknown who changed them.

    Args:
        results: the folder of the results; it may have been moved.
        home: folder of the project, whose code, lock and own data are then checked too.

    Returns:
        A finding for each file of the manifest, and for each file that it does not name.

    Raises:
        UserError: there is no manifest that can be read.
    """
    results = Path(results)
    manifest = read(_path(results, NAME))
    judge = functools.partial(_judge, results)
    found = [_judge_manifest(results, manifest)]
    found += _each(judge, list(manifest["files"].items()))
    for folder, inner, names in os.walk(results):
        # A link to a folder is not entered; no rule makes one.
        for part in [*names, *(f for f in inner if Path(folder, f).is_symlink())]:
            name = _name(results, Path(folder, part))
            if name not in manifest["files"] and part != STAMP and not UNLISTED.fullmatch(name):
                found.append(_judge_unnamed(Path(folder, part), name))
        for part in [f for f in inner if folders.is_litter(f)]:
            inner.remove(part)
            name = _name(results, Path(folder, part))
            found += [] if UNLISTED.fullmatch(name) else [litter(name)]
    if home is not None:
        found += _check_home(Path(home), manifest)
    return sorted(found, key=lambda finding: finding.file)


def flaw(path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> str | None:
    """Return how a manifest disagrees with itself, or None: by its certificate or its root."""
    if certificates.MARK not in manifest:
        return "it carries no certificate"
    fault = contents.fault(path)
    if fault is not None:
        return fault.rstrip(".")
    return None if root(manifest) == manifest.get("root") else "its root is not of its entries"


def litter(name: str) -> Finding:
    """Return the remark on a hidden file or folder in the results."""
    if parts.is_kept(name):
        text = "a job that was stopped keeps there what it has finished, and goes on from it"
        return Finding(name, Verdict.OK, text)
    return Finding(name, Verdict.OK, "no rule made it, and nothing reads it: a desktop left it")


def is_sound(findings: Iterable[Finding]) -> bool:
    """Return whether all is as the manifest says."""
    return all(finding.verdict is Verdict.OK for finding in findings)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return findings as lines: what is not OK or has a remark, then how many there are of each."""
    told = [f for f in findings if f.verdict is not Verdict.OK or f.detail]
    counts = Counter(finding.verdict for finding in findings)
    order = [Verdict.OK, *(verdict for verdict in Verdict if verdict is not Verdict.OK)]
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])
    noun = "file" if len(findings) == 1 else "files"
    return [
        *(f"{finding.verdict:<8}  {finding.file}: {finding.detail}" for finding in told),
        f"{len(findings)} {noun}: {summary}",
    ]


# The Merkle tree


def root(manifest: Mapping[str, Any]) -> str:
    """Return the root over all entries of a manifest, as 64 hexadecimal digits."""
    return _tree(leaves(manifest)).hex()


def leaves(manifest: Mapping[str, Any]) -> list[bytes]:
    """Return the entries of a manifest in the form that the root is computed over."""
    return [
        json.dumps([section, name, value], sort_keys=True, separators=(",", ":")).encode()
        for section in SECTIONS
        for name, value in sorted(manifest[section].items())
    ]


def _tree(entries: Sequence[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    half = 1 << (len(entries) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _tree(entries[:half]) + _tree(entries[half:])).digest()


def _is_whole(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest has all that checking it relies on."""
    if not all(isinstance(manifest.get(section), dict) for section in SECTIONS):
        return False
    measured = [*manifest["files"].values(), *manifest["outside"].values()]
    return all(
        isinstance(entry, dict) and {"sha256", "bytes"} <= entry.keys() for entry in measured
    ) and all(isinstance(values, list) for values in manifest["lock"].values())


# Building


def _name(results: Path, path: str | os.PathLike[str]) -> str:
    """Return how the manifest names a file in the results, wherever these lie."""
    whole, folder = Path(os.path.abspath(path)), Path(os.path.abspath(results))
    if not whole.is_relative_to(folder):
        raise UserError(f"The file {str(path)!r} does not lie in the results folder {folder!s}.")
    return "results/" + whole.relative_to(folder).as_posix()


def _path(results: Path, name: str) -> Path:
    return results / name.removeprefix("results/")


def _parts(results: Path, name: str, witness: str) -> list[str]:
    """Return a file of the results, or the files in a folder of it."""
    path = _path(results, name)
    if path.is_dir():
        return [_name(results, part) for part in folders.files_in(path)]
    if not path.is_file():
        reason = f"which the certificate of {witness!r} names" if witness else "a final artifact"
        raise UserError(f"The file {name!r}, {reason}, is missing: run the workflow again.")
    return [name]


def _certificate(results: Path, name: str) -> dict[str, Any] | None:
    """Return the certificate of a file, or None; it must be whole, and the file's own."""
    proof = contents.certificate(_path(results, name))
    if proof is None:
        return None
    if proof.get("format") != certificates.FORMAT:
        raise UserError(
            f"The certificate of {name!r} has format {proof.get('format')!r}, not "
            f"{certificates.FORMAT}: delete the file, and it is made again."
        )
    if proof.get("seal") != certificates.seal(proof):
        raise UserError(f"The certificate of {name!r} was changed: its seal does not fit.")
    if proof["file"] != name:
        raise UserError(f"The file {name!r} carries the certificate of {proof['file']!r}.")
    return proof


def _kept(proof: Mapping[str, Any]) -> dict[str, Any]:
    return {key: proof[key] for key in ("content", "seal", "rule")}


def _names(writes: Mapping[str, Any]) -> list[str]:
    return [n for value in writes.values() for n in ([value] if isinstance(value, str) else value)]


def _agree(first: tuple[dict[str, Any], str], value: dict[str, Any], name: str, key: str) -> None:
    said, witness = first
    if not _same(said, value):
        raise _disagreement(witness, name, key)


def _same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Return whether two statements are of the same file, or of the same content."""
    if one["sha256"] == two["sha256"]:
        return True
    return one.get("content") is not None and one.get("content") == two.get("content")


def _disagreement(one: str, two: str, about: str) -> UserError:
    return UserError(
        f"The certificates of {one!r} and {two!r} disagree on {about!r}: they name different "
        "hashes, so the results are of two runs; run the workflow again with --forceall."
    )


def _hold(
    results: Path,
    files: Mapping[str, Mapping[str, Any]],
    said: Mapping[str, tuple[dict[str, Any], str]],
) -> None:
    """Hold files against what the jobs that read them say, or else against their certificates."""
    doubted = [n for n, entry in files.items() if "seal" in entry and n not in said]
    for name, (value, witness) in said.items():
        if not name.startswith("results/"):
            continue
        entry = files.get(name) or origin.identity(_path(results, name))
        if entry["sha256"] == value["sha256"]:
            continue
        if not _same(entry, value):
            raise UserError(
                f"The file {name!r} is not the one that {witness!r} was made from: its hash is "
                "another; run the workflow again, or delete the file if it was changed by hand."
            )
        doubted.append(name)
    differ = functools.partial(_differs, results)
    faults = _each(differ, [(name, str(files[name]["content"])) for name in doubted])
    for name, fault in zip(doubted, faults, strict=True):
        if fault is not None:
            raise UserError(f"The file {name!r} is not what a rule wrote: {fault.rstrip('.')}.")


def _differs(results: Path, item: tuple[str, str]) -> str | None:
    """Return how a file differs from its certificate, whose seal fits and says this content."""
    name, content = item
    path = _path(results, name)
    try:
        return None if contents.digest(path) == content else contents.fault(path)
    except UserError as error:
        return str(error)


def _measure(path: Path) -> dict[str, Any]:
    return {"sha256": store.sha256(path), "bytes": path.stat().st_size}


def _each(function: Any, values: Sequence[Any]) -> list[Any]:
    """Return the function of each value, in order; hashing runs on all cores."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, values))


# Checking


def _judge_manifest(results: Path, manifest: Mapping[str, Any]) -> Finding:
    fault = flaw(_path(results, NAME), manifest)
    return Finding(NAME, Verdict.OK if fault is None else Verdict.TAMPERED, fault or "")


def _judge(results: Path, item: tuple[str, Mapping[str, Any]]) -> Finding:
    name, entry = item
    path = _path(results, name)
    try:
        # A file of another length needs no hashing.
        if path.stat().st_size == entry["bytes"] and store.sha256(path) == entry["sha256"]:
            return Finding(name, Verdict.OK)
    except FileNotFoundError:
        return Finding(name, Verdict.MISSING, "the manifest names it, and it is gone")
    except OSError as error:
        return Finding(name, Verdict.MISSING, f"it can't be read: {error.strerror}")
    habit = contents.habits(path, entry["sha256"])
    if habit is not None:
        return Finding(name, Verdict.OK, habit)
    fault = contents.fault(path)
    if fault is not None:
        return Finding(name, Verdict.TAMPERED, fault.rstrip("."))
    proof = contents.certificate(path)
    if proof is None:
        return Finding(
            name, Verdict.TAMPERED, "its bytes were changed, and no certificate says why"
        )
    if proof.get("file") != name:
        return Finding(
            name, Verdict.TAMPERED, f"it carries the certificate of {proof.get('file')!r}"
        )
    if proof["seal"] == entry.get("seal"):
        return Finding(name, Verdict.TAMPERED, "its bytes were changed, though not what they mean")
    rule = proof.get("rule")
    return Finding(name, Verdict.STALE, f"by its certificate the rule {rule!r} made it again since")


def _judge_unnamed(path: Path, name: str) -> Finding:
    """Say of a file that the manifest does not name whether it claims to be of another run."""
    text = "the manifest does not name it, and no rule made it"
    try:
        proof = contents.certificate(path)
    except UserError:
        proof = None
    if proof is None and folders.is_litter(path.name):
        return litter(name)
    if proof is not None and proof.get("file") == name:
        text = "by its certificate a rule made it, but for no artifact of the manifest"
    return Finding(name, Verdict.UNKNOWN, text)


def _check_home(home: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    whole = {name: [value["sha256"]] for name, value in manifest["outside"].items()}
    whole |= manifest["lock"]
    code = {name: [value] for name, value in manifest["code"].items()}
    return [
        *_each(functools.partial(_judge_outside, home, _sha256), list(whole.items())),
        *_each(functools.partial(_judge_outside, home, origin.meaning), list(code.items())),
    ]


def _sha256(path: Path) -> str:
    """Return the sha256 of a file, or of the list of files in a folder."""
    return str(origin.identity(path, content=False)["sha256"])


def _judge_outside(
    home: Path, digest: Callable[[Path], str | None], item: tuple[str, Sequence[str]]
) -> Finding:
    name, allowed = item
    path = home / name
    if not path.exists():
        return Finding(name, Verdict.MISSING, "results were made with it, and it is gone")
    if digest(path) not in allowed:
        return Finding(name, Verdict.STALE, "results were made with it as it was before")
    return Finding(name, Verdict.OK)
