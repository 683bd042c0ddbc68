"""Adaptive attacks by the names of their kinds."""

from __future__ import annotations

from bandlimit.attacks.adaptive.base import AdaptiveAttack
from bandlimit.attacks.adaptive.confident import ConfidentCarliniWagnerL2
from bandlimit.attacks.adaptive.gradient import EOTPGD, AdaptiveFGSM, AdaptivePGD
from bandlimit.attacks.adaptive.suites import AutoAttack, RandomNoise, Square

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
"""All kinds of attack on a defence, by name."""
