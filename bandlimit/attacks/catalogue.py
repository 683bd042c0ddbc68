"""Attacks on a model, by name."""

from __future__ import annotations

from typing import Any

from bandlimit.attacks.base import Attack
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.attacks.minimal import (
    CarliniWagnerL2,
    DeepFoolL2,
    DeepFoolLinf,
    FGSMMinimal,
    PGDMinimal,
)
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
