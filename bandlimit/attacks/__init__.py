"""Attacks, and the adversarial records that they leave.

Minimal attacks look for the smallest perturbation that changes the prediction: one run serves
each epsilon, by a filter on l_inf afterwards. Fixed attacks spend a given epsilon in full. All
run in float32 in [0, 1] pixel space against a `torch.nn.Module` that maps pixels to logits; a
defence is such a module too, so whoever knows it attacks it.

An image's result depends on the image, the seed and the names of dataset and model alone, never
on its companions, provided that the model's logits do not depend on them either.
"""

from __future__ import annotations

from typing import Any

from bandlimit.attacks.base import Attack, FixedAttack, Found, MinimalAttack, Noise
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.attacks.minimal import (
    CarliniWagnerL2,
    DeepFoolL2,
    DeepFoolLinf,
    FGSMMinimal,
    PGDMinimal,
)
from bandlimit.attacks.records import Batch, generate, recheck, schema, select
from bandlimit.errors import UserError, suggest

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        FGSMMinimal,
        PGDMinimal,
        DeepFoolL2,
        CarliniWagnerL2,
        FGSM,
        PGD,
        DeepFoolLinf,
    )
}
"""All attacks by name."""


def create(name: str, **parameters: Any) -> Attack:
    """Return the attack of this name with these hyper-parameters, the others at their defaults.

    Raises:
        UserError: there is no such attack or hyper-parameter, or a value is not allowed.
    """
    if name not in ATTACKS:
        raise UserError(f"There is no attack {name!r}; {suggest(name, ATTACKS)}.")
    known = ATTACKS[name].__dataclass_fields__
    for parameter in parameters:
        if parameter not in known:
            raise UserError(
                f"The attack {name!r} has no parameter {parameter!r}; {suggest(parameter, known)}."
            )
    return ATTACKS[name](**parameters)


__all__ = [
    "ATTACKS",
    "Attack",
    "Batch",
    "CarliniWagnerL2",
    "DeepFoolL2",
    "DeepFoolLinf",
    "FGSM",
    "FGSMMinimal",
    "FixedAttack",
    "Found",
    "MinimalAttack",
    "Noise",
    "PGD",
    "PGDMinimal",
    "create",
    "generate",
    "recheck",
    "schema",
    "select",
]
