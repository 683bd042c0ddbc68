"""Make a defence from its kind and parameters, as a configuration gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bandlimit.defenses.base import Defense, DrawName
from bandlimit.defenses.kinds import PARAMETERS, REQUIRED
from bandlimit.defenses.own import OwnDefense
from bandlimit.defenses.post_averaging import post_averaging
from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.defenses.transforms import (
    JPEG,
    Flip,
    LowPass,
    Noise,
    OtherModel,
    Rounding,
    Shift,
    Undefended,
)
from bandlimit.errors import UserError, suggest

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

PLAIN: dict[str, type[Defense]] = {
    "undefended": Undefended,
    "low_pass": LowPass,
    "smoothed_kernels": SmoothedKernels,
    "rounding": Rounding,
    "flip": Flip,
    "shift": Shift,
    "jpeg": JPEG,
}
"""Kinds that take a classifier and their own parameters."""


def create(
    kind: str,
    classifier: Classifier,
    *,
    name: DrawName,
    radius: float,
    directions: int,
    other: Classifier | None = None,
    **parameters: Any,
) -> Defense:
    """Return a defence of a classifier.

    Args:
        kind: one of `kinds.PARAMETERS`.
        classifier: pixels in [0, 1] -> logits.
        name: seed and purpose of its draws. Whoever attacks must give another purpose than whoever
            judges, or the attack knows the draws; fixed directions are the same for both.
        radius: of post-averaging and noise, L2 in standardised space; other kinds ignore it.
        directions: K of post-averaging; other kinds ignore it.
        other: the classifier of the kind 'other_model', whose parameter `model` names it.
        **parameters: further parameters of the kind. A configured defence that states
            radius or directions itself is made by
            `create(..., **{"radius": r, "directions": k, **entry})`.

    Raises:
        UserError: the kind, a parameter or its value is not among the allowed ones, or a parameter
            without a default is missing.
        ValueError: the kind is 'other_model', and no `other` is given.
    """
    if kind not in PARAMETERS:
        raise UserError(f"There is no defence {kind!r}; {suggest(kind, PARAMETERS)}.")
    # Which code it was planned with is no parameter, but what a job checks.
    known = PARAMETERS[kind] | (frozenset({"own_code"}) if kind == "python" else frozenset())
    for parameter in parameters:
        if parameter not in known:
            raise UserError(
                f"The defence {kind!r} has no parameter {parameter!r}; "
                f"{suggest(parameter, PARAMETERS[kind])}."
            )
    if kind == "other_model":
        if other is None:
            raise ValueError("the defence 'other_model' needs the classifier `other`")
        return OtherModel(classifier, other)
    missing = sorted(REQUIRED.get(kind, frozenset()) - set(parameters))
    if missing:
        raise UserError(f"The defence {kind!r} needs the parameter {missing[0]!r}.")
    if kind == "python":
        return OwnDefense(classifier, name=name, **parameters)
    if kind == "post_averaging":
        return post_averaging(
            classifier, radius=radius, directions=directions, name=name, **parameters
        )
    if kind == "noise":
        return Noise(classifier, radius=radius, name=name)
    return PLAIN[kind](classifier, **parameters)
