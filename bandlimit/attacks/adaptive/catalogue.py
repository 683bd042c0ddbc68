"""Adaptive attacks by the names of their kinds."""

from __future__ import annotations

from typing import Any

from bandlimit.attacks.adaptive.base import AdaptiveAttack
from bandlimit.attacks.adaptive.confident import ConfidentCarliniWagnerL2
from bandlimit.attacks.adaptive.gradient import EOTPGD, AdaptiveFGSM, AdaptivePGD
from bandlimit.attacks.adaptive.suites import AutoAttack, RandomNoise, Square
from bandlimit.errors import UserError, suggest

KINDS: dict[str, type[AdaptiveAttack]] = {
    kind.name: kind
    for kind in (
        EOTPGD,
        RandomNoise,
        Square,
        AutoAttack,
        ConfidentCarliniWagnerL2,
        AdaptiveFGSM,
        AdaptivePGD,
    )
}
"""All kinds of adaptive attacks by name."""


def create_adaptive(kind: str, **parameters: Any) -> AdaptiveAttack:
    """Return the attack of this kind with these hyper-parameters, the others at their defaults.

    Raises:
        UserError: there is no such kind or hyper-parameter, or a value is not allowed.
    """
    if kind not in KINDS:
        raise UserError(f"There is no adaptive attack {kind!r}; {suggest(kind, KINDS)}.")
    known = KINDS[kind].__dataclass_fields__
    for parameter in parameters:
        if parameter not in known:
            raise UserError(
                f"The attack {kind!r} has no parameter {parameter!r}; {suggest(parameter, known)}."
            )
    return KINDS[kind](**parameters)
