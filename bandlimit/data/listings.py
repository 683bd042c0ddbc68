"""Checks of the images of a source before any is decoded.

Imports nothing heavy, since every start of the workflow looks at the user's own data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from bandlimit.errors import UserError


def check(
    name: str,
    image_ids: Sequence[str],
    labels: Sequence[int],
    splits: Sequence[str],
    *,
    classes: int | None,
    images: Mapping[str, int],
    split: str | None,
) -> None:
    """Check that a dataset has images, each with a name of its own and an allowed label.

    Args:
        name: of the dataset.
        image_ids: of each image.
        labels: of each image.
        splits: of each image.
        classes: labels lie in 0..classes-1; None allows any from 0 on.
        images: how many images each split must have, where that is known.
        split: the split that was taken; None for all.

    Raises:
        UserError: it does not, or a split has more or fewer images.
    """
    if not image_ids:
        where = "" if split is None else f" in the split {split!r}"
        raise UserError(f"The dataset {name!r} has no image{where}.")
    image_id, times = Counter(image_ids).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"The image_id {image_id!r} occurs {times} times in the dataset {name!r}, "
            "where each must be unique."
        )
    top = math.inf if classes is None else classes - 1
    for image_id, label in zip(image_ids, labels, strict=True):
        if not 0 <= label <= top:
            allowed = "0 or more" if classes is None else f"0..{top}"
            raise UserError(
                f"The label of the image {image_id!r} of the dataset {name!r} is {label}; "
                f"allowed: {allowed}."
            )
    found = Counter(splits)
    for part, wanted in images.items():
        if split in (None, part) and found[part] != wanted:
            raise UserError(
                f"The split {part!r} of the dataset {name!r} has {found[part]} images, "
                f"where {wanted} are stated: it is incomplete or another dataset."
            )
