"""matplotlib, imported whatever program the caller shows pictures with.

Figures go to files. matplotlib asks for the program that shows them when it is imported, and fails
where that is not here: in a job that a notebook starts, its `MPLBACKEND`. So modules here import
this one before matplotlib.
"""

from __future__ import annotations

import contextlib
import os


def _import_matplotlib() -> None:
    """Import matplotlib without `MPLBACKEND`; for pyplot, what can be used of it is kept."""
    asked = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if asked is not None:
        os.environ["MPLBACKEND"] = asked
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked


_import_matplotlib()
