"""The study `perturbation_spectra` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bandlimit.config import models
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import epsilon, member
from bandlimit.errors import UserError

CHECKPOINTS = {"initial": 0, "one_epoch": 1}
"""Checkpoints that the grid has besides the end of training, and the epochs after which."""

END = "end"


@dataclass(frozen=True)
class Network:
    """A network of the grid, with what sets it apart.

    Attributes:
        name: of the model at the end of its training.
        batchnorm: whether it has BatchNorm.
        training: natural or adversarial.
        loss: cross_entropy or mse.
        architecture: of the model.
        checkpoints: names of models, by 'initial', 'one_epoch' and 'end', those that there are.
        trajectory: dataset on which its training was followed; None if it was not.
        recipe: how it was trained, but for its loss and its attack; empty if not here.
    """

    name: str
    batchnorm: bool
    training: str
    loss: str
    architecture: str
    checkpoints: Mapping[str, str]
    trajectory: str | None
    recipe: Mapping[str, Any]


def alike(network: Mapping[str, Any], other: Mapping[str, Any], *, mse: bool = False) -> bool:
    """Return whether networks differ in nothing but the attack they were trained on, or the loss.

    Other epochs or augmentation would pass for an effect of either.

    Args:
        network: batchnorm, architecture, loss and recipe, as in `Network`.
        other: the same of the other.
        mse: whether the first has the squared error where the other has the cross-entropy, each
            with a learning rate of its own; otherwise both have one loss.
    """
    apart = ("learning_rate",) if mse else ()
    one, two = ({k: v for k, v in n["recipe"].items() if k not in apart} for n in (network, other))
    losses = ("mse", "cross_entropy") if mse else (other["loss"], other["loss"])
    same = all(network[key] == other[key] for key in ("batchnorm", "architecture"))
    return same and bool(one) and one == two and (network["loss"], other["loss"]) == losses


@dataclass(frozen=True)
class Perturbation:
    """A way to perturb images along the gradient, whether the network is fooled or not.

    Attributes:
        kind: fgm_l2, pgd_l2 or pgd_linf.
        epsilon: bound, L2 or l_inf, in [0, 1] pixels; None takes that of the experiment.
        steps: gradients taken.
        rel_stepsize: length of a step, in epsilon.
        clip: whether pixels stay in [0, 1].
    """

    kind: str
    epsilon: float | None
    steps: int
    rel_stepsize: float
    clip: bool


@dataclass(frozen=True)
class Spectra(Experiment):
    """An experiment whose networks' perturbations are measured.

    Attributes:
        networks: of the grid; the first is that of the experiment.
        images: how many are perturbed, or None for all.
        radii: of the LFC ratio, in periods per side.
        radius: the main one of them.
        cutoffs: of the low-pass filter.
        filtered: names of the networks behind the filter.
    """

    networks: tuple[Network, ...]
    images: int | None
    radii: tuple[float, ...]
    radius: float
    cutoffs: tuple[float, ...]
    filtered: tuple[str, ...]

    def network(self, name: str) -> Network:
        """Return a network by its name."""
        return next(network for network in self.networks if network.name == name)

    def models(self) -> list[str]:
        """Return all models of the grid, checkpoints included."""
        return [model for network in self.networks for model in network.checkpoints.values()]


@dataclass(frozen=True)
class PerturbationSpectra:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration.
        perturbations: by name.
        attack: the perturbation of the low-pass filter, by name; it spends its bound in l_inf.
        aware_steps: steps of the attack through the filter.
    """

    experiments: tuple[Spectra, ...]
    perturbations: Mapping[str, Perturbation]
    attack: str
    aware_steps: int

    def trained_alike(self) -> tuple[Spectra, Network, Network] | None:
        """Return the first natural network that has an adversarially trained one of its recipe."""
        for e in self.experiments:
            for natural, other in itertools.product(e.networks, repeat=2):
                kinds = (natural.training, other.training)
                if kinds == ("natural", "adversarial") and alike(vars(natural), vars(other)):
                    return e, natural, other
        return None

    def experiment(self, dataset: str, model: str) -> Spectra:
        """Return the experiment that measures a model, or a checkpoint, on a dataset.

        Raises:
            KeyError: the study has none.
        """
        for experiment in self.experiments:
            if experiment.dataset == dataset and model in experiment.models():
                return experiment
        raise KeyError((dataset, model))

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the trained models besides its own that the study runs on an experiment."""
        for own in self.experiments:
            if own.name == experiment.name:
                return [network.name for network in own.networks if network.name != own.model]
        return []


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs."""
    return {name for entry in section["experiments"].values() for name in entry["networks"]}


def load(section: Mapping[str, Any], run: Run) -> PerturbationSpectra:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.

    Raises:
        UserError: a name is not among the allowed ones, a network takes other images than its
            experiment has, is measured twice on a dataset or is itself a checkpoint, a checkpoint
            of the grid is another than its name says, or the main radius is not among the radii.
    """
    perturbations = {
        name: Perturbation(
            kind=entry["kind"],
            epsilon=_bound(name, entry),
            steps=1 if entry["kind"] == "fgm_l2" else int(entry["steps"]),
            rel_stepsize=1.0 if entry["kind"] == "fgm_l2" else float(entry["rel_stepsize"]),
            clip=entry["clip"],
        )
        for name, entry in section["perturbations"].items()
    }
    attack = section["low_pass"]["attack"]
    member(attack, perturbations, "perturbations", "perturbation_spectra.low_pass.attack")
    if perturbations[attack].kind != "pgd_linf" or not perturbations[attack].clip:
        raise UserError(
            f"perturbation_spectra.low_pass.attack must be a perturbation of the kind 'pgd_linf' "
            f"that is clipped, got {attack!r}."
        )
    experiments: list[Spectra] = []
    for name, entry in section["experiments"].items():
        experiment = run.experiments[name]
        place = f"perturbation_spectra.experiments.{name}"
        ends = {n: model for n, model in run.models.items() if model.source != "checkpoint"}
        for network in entry["networks"]:
            member(network, ends, "models of the run", f"{place}.networks")
            models.check_match(run.datasets[experiment.dataset], run.models[network])
        if entry["radius"] not in entry["radii"]:
            raise UserError(
                f"{place}.radius must be one of its radii, {entry['radii']}, got {entry['radius']}."
            )
        names = list(dict.fromkeys([experiment.model, *entry["networks"]]))
        for network in entry["filtered"]:
            member(network, dict.fromkeys(names), "networks of the experiment", f"{place}.filtered")
        experiments.append(
            Spectra(
                **vars(experiment),
                networks=tuple(_network(run, network) for network in names),
                images=entry.get("images"),
                radii=tuple(map(float, entry["radii"])),
                radius=float(entry["radius"]),
                cutoffs=tuple(map(float, entry["cutoffs"])),
                filtered=tuple(entry["filtered"] or [experiment.model]),
            )
        )
    _check_once(experiments)
    return PerturbationSpectra(
        experiments=tuple(experiments),
        perturbations=perturbations,
        attack=attack,
        aware_steps=int(section["low_pass"]["aware_steps"]),
    )


def _check_once(experiments: Sequence[Spectra]) -> None:
    """Refuse to measure a model twice on a dataset: both would write the same files."""
    seen: dict[tuple[str, str], str] = {}
    for experiment in experiments:
        for model in experiment.models():
            if (experiment.dataset, model) in seen:
                raise UserError(
                    f"perturbation_spectra.experiments must measure a model once on a dataset; "
                    f"{model!r} on {experiment.dataset!r} is given by "
                    f"{seen[experiment.dataset, model]!r} and {experiment.name!r}."
                )
            seen[experiment.dataset, model] = experiment.name


def _bound(name: str, entry: Mapping[str, Any]) -> float | None:
    """Return the bound of a perturbation; an L2 bound may be above 1."""
    place = f"perturbation_spectra.perturbations.{name}.epsilon"
    given = entry.get("epsilon")
    if entry["kind"] == "pgd_linf":
        return None if given is None else epsilon(given, place)
    if not isinstance(given, int | float) or isinstance(given, bool) or given <= 0:
        raise UserError(
            f"{place} must be a number above 0, an L2 norm in [0, 1] pixels, got {given!r}."
        )
    return float(given)


def _network(run: Run, name: str) -> Network:
    model, recipe = run.models[name], run.training.get(name, {})
    if model.source != "trained":
        recipe = {}
    kept = recipe.get("checkpoints", {})
    for key, epochs in CHECKPOINTS.items():
        if kept.get(key, epochs) != epochs:
            raise UserError(
                f"training.{name}.checkpoints.{key} must be {epochs} for the study "
                f"perturbation_spectra, which shows it by that name, got {kept[key]}."
            )
    made = {key: f"{name}_{key}" for key in CHECKPOINTS if key in kept}
    # What tells networks apart, or leaves the training of the first one as it is.
    apart = (
        *("architecture", "loss", "adversarial", "checkpoints", "trajectory", "curves"),
        *("responses", "seeds"),
    )
    return Network(
        name=name,
        batchnorm=model.batchnorm,
        training="adversarial" if recipe.get("adversarial") else "natural",
        loss=recipe.get("loss", "cross_entropy"),
        architecture=model.architecture,
        checkpoints={**made, END: name},
        trajectory=recipe["trajectory"]["dataset"] if "trajectory" in recipe else None,
        recipe={key: value for key, value in recipe.items() if key not in apart},
    )
