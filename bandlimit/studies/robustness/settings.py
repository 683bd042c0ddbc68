"""The study `robustness` as configured: which defences are attacked how, and compared with what.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bandlimit.attacks.kinds import (
    ATTACK_PARAMETERS,
    BUDGETS,
    LEAST_CLASSES,
    MINIMAL_KINDS,
    spends_more,
)
from bandlimit.config.defenses import DefenseEntry, check_parameters
from bandlimit.config.experiments import Experiment
from bandlimit.config.models import Model, check_other
from bandlimit.config.run import Run
from bandlimit.config.schema import epsilons, member, not_reserved
from bandlimit.defenses.kinds import (
    FILTERS,
    GROUPS,
    JPEG_CHANNELS,
    OF_LOGITS,
    PARAMETERS,
    SOURCES,
    TRANSFORMS,
    WITHOUT_CONVOLUTION,
)
from bandlimit.errors import UserError

SCALED = ("pgd_minimal",)
"""Attacks whose perturbations are stretched where the configuration names none."""

LARGER = "_larger"
"""Ending of the name of an attack that repeats another with twice its budget."""

RESERVED = ("clean", "strongest", "none", "any", *GROUPS)
"""Names that records, tables and lists give to what is no attack and no defence of its own."""


@dataclass(frozen=True)
class AttackEntry:
    """An attack on defences by name; `grouped` says that a word stood for some of them."""

    name: str
    kind: str
    against: tuple[str, ...]
    epsilons: tuple[float, ...]
    images: int | None
    parameters: Mapping[str, Any]
    grouped: bool = False


@dataclass(frozen=True)
class Examination(Experiment):
    """An experiment whose defences are examined.

    Attributes:
        images: how many images are attacked, the first of a seeded order; None for all of a
            dataset that nobody has counted.
        defenses: names of the defences under examination.
        defense_attacks: names of the attacks on them.
        controls: names of the defences that are compared on the document's adversarial images.
        scaled: minimising attacks whose perturbations are stretched.
        radius: r of defences that name none, L2 in standardised space; None if nothing says it.
        directions: K of defences that name none, likewise.
    """

    images: int | None
    defenses: tuple[str, ...]
    defense_attacks: tuple[str, ...]
    controls: tuple[str, ...]
    scaled: tuple[str, ...]
    radius: float | None
    directions: int | None


@dataclass(frozen=True)
class Robustness:
    """The study `robustness`, checked and resolved.

    Attributes:
        defenses: all defences by name.
        attacks: all attacks on them by name.
        epsilons: l_inf bounds of attacks without bounds of their own.
        draws: fresh draws of a random defence that judge each image, at most.
        control_draws: the same where controls are compared and perturbations stretched.
        stop: when such a draw ends, and with which probability of error.
        error: of a sequential end, per image and draw.
        factors: by how much minimal perturbations are stretched.
        experiments: what is examined, in the order of the configuration.
    """

    defenses: Mapping[str, DefenseEntry]
    attacks: Mapping[str, AttackEntry]
    epsilons: tuple[float, ...]
    draws: int
    control_draws: int
    stop: str
    error: float
    factors: tuple[float, ...]
    experiments: tuple[Examination, ...]

    def examination(self, dataset: str, model: str) -> Examination:
        """Return the examination of a dataset and a model.

        Raises:
            KeyError: the study has none.
        """
        for examination in self.experiments:
            if (examination.dataset, examination.model) == (dataset, model):
                return examination
        raise KeyError((dataset, model))

    def other_models(self, examination: Examination) -> list[str]:
        """Return the models besides its own that the study runs on an experiment."""
        return self.others(self.used(examination))

    def sets(self, examination: Examination) -> list[tuple[str, str]]:
        """Return (attacked defence, attack) of each adversarial set of an examination."""
        return [
            (defense, name)
            for name in examination.defense_attacks
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


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the other models that defences in use need, before any name is checked."""
    used: set[str] = set()
    for entry in section["experiments"].values():
        used |= {*entry["defenses"], *entry["controls"]}
        for name in entry["attacks"]:
            used |= set(section["attacks"].get(name, {"against": []})["against"])
    entries = (config["defenses"].get(name, {}) for name in used)
    return {entry["model"] for entry in entries if "model" in entry}


def load(section: Mapping[str, Any], run: Run) -> Robustness:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share, and the studies before this one.

    Raises:
        UserError: a name or a parameter is not among the allowed ones, a number too large, an
            attack does not suit the defence that it names, or it suits none of an experiment.
    """
    not_reserved(run.defenses, RESERVED, "defenses")
    not_reserved(section["attacks"], RESERVED, "robustness.attacks")
    for name in section["attacks"]:
        if name.endswith(LARGER):
            raise UserError(
                f"robustness.attacks.{name} has a name that ends in {LARGER!r}, which is kept for "
                "the runs of 'robustness.larger_budget'; give it another name."
            )
    bounds = tuple(epsilons(section["epsilons"], "robustness.epsilons"))
    examined = {d: None for e in section["experiments"].values() for d in e["defenses"]}
    for name, entry in section["experiments"].items():
        for defense in entry["defenses"]:
            member(defense, run.defenses, "defenses", f"robustness.experiments.{name}")
    attacks = {
        name: _attack(name, entry, run.defenses, bounds, list(examined))
        for name, entry in section["attacks"].items()
    }
    larger = _larger(attacks, run.defenses, section["larger_budget"])
    study = Robustness(
        defenses=run.defenses,
        attacks=attacks | larger,
        epsilons=bounds,
        draws=section["draws"],
        control_draws=section["control_draws"],
        stop=section["stop"],
        error=section["error"],
        factors=tuple(map(float, section["factors"])),
        experiments=tuple(
            _examination(name, entry, attacks, larger, run)
            for name, entry in section["experiments"].items()
        ),
    )
    for examination in study.experiments:
        _check_defenses(study, examination, run)
    return study


def _examination(
    name: str,
    entry: Mapping[str, Any],
    attacks: Mapping[str, AttackEntry],
    larger: Mapping[str, AttackEntry],
    run: Run,
) -> Examination:
    place = f"robustness.experiments.{name}"
    experiment = run.experiments[name]
    for control in entry["controls"]:
        member(control, run.defenses, "defenses", place)
    size, count = run.datasets[experiment.dataset].size, run.datasets[experiment.dataset].count
    for attack in entry["attacks"]:
        member(attack, attacks, "attacks of robustness", place)
        _check_attacked(attacks[attack], entry["defenses"], run.defenses, place)
        if "images" not in entry:  # else the smaller number is attacked
            where = f"robustness.attacks.{attack}"
            way = f"; {place}.images limits all attacks, and none is given"
            _check_images(where, attacks[attack].images, count, experiment.dataset, way)
    scaled = entry.get("scaled", [a for a in SCALED if a in experiment.attacks])
    for attack in scaled:
        member(attack, experiment.attacks, "attacks of its experiment", f"{place}.scaled")
    _check_images(place, entry.get("images"), count, experiment.dataset)
    averaging = _averaging(name, run)
    images = entry.get("images", size)
    listed = [attacks[attack] for attack in entry["attacks"]]
    again = [
        f"{one.name}{LARGER}"
        for one in listed
        # Of images that nobody has counted there may be fewer than a larger budget asks for.
        if images is not None and not any(_of_two_budgets(one, other) for other in listed)
    ]
    return Examination(
        **vars(experiment),
        images=images,
        defenses=tuple(entry["defenses"]),
        defense_attacks=(*entry["attacks"], *(attack for attack in again if attack in larger)),
        controls=tuple(entry["controls"]),
        scaled=tuple(scaled),
        radius=entry.get("radius", getattr(averaging, "radius", None)),
        directions=entry.get("directions", getattr(averaging, "directions", None)),
    )


def _larger(
    attacks: Mapping[str, AttackEntry], defenses: Mapping[str, DefenseEntry], images: int
) -> dict[str, AttackEntry]:
    """Return, of each attack with a budget, one of twice that budget: does more bring more?

    It looks at some images and at one bound, the middle one, where accuracy is neither that of
    clean images nor 0. An attack of a single step says with its name that it spends no more. An
    experiment that lists two budgets of an attack needs no third.
    """
    found = {}
    for attack in attacks.values():
        budget = BUDGETS.get(attack.kind, {}) if images else {}
        spent = {key: attack.parameters.get(key, least) for key, least in budget.items()}
        if attack.parameters.get("version") == "rand":
            spent.pop("queries", None)
        # What carries over from another model says nothing of how much a budget brings.
        against = tuple(d for d in attack.against if defenses[d].kind != "other_model")
        if not spent or spent.get("steps") == 1 or not against:
            continue
        name = f"{attack.name}{LARGER}"
        bounds = sorted(attack.epsilons)
        found[name] = replace(
            attack,
            name=name,
            against=against,
            epsilons=(bounds[(len(bounds) - 1) // 2],),
            images=min(images, attack.images or images),
            parameters={**attack.parameters, **{key: 2 * value for key, value in spent.items()}},
        )
    return found


def _of_two_budgets(attack: AttackEntry, other: AttackEntry) -> bool:
    """Return whether one of two attacks repeats the other with a larger budget."""
    one, two = ({"kind": each.kind, **each.parameters} for each in (attack, other))
    common = set(attack.against) & set(other.against) and set(attack.epsilons) & set(other.epsilons)
    return bool(common) and (spends_more(one, two) or spends_more(two, one))


def _averaging(name: str, run: Run) -> Any:
    """Return the same experiment as the study of post-averaging has it, or None."""
    study = run.studies.get("bandlimiting")
    return next((e for e in study.experiments if e.name == name), None) if study else None


def _check_defenses(study: Robustness, examination: Examination, run: Run) -> None:
    """Refuse defences that can't be made for a model, or that do nothing to it."""
    model = run.models[examination.model]
    for name in dict.fromkeys(attack for _, attack in study.sets(examination)):
        _check_classes(study.attacks[name], examination, model)
    for name in study.used(examination):
        defense = study.defenses[name]
        if "model" in defense.parameters:
            check_other(model, run.models[defense.parameters["model"]], name)
        _check_cutoff(defense, model)
        _check_convolution(defense, model)
        _check_channels(defense, model)
        _check_hyperplanes(defense, examination, model)
        for key in ("radius", "directions"):
            needed = key in PARAMETERS[defense.kind] and key not in defense.parameters
            if needed and getattr(examination, key) is None:
                raise UserError(
                    f"The defence {name!r} of robustness.experiments.{examination.name} needs "
                    f"{key!r}; set it under defenses.{name}, under "
                    f"robustness.experiments.{examination.name}, or in the same experiment of "
                    "bandlimiting."
                )


def _check_classes(attack: AttackEntry, examination: Examination, model: Model) -> None:
    """Refuse AutoAttack on a model of so few classes that its losses don't exist."""
    if attack.kind != "autoattack":
        return
    version = attack.parameters.get("version", "standard")
    least = LEAST_CLASSES[version]
    if model.classes < least:
        raise UserError(
            f"robustness.experiments.{examination.name}.attacks lists {attack.name!r}, AutoAttack "
            f"of the version {version!r}, whose losses need a model of at least {least} classes, "
            f"and {model.name!r} has {model.classes}; take it out of that list, and list attacks "
            "of the kinds 'eot_pgd' and 'square' there, which need 2."
        )


def _check_cutoff(defense: DefenseEntry, model: Model) -> None:
    """Refuse a low-pass that lets everything pass: a defence that does nothing."""
    if defense.kind != "low_pass":
        return
    height, width = model.shape[1:]
    # The corner of the spectrum lies farthest from frequency 0, at index n // 2 of each side.
    farthest = math.hypot(height // 2, width // 2)
    cutoff = defense.parameters["cutoff"]
    if cutoff >= farthest:
        raise UserError(
            f"defenses.{defense.name}.cutoff lets every frequency of the {height} x {width} images "
            f"of the model {model.name!r} pass, so that it changes nothing; allowed: below "
            f"{math.floor(farthest * 100) / 100}, got {cutoff}."
        )


def _check_convolution(defense: DefenseEntry, model: Model) -> None:
    """Refuse to smooth the kernels of a model that has none."""
    if defense.kind == "smoothed_kernels" and model.architecture in WITHOUT_CONVOLUTION:
        raise UserError(
            f"defenses.{defense.name} smooths the kernels of a first convolution, and the model "
            f"{model.name!r} has none; allowed: models of any architecture but "
            f"{', '.join(map(repr, WITHOUT_CONVOLUTION))}."
        )


def _check_channels(defense: DefenseEntry, model: Model) -> None:
    """Refuse JPEG of images that are neither grey nor of three colours."""
    if defense.kind == "jpeg" and model.shape[0] not in JPEG_CHANNELS:
        raise UserError(
            f"defenses.{defense.name} is JPEG, which takes images of 1 or 3 channels, and those of "
            f"the model {model.name!r} have {model.shape[0]}; take {defense.name!r} out of the "
            "lists of its experiment."
        )


def _check_hyperplanes(defense: DefenseEntry, examination: Examination, model: Model) -> None:
    """Refuse more directions towards hyperplanes than the last layer has."""
    if defense.kind != "post_averaging" or defense.parameters.get("sampler") not in OF_LOGITS:
        return
    directions = defense.parameters.get("directions", examination.directions)
    if directions is not None and directions > model.classes:
        raise UserError(
            f"defenses.{defense.name} takes the sampler {defense.parameters['sampler']!r}, which "
            f"chooses among the hyperplanes of the {model.classes} classes of {model.name!r}; its "
            f"'directions' must be from 1 to {model.classes}, got {directions}."
        )


def _check_images(
    place: str, images: int | None, size: int | None, dataset: str, way_out: str = ""
) -> None:
    if images is not None and size is not None and images > size:
        raise UserError(
            f"{place}.images must be from 1 to {size}, the images of {dataset!r}, got "
            f"{images}{way_out}."
        )


def _check_attacked(
    attack: AttackEntry,
    listed: Sequence[str],
    defenses: Mapping[str, DefenseEntry],
    place: str,
) -> None:
    """Refuse an attack that an experiment lists but whose defences it does not."""
    fits = (name in listed or defenses[name].kind in SOURCES for name in attack.against)
    # A word stands for those that there are, and there may be none.
    if not attack.grouped and not any(fits):
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


def _attack(
    name: str,
    entry: Mapping[str, Any],
    defenses: Mapping[str, DefenseEntry],
    bounds: tuple[float, ...],
    examined: Sequence[str],
) -> AttackEntry:
    place = f"robustness.attacks.{name}"
    own = ("kind", "against", "epsilons", "images")
    parameters = {key: value for key, value in entry.items() if key not in own}
    check_parameters(place, entry["kind"], parameters, ATTACK_PARAMETERS)
    for defense in entry["against"]:
        member(defense, {**defenses, **dict.fromkeys(GROUPS)}, "defenses", f"{place}.against")
    against = _resolved(entry["against"], defenses, examined)
    minimal = entry["kind"] in MINIMAL_KINDS
    if minimal and "epsilons" in entry:
        raise UserError(f"{place} minimises the perturbation; it takes no 'epsilons'.")
    for defense in against:
        # Only images that fool whom they were made against count, and no other model is judged.
        if minimal and defenses[defense].kind == "other_model":
            raise UserError(
                f"{place}.against names {defense!r}, another model; an attack that minimises the "
                "perturbation is allowed against defences of the model under examination."
            )
        _check_suits(place, entry["kind"], parameters, defenses[defense])
    given = tuple(epsilons(entry.get("epsilons", ()), f"{place}.epsilons"))
    return AttackEntry(
        name=name,
        kind=entry["kind"],
        against=against,
        epsilons=() if minimal else given or bounds,
        images=entry.get("images"),
        parameters=parameters,
        grouped=any(word in GROUPS for word in entry["against"]),
    )


def _resolved(
    against: Sequence[str], defenses: Mapping[str, DefenseEntry], examined: Sequence[str]
) -> tuple[str, ...]:
    """Return the defences that names and words stand for, each once, in the order of the list."""
    found: dict[str, None] = {}
    for word in against:
        if word in GROUPS:
            found |= dict.fromkeys(d for d in examined if defenses[d].belongs(word))
        else:
            found[word] = None
    return tuple(found)
