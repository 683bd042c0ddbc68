"""The one kind of error that a user's mistake raises: a sentence, not a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input or the configuration, told in one sentence.

    The message says what is wrong, where, what is allowed and what was given.
    """


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return the end of an error sentence: the allowed names, and the nearest one if any is near.

    >>> suggest("pgd_minmal", ["fgsm_minimal", "pgd_minimal"])
    "allowed: 'fgsm_minimal', 'pgd_minimal' (did you mean 'pgd_minimal'?)"
    """
    names = sorted(map(str, allowed))
    text = "allowed: " + (", ".join(map(repr, names)) or "none")
    near = difflib.get_close_matches(str(name), names, n=1)
    return text + (f" (did you mean {near[0]!r}?)" if near else "")
