"""Attacks on a model, by name."""

from __future__ import annotations

from bandlimit.attacks.base import Attack
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.attacks.minimal import (
    CarliniWagnerL2,
    DeepFoolL2,
    DeepFoolLinf,
    FGSMMinimal,
    PGDMinimal,
)

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
"""All attacks on a model, by name."""
