"""What a job knows of the origin of its outputs: rule, parameters, inputs, code, environment."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, folders, store
from bandlimit.plan import code as code_of

# Of an image for Apptainer (sylabs/sif, pkg/sif/sif.go): text of 32 bytes, this, three bytes each
# of version and architecture, and the 16 of an identifier that each build draws anew.
SIF_MAGIC, SIF_MAGIC_AT, SIF_ID_AT = b"SIF_MAGIC\0", 32, 48


def certificate(
    *,
    rule: str,
    script: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    code: Mapping[str, str],
    lock: str,
    home: str | os.PathLike[str],
    device: str = "cpu",
    reads: Mapping[str, Any] | None = None,
    writes: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a job says of all its outputs. It holds no time and no place of a machine.

    Args:
        rule: name of the rule.
        script: its script, one of the files of code.
        params: named parameters, wildcards and seed included; must be representable as JSON.
        inputs: files that the job reads: the name in the certificate, and where the file lies.
        code: files of code that it runs, with the digests of their syntax trees.
        lock: the file that pins the environment.
        home: folder of the code and the lock.
        device: 'cpu', or the name of the card.
        reads: names of inputs by the keywords of the rule, a name or a list of them each.
        writes: names of outputs likewise.
        configuration: the configuration files of the run as `config`, in the order in which they
            are laid over another, and what the command line set as `overrides`.

    Returns:
        Mapping with the arguments and, of each input, `sha256`, `bytes` and, where it carries a
        certificate, the digest `content` of what it holds and its `seal`; the sha256 of the lock;
        versions of packages; the commit, and whether the tree was as committed; and the `container`
        that the job runs in, if any.
    """
    home = Path(home)
    changes = _git(home, "status", "--porcelain", "--untracked-files=no")
    return {
        "format": certificates.FORMAT,
        "rule": rule,
        "script": script,
        "params": json.loads(json.dumps(params, sort_keys=True)),
        "reads": dict(reads or {}),
        "writes": dict(writes or {}),
        "config": list((configuration or {}).get("config", ["config.yaml"])),
        "overrides": dict((configuration or {}).get("overrides", {})),
        "inputs": {name: identity(path) for name, path in sorted(inputs.items())},
        "code": dict(code),
        "lock": {lock: store.sha256(home / lock)},
        "versions": {"python": platform.python_version()} | code_of.versions(),
        "device": device,
        "commit": _git(home, "rev-parse", "HEAD"),
        "clean": None if changes is None else not changes,
        **({"container": image} if (image := container()) else {}),
    }


def container() -> dict[str, str] | None:
    """Return `name` and, of an image in one file, `id` of the Apptainer image that this runs in.

    None outside of one. The whole image, of gigabytes, is not read.
    """
    path = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    if not path:
        return None
    found = {"name": Path(path).name}
    try:
        with open(path, "rb") as file:
            head = file.read(SIF_ID_AT + 16)
    except OSError:
        # An image that was unpacked into a folder, or one that can't be seen from inside.
        return found
    if (
        head[SIF_MAGIC_AT : SIF_MAGIC_AT + len(SIF_MAGIC)] == SIF_MAGIC
        and len(head) == SIF_ID_AT + 16
    ):
        found["id"] = str(uuid.UUID(bytes=head[SIF_ID_AT:]))
    return found


def identity(path: str | os.PathLike[str], *, content: bool = True) -> dict[str, Any]:
    """Return what identifies a file or folder: `sha256`, `bytes`, `content` and `seal`.

    Of a folder it is the sha256 of a list of all its files with their sha256.

    Args:
        path: the file or folder.
        content: whether to add content and seal as the file's own certificate states them, if it
            has one; whether that is true is the audit's question.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = Path(path)
    if path.is_dir():
        files = folders.files_in(path)
        rows = [[part.relative_to(path).as_posix(), store.sha256(part)] for part in files]
        size = sum(part.stat().st_size for part in files)
        return {"sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(), "bytes": size}
    found = {"sha256": store.sha256(path), "bytes": path.stat().st_size}
    proof = contents.certificate(path) if content else None
    return found | {key: proof[key] for key in ("content", "seal") if proof and key in proof}


def meaning(path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> str | None:
    """Return the digest that certificates name a file of code by.

    None where the file is missing, and an empty text where it can't be read as Python any more, so
    that it equals no digest of a certificate. Arguments are those of `code.tree_digest`.
    """
    if not os.path.isfile(path):
        return None
    try:
        return code_of.tree_digest(path, home)
    except UserError:
        return ""


def changed(certificate: Mapping[str, Any], home: str | os.PathLike[str]) -> str | None:
    """Return the name of a file of code, or of the lock, that a certificate no longer fits."""
    for name, recorded in certificate["code"].items():
        if meaning(Path(home) / name) != recorded:
            return str(name)
    for name, recorded in certificate["lock"].items():
        if not (Path(home) / name).is_file() or store.sha256(Path(home) / name) != recorded:
            return str(name)
    return None


def _git(home: Path, *arguments: str) -> str | None:
    """Return what git says, or None without git or outside a repository.

    Without its lock: many jobs ask at once, while the user may commit.
    """
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(home), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
