"""What a run will take: images, forward passes and bytes, from the configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit import attacks
from bandlimit.attacks import (
    FGSM,
    PGD,
    CarliniWagnerL2,
    DeepFoolL2,
    DeepFoolLinf,
    FGSMMinimal,
    PGDMinimal,
)
from bandlimit.defenses.sweep import Setting, forwards
from bandlimit.settings import Experiment, Settings

GRADIENT = 3
"""Forward passes that a pass forward and backward to the input costs."""

DEEPFOOL_STEPS = 6
"""Steps that DeepFool needs for most images; the configured number is only a bound."""


@dataclass(frozen=True)
class Cost:
    """Cost of one input set of an experiment.

    Attributes:
        inputs: 'clean' or the attack.
        images: number of images; None where the dataset's size is not known before it is read.
        attack_forwards: forward passes of the attack, about (searches may end early).
        defense_forwards: forward passes of the defence, exact if every image is adversarial.
        stored: bytes of the adversarial set before compression.
    """

    dataset: str
    model: str
    inputs: str
    images: int | None
    attack_forwards: int
    defense_forwards: int
    stored: int


def per_image(name: str, parameters: Mapping[str, Any]) -> int:
    """Return about how many forward passes an attack spends on an image, gradients included."""
    parameters = dict(parameters)
    epsilons = len(parameters.pop("epsilons", (None,)))
    attack = attacks.create(name, **parameters)
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


def costs(settings: Settings) -> list[Cost]:
    """Return the cost of each input set of each experiment."""
    return [
        _cost(settings, experiment, inputs)
        for experiment in settings.experiments
        for inputs in experiment.inputs()
    ]


def _cost(settings: Settings, experiment: Experiment, inputs: str) -> Cost:
    dataset = settings.datasets[experiment.dataset]
    images = dataset.images
    if images is None and dataset.counts:
        everything = sum(dataset.counts.values())
        images = dataset.counts[dataset.split] if dataset.split else everything
    count = images or 0
    parameters = experiment.attacks.get(inputs, {})
    sets = len(parameters.get("epsilons", (None,)))
    pixels = 1
    for length in settings.models[experiment.model].shape:
        pixels *= length
    of_defense = forwards([Setting(*setting) for setting in experiment.settings(inputs)])
    return Cost(
        dataset=experiment.dataset,
        model=experiment.model,
        inputs=inputs,
        images=images,
        attack_forwards=0 if inputs == "clean" else count * per_image(inputs, parameters),
        defense_forwards=count * of_defense * sets,
        stored=0 if inputs == "clean" else count * sets * pixels * 4,
    )


def report(settings: Settings) -> str:
    """Return the costs as a Markdown table with totals."""
    lines = [
        "| dataset | model | inputs | images | forwards, attack (about) "
        "| forwards, defence | adversarial set |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    rows = costs(settings)
    for row in rows:
        lines.append(
            f"| {row.dataset} | {row.model} | {row.inputs} | "
            f"{'?' if row.images is None else f'{row.images:,}'} | {row.attack_forwards:,} | "
            f"{row.defense_forwards:,} | {_size(row.stored)} |"
        )
    attack = sum(row.attack_forwards for row in rows)
    defense = sum(row.defense_forwards for row in rows)
    stored = _size(sum(row.stored for row in rows))
    lines.append(f"| **all** | | | | {attack:,} | {defense:,} | {stored} |")
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
