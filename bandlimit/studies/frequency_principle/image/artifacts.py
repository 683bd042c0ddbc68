"""The catalogue of image frequency: heat maps, corruptions, noise of a band.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from typing import Any

from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.studies.artifact import SAMPLED, Artifact, Figure, Made, Records, Table
from bandlimit.studies.frequency_principle.settings import (
    AUTOAUGMENT,
    NATURAL,
    FrequencyPrinciple,
    Network,
    Sensitivity,
)

GROUP = "image frequency"

TABLES = "results/tables/frequency_principle"

SENSITIVITY = "sensitivity"
"""Folder of the records of heat maps below results/."""


def of(run: Run) -> FrequencyPrinciple:
    """Return the settings of the study."""
    study: FrequencyPrinciple = run.studies["frequency_principle"]
    return study


# Fourier heat maps, and waves as an attack


def model_files(run: Run, wildcards: Any) -> list[str]:
    """Return the models of the experiment of a dataset and a model."""
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return [paths.model_file(name) for name in e.models()]


def sensitivity_files(run: Run) -> list[str]:
    """Return what networks say of images with waves, in the order of `_mapped`."""
    return [
        f"results/{SENSITIVITY}/{e.dataset}/{e.model}/{shard}.parquet"
        for e in of(run).experiments
        for shard in e.shard_names()
    ]


def _mapped(run: Run) -> list[dict[str, Any]]:
    """Return what these files stand for."""
    return [
        {
            "dataset": e.dataset,
            "model": e.model,
            "document": e.document,
            "stand_in": e.stand_in,
            "sides": list(run.models[e.model].shape[1:]),
            "norm": e.norm,
            "norms": list(e.norms),
            "shards": e.shards,
            "networks": [_network(e, network) for network in e.networks],
        }
        for e in of(run).experiments
    ]


def _network(e: Sensitivity, network: Network) -> dict[str, Any]:
    natural = e.natural(network)
    return {
        "name": network.name,
        "models": network.models(),
        "batchnorm": network.batchnorm,
        "training": network.training,
        "trained": bool(network.recipe),
        "natural": natural.name if natural else None,
    }


def _maps(run: Run) -> bool:
    return bool(of(run).experiments)


OF_SENSITIVITY = (
    Made("heat_maps", "Figures 3 and 4, table", "error under waves, by radius of the frequency"),
    Made("heat_map_comparisons", "Figures 3 and 4, networks", "networks compared on equal images"),
    Made("heat_map_frequencies", "Figures 3 and 4, all", "error under each wave"),
    Made("waves_as_attack", "Figure 7 (c, d)", "waves as a black-box attack"),
)

HEAT_MAPS: tuple[Artifact, ...] = (
    Table(
        "heat_maps",
        makes=OF_SENSITIVITY,
        reads=lambda run: {"sensitivity": sensitivity_files(run)},
        identity=lambda run: {
            "experiments": _mapped(run),
            "tables": [made.name for made in OF_SENSITIVITY],
        },
        when=_maps,
        group=GROUP,
    ),
    Figure(
        "figure_heat_maps",
        where="Figures 3 and 4",
        shows="Fourier heat maps of networks side by side",
        reads=lambda run: {"table": f"{TABLES}/heat_map_frequencies.parquet"},
        identity=lambda run: {
            "experiments": [
                {**e, "stride": own.stride, "bandwidth": own.bandwidth}
                for e, own in zip(_mapped(run), of(run).experiments, strict=True)
            ]
        },
        when=_maps,
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_heat_map_radii",
        where="Figures 3 and 4, by radius",
        shows="error under waves, by radius of the frequency",
        reads=lambda run: {
            "table": f"{TABLES}/heat_maps.parquet",
            "comparisons": f"{TABLES}/heat_map_comparisons.parquet",
        },
        identity=lambda run: {"experiments": _mapped(run)},
        when=_maps,
        group=GROUP,
        in_ledger=True,
    ),
)


# Corruptions, noise of a band, and what trained networks make of them

CORRUPTED = "corruptions"
"""Folder of the records of corruptions below results/."""


def corrupted_models(run: Run, wildcards: Any) -> list[str]:
    """Return the models that get corrupted images in the experiment of a dataset and a model."""
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return [paths.model_file(name) for network in e.corrupted() for name in network.models()]


def corrupting(run: Run) -> list[Sensitivity]:
    """Return the experiments with corruptions."""
    return [e for e in of(run).experiments if e.corruptions]


def _corrupts(run: Run) -> bool:
    return bool(corrupting(run))


def corruption_files(run: Run) -> list[str]:
    """Return what networks say of corrupted images, in the order of `_corrupted`."""
    return [
        f"results/{CORRUPTED}/{e.dataset}/{e.model}/{shard}.parquet"
        for e in corrupting(run)
        for shard in e.shard_names()
    ]


def _corrupted(run: Run) -> list[dict[str, Any]]:
    """Return what these files stand for."""
    return [
        {
            "dataset": e.dataset,
            "model": e.model,
            "document": e.document,
            "stand_in": e.stand_in,
            "classes": run.models[e.model].classes,
            "severity": e.severity,
            "noise_norm": e.noise_norm,
            "high_pass": e.high_pass,
            "shards": e.shards,
            "networks": [{**_network(e, n), **_filter(n)} for n in e.corrupted()],
        }
        for e in corrupting(run)
    ]


def _filter(network: Network) -> dict[str, Any]:
    """Return what stands in front of a network: part, radius of a disk or side of a square."""
    component = network.component or {}
    shape = next((shape for shape in ("radius", "bandwidth") if shape in component), None)
    return {
        "part": component.get("part"),
        "shape": shape,
        "size": component[shape] if shape else None,
    }


def _compares(run: Run) -> bool:
    return any(e.natural(n) for e in corrupting(run) for n in e.corrupted())


def _pictured(run: Run) -> dict[str, Any]:
    """Return what identifies the spectra of the corruptions of the first experiment."""
    e = corrupting(run)[0]
    return {
        "dataset": e.dataset,
        "images": e.images,
        "corruptions": list(e.corruptions),
        "severity": e.severity,
        "seed": run.seed,
    }


def _perturbed(run: Run) -> tuple[Any, Any, Any] | None:
    """Return a natural network and the adversarially trained one of its recipe.

    Their perturbations are records of another study, where that one runs.
    """
    if "perturbation_spectra" not in run.studies or not of(run).experiments:
        return None
    found: tuple[Any, Any, Any] | None = run.studies["perturbation_spectra"].trained_alike()
    return found


def _fooled(run: Run) -> dict[str, Any]:
    found = _perturbed(run)
    assert found is not None
    e, natural, adversarial = found
    return {
        "dataset": paths.dataset_file(e.dataset),
        "natural": [
            f"results/perturbations/{e.dataset}/{natural.name}/{shard}.parquet"
            for shard in e.shard_names()
        ],
        "adversarial": [
            f"results/perturbations/{e.dataset}/{adversarial.name}/{shard}.parquet"
            for shard in e.shard_names()
        ],
    }


def _fooled_identity(run: Run) -> dict[str, Any]:
    found = _perturbed(run)
    assert found is not None
    e, natural, adversarial = found
    size = run.datasets[e.dataset].size
    return {
        "networks": [natural.name, adversarial.name],
        "perturbation": run.studies["perturbation_spectra"].attack,
        # All that there are.
        "images": e.images or size,
    }


OF_CORRUPTIONS = (
    Made("corruption_rates", "Figure 6, table", "accuracy under corruptions"),
    Made("corruption_slopes", "Figure 6, lines", "change of accuracy by share of high frequencies"),
    Made("band_noise", "Figure 5, table", "accuracy under noise of a band"),
    Made("band_pass", "Figure 1, table", "trained and tested on low or on high frequencies"),
)

CORRUPTIONS: tuple[Artifact, ...] = (
    Table(
        "corruptions",
        makes=OF_CORRUPTIONS,
        reads=lambda run: {"corrupted": corruption_files(run)},
        identity=lambda run: {
            "experiments": _corrupted(run),
            "tables": [made.name for made in OF_CORRUPTIONS],
        },
        when=_corrupts,
        group=GROUP,
    ),
    Figure(
        "figure_band_pass",
        where="Figure 1",
        shows="networks trained and tested on low or on high frequencies",
        reads=lambda run: {"table": f"{TABLES}/band_pass.parquet"},
        when=lambda run: any(e.filtered for e in corrupting(run)),
        group=GROUP,
    ),
    Figure(
        "figure_corruption_spectra",
        where="Figure 2",
        shows="mean spectra of images and of corruptions",
        reads=lambda run: {"dataset": paths.dataset_file(corrupting(run)[0].dataset)},
        identity=_pictured,
        when=_corrupts,
        group=GROUP,
    ),
    Figure(
        "figure_band_noise",
        where="Figure 5",
        shows="accuracy under noise of a band of frequencies",
        reads=lambda run: {"table": f"{TABLES}/band_noise.parquet"},
        when=lambda run: any(e.bandwidths for e in corrupting(run)),
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_corruptions",
        where="Figure 6",
        shows="change of accuracy against the share of high frequencies of corruptions",
        reads=lambda run: {
            "rates": f"{TABLES}/corruption_rates.parquet",
            "slopes": f"{TABLES}/corruption_slopes.parquet",
        },
        when=_compares,
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_fooled_spectra",
        where="Figure 7 (a, b)",
        shows="mean spectra of perturbations of misclassified images",
        reads=_fooled,
        identity=_fooled_identity,
        when=lambda run: _perturbed(run) is not None,
        group=GROUP,
    ),
)


ARTIFACTS = (*HEAT_MAPS, *CORRUPTIONS)


# Records


def _shown(run: Run, wildcards: Any) -> dict[str, Any]:
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return {
        "networks": e.models(),
        "images": e.images,
        "norms": list(e.norms),
        "stride": e.stride,
        "bandwidth": e.bandwidth,
        "device": run.device,
        "seed": run.seed,
    }


def _changed(run: Run, wildcards: Any) -> dict[str, Any]:
    e = of(run).experiment(wildcards.dataset, wildcards.model)
    return {
        "networks": [name for network in e.corrupted() for name in network.models()],
        "filters": [
            dict(network.component) if network.component else None
            for network in e.corrupted()
            for _ in network.models()
        ],
        "changes": {
            "corruptions": list(e.corruptions),
            "severity": e.severity,
            "noise_norm": e.noise_norm,
            "bandwidths": list(e.bandwidths),
            "high_pass": e.high_pass,
        },
        "images": e.images,
        "device": run.device,
        "seed": run.seed,
    }


RECORDS: dict[str, Records] = {
    "map_sensitivity": Records(_shown, again=SAMPLED),
    "evaluate_corruptions": Records(_changed, again=SAMPLED),
}


def networks(run: Run) -> list[tuple[Sensitivity, str]]:
    """Return the networks besides those of experiments of which claims may ask."""
    return [(e, n.name) for e in of(run).experiments for n in e.corrupted() if n.name != e.model]


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of a network, as this half of the study knows it."""
    for e in of(run).experiments:
        for network in e.corrupted():
            if (e.dataset, network.name) == (dataset, model):
                natural = network.training == NATURAL
                waved = network in e.networks
                # Claims on networks trained otherwise are of noise, attack and filter alone.
                compared = e.natural(network) is not None and network.training != AUTOAUGMENT
                part = _filter(network)["part"]
                slope = compared and bool(e.corruptions)
                has = {
                    "waves": waved,
                    "waves_batchnorm": waved and natural and network.batchnorm,
                    "waves_trained": waved and compared,
                    "slope_up": slope and part != "high",
                    "slope_down": slope and part == "high",
                    "band_pass": part is not None and bool(e.corruptions),
                    "band_noise": slope and part is None and 3 in e.bandwidths,
                }
                return {"has": [part for part, there in has.items() if there]}
    return {}
