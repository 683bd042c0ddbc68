"""Figures, drawn from tables alone.

Each drawing function takes a pandas frame and returns a matplotlib Figure: what is to be shown has
been computed before, so a new colour re-runs no evaluation. There is a module for each study, so
that a figure depends on the code that draws it alone; `style` holds what all share, `files` writes
pictures with their certificates.
"""
