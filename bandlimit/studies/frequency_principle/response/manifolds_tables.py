"""Tables of sinusoids on a curve: when which response frequency is learnt, and the classes."""

from __future__ import annotations

from collections.abc import Mapping

from bandlimit.files.tables import Column
from bandlimit.studies.frequency_principle.response.sinusoids_tables import (
    PASSAGES,
    PASSAGES_NOTE,
    Layout,
)

LAYOUTS: Mapping[str, Layout] = {
    "manifolds": (
        {
            **PASSAGES,
            "amplitude": Column(
                "Amplitude at the end", 3, interval=("amplitude_low", "amplitude_high")
            ),
        },
        "Curves of L turns: when each response frequency along them is learnt",
        "A frequency is learnt at the first step at which the network has the threshold's share of "
        f"its amplitude; phases don't count. {PASSAGES_NOTE} Amplitudes are over those of the "
        "target, with the least and the greatest network.",
    ),
    "manifold_curves": (
        {
            "turns": Column("L"),
            "frequency": Column("Frequency"),
            "step": Column("Step"),
            "amplitude": Column("Amplitude / target's", 3, interval=("low", "high")),
        },
        "Curves of L turns: amplitude of each response frequency along training",
        "Mean over networks; in brackets the least and the greatest.",
    ),
    "manifold_levels": (
        {
            "turns": Column("L"),
            "from_frequency": Column("Frequencies from"),
            "amplitude": Column("Amplitude at the end", 3, interval=("low", "high")),
            "gain": Column("Over the fewest turns", 3, interval=("gain_low", "gain_high")),
            "seeds": Column("Networks"),
            "steps": Column("Steps of training"),
        },
        "Curves of L turns: the three highest response frequencies at the end",
        "Mean of the three amplitudes over those of the target, each at most 1, over networks; in "
        "brackets the least and the greatest network. Beside it what it is above that on the curve "
        "of the fewest turns, network by network, with its 95% interval (Student's t).",
    ),
    "manifold_classification": (
        {
            "measure": Column("Measure"),
            "value": Column("Mean", 4, interval=("low", "high")),
            "cases": Column("Networks or pairs"),
        },
        "Classes on a curve: networks of several initialisations, on it and off it",
        "Accuracies of networks, on the samples and at the middles between them; disagreements and "
        "differences of pairs of networks. In brackets the least and the greatest.",
    ),
}
"""Of each table its columns, its title and its note."""
