"""The run: the whole configuration, checked and resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bandlimit.config.datasets import Dataset
from bandlimit.config.defenses import DefenseEntry
from bandlimit.config.experiments import Experiment
from bandlimit.config.models import Model
from bandlimit.errors import UserError


@dataclass(frozen=True)
class Run:
    """The whole configuration, checked and resolved.

    Attributes:
        seed: what keys every random draw.
        device: auto, cpu or cuda.
        datasets: by name.
        models: by name, those that experiments and defences in use need, and the user's own.
        training: recipes by the name of the model.
        experiments: those that studies use, by name.
        defenses: by name.
        studies: the settings of each study that runs, by its name.
        smoke: whether it only shows that everything runs, and decides no claim.
    """

    seed: int
    device: str
    datasets: Mapping[str, Dataset]
    models: Mapping[str, Model]
    training: Mapping[str, Mapping[str, Any]]
    experiments: Mapping[str, Experiment]
    defenses: Mapping[str, DefenseEntry]
    studies: Mapping[str, Any] = field(default_factory=dict)
    smoke: bool = False

    def experiment(self, dataset: str, model: str) -> Experiment:
        """Return the experiment of a dataset and a model.

        Raises:
            KeyError: there is none.
        """
        for experiment in self.experiments.values():
            if (experiment.dataset, experiment.model) == (dataset, model):
                return experiment
        raise KeyError((dataset, model))

    def gates(self, model: str) -> list[str]:
        """Return the dataset on which the model's accuracy is checked, if the run has it whole.

        A gate of the registry is for a source and a split, under any name, the first of several;
        that of one's own model may name any dataset of the configuration.
        """
        entry = self.models[model]
        gate = entry.gate_dataset
        if gate is None:
            return []
        if entry.source == "file" and gate in self.datasets:
            chosen = self.datasets[gate]
            return [gate] if chosen.images is None and not chosen.shuffle_labels else []
        return [name for name, dataset in self.datasets.items() if dataset.means(gate)][:1]

    def gate(self, dataset: str, model: str) -> tuple[float, float] | None:
        """Return (accuracy, tolerance) that the model must reach on this dataset, or None."""
        if dataset not in self.gates(model):
            return None
        entry = self.models[model]
        assert entry.gate_accuracy is not None  # the registry's schema asks for both
        return entry.gate_accuracy, entry.gate_tolerance


def datasets_in_use(run: Run) -> list[Dataset]:
    """Return the datasets that experiments attack, or that networks of the run are trained on."""
    names = [experiment.dataset for experiment in run.experiments.values()]
    for name, model in run.models.items():
        if model.source == "trained":
            recipe = run.training[name]
            named = (
                value.get("dataset") for value in recipe.values() if isinstance(value, Mapping)
            )
            names += [recipe["dataset"], *(dataset for dataset in named if dataset)]
    return [run.datasets[name] for name in dict.fromkeys(names)]


def missing_paths(run: Run, *, own: bool) -> list[str]:
    """Return sentences on the files and folders of datasets in use that are not there.

    Args:
        run: the run.
        own: whether those of the user's own data are meant, or those of registered sources.
    """
    return [
        f"datasets.{dataset.name}.path must be an existing file or folder, got {dataset.path!r}, "
        "which does not exist."
        for dataset in datasets_in_use(run)
        if dataset.path is not None
        and dataset.is_own == own
        and not os.path.exists(dataset.path.replace("{split}", dataset.split or "{split}"))
        and not (dataset.split is None and os.path.exists(dataset.path.split("{split}")[0]))
    ]


def check_paths(run: Run) -> None:
    """Check that the local files and folders of all datasets in use are there.

    Not part of `plan.load`, since a run on data that is elsewhere can be planned.

    Raises:
        UserError: one is not.
    """
    for sentence in missing_paths(run, own=True) + missing_paths(run, own=False):
        raise UserError(sentence)
