"""Tables of the sums of sinusoids: when which response frequency is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from bandlimit.files.tables import Column, Table
from bandlimit.studies.frequency_principle.response.sinusoids_passages import Record

Layout = tuple[Mapping[str, Column], str, str]
"""Columns of a table as readers see them, its title, and its note."""

PASSAGES: Mapping[str, Column] = {
    "case": Column("Case"),
    "frequency": Column("Frequency"),
    "threshold": Column("Threshold"),
    "step": Column("Step", 0, interval=("step_low", "step_high")),
    "learnt": Column("Learnt by"),
    "seeds": Column("Networks"),
    "steps": Column("Steps of training"),
    "ordered": Column("All in order", 2),
    "spearman": Column("Rank correlation", 3, interval=("spearman_low", "spearman_high")),
}
"""Of a table of first passages."""

PASSAGES_NOTE = (
    "The step is the mean over the networks that learnt the frequency; in brackets the first and "
    "the last of them. 'All in order' is the share of networks that learn every frequency before "
    "the next higher one, where a frequency that is never learnt comes last. The rank correlation "
    "of frequency and step is a mean over networks, with its 95% interval by Student's t."
)

LAYOUTS: Mapping[str, Layout] = {
    "one_dimension": (
        PASSAGES,
        "A sum of sines: when each response frequency is learnt",
        "A frequency is learnt at the first step with a relative error of the network's transform "
        f"below the threshold. {PASSAGES_NOTE}",
    ),
    "one_dimension_curves": (
        {
            "frequency": Column("Frequency"),
            "step": Column("Step"),
            "difference": Column("Relative error", 4, interval=("low", "high")),
        },
        "A sum of sines: error of each response frequency along training",
        "Mean over networks of |F[h] - F[f]| / |F[f]|; in brackets the least and the greatest.",
    ),
    "one_dimension_functions": (
        {
            "step": Column("Step"),
            "x": Column("x", 4),
            "output": Column("Network", 4),
            "target": Column("Target", 4),
        },
        "A sum of sines: what the first network computes along training",
        "At the start, at the step at which it learns each frequency, and at the end.",
    ),
    "sinusoids": (
        PASSAGES,
        "Sums of sinusoids: when each response frequency is learnt",
        "Amplitudes are equal, or grow from 0.1 to 1 with the frequency. A frequency is learnt at "
        "the first step at which the network has the threshold's share of its amplitude; phases "
        f"don't count. {PASSAGES_NOTE}",
    ),
    "sinusoid_curves": (
        {
            "case": Column("Case"),
            "frequency": Column("Frequency"),
            "step": Column("Step"),
            "amplitude": Column("Amplitude / target's", 3, interval=("low", "high")),
        },
        "Sums of sinusoids: amplitude of each response frequency along training",
        "Mean over networks; in brackets the least and the greatest.",
    ),
    "sinusoid_norms": (
        {
            "case": Column("Case"),
            "layer": Column("Layer"),
            "step": Column("Step"),
            "norm": Column("Spectral norm", 3, interval=("low", "high")),
        },
        "Sums of sinusoids: spectral norms of the layers along training",
        "Mean over networks, by power iteration; in brackets the least and the greatest.",
    ),
    "sinusoid_noise": (
        {
            "frequency": Column("Frequency"),
            "norm": Column("Norm of the noise", 3),
            "amplitude": Column("Amplitude / that without noise", 3, interval=("low", "high")),
            "directions": Column("Directions"),
            "seeds": Column("Networks"),
        },
        "Noise on the parameters of trained networks: what it leaves of each response frequency",
        "The noise is a random direction in the space of all parameters, of the norm given. Mean "
        "over directions and networks of equal amplitudes; in brackets the least and the greatest "
        "network.",
    ),
}
"""Of each table its columns, its title and its note."""


def table(name: str, records: Sequence[Record], layouts: Mapping[str, Layout] = LAYOUTS) -> Table:
    """Return a table of a simulation's records.

    Args:
        name: one of the layouts.
        records: its rows.
        layouts: by name.
    """
    columns, title, note = layouts[name]
    return Table(pd.DataFrame(records), columns, title, note)
