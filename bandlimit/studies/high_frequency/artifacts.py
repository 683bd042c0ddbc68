"""The catalogue of the study: its tables and figures, in order, and the rules of its records.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.studies.artifact import SAMPLED, Figure, Made, Records, Table
from bandlimit.studies.high_frequency.settings import (
    DETECTOR_SHA256,
    HighFrequency,
    Learning,
    Network,
)

TITLE = "High frequencies"
CLAIMS = "workflow/claims/high_frequency.yaml"
"""What the document reports, and its claims."""

TABLES = "results/tables/high_frequency"

COMPONENTS, SMOOTHED = "components", "smoothed_kernels"
"""Folders of the records below results/."""

SHOWN = 8
"""Images of Figure 2."""


def of(run: Run) -> HighFrequency:
    """Return the settings of the study."""
    study: HighFrequency = run.studies["high_frequency"]
    return study


def experiment(run: Run, wildcards: Any) -> Learning:
    """Return the experiment of the job's dataset and model."""
    return of(run).experiment(wildcards.dataset, wildcards.model)


# Files


def curve_files(run: Run) -> list[str]:
    """Return the curves of all networks, in the order of `told`."""
    return [
        paths.curves_file(network.name) for e in of(run).experiments for network in e.networks()
    ]


def _records(e: Learning, folder: str, networks: list[Network]) -> list[str]:
    """Return the records of an experiment's networks, all seeds."""
    return [
        f"results/{folder}/{e.dataset}/{model}/{shard}.parquet"
        for network in networks
        for model in network.models()
        for shard in e.shard_names()
    ]


def component_files(run: Run) -> list[str]:
    """Return what the network of each experiment says of components."""
    return [name for e in of(run).experiments for name in _records(e, COMPONENTS, [e.vanilla])]


def smoothed_files(run: Run) -> list[str]:
    """Return what networks with smoothed kernels say of attacked images."""
    return [name for e in of(run).experiments for name in _records(e, SMOOTHED, e.smoothed())]


def detector_weights(run: Run) -> str:
    """Return the file of the detector's weights."""
    detection = of(run).detection
    assert detection is not None
    return detection.weights or "results/models/downloads/retinanet_resnet50_fpn.weights"


def detection_files(run: Run) -> dict[str, str]:
    """Return what jobs read that know what is in the images, by keyword."""
    detection = of(run).detection
    assert detection is not None
    return {"annotations": detection.annotations, "pictures": detection.pictures}


# What tables and figures read, and what identifies them


def told(run: Run) -> list[dict[str, Any]]:
    """Return what the curves of all networks stand for."""
    return [
        {
            **_experiment(run, e, e.networks()),
            "labels": [network.name for network in e.labels or ()],
            **{
                group: [network.name for network in getattr(e, group)]
                for group in (
                    *("components", "batchnorm", "heuristics", "architectures", "optimizers"),
                    *("equal_epochs", "equal_updates"),
                )
            },
        }
        for e in of(run).experiments
    ]


def _experiment(run: Run, e: Learning, networks: list[Network]) -> dict[str, Any]:
    """Return what the files of some networks of an experiment stand for."""
    return {
        "dataset": e.dataset,
        "model": e.model,
        "document": e.document,
        "stand_in": e.stand_in,
        "classes": run.models[e.model].classes,
        "radii": list(e.radii),
        "shards": len(e.shard_names()),
        "networks": [_told(network) for network in networks],
        # Where its files are read.
        "robust": e.robust.name if e.robust and e.robust in networks else None,
    }


def _told(network: Network) -> dict[str, Any]:
    recipe = network.recipe
    mixup, component = recipe.get("mixup"), recipe.get("component")
    return {
        "name": network.name,
        "architecture": network.architecture,
        "batchnorm": network.batchnorm,
        "shuffled": network.shuffled,
        "seeds": network.seeds,
        "part": network.part[0] if network.part else None,
        "radius": network.part[1] if network.part else None,
        "epochs": recipe["epochs"],
        "batch_size": recipe["batch_size"],
        "optimizer": recipe.get("optimizer", "sgd"),
        "dropout": recipe.get("dropout", 0),
        "mixup": mixup["alpha"] if mixup else None,
        "adversarial": bool(recipe.get("adversarial")),
        "learning_rate": recipe["learning_rate"],
        "momentum": recipe["momentum"],
        "weight_decay": recipe["weight_decay"],
        "schedule": recipe.get("schedule", "triangle"),
        "loss": recipe.get("loss", "cross_entropy"),
        "augmentation": dict(sorted(recipe["augmentation"].items())),
        "mixup_per": mixup["per"] if mixup else None,
        "strict": component["strict"] if component else None,
        "scale": component["scale"] if component else None,
    }


def _curves(run: Run) -> dict[str, Any]:
    histories = [
        paths.history_file(network.name) for e in of(run).experiments for network in e.labels or ()
    ]
    return {"curves": curve_files(run), "histories": histories, "claims": CLAIMS}


def _tables(run: Run) -> dict[str, Any]:
    return {
        "experiments": told(run),
        "trained": of(run).trained,
        "tables": [made.name for made in OF_CURVES if made.when(run)],
    }


def _components(run: Run) -> dict[str, Any]:
    return {"components": component_files(run)}


def _component_tables(run: Run) -> dict[str, Any]:
    return {**_shown_networks(run), "tables": [made.name for made in OF_COMPONENTS]}


def _smoothed(run: Run) -> dict[str, Any]:
    return {"smoothed": smoothed_files(run), "claims": CLAIMS}


def _kernels(run: Run) -> dict[str, Any]:
    return {
        "models": [
            paths.model_file(model)
            for e in of(run).experiments
            for network in e.smoothed()
            for model in network.models()
        ]
    }


def _shown_networks(run: Run) -> dict[str, Any]:
    """Return what the files of networks that were shown components stand for."""
    return {"experiments": [_experiment(run, e, [e.vanilla]) for e in of(run).experiments]}


def _smoothed_networks(run: Run) -> dict[str, Any]:
    """Return what the files of networks with smoothed kernels stand for."""
    return {"experiments": [_experiment(run, e, e.smoothed()) for e in of(run).experiments]}


def _learns(run: Run) -> bool:
    """Return whether there is an experiment; objects are detected without."""
    return bool(of(run).experiments)


def _any(group: str) -> Callable[[Run], bool]:
    """Return whether an experiment has networks of a group."""
    return lambda run: any(getattr(e, group) for e in of(run).experiments)


def _table(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from one table."""
    return lambda run: {"table": f"{TABLES}/{name}.parquet"}


def _pairs(run: Run) -> dict[str, Any]:
    return {name: f"{TABLES}/{name}.parquet" for name in ("curves", "batchnorm")}


def _pictures(run: Run) -> dict[str, Any]:
    e = of(run).experiments[0]
    return {
        "dataset": paths.dataset_file(e.dataset),
        "components": _records(e, COMPONENTS, [e.vanilla])[: len(e.shard_names())],
    }


def _pictured(run: Run) -> dict[str, Any]:
    e = of(run).experiments[0]
    return {"dataset": e.dataset, "model": e.model, "radii": list(e.radii), "images": SHOWN}


def _group(*groups: str) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies a figure of curves: networks by experiment and group."""

    def identity(run: Run) -> dict[str, Any]:
        return {
            "experiments": [
                {key: each[key] for key in ("dataset", "model", "radii", "networks", *groups)}
                for each in told(run)
            ]
        }

    return identity


def _with_batchnorm(run: Run) -> list[Network]:
    return [n for e in of(run).experiments for n in e.networks() if n.batchnorm]


def _normalised(run: Run) -> dict[str, Any]:
    return {
        "models": [paths.model_file(m) for n in _with_batchnorm(run) for m in n.models()],
        "datasets": [paths.dataset_file(e.dataset) for e in of(run).experiments],
    }


def _of_batches(run: Run) -> dict[str, Any]:
    experiments = of(run).experiments
    return {
        "experiments": [
            {
                **{key: each[key] for key in ("dataset", "model", "document", "stand_in", "radii")},
                "networks": [own for own in each["networks"] if own["batchnorm"]],
                "images": e.images,
            }
            for each, e in zip(told(run), experiments, strict=True)
        ],
        "device": run.device,
        "seed": run.seed,
    }


OF_CURVES = (
    Made("curves", "Figures 3 to 6, table", "accuracy on images and their components"),
    Made("table_1", "Table 1", "trained on low or on high frequencies", _any("components")),
    Made("labels", "Figure 3, table", "true and shuffled labels", _any("labels")),
    Made("batch_sizes", "Figure 4, table", "batch sizes", _any("equal_epochs")),
    Made("batchnorm", "Figure 6, table", "BatchNorm on low frequencies", _any("batchnorm")),
    Made("comparisons", "Table", "networks compared on equal images"),
)

OF_COMPONENTS = (
    Made("counts", "Figure 2, table", "right on an image, wrong on its low frequencies"),
    Made("corollary_1", "Corollary 1", "low-frequency images as adversarial examples"),
    Made("svd", "Section 8", "singular values in place of frequencies"),
    Made("conventions", "Text and code", "how a component is taken"),
)


def _detects(run: Run) -> bool:
    return of(run).detection is not None


def _part(run: Run) -> dict[str, Any]:
    """Return how components of images are taken for detection."""
    detection = of(run).detection
    assert detection is not None
    return {"radius": detection.radius, "strict": detection.strict, "scale": detection.scale}


def _detected(run: Run) -> dict[str, Any]:
    return {
        **detection_files(run),
        **{name: f"results/detections/{name}.parquet" for name in ("full", "low", "high")},
    }


def _chosen(run: Run) -> dict[str, Any]:
    detection = of(run).detection
    assert detection is not None
    # Snakemake sees the time of the folder only.
    return {"images": detection.images, "seed": run.seed, "files": detection.files}


OF_DETECTIONS = (
    Made("table_detection", "Section 7, detection", "objects found by part of the spectrum"),
    Made("table_detection_gains", "Section 7, images", "objects found better in low frequencies"),
)

ARTIFACTS = (
    Table("tables", makes=OF_CURVES, reads=_curves, identity=_tables, when=_learns),
    Table(
        "component_tables",
        makes=OF_COMPONENTS,
        reads=_components,
        identity=_component_tables,
        when=_learns,
    ),
    Table(
        "table_2",
        where="Table 2",
        shows="smoothed kernels under attack",
        reads=_smoothed,
        identity=_smoothed_networks,
        when=_learns,
    ),
    Table(
        "kernels",
        where="Figure 7, table",
        shows="smoothness of the first layer's kernels",
        reads=_kernels,
        identity=_smoothed_networks,
        when=_any("robust"),
    ),
    Table(
        "batch_statistics",
        where="Text and code",
        shows="BatchNorm by running and by batch statistics",
        reads=_normalised,
        identity=_of_batches,
        when=lambda run: bool(_with_batchnorm(run)),
        gpu=True,
    ),
    Figure(
        "figure_2",
        where="Figure 2",
        shows="images that are right but for their low frequencies",
        reads=_pictures,
        identity=_pictured,
        when=_learns,
    ),
    Figure(
        "figure_3",
        where="Figure 3",
        shows="true and shuffled labels",
        reads=_table("curves"),
        identity=_group("labels", "classes"),
        when=_any("labels"),
        in_ledger=True,
    ),
    Figure(
        "figure_components",
        where="Table 1, figure",
        shows="what each part of the spectrum teaches",
        reads=_table("table_1"),
        identity=_group("classes"),
        when=_any("components"),
        in_ledger=True,
        face=True,
    ),
    Figure(
        "figure_4",
        where="Figure 4",
        shows="batch sizes",
        reads=_table("batch_sizes"),
        when=_any("equal_epochs"),
    ),
    Figure(
        "figure_5",
        where="Figure 5",
        shows="heuristics",
        reads=_table("curves"),
        identity=_group("heuristics"),
        when=_any("heuristics"),
        in_ledger=True,
    ),
    Figure(
        "figure_architectures",
        where="Appendix",
        shows="architectures",
        reads=_table("curves"),
        identity=_group("architectures"),
        when=_any("architectures"),
    ),
    Figure(
        "figure_optimizers",
        where="Appendix",
        shows="optimizers",
        reads=_table("curves"),
        identity=_group("optimizers"),
        when=_any("optimizers"),
    ),
    Figure(
        "figure_6",
        where="Figure 6",
        shows="BatchNorm on low frequencies",
        reads=_pairs,
        when=_any("batchnorm"),
    ),
    Figure(
        "figure_7",
        where="Figure 7",
        shows="kernels of the first layer",
        reads=_kernels,
        identity=_smoothed_networks,
        when=_any("robust"),
    ),
    Figure(
        "figure_smoothing",
        where="Table 2, figure",
        shows="smoothed kernels under attack",
        reads=_table("table_2"),
        when=_learns,
        in_ledger=True,
    ),
    Figure(
        "figure_svd",
        where="Section 8, figure",
        shows="frequencies and singular values at equal energy",
        reads=_table("svd"),
        when=_learns,
    ),
    Figure(
        "figure_corollary_1",
        where="Corollary 1, figure",
        shows="how far low-frequency images lie from images",
        reads=_components,
        identity=_shown_networks,
        when=_learns,
    ),
    Table(
        "table_detection",
        makes=OF_DETECTIONS,
        reads=lambda run: {**_detected(run), "claims": CLAIMS},
        identity=lambda run: {
            **_chosen(run),
            "tables": [made.name for made in OF_DETECTIONS],
        },
        when=_detects,
        group="detection",
    ),
    Figure(
        "figure_detection",
        where="Figures 8 and 9",
        shows="objects found better or worse in low frequencies",
        reads=_detected,
        identity=lambda run: {**_chosen(run), "part": _part(run)},
        when=_detects,
        group="detection",
    ),
)


# Records


def _shown(run: Run, wildcards: Any) -> dict[str, Any]:
    e = experiment(run, wildcards)
    return {
        "radii": list(e.radii),
        "images": e.images,
        "device": run.device,
        "seed": run.seed,
    }


def _attacked(run: Run, wildcards: Any) -> dict[str, Any]:
    smoothing = of(run).smoothing
    return {
        "rhos": list(smoothing.rhos),
        "epsilons": list(smoothing.epsilons),
        "images": smoothing.images,
        "steps": smoothing.steps,
        "rel_stepsize": smoothing.rel_stepsize,
        "device": run.device,
        "seed": run.seed,
    }


def _detect(run: Run, wildcards: Any) -> dict[str, Any]:
    detection = of(run).detection
    assert detection is not None
    return {
        **_chosen(run),
        "device": run.device,
        "sha256": detection.sha256,
        # Whole images depend on no radius.
        "part": {} if wildcards.component == "full" else _part(run),
    }


RECORDS = {
    "download_detector": Records(lambda run, wildcards: {"sha256": DETECTOR_SHA256}),
    "detect_objects": Records(_detect),
    "evaluate_components": Records(_shown, again=SAMPLED),
    "evaluate_smoothing": Records(_attacked, again=SAMPLED),
}


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of an experiment, as this study knows it.

    A group is told where the tables have the rows that it stands for.
    """
    for e in of(run).experiments:
        if (e.dataset, e.model) == (dataset, model):
            return {"has": [group for group, there in _groups(run, e).items() if there]}
    return {}


def _groups(run: Run, e: Learning) -> dict[str, bool]:
    """Return whether an experiment has what claims may ask for, by name."""
    low, high = (
        {n.part[1]: n for n in e.components if n.part and n.part[0] == part}
        for part in ("low", "high")
    )
    # Networks with BatchNorm, by the radius of low frequencies or None for whole images, that have
    # one without beside them.
    plain = {None: e.vanilla} | dict(low)
    radii = {
        n.part[1] if n.part else None for n in e.batchnorm if n.part is None or n.part[0] == "low"
    }
    paired = {radius for radius in radii if radius in plain and not plain[radius].batchnorm}
    sizes = [{n.recipe["batch_size"] for n in group} for group in (e.equal_epochs, e.equal_updates)]
    return {
        "learning": True,
        "components": any(radius in low and radius in high for radius in e.radii),
        "wider": len(low) >= 2,
        # Whole images alone have no least radius.
        "batchnorm": len(paired) >= 2,
        "batch_sizes": all(len(of_scheme) >= 2 for of_scheme in sizes),
        "labels": e.labels is not None,
        "robust": e.robust is not None,
        "heuristic_batchnorm": not e.vanilla.batchnorm and any(n.batchnorm for n in e.heuristics),
        "mixup": any(n.recipe.get("mixup") for n in e.heuristics),
        "dropout": any(n.recipe.get("dropout") for n in e.heuristics),
        "rho_1": 1 in of(run).smoothing.rhos,
    }
