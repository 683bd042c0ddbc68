"""The catalogue of the study: its tables and figures, in order, and the rules of its records.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.studies.artifact import REDRAWN, SAMPLED, Figure, Made, Records, Table
from bandlimit.studies.perturbation_spectra.settings import (
    Network,
    PerturbationSpectra,
    Spectra,
)

TITLE = "Perturbation spectra"
CLAIMS = "workflow/claims/perturbation_spectra.yaml"
"""What the document reports, and its claims."""

TABLES = "results/tables/perturbation_spectra"

PERTURBATIONS, SPECTRA, MAPS, FILTERED = "perturbations", "spectra", "spectrum_maps", "low_pass"
"""Folders of the records below results/."""

SHOWN = 10
"""Images of Figures 3 and 7."""

THEOREMS = (
    Made("theorem_1", "Theorem 1", "first-order change of the low-frequency share"),
    Made("theorem_2", "Theorem 2", "order of relative frequencies"),
    Made("theorem_3", "Theorem 3", "perturbation below the image's share"),
    Made("theorem_4", "Theorem 4", "PGD against the gradient"),
    Made("training", "Theorem 1, n samples", "share along training, summary"),
    Made("training_curves", "Theorem 1, n samples, curves", "share along training, step by step"),
)
"""Numerical experiments on the document's theorems."""


def of(run: Run) -> PerturbationSpectra:
    """Return the settings of the study."""
    study: PerturbationSpectra = run.studies["perturbation_spectra"]
    return study


def experiment(run: Run, wildcards: Any) -> Spectra:
    """Return the experiment of the job's dataset and model."""
    return of(run).experiment(wildcards.dataset, wildcards.model)


# Files


def files(run: Run, folder: str) -> list[str]:
    """Return records of all models of the grids, in the order of `rates.grid`."""
    return [
        name for e in of(run).experiments for model in e.models() for name in _of(e, folder, model)
    ]


def _of(e: Spectra, folder: str, model: str) -> list[str]:
    """Return records of one model of an experiment."""
    return [f"results/{folder}/{e.dataset}/{model}/{shard}.parquet" for shard in e.shard_names()]


def perturbation_files(run: Run, wildcards: Any) -> list[str]:
    """Return the perturbed images of the job's dataset and model."""
    return _of(experiment(run, wildcards), PERTURBATIONS, wildcards.model)


def filtered_files(run: Run) -> list[str]:
    """Return the evaluations of the low-pass filter."""
    return [
        name for e in of(run).experiments for own in e.filtered for name in _of(e, FILTERED, own)
    ]


def trajectory_files(run: Run) -> list[str]:
    """Return the trajectories of the networks whose training was followed."""
    return [paths.trajectory_file(network.name) for network in _followed(run)]


def _followed(run: Run) -> list[Network]:
    """Return the networks whose training was followed; one in two experiments is there once."""
    found = {n.name: n for e in of(run).experiments for n in e.networks if n.trajectory}
    return list(found.values())


# Networks that figures are drawn of


def _first(run: Run, chosen: Callable[[Spectra, Network], bool]) -> tuple[Spectra, Network] | None:
    """Return the first network of the first experiment that has such a one."""
    for e in of(run).experiments:
        for network in e.networks:
            if chosen(e, network):
                return e, network
    return None


def _main(run: Run) -> tuple[Spectra, Network]:
    e = of(run).experiments[0]
    return e, e.networks[0]


def _mse(run: Run) -> tuple[Spectra, Network] | None:
    return _first(run, lambda e, n: n.loss == "mse" and n.architecture != "two_layer")


def _two_layer(run: Run) -> tuple[Spectra, Network] | None:
    return _first(run, lambda e, n: n.architecture == "two_layer")


def _trained_alike(run: Run) -> tuple[Spectra, Network, Network] | None:
    """Return the first natural network that has an adversarially trained one of its recipe."""
    return of(run).trained_alike()


def _has(found: Callable[[Run], tuple[Spectra, Network] | None]) -> Callable[[Run], bool]:
    return lambda run: found(run) is not None


Found = Callable[[Run], tuple[Spectra, Network] | None]


def _pictures(found: Found) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that shows single images of a network."""

    def reads(run: Run) -> dict[str, Any]:
        e, network = found(run) or _main(run)
        return {
            "dataset": paths.dataset_file(e.dataset),
            "perturbations": _of(e, PERTURBATIONS, network.name),
        }

    return reads


def _maps(found: Found) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that shows mean spectra of a network."""

    def reads(run: Run) -> dict[str, Any]:
        e, network = found(run) or _main(run)
        return {"maps": [f"results/{MAPS}/{e.dataset}/{network.name}.parquet"]}

    return reads


def _shown(found: Found, **more: Any) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies such a figure."""

    def identity(run: Run) -> dict[str, Any]:
        e, network = found(run) or _main(run)
        return {
            "dataset": e.dataset,
            "network": _named(network),
            "perturbation": of(run).attack,
            **more,
        }

    return identity


def _named(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "batchnorm": network.batchnorm,
        "training": network.training,
        "loss": network.loss,
        "architecture": network.architecture,
    }


def _told(network: Network) -> dict[str, Any]:
    return {
        **_named(network),
        # A list, since the order of files is theirs and that of a mapping is lost.
        "checkpoints": list(network.checkpoints),
        "recipe": dict(network.recipe),
    }


# What tables read, and what identifies them


def _records(run: Run) -> dict[str, Any]:
    return {
        "perturbations": files(run, PERTURBATIONS),
        "spectra": files(run, SPECTRA),
        "trajectories": trajectory_files(run),
        "filtered": filtered_files(run),
    }


def _tables(run: Run) -> dict[str, Any]:
    """Return what the files of the records stand for."""
    return {
        "experiments": [
            {
                "dataset": e.dataset,
                "model": e.model,
                "document": e.document,
                "stand_in": e.stand_in,
                "sides": list(run.models[e.model].shape[1:]),
                "radii": list(e.radii),
                "radius": e.radius,
                "cutoffs": list(e.cutoffs),
                "filtered": list(e.filtered),
                "shards": len(e.shard_names()),
                "networks": [_told(network) for network in e.networks],
            }
            for e in of(run).experiments
        ],
        "clipped": {name: way.clip for name, way in of(run).perturbations.items()},
        "attack": of(run).attack,
        "followed": [{"name": n.name, "dataset": n.trajectory} for n in _followed(run)],
        "tables": [made.name for made in TABLES_OF_JOB if made.when(run)],
    }


def _has_trajectories(run: Run) -> bool:
    return bool(_followed(run))


def _has_filter(run: Run) -> bool:
    return bool(filtered_files(run)) and any(e.cutoffs for e in of(run).experiments)


TABLES_OF_JOB = (
    Made("lifts", "Table", "share of low frequencies in each cell of the grid"),
    Made(
        "contradiction", "Section 4, three documents", "low, uniform or high: which cell says what"
    ),
    Made("profiles", "Table", "radial profiles of the perturbations"),
    Made("comparisons", "Table", "networks compared on equal images"),
    Made(
        "trajectories",
        "Figure 2, table",
        "share of low frequencies along training",
        _has_trajectories,
    ),
    Made("low_pass", "Figure 6, table", "low-pass filter, unaware and aware attack", _has_filter),
)


def _table(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from one table."""
    return lambda run: {"table": f"{TABLES}/{name}.parquet"}


def _followed_networks(run: Run) -> dict[str, Any]:
    return {"networks": [n.name for n in _followed(run) if n.architecture != "two_layer"]}


def _followed_two_layer(run: Run) -> bool:
    return any(n.architecture == "two_layer" for n in _followed(run))


def _followed_others(run: Run) -> bool:
    return any(n.architecture != "two_layer" for n in _followed(run))


def _shares(run: Run) -> dict[str, Any]:
    found = _trained_alike(run)
    assert found is not None
    e, natural, adversarial = found
    return {
        "spectra_natural": _of(e, SPECTRA, natural.name),
        "spectra_adversarial": _of(e, SPECTRA, adversarial.name),
    }


def _shares_identity(run: Run) -> dict[str, Any]:
    found = _trained_alike(run)
    assert found is not None
    e, network, _ = found
    return {
        "dataset": e.dataset,
        "network": _named(network),
        "perturbation": of(run).attack,
        "radius": e.radius,
        "sides": list(run.models[e.model].shape[1:]),
    }


def _theorem_tables(run: Run) -> dict[str, Any]:
    return {made.name: f"{TABLES}/{made.name}.parquet" for made in THEOREMS[:4]}


def _training_tables(run: Run) -> dict[str, Any]:
    return {made.name: f"{TABLES}/{made.name}.parquet" for made in THEOREMS[4:]}


def _whole(name: str, where: str, shows: str, found: Found, **more: Any) -> Figure:
    """Return the entry of a figure of single images."""
    return Figure(
        name,
        where=where,
        shows=shows,
        reads=_pictures(found),
        identity=_shown(found, **more),
        when=_has(found),
    )


def _mean(name: str, where: str, shows: str, found: Found) -> Figure:
    """Return the entry of a figure of mean spectra."""
    return Figure(
        name,
        where=where,
        shows=shows,
        reads=_maps(found),
        identity=_shown(found),
        when=_has(found),
    )


ARTIFACTS = (
    Table("tables", makes=TABLES_OF_JOB, reads=_records, identity=_tables),
    Table(
        "theorems",
        makes=THEOREMS,
        identity=lambda run: {"tables": [made.name for made in THEOREMS], "seed": run.seed},
        group="theory",
    ),
    Figure(
        "figure_lifts",
        where="Figure: lifts",
        shows="where perturbations lie, cell by cell",
        reads=_table("contradiction"),
        in_ledger=True,
        face=True,
    ),
    _whole("figure_1", "Figure 1", "spectrum of a perturbation", _main, place=0),
    Figure(
        "figure_2",
        where="Figure 2",
        shows="share of low frequencies along training",
        reads=_table("trajectories"),
        identity=_followed_networks,
        when=_followed_others,
        in_ledger=True,
    ),
    _whole("figure_3", "Figure 3", "images and spectra of perturbations", _main, images=SHOWN),
    _mean("figure_4", "Figure 4", "mean spectrum and log-spectrum difference", _main),
    _whole("figure_5", "Figure 5", "an image, its perturbation, their spectra", _main, place=0),
    Figure(
        "figure_6",
        where="Figure 6",
        shows="accuracy behind a low-pass filter",
        reads=_table("low_pass"),
        when=_has_filter,
        in_ledger=True,
    ),
    _whole("figure_7", "Figure 7", "Figure 3 for the squared error", _mse, images=SHOWN),
    _mean("figure_8", "Figure 8", "mean spectrum for the squared error", _mse),
    _whole("figure_9", "Figure 9", "log-spectra for the squared error", _mse, images=4),
    _mean("figure_10", "Figure 10", "log-spectrum difference for the squared error", _mse),
    Figure(
        "figure_11",
        where="Figure 11",
        shows="Figure 2 for the two-layer network",
        reads=_table("trajectories"),
        identity=lambda run: {
            "networks": [n.name for n in _followed(run) if n.architecture == "two_layer"]
        },
        when=_followed_two_layer,
    ),
    _mean("figure_12", "Figure 12", "mean spectra of the two-layer network", _two_layer),
    Figure(
        "figure_13",
        where="Figure 13",
        shows="share of low frequencies, image by image",
        reads=_shares,
        identity=_shares_identity,
        when=lambda run: _trained_alike(run) is not None,
        in_ledger=True,
    ),
    Figure(
        "figure_theorems",
        where="Theorems 1 to 4",
        shows="numerical experiments",
        reads=_theorem_tables,
        group="theory",
    ),
    Figure(
        "figure_training",
        where="Theorem 1, n samples",
        shows="one sample beside many",
        reads=_training_tables,
        group="theory",
    ),
)


# Records


def _ways(run: Run, e: Spectra) -> dict[str, Any]:
    """Return kind and parameters of each perturbation by name, in the bound of the experiment."""
    return {
        name: {
            "kind": way.kind,
            "epsilon": e.epsilon if way.epsilon is None else way.epsilon,
            "steps": way.steps,
            "rel_stepsize": way.rel_stepsize,
            "clip": way.clip,
        }
        for name, way in of(run).perturbations.items()
    }


def _measured(run: Run, wildcards: Any) -> dict[str, Any]:
    e = experiment(run, wildcards)
    loss = next(n.loss for n in e.networks if wildcards.model in n.checkpoints.values())
    return {
        "perturbations": {name: {**way, "loss": loss} for name, way in _ways(run, e).items()},
        "images": e.images,
        "device": run.device,
        "seed": run.seed,
    }


def _filter(run: Run, wildcards: Any) -> dict[str, Any]:
    e = experiment(run, wildcards)
    way = _ways(run, e)[of(run).attack]
    return {
        "attack": of(run).attack,
        "images": e.images,
        "epsilon": way["epsilon"],
        "rel_stepsize": way["rel_stepsize"],
        "loss": e.network(wildcards.model).loss,
        "steps": of(run).aware_steps,
        "cutoffs": list(e.cutoffs),
        "device": run.device,
        "seed": run.seed,
    }


RECORDS = {
    "measure_spectra": Records(_measured, again=SAMPLED),
    "average_spectra": Records(lambda run, wildcards: {}, again=REDRAWN),
    "evaluate_low_pass": Records(_filter, again=SAMPLED),
}


def _robust(e: Spectra, network: Network) -> bool:
    """Return whether an experiment has the adversarially trained network of a network's kind."""
    natural = network.training == "natural" and network.loss == "cross_entropy"
    return natural and any(
        other.training == "adversarial"
        and other.loss == network.loss
        and (other.architecture, other.batchnorm) == (network.architecture, network.batchnorm)
        for other in e.networks
    )


def networks(run: Run) -> list[tuple[Spectra, str]]:
    """Return the networks besides those of experiments of which claims may ask."""
    return [(e, n.name) for e in of(run).experiments for n in e.networks if n.name != e.model]


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of a network, as this study knows it."""
    for e in of(run).experiments:
        for network in e.networks:
            if (e.dataset, network.name) == (dataset, model):
                has = ["spectra", network.training, *(["mse"] if network.loss == "mse" else [])]
                has += ["checkpoints"] if "initial" in network.checkpoints else []
                if network.name in e.filtered and e.cutoffs:
                    has += ["filter", *(["pairs"] if _robust(e, network) else [])]
                return {"has": has}
    return {}
