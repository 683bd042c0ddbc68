"""What the last run in a folder was given, so that what follows a run looks at that one.

A plain run over the results of one with overlays is refused: nobody who types `make` after an own
run means to write over it. A run leaves a note. Where there is none, as in a copy of results, the
certificate of the manifest tells. Imports nothing heavy, since every start of the workflow pays
for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bandlimit.errors import UserError
from bandlimit.files import certificates

NOTE = ".snakemake/given.json"
"""The note, in the folder of the run."""

MANIFEST = "results/provenance/manifest.json"

CONFIG = "config.yaml"
"""The configuration of every run."""


@dataclass(frozen=True)
class Given:
    """What a run is given besides config.yaml.

    Attributes:
        configfiles: overlays, relative to the project where they lie in it.
        overrides: what was set on the command line.
        of: where that is known from, for readers; empty where it was just said.
    """

    configfiles: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""

    def options(self) -> list[str]:
        """Return it as options of Snakemake."""
        found = ["--configfile", *self.configfiles] if self.configfiles else []
        if self.overrides:
            found += ["--config", *(f"{k}={json.dumps(v)}" for k, v in self.overrides.items())]
        return found

    def __str__(self) -> str:
        """Return it in words."""
        return " + ".join([CONFIG, *self.configfiles, *map(str, self.overrides)])


def check(now: Given) -> str:
    """Return what to say before a run begins in this folder; nothing where all stays as it was.

    Args:
        now: what this run is given; config.yaml among its overlays says that it alone is meant.

    Raises:
        UserError: the results are of a run with overlays, and this one names none.
    """
    before = noted() or _certified()
    if before is None or not _any_file("results") or _overlays(before) == _overlays(now):
        return ""
    if not now.configfiles:
        overlays = " ".join(before.configfiles)
        raise UserError(
            f"The results here are of {before}, and this run names no configuration: nothing was "
            f"changed. 'make CONFIG=\"{overlays}\"' or 'snakemake --configfile {overlays}' goes on "
            f"with it; 'make CONFIG={CONFIG}' or 'snakemake --configfile {CONFIG}' makes "
            f"what {CONFIG} asks for, and writes over its tables, figures and claims; a copy of "
            "the project keeps both."
        )
    now = Given(_overlays(now), now.overrides)
    return (
        f"The results here are of {before}. This run is of {now}: tables, figures and claims that "
        "it makes take the place of those; records that both ask for with equal settings are kept."
    )


def _overlays(given: Given) -> list[str]:
    return [name for name in given.configfiles if name != CONFIG]


def _any_file(folder: str) -> bool:
    return any(files for _, _, files in os.walk(folder))


def keep(given: Given) -> None:
    """Leave the note of a run in the working folder."""
    os.makedirs(os.path.dirname(NOTE), exist_ok=True)
    said = {"configfiles": _overlays(given), "overrides": dict(given.overrides)}
    Path(NOTE).write_text(json.dumps(said) + "\n", encoding="utf-8")


def given(configfiles: Sequence[str] = ()) -> Given:
    """Return what a command is to look at: the overlays it was given, else those of the last run.

    Raises:
        UserError: an overlay of the last run is not there any more, or only its name is known.
    """
    if configfiles:
        return Given(tuple(configfiles))
    found = noted() or _certified() or Given()
    for name in found.configfiles:
        if not os.path.isfile(name):
            raise UserError(
                f"The last run was given the configuration {name!r}, which is not there: name its "
                "overlays, as in '--configfile FILE' or 'make status CONFIG=FILE'; config.yaml "
                "alone is 'CONFIG=config.yaml'."
            )
    return found


def noted(home: str | os.PathLike[str] = ".") -> Given | None:
    """Return what the last run in a folder was given, by its note; None without one."""
    try:
        said = json.loads((Path(home) / NOTE).read_bytes())
        return Given(tuple(said["configfiles"]), dict(said["overrides"]), "the last run")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _certified() -> Given | None:
    try:
        proof = json.loads(Path(MANIFEST).read_bytes())[certificates.MARK]
        # One that lay elsewhere has a name there, and none here.
        named = [file if isinstance(file, str) else file["name"] for file in proof["config"]]
        overlays = tuple(name for name in named if name != CONFIG)
        return Given(overlays, dict(proof["overrides"]), "the results")
    except (OSError, ValueError, KeyError, TypeError):
        return None
