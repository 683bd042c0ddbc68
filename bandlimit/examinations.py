"""The study `robustness` as configured: which defences are attacked how, and compared with what.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bandlimit.defenses.kinds import PARAMETERS, REQUIRED
from bandlimit.errors import UserError, suggest
from bandlimit.validation import epsilon, member, not_reserved

ATTACK_PARAMETERS: dict[str, frozenset[str]] = {
    "eot_pgd": frozenset(
        {"steps", "samples", "loss", "restarts", "rel_stepsize", "gradient", "band"}
    ),
    "pgd": frozenset({"steps", "rel_stepsize"}),
    "fgsm": frozenset(),
    "noise": frozenset({"corner", "draws"}),
    "square": frozenset({"queries", "p_init"}),
    "autoattack": frozenset(
        {"version", "steps", "queries", "targets", "restarts", "eot", "samples"}
    ),
    "carlini_wagner_l2": frozenset(
        {"confidences", "binary_search_steps", "steps", "stepsize", "initial_const"}
    ),
}
"""What a configured attack on a defence may say beside kind, defences and epsilons, by kind."""

MINIMAL_KINDS = ("carlini_wagner_l2",)
"""Kinds that know no epsilon."""

SOURCES = ("undefended", "other_model")
"""Kinds of defence whose adversarial images are also tried on every other: transfer."""

TRANSFORMS = ("low_pass", "rounding", "flip", "shift", "jpeg", "noise")
"""Kinds of defence that transform the input, for which a gradient may take the identity."""

FILTERS = ("low_pass",)
"""Kinds of defence that let a band of frequencies pass, to which an attack may keep."""

RESERVED = ("clean", "strongest", "none", "any")
"""Names that the records and tables give to what is no attack and no defence of its own."""


@dataclass(frozen=True)
class DefenseEntry:
    """A defence by name: its kind and what the configuration says of it."""

    name: str
    kind: str
    parameters: Mapping[str, Any]

    @property
    def random(self) -> bool:
        """Whether it says another thing in each call."""
        if self.kind == "post_averaging":
            return bool(self.parameters.get("draws") != "fixed")
        return self.kind == "noise"


@dataclass(frozen=True)
class AttackEntry:
    """An attack on defences by name."""

    name: str
    kind: str
    against: tuple[str, ...]
    epsilons: tuple[float, ...]
    images: int | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Examination:
    """A model whose defences are examined on a dataset.

    Attributes:
        dataset: name of the dataset, and with `model` of an experiment of the first study.
        model: name of the model.
        images: how many images are attacked, the first of a seeded order; None for all.
        defenses: names of the defences under examination.
        attacks: names of the attacks on them.
        controls: names of the defences that are compared on the document's adversarial images.
        scaled: minimising attacks whose perturbations are stretched.
        radius: of the experiment, L2 in standardised space.
        directions: K of the experiment.
        shards: parts of the dataset.
    """

    dataset: str
    model: str
    images: int | None
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    controls: tuple[str, ...]
    scaled: tuple[str, ...]
    radius: float
    directions: int
    shards: int

    def shard_names(self) -> list[str]:
        """Return the names of the shards, '1of1' where the set is not cut."""
        return [f"{k}of{self.shards}" for k in range(1, self.shards + 1)]


@dataclass(frozen=True)
class Robustness:
    """The study `robustness`, checked and resolved.

    Attributes:
        defenses: all defences by name.
        attacks: all attacks on them by name.
        epsilons: l_inf bounds of attacks that name none of their own.
        draws: fresh draws of a random defence that judge each image.
        control_draws: the same where controls are compared and perturbations stretched.
        stop: when such a draw ends, and with which probability of error.
        error: of a sequential end, per image and draw.
        factors: by how much minimal perturbations are stretched.
        epsilon: l_inf bound of the document's sets that controls are compared on.
        examinations: what is examined.
    """

    defenses: Mapping[str, DefenseEntry]
    attacks: Mapping[str, AttackEntry]
    epsilons: tuple[float, ...]
    draws: int
    control_draws: int
    stop: str
    error: float
    factors: tuple[float, ...]
    epsilon: float
    examinations: tuple[Examination, ...]

    def examination(self, dataset: str, model: str) -> Examination:
        """Return the examination of a dataset and a model."""
        return next(e for e in self.examinations if (e.dataset, e.model) == (dataset, model))

    def sets(self, examination: Examination) -> list[tuple[str, str]]:
        """Return (attacked defence, attack) of each adversarial set of an examination."""
        return [
            (defense, name)
            for name in examination.attacks
            for defense in self.attacks[name].against
            if defense in examination.defenses or self.defenses[defense].kind in SOURCES
        ]

    def judged_sets(self, examination: Examination, defense: str) -> list[tuple[str, str]]:
        """Return (attacked defence, attack) of each set that a defence is judged on.

        These are the attacks on itself, and those on the undefended or on another network, since
        their images may carry over.
        """
        return [
            (against, attack)
            for against, attack in self.sets(examination)
            if against == defense or self.defenses[against].kind in SOURCES
        ]

    def judges(self, examination: Examination) -> list[str]:
        """Return the names of the defences that are judged: the undefended network first."""
        plain = [
            against
            for against, _ in self.sets(examination)
            if self.defenses[against].kind == "undefended"
        ]
        return list(dict.fromkeys([*plain, *examination.defenses]))

    def used(self, examination: Examination) -> list[str]:
        """Return the names of the defences that are attacked, judged or compared, each once."""
        attacked = [against for against, _ in self.sets(examination)]
        return list(dict.fromkeys([*attacked, *examination.defenses, *examination.controls]))

    def others(self, names: list[str]) -> list[str]:
        """Return the other models that the named defences use, each once."""
        models = [self.defenses[name].parameters.get("model") for name in names]
        return list(dict.fromkeys(model for model in models if model is not None))


def models_in_use(config: Mapping[str, Any]) -> set[str]:
    """Return the other models that defences in use need, before any name is checked."""
    used: set[str] = set()
    for outer in config["bandlimiting"]["experiments"]:
        entry = outer.get("robustness", {"defenses": [], "controls": [], "attacks": []})
        used |= {*entry["defenses"], *entry["controls"]}
        for name in entry["attacks"]:
            used |= set(config["robustness"]["attacks"].get(name, {"against": []})["against"])
    entries = (config["defenses"].get(name, {}) for name in used)
    return {entry["model"] for entry in entries if "model" in entry}


def load(
    config: Mapping[str, Any],
    experiments: Mapping[tuple[str, str], Any],
    models: Mapping[str, Any],
    sizes: Mapping[str, int | None],
) -> Robustness:
    """Return the study as configured.

    Args:
        config: the whole configuration, checked by its schema.
        experiments: the experiments of the first study by (dataset, model).
        models: all models by name.
        sizes: number of images of each dataset, None where it is not known.

    Raises:
        UserError: a name or a parameter is not among the allowed ones, a number too large, an
            attack does not suit the defence that it names, or it suits none of an experiment.
    """
    not_reserved(config["defenses"], RESERVED, "defenses")
    not_reserved(config["robustness"]["attacks"], RESERVED, "robustness.attacks")
    defenses = {name: _defense(name, entry, models) for name, entry in config["defenses"].items()}
    study = config["robustness"]
    bounds = tuple(epsilon(value, "robustness.epsilons") for value in study["epsilons"])
    attacks = {
        name: _attack(name, entry, defenses, bounds) for name, entry in study["attacks"].items()
    }
    examinations = []
    for number, outer in enumerate(config["bandlimiting"]["experiments"]):
        entry = outer.get("robustness")
        if entry is None:
            continue
        place = f"bandlimiting.experiments[{number}].robustness"
        experiment = experiments[outer["dataset"], outer["model"]]
        for name in (*entry["defenses"], *entry["controls"]):
            member(name, defenses, "defenses", place)
        size = sizes[experiment.dataset]
        for name in entry["attacks"]:
            member(name, attacks, "attacks of robustness", place)
            _check_attacked(attacks[name], entry["defenses"], defenses, place)
            _check_images(
                f"robustness.attacks.{name}", attacks[name].images, size, experiment.dataset
            )
        for name in entry["scaled"]:
            member(name, experiment.attacks, "attacks of its experiment", f"{place}.scaled")
        _check_images(place, entry.get("images"), size, experiment.dataset)
        examinations.append(
            Examination(
                dataset=experiment.dataset,
                model=experiment.model,
                images=entry.get("images"),
                defenses=tuple(entry["defenses"]),
                attacks=tuple(entry["attacks"]),
                controls=tuple(entry["controls"]),
                scaled=tuple(entry["scaled"]),
                radius=experiment.radius,
                directions=experiment.directions,
                shards=experiment.shards,
            )
        )
    return Robustness(
        defenses=defenses,
        attacks=attacks,
        epsilons=bounds,
        draws=study["draws"],
        control_draws=study["control_draws"],
        stop=study["stop"],
        error=study["error"],
        factors=tuple(map(float, study["factors"])),
        epsilon=epsilon(config["bandlimiting"]["epsilon"], "bandlimiting.epsilon"),
        examinations=tuple(examinations),
    )


def _check_images(place: str, images: int | None, size: int | None, dataset: str) -> None:
    if images is not None and size is not None and images > size:
        raise UserError(
            f"{place}.images must be from 1 to {size}, the images of {dataset!r}, got {images}; "
            "set it in your configuration where it stands in config.yaml."
        )


def _check_attacked(
    attack: AttackEntry,
    listed: Sequence[str],
    defenses: Mapping[str, DefenseEntry],
    place: str,
) -> None:
    """Refuse an attack that an experiment lists but whose defences it does not."""
    fits = (name in listed or defenses[name].kind in SOURCES for name in attack.against)
    if not any(fits):
        raise UserError(
            f"{place} lists the attack {attack.name!r}, which would never run: it is against "
            f"{', '.join(map(repr, attack.against))}, and {place}.defenses lists "
            f"{', '.join(map(repr, listed)) or 'none'}; list one of the former there, or leave the "
            "attack out."
        )


def _check_suits(place: str, kind: str, parameters: Mapping[str, Any], entry: DefenseEntry) -> None:
    """Refuse an attack that can't be run on a defence that it names."""
    named = f"{place}.against names {entry.name!r}"
    if parameters.get("gradient") == "identity" and entry.kind not in TRANSFORMS:
        raise UserError(
            f"{named}, of the kind {entry.kind!r}, but its gradient 'identity' is for defences "
            f"that transform their input, of the kinds {', '.join(map(repr, TRANSFORMS))}."
        )
    if parameters.get("band") and entry.kind not in FILTERS:
        raise UserError(
            f"{named}, of the kind {entry.kind!r}, but its 'band' is for defences that filter "
            f"frequencies, of the kind {', '.join(map(repr, FILTERS))}."
        )
    standard = kind == "autoattack" and parameters.get("version", "standard") == "standard"
    if standard and entry.random:
        raise UserError(
            f"{named}, whose output is another one in each call, but its version 'standard' is for "
            "defences that say the same in each; 'rand' is the version for this one."
        )


def _defense(name: str, entry: Mapping[str, Any], models: Mapping[str, Any]) -> DefenseEntry:
    parameters = {key: value for key, value in entry.items() if key != "kind"}
    _check_parameters(f"defenses.{name}", entry["kind"], parameters, PARAMETERS)
    if name == "undefended" and entry["kind"] != "undefended":
        raise UserError(
            f"defenses.{name} is of the kind {entry['kind']!r}; this name is for the network "
            "without a defence, of the kind 'undefended'."
        )
    for key in sorted(REQUIRED.get(entry["kind"], frozenset()) - set(parameters)):
        raise UserError(f"defenses.{name} is of the kind {entry['kind']!r}, which needs {key!r}.")
    if "model" in parameters:
        member(parameters["model"], models, "models", f"defenses.{name}.model")
    return DefenseEntry(name=name, kind=entry["kind"], parameters=parameters)


def _attack(
    name: str,
    entry: Mapping[str, Any],
    defenses: Mapping[str, DefenseEntry],
    bounds: tuple[float, ...],
) -> AttackEntry:
    place = f"robustness.attacks.{name}"
    own = ("kind", "against", "epsilons", "images")
    parameters = {key: value for key, value in entry.items() if key not in own}
    _check_parameters(place, entry["kind"], parameters, ATTACK_PARAMETERS)
    for defense in entry["against"]:
        member(defense, defenses, "defenses", f"{place}.against")
    minimal = entry["kind"] in MINIMAL_KINDS
    if minimal and "epsilons" in entry:
        raise UserError(f"{place} minimises the perturbation; it takes no 'epsilons'.")
    for defense in entry["against"]:
        # Only images that fool whom they were made against count, and no other model is judged.
        if minimal and defenses[defense].kind == "other_model":
            raise UserError(
                f"{place}.against names {defense!r}, another model; an attack that minimises the "
                "perturbation is allowed against defences of the model under examination."
            )
        _check_suits(place, entry["kind"], parameters, defenses[defense])
    given = tuple(epsilon(value, f"{place}.epsilons") for value in entry.get("epsilons", ()))
    return AttackEntry(
        name=name,
        kind=entry["kind"],
        against=tuple(entry["against"]),
        epsilons=() if minimal else given or bounds,
        images=entry.get("images"),
        parameters=parameters,
    )


def _check_parameters(
    place: str,
    kind: str,
    parameters: Mapping[str, Any],
    known: Mapping[str, frozenset[str]],
) -> None:
    for key in parameters:
        if key not in known[kind]:
            raise UserError(
                f"{place} is of the kind {kind!r}, which has no {key!r}; "
                f"{suggest(key, known[kind])}."
            )
