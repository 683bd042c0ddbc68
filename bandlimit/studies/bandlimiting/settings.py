"""The study `bandlimiting` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.attacks.kinds import DOCUMENT_ATTACKS, MAX_EPSILON
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import epsilons, member
from bandlimit.errors import UserError


@dataclass(frozen=True)
class Averaging(Experiment):
    """An experiment whose model is defended by post-averaging, with all settings of the defence.

    Attributes:
        radius: r of the main setting, L2 in standardised input space.
        directions: K of the main setting.
        draws: draws of directions at the main setting.
        radii: those of Figure 2.
        directions_sweep: numbers of directions of Table 2.
        crossings: attacks whose crossed hyperplanes are counted.
        samplers: ways to find directions that are compared.
    """

    radius: float
    directions: int
    draws: int
    radii: tuple[float, ...]
    directions_sweep: tuple[int, ...]
    crossings: tuple[str, ...]
    samplers: tuple[str, ...]

    def settings(self, inputs: str) -> list[tuple[float, int, int]]:
        """Return (radius, directions, draws) of each setting evaluated on one input set.

        The radius is swept on clean images and on the minimising attacks of the document, the
        directions on clean images and on minimal PGD, as in the document's Figure 2 and Table 2.
        """
        main = {(self.radius, self.directions): self.draws}
        if inputs in ("clean", *DOCUMENT_ATTACKS):
            main |= {(r, self.directions): 1 for r in self.radii if r != self.radius}
        if inputs in ("clean", "pgd_minimal"):
            main |= {(self.radius, k): 1 for k in self.directions_sweep if k != self.directions}
        return [(r, k, draws) for (r, k), draws in sorted(main.items())]


@dataclass(frozen=True)
class Bandlimiting:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration.
        epsilons: l_inf bounds of Figure 3.
        bfloat16: whether the defence is evaluated in bfloat16.
        segments: sub-segments of the path from a clean to an adversarial image.
        figure_1_seed: seed of data and weights of the network of Figure 1.
        timed_directions: numbers of directions whose time is measured.
        timed_seconds: to spend on each model, about.
    """

    experiments: tuple[Averaging, ...]
    epsilons: tuple[float, ...]
    bfloat16: bool
    segments: int
    figure_1_seed: int
    timed_directions: tuple[int, ...]
    timed_seconds: float

    def experiment(self, dataset: str, model: str) -> Averaging:
        """Return the experiment of a dataset and a model.

        Raises:
            KeyError: the study has none.
        """
        for experiment in self.experiments:
            if (experiment.dataset, experiment.model) == (dataset, model):
                return experiment
        raise KeyError((dataset, model))

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the models besides its own that the study runs on an experiment: none."""
        return []


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs: none."""
    return set()


def load(section: Mapping[str, Any], run: Run) -> Bandlimiting:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.

    Raises:
        UserError: a name is not among the allowed ones, or a search ends below a bound of the
            study.
    """
    experiments = []
    for name, entry in section["experiments"].items():
        experiment = run.experiments[name]
        for attack in entry["crossings"]:
            place = f"bandlimiting.experiments.{name}.crossings"
            member(attack, experiment.attacks, "attacks of the experiment", place)
        experiments.append(
            Averaging(
                **vars(experiment),
                radius=float(entry["radius"]),
                directions=int(entry["directions"]),
                draws=int(entry["draws"]),
                radii=tuple(map(float, entry["radii"])),
                directions_sweep=tuple(map(int, entry["directions_sweep"])),
                crossings=tuple(entry["crossings"]),
                samplers=tuple(entry["samplers"]),
            )
        )
    study = Bandlimiting(
        experiments=tuple(experiments),
        epsilons=tuple(epsilons(section["epsilons"], "bandlimiting.epsilons")),
        bfloat16=section["bfloat16"],
        segments=section["theory"]["segments"],
        figure_1_seed=section["theory"]["figure_1_seed"],
        timed_directions=tuple(map(int, section["timing"]["directions"])),
        timed_seconds=float(section["timing"]["seconds"]),
    )
    for experiment in study.experiments:
        _check_reach(study, experiment)
    return study


def _check_reach(study: Bandlimiting, experiment: Averaging) -> None:
    """Refuse a search that ends below a bound of the study, where it would find too little."""
    if "fgsm_minimal" not in experiment.attacks:
        return
    largest = max(experiment.epsilon, *study.epsilons)
    reach = experiment.attacks["fgsm_minimal"].get("max_epsilon", MAX_EPSILON)
    if reach < largest:
        raise UserError(
            f"The attack 'fgsm_minimal' of experiments.{experiment.name} ends at a max_epsilon of "
            f"{reach}, but the largest of its epsilon and of bandlimiting.epsilons is "
            f"{largest:.4f}; max_epsilon must be at least {math.ceil(largest * 10_000) / 10_000}, "
            "there or under attacks.fgsm_minimal."
        )
