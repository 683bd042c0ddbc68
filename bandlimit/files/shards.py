"""Shards of records that are gathered: all of one run, of one cut, and each image in one of them.

The workflow names the shards of a gathering job by the configuration, and runs again what another
cut or another configuration needs. Files that came otherwise, copied from another machine or
another run, would be gathered all the same, and images counted twice or left out. So a job that
gathers looks first.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError
from bandlimit.files import contents, store

_NAME = re.compile(r"([1-9]\d*)of([1-9]\d*)\.parquet")


def check(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Make sure that the shards among some files can be gathered.

    A folder holds the shards of one set of records, and each file is named 'kofn.parquet'. Of each
    folder either one shard is among the files, for a job that works on a shard, or all of one cut.
    Memory is bounded by the names of the images of one set.

    Args:
        paths: files that a job reads; those that are no shards are left out.

    Raises:
        UserError: shards of one set are of two cuts, one is missing or given twice, they were made
            with unlike parameters or from unlike datasets or models, an image is in two of them,
            or a file is missing or damaged.
    """
    folders: dict[Path, list[tuple[int, int]]] = defaultdict(list)
    for path in map(Path, paths):
        if match := _NAME.fullmatch(path.name):
            folders[path.parent].append((int(match[1]), int(match[2])))
    for folder, found in folders.items():
        if len(found) > 1:
            _check_cut(folder, found)
            _check_origins(folder, found)
            _check_images(folder, found)


def _check_cut(folder: Path, found: list[tuple[int, int]]) -> None:
    """Make sure that shards are all of one cut, each once."""
    counts = sorted({n for _, n in found})
    if len(counts) > 1:
        raise UserError(
            f"The shards of '{folder}' are of {len(counts)} cuts, of {_listed(counts)} shards; to "
            "be gathered they must be all of one cut: run the workflow, which makes them."
        )
    (n,) = counts
    numbers = [k for k, _ in found]
    for k in range(1, n + 1):
        if numbers.count(k) != 1:
            told = "missing" if k not in numbers else f"given {numbers.count(k)} times"
            raise UserError(
                f"Of the {n} shards of '{folder}', '{k}of{n}.parquet' is {told}; each is needed "
                "once."
            )


def _check_origins(folder: Path, found: list[tuple[int, int]]) -> None:
    """Make sure that shards were made alike, but for the shard."""
    first: tuple[str, dict[str, str]] | None = None
    for name in _names(found):
        certificate = contents.certificate(folder / name)
        if certificate is None:
            continue
        shard = certificate.get("params", {}).get("wildcards", {}).get("shard")
        if shard is not None and f"{shard}.parquet" != name:
            raise UserError(
                f"The file '{folder / name}' holds the shard {shard!r}, as its certificate says, "
                "not the one that it is named after; make it again."
            )
        origin = _origin(certificate)
        if first is None:
            first = name, origin
        for what in origin:
            if origin[what] != first[1].get(what):
                raise UserError(
                    f"The shards '{first[0]}' and '{name}' of '{folder}' were made with unlike "
                    f"{what}, so they can't be gathered: make them again."
                )


def _origin(certificate: Mapping[str, Any]) -> dict[str, str]:
    """Return what the shards of one set have in common."""
    params = dict(certificate.get("params", {}))
    wildcards = dict(params.pop("wildcards", {}))
    wildcards.pop("shard", None)
    reads, inputs = certificate.get("reads", {}), certificate.get("inputs", {})
    common = {"parameters": [params, wildcards]} | {
        f"{what}s": inputs.get(reads.get(what), {}).get("content") for what in ("dataset", "model")
    }
    return {what: json.dumps(value, sort_keys=True) for what, value in common.items()}


def _check_images(folder: Path, found: list[tuple[int, int]]) -> None:
    """Make sure that no image is in two shards."""
    seen: dict[str, str] = {}
    for name in _names(found):
        if "image_id" not in store.columns(folder / name):
            return
        ids = store.read(folder / name, ["image_id"])["image_id"].unique().to_pylist()
        for image in ids:
            if image in seen:
                raise UserError(
                    f"The image {image!r} is in two shards of '{folder}', {seen[image]!r} and "
                    f"{name!r}, so that it would count twice: make them again."
                )
        seen.update(dict.fromkeys(ids, name))


def _names(found: list[tuple[int, int]]) -> list[str]:
    """Return the names of shards, in order."""
    return [f"{k}of{n}.parquet" for k, n in sorted(found)]


def _listed(counts: list[int]) -> str:
    """Return numbers as text.

    >>> _listed([1, 3, 7])
    '1, 3 and 7'
    """
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
