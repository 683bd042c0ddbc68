"""The catalogue of the study: its tables and figures, in order, and the rules of its records.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from typing import Any

from bandlimit.attacks.kinds import DOCUMENT_ATTACKS, FIXED
from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.studies.artifact import MEASURED, REDRAWN, SAMPLED, Figure, Made, Records, Table
from bandlimit.studies.bandlimiting.settings import Averaging, Bandlimiting

TITLE = "Bandlimiting"
CLAIMS = "workflow/claims/bandlimiting.yaml"
"""What the document reports, and its claims."""

TABLES = "results/tables/bandlimiting"
RATES = f"{TABLES}/defense_rates.parquet"
LAYERS = f"{TABLES}/crossings_by_layer.parquet"
REGION_PARTS = ("polygons", "segments", "decision", "crossings", "points", "step")
"""Records that Figure 1 is drawn from."""

THEORY = (
    Made("region_counts", "Section 2.2", "regions that hyperplanes cut"),
    Made("lemma_2_6", "Lemma 2.6", "transform of the unit simplex"),
    Made("simplex_decay", "Section 2.1", "decay of that transform"),
    Made("theorem_2_7", "Theorem 2.7", "transform of one linear piece"),
    Made("equation_6", "Eq. 6", "damping by the mean over a ball"),
    Made("sampler_response", "Eqs. 6 to 8", "response of the sampler, table"),
)
"""Tables of the theory of section 2 and eq. 6."""


def of(run: Run) -> Bandlimiting:
    """Return the settings of the study."""
    study: Bandlimiting = run.studies["bandlimiting"]
    return study


# Files


def sampler_files(run: Run, folder: str = "evaluations", part: str = "/samplers") -> list[str]:
    """Return the comparisons of samplers, on the minimising attacks of the document."""
    return [
        f"results/{folder}/{e.dataset}/{e.model}/{attack}{part}/{shard}.parquet"
        for e, attack, shard in _sampled(run)
    ]


def crossing_files(run: Run) -> list[str]:
    """Return the counts of hyperplanes crossed."""
    return [
        f"results/crossings/{e.dataset}/{e.model}/{attack}/{shard}.parquet"
        for e, attack, shard in _crossed(run)
    ]


def region_files(run: Run) -> list[str]:
    """Return the records of the linear regions of a network."""
    return [f"results/theory/linear_regions_{part}.parquet" for part in REGION_PARTS]


def _sampled(run: Run) -> list[tuple[Averaging, str, str]]:
    return [
        (e, attack, shard)
        for e in of(run).experiments
        if e.samplers
        for attack in e.attacks
        if attack in DOCUMENT_ATTACKS
        for shard in e.shard_names()
    ]


def _crossed(run: Run) -> list[tuple[Averaging, str, str]]:
    return [
        (e, attack, shard)
        for e in of(run).experiments
        for attack in e.crossings
        for shard in e.shard_names()
    ]


# What each job reads


def _records(run: Run) -> dict[str, Any]:
    experiments = of(run).experiments
    return {
        "undefended": paths.evaluation_files(experiments, "undefended"),
        "adversarial": paths.adversarial_files(experiments),
        "defended": paths.evaluation_files(experiments, "post_averaging"),
    }


def _rates(run: Run) -> dict[str, Any]:
    return {"rates": RATES}


def _rates_and_claims(run: Run) -> dict[str, Any]:
    return {"rates": RATES, "claims": CLAIMS}


def _claims(run: Run) -> dict[str, Any]:
    return {"claims": CLAIMS}


def _models(run: Run) -> dict[str, Any]:
    experiments = of(run).experiments
    return {
        "datasets": [paths.dataset_file(e.dataset) for e in experiments],
        "models": [paths.model_file(e.model) for e in experiments],
        "claims": CLAIMS,
    }


def _samplers(run: Run) -> dict[str, Any]:
    return {
        "evaluations": sampler_files(run),
        "adversarial": sampler_files(run, "adversarial", ""),
    }


def _crossings(run: Run) -> dict[str, Any]:
    return {"crossings": crossing_files(run), "claims": CLAIMS}


def _regions(run: Run) -> dict[str, Any]:
    return {"tables": region_files(run)}


def _response(run: Run) -> dict[str, Any]:
    return {"response": f"{TABLES}/sampler_response.parquet"}


def _layers(run: Run) -> dict[str, Any]:
    return {"layers": LAYERS}


# What identifies each job


MAIN = ("dataset", "model", "radius", "directions", "document")


def _settings(run: Run, *more: str) -> dict[str, Any]:
    """Return each experiment and its main setting, in the order of the configuration."""
    names = (*MAIN, *more)
    return {
        "experiments": [{name: getattr(e, name) for name in names} for e in of(run).experiments]
    }


def _main(run: Run) -> dict[str, Any]:
    return _settings(run, "epsilon")


def _all_rates(run: Run) -> dict[str, Any]:
    study = of(run)
    return {
        "experiments": [
            {
                "dataset": e.dataset,
                "model": e.model,
                "attacks": list(e.attacks),
                "shards": e.shard_names(),
                "settings": {attack: e.settings(attack) for attack in e.attacks},
                "bounds": sorted({e.epsilon, *study.epsilons}),
                "main": [e.epsilon, e.radius, e.directions],
                "fixed": {
                    attack: parameters["epsilons"]
                    for attack, parameters in e.attacks.items()
                    if attack in FIXED
                },
            }
            for e in study.experiments
        ]
    }


def _timed(run: Run) -> dict[str, Any]:
    study = of(run)
    return {
        **_settings(run),
        "device": run.device,
        "seed": run.seed,
        "timed_directions": list(study.timed_directions),
        "timed_seconds": study.timed_seconds,
    }


def _named(files: list[tuple[Averaging, str, str]]) -> list[dict[str, Any]]:
    """Return dataset, model, attack and epsilon of each file."""
    return [
        {"dataset": e.dataset, "model": e.model, "attack": attack, "epsilon": e.epsilon}
        for e, attack, _ in files
    ]


def _sampled_names(run: Run) -> dict[str, Any]:
    """Return the names of the files of the samplers, with what was asked of each."""
    files = _sampled(run)
    return {
        "names": [
            {**name, "samplers": list(e.samplers), "directions": _few(run, e)}
            for name, (e, _, _) in zip(_named(files), files, strict=True)
        ]
    }


def _few(run: Run, e: Averaging) -> int:
    """Return how many directions samplers are compared with.

    At most half the classes: the last layer has a hyperplane per class, and samplers that take all
    of them would be one.
    """
    return min(e.directions, run.models[e.model].classes // 2)


def _bounds(run: Run) -> dict[str, Any]:
    return {**_settings(run), "epsilons": list(of(run).epsilons)}


def _figure_1(run: Run) -> dict[str, Any]:
    return {"parts": list(REGION_PARTS), "seed": of(run).figure_1_seed}


def _has_samplers(run: Run) -> bool:
    return bool(_sampled(run))


def _has_crossings(run: Run) -> bool:
    return bool(_crossed(run))


ARTIFACTS = (
    Table(
        "defense_rates",
        where="All rates",
        shows="every attack, epsilon, radius and K",
        reads=_records,
        identity=_all_rates,
    ),
    Table(
        "table_1",
        where="Table 1",
        shows="accuracy and defence rate by attack",
        reads=_rates_and_claims,
        identity=_main,
    ),
    Table(
        "table_2",
        where="Table 2",
        shows="defence rate by number of directions K",
        reads=_rates_and_claims,
        identity=_main,
    ),
    Table(
        "table_2_time",
        where="Table 2, time",
        shows="inference time by number of directions K",
        reads=_models,
        identity=_timed,
        gpu=True,
        again=MEASURED,
    ),
    Table(
        "theory",
        makes=THEORY,
        reads=_claims,
        identity=lambda run: {"tables": [made.name for made in THEORY], "seed": run.seed},
        group="theory",
    ),
    Table(
        "table_samplers",
        where="Section 3.2",
        shows="random and boundary-directed directions",
        reads=_samplers,
        identity=_sampled_names,
        when=_has_samplers,
    ),
    Table(
        "table_crossings",
        where="Section 2.2",
        shows="hyperplanes crossed, with random controls",
        reads=_crossings,
        identity=lambda run: {"names": _named(_crossed(run)), "segments": of(run).segments},
        when=_has_crossings,
        more={"layers": LAYERS},
    ),
    Figure(
        "figure_1",
        where="Figure 1",
        shows="linear regions of a network, A to B",
        reads=_regions,
        identity=_figure_1,
    ),
    Figure(
        "figure_2",
        where="Figure 2",
        shows="defence rate against radius",
        reads=_rates,
        identity=_main,
        in_ledger=True,
    ),
    Figure(
        "figure_3",
        where="Figure 3",
        shows="defence rate against epsilon",
        reads=_rates,
        identity=_bounds,
        in_ledger=True,
        face=True,
    ),
    Figure(
        "figure_response",
        where="Eq. 6",
        shows="response of the ball and of the sampler",
        reads=_response,
        group="theory",
    ),
    Figure(
        "figure_crossings",
        where="Section 2.2",
        shows="hyperplanes crossed, layer by layer",
        reads=_layers,
        when=_has_crossings,
        in_ledger=True,
    ),
)


# Records


def _post_averaging(run: Run, wildcards: Any) -> dict[str, Any]:
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return {
        "settings": [list(setting) for setting in e.settings(wildcards.inputs)],
        "bfloat16": of(run).bfloat16,
        "device": run.device,
        "seed": run.seed,
    }


def _compared(run: Run, wildcards: Any) -> dict[str, Any]:
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return {
        "samplers": list(e.samplers),
        "radius": e.radius,
        "directions": _few(run, e),
        "device": run.device,
        "seed": run.seed,
    }


RECORDS = {
    "evaluate_post_averaging": Records(_post_averaging, again=SAMPLED, images="images"),
    "evaluate_samplers": Records(_compared, again=SAMPLED, images="images"),
    "count_crossings": Records(
        lambda run, wildcards: {
            "segments": of(run).segments,
            "device": run.device,
            "seed": run.seed,
        },
        again=SAMPLED,
        images="adversarial",
    ),
    "linear_regions": Records(lambda run, wildcards: _figure_1(run), again=REDRAWN),
}


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of an experiment, as this study knows it."""
    try:
        e = of(run).experiment(dataset, model)
    except KeyError:
        return {}
    parts = {"crossings": e.crossings, "samplers": e.samplers}
    return {
        "main_radius": e.radius,
        "main_directions": e.directions,
        "largest_epsilon": max(of(run).epsilons),
        "has": ["post_averaging", *e.attacks, *(name for name, part in parts.items() if part)],
    }
