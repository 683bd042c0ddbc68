"""The one kind of error that a user's mistake raises: a sentence, not a traceback."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input or the configuration, told in one sentence.

    The message says what is wrong, where, what is allowed and what was given.
    """


class MachineError(UserError):
    """What this machine lacks, such as room on a disk: it says nothing of any input."""


NAMED = 20
"""Names that an error tells, at most."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return the end of an error sentence: the allowed names, and the nearest one if any is near.

    Of more than `NAMED` names the nearest are told, and how many others there are.

    >>> suggest("pgd_minmal", ["fgsm_minimal", "pgd_minimal"])
    "allowed: 'fgsm_minimal', 'pgd_minimal' (did you mean 'pgd_minimal'?)"
    """
    names = sorted(map(str, allowed))
    told = names
    if len(names) > NAMED:
        told = sorted(sorted(names, key=lambda other: _likeness(str(name), other))[-NAMED:])
    text = "allowed: " + (", ".join(map(repr, told)) or "none")
    if len(told) < len(names):
        text += f" and {len(names) - len(told)} others"
    nearest = max(names, key=lambda other: _likeness(str(name), other), default="")
    alike, _ = _likeness(str(name), nearest)
    # Two letters of three are soon the same: 'gpu' is no slip for 'cpu', though 'nil' is for 'nll'.
    near = alike > 0.7 or alike >= 0.6 and nearest[:1] == str(name)[:1]
    return text + (f" (did you mean {nearest!r}?)" if near else "")


def _likeness(name: str, other: str) -> tuple[float, int]:
    """Return how alike two names are, and as how long they begin alike, where others tie."""
    ratio = difflib.SequenceMatcher(None, other, name).ratio()
    return ratio, len(os.path.commonprefix([name, other]))
