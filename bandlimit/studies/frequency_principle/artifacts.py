"""The catalogue of the study: its tables and figures, in order, and the rules of its records.

Response frequency and image frequency are two things, so each has its half of the catalogue.
Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from typing import Any

from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.studies.artifact import Table
from bandlimit.studies.frequency_principle.image import artifacts as image
from bandlimit.studies.frequency_principle.response import artifacts as response

TITLE = "Frequency principle"
CLAIMS = "workflow/claims/frequency_principle.yaml"
"""What the documents report, and their claims."""

COMPARED = ("sinusoids", "counterexample", "manifold_levels", "corruption_rates")
"""Tables of the study that tell where the works disagree."""


def _compared(run: Run) -> dict[str, str]:
    """Return the files of these, and of two tables that another study of the run makes."""
    found = {
        made.name: f"{image.TABLES}/{made.name}.parquet"
        for artifact in (*response.ARTIFACTS, *image.ARTIFACTS)
        if artifact.kind == "tables" and artifact.when(run)
        for made in artifact.made(run)
        if made.name in COMPARED
    }
    other = run.studies.get("perturbation_spectra")
    experiments = other.experiments if other else ()
    if experiments:
        found["lifts"] = "results/tables/perturbation_spectra/lifts.parquet"
    if any(e.cutoffs for e in experiments):
        found["low_pass"] = "results/tables/perturbation_spectra/low_pass.parquet"
    return found


ARTIFACTS = (
    *response.ARTIFACTS,
    *image.ARTIFACTS,
    Table(
        "disagreements",
        where="All works, disagreements",
        shows="where they disagree, and what these runs show",
        reads=_compared,
        identity=lambda run: {"tables": list(_compared(run))},
        when=lambda run: bool(_compared(run)),
    ),
)

RECORDS = {**image.RECORDS}


def networks(run: Run) -> list[tuple[Experiment, str]]:
    """Return the networks besides those of experiments of which claims may ask."""
    return [*response.networks(run), *image.networks(run)]


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of a network, as this study knows it."""
    halves = [half.facts(run, dataset, model) for half in (image, response)]
    both = {key: value for half in halves for key, value in half.items()}
    return {**both, "has": [name for half in halves for name in half.get("has", ())]}
