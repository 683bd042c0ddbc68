"""The study `frequency_principle` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run


@dataclass(frozen=True)
class Sensitivity(Experiment):
    """An experiment whose networks' sensitivity to image frequencies is measured."""


@dataclass(frozen=True)
class FrequencyPrinciple:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration; of image frequency.
        simulations: of response frequency, their settings by name; empty where none shall run.
    """

    experiments: tuple[Sensitivity, ...]
    simulations: Mapping[str, Mapping[str, Any]]

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the trained models besides its own that the study runs on an experiment."""
        return []


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs."""
    return set()


def load(section: Mapping[str, Any], run: Run) -> FrequencyPrinciple:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.
    """
    return FrequencyPrinciple(
        experiments=tuple(
            Sensitivity(**vars(run.experiments[name])) for name in section["experiments"]
        ),
        simulations={
            name: sizes
            for name, sizes in (section["simulations"] or {}).items()
            if sizes is not None
        },
    )
