"""Whether a job may be made again that runs code of the user's own.

A certificate, or the metadata of a model file, names such code by its path, and whoever wrote the
file chose the path. It is run only where the configuration of the project names it too, and where
its files are what the certificate says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bandlimit.config.run import Run
from bandlimit.errors import UserError
from bandlimit.files import own_code

LARGEST_HEADER = 100_000_000
"""Bytes, as safetensors itself allows."""


def named(run: Run) -> frozenset[str]:
    """Return the sources of networks and defences that a configuration names."""
    networks = (model.architecture for model in run.models.values())
    defenses = (entry.parameters.get("source", "") for entry in run.defenses.values())
    return frozenset(text for text in (*networks, *defenses) if own_code.is_source(text))


def refusal(
    params: Mapping[str, Any],
    inputs: Iterable[Path],
    allowed: Collection[str],
    home: Path,
) -> str | None:
    """Return why a job may not run, in a sentence, or None.

    Args:
        params: of the job, as its certificate states them.
        inputs: files that it reads; models are found among them.
        allowed: sources that the configuration names.
        home: folder of the project, which sources are relative to.
    """
    for source in _mentioned(params):
        if source not in allowed:
            return _unnamed("Its certificate", source)
    told = [("Its certificate", entry) for entry in _entries(params)]
    told += [(f"The model {str(path)!r}", entry) for path in inputs for entry in _model(path)]
    for who, entry in told:
        source, known = entry["source"], entry.get("own_code")
        if source not in allowed:
            return _unnamed(who, source)
        if not isinstance(known, dict):
            return (
                f"{who} names code of the user's own, {source!r}, and no sha256 of its files, so "
                "that nothing was run."
            )
        more = entry.get("files", [])
        if not (isinstance(more, list) and all(isinstance(name, str) for name in more)):
            return f"{who} names no files beside {source!r} but {more!r}; nothing was run."
        try:
            with own_code.named_from(home):
                found = own_code.files(source, who, more)
        except UserError as error:
            return f"{error} Nothing was run."
        if found != known:
            other = sorted(name for name in {*found, *known} if found.get(name) != known.get(name))
            return (
                f"{who} names code of the user's own, {source!r}, whose file {other[0]!r} is not "
                "what was used, so that nothing was run."
            )
    return None


def _unnamed(who: str, source: str) -> str:
    return (
        f"{who} names code of the user's own, {source!r}, which the configuration of this project "
        "does not name, so that nothing was run; --configfile names an overlay that does."
    )


def _mentioned(value: Any) -> Iterator[str]:
    """Yield every text among params that could be such code, wherever it stands."""
    if isinstance(value, str):
        if own_code.is_source(value):
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            # Under this key there are names of files.
            if key != "own_code":
                yield from _mentioned(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _mentioned(one)


def _entries(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the source of the network, and of each defence, with what is stated beside it."""
    architecture = params.get("architecture")
    if isinstance(architecture, str) and own_code.is_source(architecture):
        yield {"source": architecture, "own_code": params.get("own_code")}
    defenses = params.get("defenses")
    for entry in defenses.values() if isinstance(defenses, Mapping) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("source"), str):
            yield dict(entry)


def _model(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the source of the network in a model file, if it is one of the user's own code."""
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < min(path.stat().st_size, LARGEST_HEADER):
                return
            header = file.read(length)
        metadata = json.loads(header)["__metadata__"]
        architecture = metadata["architecture"]
        if own_code.is_source(architecture):
            yield {
                "source": architecture,
                "own_code": json.loads(metadata.get("own_code", "null")),
            }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # no model file, so that nothing in it names code
