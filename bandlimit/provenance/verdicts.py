"""The vocabulary of proof: what audit, replay, manifest and research object say of a file."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """What became of a file, the worst first.

    TAMPERED: it contradicts its own certificate, or has none and is not the file that was used.
    STALE: it is sound, but not the one that was used: it was changed or made again since.
    MISSING: it is not there, or what could decide is not.
    UNKNOWN: no manifest names it.
    NOT_COMPARED: nothing could be made again to compare it with, such as measured times.
    OK: it is the file that was used.
    """

    TAMPERED = "TAMPERED"
    STALE = "STALE"
    MISSING = "MISSING"
    UNKNOWN = "UNKNOWN"
    NOT_COMPARED = "NOT COMPARED"
    OK = "OK"


@dataclass(frozen=True)
class Finding:
    """A file, what became of it, and how that shows.

    Attributes:
        file: its name, as certificates give it.
        verdict: what became of it.
        detail: a sentence: what was compared, or where it differs.
    """

    file: str
    verdict: Verdict
    detail: str = ""
