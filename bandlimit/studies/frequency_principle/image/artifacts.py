"""The catalogue of image frequency: heat maps, corruptions, noise of a band.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from typing import Any

from bandlimit.config.run import Run
from bandlimit.studies.artifact import Artifact, Records

GROUP = "image frequency"

TABLES = "results/tables/frequency_principle"


# Fourier heat maps, and waves as an attack

HEAT_MAPS: tuple[Artifact, ...] = ()


# Corruptions, noise of a band, and what trained networks make of them

CORRUPTIONS: tuple[Artifact, ...] = ()


ARTIFACTS = (*HEAT_MAPS, *CORRUPTIONS)


RECORDS: dict[str, Records] = {}


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of a network, as this half of the study knows it."""
    return {}
