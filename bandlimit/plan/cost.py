"""What a run will take: images, forward passes and bytes, from the configuration alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.attacks.adaptive import autoattack
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.adaptive.confident import ConfidentCarliniWagnerL2
from bandlimit.attacks.adaptive.gradient import EOTPGD, AdaptiveFGSM, AdaptivePGD
from bandlimit.attacks.adaptive.suites import AutoAttack, RandomNoise, Square
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.attacks.minimal import (
    CarliniWagnerL2,
    DeepFoolL2,
    DeepFoolLinf,
    FGSMMinimal,
    PGDMinimal,
)
from bandlimit.config.defenses import DefenseEntry
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.defenses.sweep import Setting, forwards
from bandlimit.studies.frequency_principle.image.heat_maps import frequencies
from bandlimit.studies.high_frequency.components_records import CONVENTIONS
from bandlimit.studies.robustness.settings import AttackEntry, Examination

GRADIENT = 3
"""Forward passes that a pass forward and backward to the input costs."""

DEEPFOOL_STEPS = 6
"""Steps that DeepFool needs for most images; the configured number is only a bound."""


@dataclass(frozen=True)
class Cost:
    """Cost of one input set of an experiment.

    Attributes:
        inputs: 'clean', the attack, or the attack and the defence that it knows; 'training',
            'perturbations' along the gradient, 'low-pass filter', 'components' of images,
            'smoothed kernels', or 'waves' of one frequency each.
        images: number of images; None where the dataset's size is not known before it is read.
        attack_forwards: forward passes of the attack, about (searches may end early).
        defense_forwards: forward passes of the defence, or of all that judge; at most so many.
        stored: bytes of the adversarial set before compression.
        training_forwards: forward passes of a training, gradients, curves and responses included.
    """

    dataset: str
    model: str
    inputs: str
    images: int | None
    attack_forwards: int
    defense_forwards: int
    stored: int
    training_forwards: int = 0


def per_image(name: str, parameters: Mapping[str, Any]) -> int:
    """Return about how many forward passes an attack spends on an image, gradients included."""
    parameters = dict(parameters)
    epsilons = len(parameters.pop("epsilons", (None,)))
    attack = create(ATTACKS, name, **parameters)
    match attack:
        case FGSMMinimal():
            return GRADIENT + round(attack.max_epsilon / attack.step) + attack.substeps
        case PGDMinimal():
            return GRADIENT * attack.steps * (1 + attack.binary_search_steps)
        case DeepFoolL2() | DeepFoolLinf():
            return GRADIENT * min(attack.steps, DEEPFOOL_STEPS) * (attack.candidates - 1)
        case CarliniWagnerL2():
            return GRADIENT * attack.steps * attack.binary_search_steps
        case PGD():
            return GRADIENT * attack.steps * epsilons
        case FGSM():
            return GRADIENT * epsilons
    raise ValueError(f"no cost is known for the attack {name!r}")


def costs(run: Run) -> list[Cost]:
    """Return the cost of each input set of each experiment."""
    examined = run.studies.get("robustness")
    sets = (
        [(e, *pair) for e in examined.experiments for pair in examined.sets(e)] if examined else []
    )
    return [
        _cost(run, experiment, inputs)
        for experiment in run.experiments.values()
        for inputs in experiment.inputs()
    ] + [
        *(_training_cost(run, name) for name, m in run.models.items() if m.source == "trained"),
        *_spectra_costs(run),
        *_frequency_costs(run),
        *_wave_costs(run),
        *(_adaptive_cost(run, e, against, attack) for e, against, attack in sets),
    ]


def _training_cost(run: Run, name: str) -> Cost:
    """Return the cost of a training, of all its networks; a trajectory is little beside it."""
    recipe = run.training[name]
    images = run.datasets[recipe["dataset"]].count
    adversarial = recipe.get("adversarial")
    steps = 1 + (adversarial["steps"] if adversarial else 0)
    return Cost(
        dataset=recipe["dataset"],
        model=name,
        inputs="training",
        images=images,
        attack_forwards=0,
        defense_forwards=0,
        stored=0,
        training_forwards=recipe.get("seeds", 1)
        * (
            GRADIENT * steps * recipe["epochs"] * (images or 0)
            + _curves_cost(recipe)
            + _responses_cost(recipe, images or 0)
        ),
    )


def _curves_cost(recipe: Mapping[str, Any]) -> int:
    """Return the forward passes of all measurements of curves of one network, if any."""
    curves = recipe.get("curves")
    if curves is None:
        return 0
    sets = curves["images"] * (1 + 2 * len(curves["radii"]))
    sets += curves["train_images"] * (1 + 2 * len(curves["train_radii"]))
    # At the start, after every so many epochs, and at the end.
    return int(sets * (1 + math.ceil(recipe["epochs"] / curves["every"])))


def _responses_cost(recipe: Mapping[str, Any], images: int) -> int:
    """Return the forward passes of all records of responses of one network, if any."""
    responses = recipe.get("responses")
    if responses is None:
        return 0
    per_epoch = max(1, images // recipe["batch_size"])
    # At the start, at powers of two within the first epoch, at its end, and every so many epochs.
    times = 1 + (per_epoch - 1).bit_length() + math.ceil(recipe["epochs"] / responses["every"])
    first = responses["every"] > 1 and recipe["epochs"] > 1
    return int(responses["images"] * (times + first))


def _spectra_costs(run: Run) -> list[Cost]:
    """Return the costs of perturbations along gradients, and of the low-pass filter."""
    study = run.studies.get("perturbation_spectra")
    if study is None:
        return []
    found = []
    for e in study.experiments:
        known = [n for n in (run.datasets[e.dataset].count, e.images) if n is not None]
        count = min(known, default=0)
        steps = sum(way.steps for way in study.perturbations.values())
        cuts = len(e.cutoffs)
        for model in e.models():
            found.append(
                Cost(
                    dataset=e.dataset,
                    model=model,
                    inputs="perturbations",
                    images=count if known else None,
                    attack_forwards=GRADIENT * steps * count,
                    defense_forwards=0,
                    stored=count * len(study.perturbations) * _pixels(run, model) * 4,
                )
            )
        for model in e.filtered if cuts else ():
            found.append(
                Cost(
                    dataset=e.dataset,
                    model=model,
                    inputs="low-pass filter",
                    images=count if known else None,
                    attack_forwards=GRADIENT * study.aware_steps * cuts * count,
                    defense_forwards=3 * cuts * count,
                    stored=0,
                )
            )
    return found


def _frequency_costs(run: Run) -> list[Cost]:
    """Return the costs of components of images, and of smoothed kernels under attack."""
    study = run.studies.get("high_frequency")
    if study is None:
        return []
    smoothing = study.smoothing
    # The network as it is, and each rho as released and divided by the gain.
    networks = 1 + 2 * len(smoothing.rhos)
    bounds = len(smoothing.epsilons)
    found = []
    for e in study.experiments:
        # Low and high frequencies by each convention, and singular values.
        parts = 1 + len(e.radii) * 2 * (len(CONVENTIONS) + 1)
        asked = [("components", e.images, e.vanilla, 0, parts)]
        # FGSM and two PGDs of each bound. The network judges what each gives, images twice, and a
        # gradient tells where there is none.
        attacks = networks * bounds * GRADIENT * (1 + 2 * smoothing.steps)
        judged = networks * (GRADIENT + 2 + 3 * bounds)
        asked += [
            ("smoothed kernels", smoothing.images, network, attacks, judged)
            for network in e.smoothed()
        ]
        for inputs, images, network, attacked, shown in asked:
            known = [n for n in (run.datasets[e.dataset].count, images) if n is not None]
            count = min(known, default=0)
            found += [
                Cost(
                    dataset=e.dataset,
                    model=model,
                    inputs=inputs,
                    images=count if known else None,
                    attack_forwards=count * attacked,
                    defense_forwards=count * shown,
                    stored=0,
                )
                for model in network.models()
            ]
    return found


def _wave_costs(run: Run) -> list[Cost]:
    """Return the costs of Fourier heat maps: images, and images with each wave."""
    study = run.studies.get("frequency_principle")
    found = []
    for e in study.experiments if study else ():
        sides = run.models[e.model].shape[1:]
        waves = len(frequencies(sides, stride=e.stride, bandwidth=e.bandwidth)) * len(e.norms)
        known = [n for n in (run.datasets[e.dataset].size, e.images) if n is not None]
        count = min(known, default=0)
        found += [
            Cost(
                dataset=e.dataset,
                model=model,
                inputs="waves",
                images=count if known else None,
                attack_forwards=0,
                defense_forwards=count * (1 + waves),
                stored=0,
            )
            for model in e.models()
        ]
    return found


def _pixels(run: Run, model: str) -> int:
    return math.prod(run.models[model].shape)


def _passes(run: Run, examination: Examination, name: str) -> int:
    """Return the forward passes of one output of a defence."""
    entry = run.studies["robustness"].defenses[name]
    if entry.kind != "post_averaging":
        return 1
    directions = int(entry.parameters.get("directions", examination.directions))
    steps = 6 if entry.parameters.get("sign", "both") == "both" else 3
    return steps * directions + int(entry.parameters.get("center", True))


def _differentiated(defense: DefenseEntry, passes: int, samples: int | None) -> int:
    """Return the forward passes of one output of what an attack differentiates.

    A few fresh samples stand for a defence that draws; one that does not draw is differentiated as
    it stands, with all its samples.
    """
    if samples is None or not defense.random:
        return passes
    switches = (defense.parameters.get("sampler", "random"), defense.parameters.get("sign", "both"))
    if defense.kind == "post_averaging" and switches == ("random", "both"):
        return samples
    return samples * passes


def adaptive_per_image(attack: AttackEntry, defense: DefenseEntry, passes: int) -> tuple[int, int]:
    """Return about how many forward passes an attack on a defence spends, and its sets, per image.

    Args:
        attack: as configured.
        defense: the attacked one, as configured.
        passes: forward passes of one output of the defence.
    """
    made = create(KINDS, attack.kind, **attack.parameters)
    sets = len(attack.epsilons) or 1
    match made:
        case EOTPGD():
            each = _differentiated(defense, passes, made.samples)
            return GRADIENT * made.steps * each * made.restarts * sets, made.restarts * sets
        case RandomNoise():
            return 0, made.draws * sets
        case Square():
            return made.queries * passes * sets, sets
        case AutoAttack():
            runs = made.restarts * (2 if made.version == "rand" else 1 + 2 * made.targets)
            eot = made.eot or autoattack.EOT.get(made.version, 1)
            each = _differentiated(defense, passes, made.samples)
            blind = 0 if made.version == "rand" else made.queries * each
            return (GRADIENT * made.steps * runs * eot * each + blind) * sets, sets
        case ConfidentCarliniWagnerL2():
            found = len(made.confidences)
            return GRADIENT * made.steps * made.binary_search_steps * passes * found, found
        case AdaptivePGD():
            return GRADIENT * made.steps * passes * sets, sets
        case AdaptiveFGSM():
            return GRADIENT * passes * sets, sets
    raise ValueError(f"no cost is known for the attack {attack.kind!r}")


def _adaptive_cost(run: Run, examination: Examination, against: str, name: str) -> Cost:
    study = run.studies["robustness"]
    attack = study.attacks[name]
    counts = [run.datasets[examination.dataset].count, examination.images, attack.images]
    known = [count for count in counts if count is not None]
    count = min(known, default=0)
    spent, sets = adaptive_per_image(
        attack, study.defenses[against], _passes(run, examination, against)
    )
    judged = 0
    for judge in study.judges(examination):
        if (against, name) in study.judged_sets(examination, judge):
            passes = _passes(run, examination, judge)
            judged += passes * (study.draws if study.defenses[judge].random else 1)
    return Cost(
        dataset=examination.dataset,
        model=examination.model,
        inputs=f"{name} on {against}",
        images=count if known else None,
        attack_forwards=count * spent,
        defense_forwards=count * sets * judged,
        stored=count * sets * _pixels(run, examination.model) * 4,
    )


def _cost(run: Run, experiment: Experiment, inputs: str) -> Cost:
    images = run.datasets[experiment.dataset].count
    count = images or 0
    parameters = experiment.attacks.get(inputs, {})
    sets = len(parameters.get("epsilons", (None,)))
    pixels = _pixels(run, experiment.model)
    averaging = run.studies.get("bandlimiting")
    # A study that averages asks each experiment once; where none does, only the attack costs.
    settings = [
        Setting(*setting)
        for averaged in (averaging.experiments if averaging else ())
        if averaged.name == experiment.name
        for setting in averaged.settings(inputs)
    ]
    of_defense = forwards(settings) if settings else 0
    return Cost(
        dataset=experiment.dataset,
        model=experiment.model,
        inputs=inputs,
        images=images,
        attack_forwards=0 if inputs == "clean" else count * per_image(inputs, parameters),
        defense_forwards=count * of_defense * sets,
        stored=0 if inputs == "clean" else count * sets * pixels * 4,
    )


def report(run: Run) -> str:
    """Return the costs as a Markdown table with totals; images of one dataset count once.

    What depends on a number of images that is not known is a question mark, and a sum with such a
    part ends in one.
    """
    lines = [
        "| dataset | model | inputs | images | forwards, attack (about) "
        "| forwards, defence | forwards, training | adversarial set |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    rows = costs(run)
    for row in rows:
        numbers = [
            f"{row.attack_forwards:,}",
            f"{row.defense_forwards:,}",
            f"{row.training_forwards:,}",
            _size(row.stored),
        ]
        told = [f"{row.images:,}", *numbers] if row.images is not None else ["?"] * 5
        lines.append(f"| {row.dataset} | {row.model} | {row.inputs} | {' | '.join(told)} |")
    images: dict[str, int] = {}
    for row in rows:
        images[row.dataset] = max(images.get(row.dataset, 0), row.images or 0)
    totals = [
        f"{sum(images.values()):,}",
        f"{sum(row.attack_forwards for row in rows):,}",
        f"{sum(row.defense_forwards for row in rows):,}",
        f"{sum(row.training_forwards for row in rows):,}",
        _size(sum(row.stored for row in rows)),
    ]
    unknown = sorted({row.dataset for row in rows if row.images is None})
    if unknown:
        totals = [f"{total} + ?" for total in totals]
    lines.append(f"| **all** | | | {' | '.join(totals)} |")
    if unknown:
        lines += [
            "",
            f"How many images there are of {', '.join(map(repr, unknown))} is not known: its path "
            "is not there to be looked at, and no 'images' says so.",
        ]
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
