"""The run as a research object: an RO-Crate that says which job made which file from what.

The crate follows the Provenance Run Crate profile, so that tools that know nothing of bandlimit
can read the chain of jobs. It is made of the manifest, the certificates and the benchmarks. Tables,
figures, claims, code and configuration lie in it; records, weights and images, which can be huge
and may not be ours to give, are named by their content.

Results hold no times, so that equal runs give equal bytes. The crate says when each job ran and
what it took, and differs between equal runs in these figures alone: its content digest leaves them
out. No action has an agent: a signature says who ran it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from bandlimit.errors import UserError
from bandlimit.files import folders, store
from bandlimit.provenance import crate_entities, manifest, origin
from bandlimit.provenance.crate_run import Run
from bandlimit.provenance.crate_terms import USAGE, name_of
from bandlimit.provenance.verdicts import Finding, Verdict

METADATA = "ro-crate-metadata.json"

MEASURED = ("startTime", "endTime", "resourceUsage")
"""Properties that differ between equal runs, and with them what the last one refers to."""


def write(
    folder: str | os.PathLike[str],
    archive: str | os.PathLike[str] | None = None,
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
    sources: Iterable[str],
    benchmarks: Mapping[str, str] | None = None,
    limit: int = 0,
) -> None:
    """Write the crate of a run, as a folder and perhaps as a zip file of the same.

    Args:
        folder: the crate; what is there is replaced.
        archive: the zip file; its bytes depend on what lies in the folder alone.
        results: folder of the results, with the manifest in it.
        home: folder of the project.
        sources: files of the project that belong to the crate, relative to it: Snakefile, rules,
            configuration, registries, lock, licence and citation. Code that certificates name
            needs no mention.
        benchmarks: where the benchmarks lie: a pattern of the jobs' wildcards by rule, such as
            `results/benchmarks/attack/{dataset}.tsv`. Of a job without one the crate says neither
            when it ran nor what it took.
        limit: where all results together are not larger than this many bytes, all lie in the
            crate.

    Raises:
        UserError: a file is missing or not what the manifest says, a benchmark is damaged, or the
            code has changed since it made the results.
    """
    run = Run.read(Path(results), Path(home), sources, benchmarks or {}, limit)
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        made = crate_entities.build(run)
        made.root_dataset["identifier"] = content(made.metadata.generate())
        made.write(temporary)
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


def content(metadata: Mapping[str, Any]) -> str:
    """Return the digest of what a crate's metadata says, as it names itself: a URI after RFC 6920.

    What was measured is left out, so that crates of equal runs have equal digests; so are the
    digest itself and the order of the entities.
    """
    graph = []
    for entity in metadata["@graph"]:
        if not entity["@id"].startswith(USAGE):
            apart = (*MEASURED, "identifier") if entity["@id"] == "./" else MEASURED
            graph.append({key: value for key, value in entity.items() if key not in apart})
    said = {"@context": metadata["@context"], "@graph": sorted(graph, key=lambda e: str(e["@id"]))}
    return name_of(hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest())


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
        A finding for each file in the crate, for what the metadata names besides, for the
        metadata, which must be what its content digest says, and for the zip file. It needs no
        package beyond the library's own.

    Raises:
        UserError: the crate has no metadata that can be read.
    """
    folder = Path(folder)
    known: dict[str, str] = {}
    if listed is not None:
        known = {name: entry["sha256"] for name, entry in listed["files"].items()}
    trees = listed["code"] if listed is not None else {}
    told, files = _stated(folder)
    verdict, text = Verdict.OK, ""
    if not told:
        verdict, text = Verdict.TAMPERED, "it is not what its content digest says"
    found = [Finding(f"{folder.name}/{METADATA}", verdict, text)]
    stated: dict[str, str | None] = {}
    for identifier, name, sha256 in files:
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
        if not path.is_file() or name in stated or path.name in (METADATA, manifest.STAMP):
            continue
        if any(map(folders.is_litter, Path(name).parts)):
            found.append(manifest.litter(f"{folder.name}/{name}"))
        else:
            text = "the crate's metadata does not name it"
            found.append(Finding(f"{folder.name}/{name}", Verdict.UNKNOWN, text))
    if archive is not None:
        found.append(_check_zip(folder, Path(archive)))
    return found


def _stated(folder: Path) -> tuple[bool, list[tuple[str, str, str | None]]]:
    """Return whether metadata fit their digest; and identifier, name, sha256 of each file."""
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_bytes())
        graph = metadata["@graph"]
        files = [e for e in graph if "File" in _listed(e["@type"])]
        told = [e.get("identifier") for e in graph if e["@id"] == "./"] == [content(metadata)]
        return told, [(str(e["@id"]), str(e.get("name")), e.get("sha256")) for e in files]
    except OSError as error:
        raise UserError(f"The crate {str(folder)!r} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"The metadata {str(path)!r} of the crate is damaged ({error}).") from error


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_zip(folder: Path, archive: Path) -> Finding:
    verdict, text = Verdict.OK, ""
    try:
        with zipfile.ZipFile(archive) as file:
            packed = {}
            for name in file.namelist():
                with file.open(name) as part:
                    packed[name] = _sha256(part)
    except FileNotFoundError:
        return Finding(archive.name, Verdict.MISSING, "the crate as a zip file is gone")
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        return Finding(archive.name, Verdict.TAMPERED, f"it is damaged ({error})")
    if packed != {path.relative_to(folder).as_posix(): store.sha256(path) for path in _all(folder)}:
        verdict, text = Verdict.TAMPERED, "it holds other files than the crate's folder"
    return Finding(archive.name, verdict, text)


def _sha256(file: IO[bytes]) -> str:
    """Return the sha256 of a stream, read in blocks."""
    whole = hashlib.sha256()
    while block := file.read(1 << 20):
        whole.update(block)
    return whole.hexdigest()


def _all(folder: Path) -> list[Path]:
    return folders.files_in(folder)


def _zip(folder: Path, path: Path) -> None:
    """Pack a folder into a zip file whose bytes tell neither when nor where it was made."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for part in _all(folder):
            # The earliest date that the format knows, and the permissions of any file.
            info = zipfile.ZipInfo(part.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            info.file_size = part.stat().st_size
            with open(part, "rb") as source, file.open(info, "w") as packed:
                shutil.copyfileobj(source, packed)
