"""The study `frequency_principle` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import member
from bandlimit.errors import UserError


@dataclass(frozen=True)
class Followed:
    """Networks whose outputs were recorded while they were trained.

    Attributes:
        name: of the model.
        architecture: of it.
        dataset: whose images they were shown.
        source: where that dataset comes from, as registered; None of one's own.
        classes: of the dataset.
        seeds: how many networks there are.
        loss: that they were trained by.
    """

    name: str
    architecture: str
    dataset: str
    source: str | None
    classes: int
    seeds: int
    loss: str


@dataclass(frozen=True)
class Sensitivity(Experiment):
    """An experiment whose networks' sensitivity to image frequencies is measured.

    Attributes:
        followed: networks whose response frequencies are measured along their training.
    """

    followed: tuple[Followed, ...] = ()


@dataclass(frozen=True)
class FrequencyPrinciple:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration; of image frequency.
        simulations: of response frequency, their settings by name; empty where none shall run.
        projection: how outputs are transformed along the first principal component.
        filtering: how they are smoothed.
    """

    experiments: tuple[Sensitivity, ...]
    simulations: Mapping[str, Mapping[str, Any]]
    projection: Mapping[str, Any]
    filtering: Mapping[str, Any]

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the trained models besides its own that the study runs on an experiment."""
        return [
            network.name
            for own in self.experiments
            if own.name == experiment.name
            for network in own.followed
        ]


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs."""
    return {name for entry in section["experiments"].values() for name in entry["followed"]}


def load(section: Mapping[str, Any], run: Run) -> FrequencyPrinciple:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.

    Raises:
        UserError: a network that is to be followed is not one that the run trains, or its recipe
            records no outputs.
    """
    return FrequencyPrinciple(
        experiments=tuple(
            Sensitivity(
                **vars(run.experiments[name]),
                followed=tuple(_followed(run, name, model) for model in entry["followed"]),
            )
            for name, entry in section["experiments"].items()
        ),
        simulations={
            name: _simulation(run, name, sizes)
            for name, sizes in (section["simulations"] or {}).items()
            if sizes is not None
        },
        projection=section["projection"],
        filtering=section["filtering"],
    )


def _followed(run: Run, experiment: str, name: str) -> Followed:
    place = f"frequency_principle.experiments.{experiment}.followed"
    member(name, run.training, "models that the workflow trains", place)
    recipe, model = run.training[name], run.models[name]
    responses = recipe.get("responses")
    if responses is None or model.source != "trained":
        raise UserError(
            f"{place} must have networks whose recipes have 'responses', such as "
            f"'responses: {{images: 1000}}' under training.{name}; {name!r} has none."
        )
    dataset = run.datasets[responses.get("dataset", recipe["dataset"])]
    return Followed(
        name=name,
        architecture=model.architecture,
        dataset=dataset.name,
        source=dataset.source,
        classes=model.classes,
        seeds=recipe.get("seeds", 1),
        loss=recipe.get("loss", "cross_entropy"),
    )


def _simulation(run: Run, name: str, sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a simulation, checked against the run where it is of its images."""
    if "dataset" not in sizes:
        return sizes
    place = f"frequency_principle.simulations.{name}"
    member(sizes["dataset"], run.datasets, "datasets", f"{place}.dataset")
    dataset = run.datasets[sizes["dataset"]]
    low, high = sizes["classes"]
    if low == high or max(low, high) >= dataset.classes:
        raise UserError(
            f"{place}.classes must be two different ones of 0 to {dataset.classes - 1}, the "
            f"classes of {dataset.name!r}, got {[low, high]}."
        )
    return sizes
