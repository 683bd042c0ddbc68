"""Figures, drawn from tables alone.

Each drawing function takes a pandas frame and returns a matplotlib Figure: what is to be shown has
been computed before, so a new colour re-runs no evaluation. `style` holds what all figures share,
and `files` writes pictures with their certificates; the figures themselves are in `studies`, so
that each depends only on the code that draws it.
"""
