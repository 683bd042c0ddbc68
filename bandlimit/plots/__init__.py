"""Figures, drawn from tables alone.

Each drawing function takes a pandas frame and returns a matplotlib Figure: what is to be shown has
been computed before, so a new colour re-runs no evaluation. `style` holds what all figures share,
and `files` writes pictures with their certificates; the figures themselves are in `studies`, so
that each depends only on the code that draws it.

Figures go to files, whatever program the caller shows pictures with. matplotlib asks for that one
when it is imported, and fails where it is not there: in a job that a notebook starts, its
`MPLBACKEND`. So this package imports matplotlib without it, before any figure does.
"""

import contextlib
import os


def _import_matplotlib() -> None:
    """Import matplotlib whatever `MPLBACKEND` says; for pyplot, what can be used of it is kept."""
    asked = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if asked is not None:
        os.environ["MPLBACKEND"] = asked
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked


_import_matplotlib()
