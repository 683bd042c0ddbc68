"""Whether a network knows its images at all: accuracy on clean images against chance.

Where it does not, labels, preprocessing or weights are wrong, and no number of it says anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from bandlimit.files import store
from bandlimit.statistics import wilson

Network = tuple[str, str]
"""Names of a dataset and a model."""


@dataclass(frozen=True)
class Clean:
    """What a network without a defence says of clean images.

    Attributes:
        right: how many it classifies correctly.
        images: of how many.
        classes: it knows; chance is right on one of so many.
    """

    right: int
    images: int
    classes: int

    @property
    def accuracy(self) -> float:
        """Share classified correctly."""
        return self.right / self.images

    @property
    def chance(self) -> float:
        """Share that guesses are right on."""
        return 1 / self.classes

    @property
    def above(self) -> bool:
        """Whether the 95% interval of accuracy lies above chance."""
        low, _ = wilson(self.right, self.images)
        return low is not None and low > self.chance

    def text(self) -> str:
        """Return the numbers in words."""
        low, high = wilson(self.right, self.images)
        return (
            f"{self.accuracy:.3f} [{low:.3f}, {high:.3f}] on {self.images} clean images, where "
            f"guesses are right on {self.chance:.3g}"
        )


def clean(names: Sequence[Mapping[str, Any]], files: Sequence[str]) -> dict[Network, Clean]:
    """Return what each network says of its clean images.

    Args:
        names: dataset, model and classes of each file.
        files: evaluations without a defence, several of one network being of different images.
    """
    found: dict[Network, Clean] = {}
    for name, path in zip(names, files, strict=True):
        network = (name["dataset"], name["model"])
        before = found.get(network, Clean(0, 0, name["classes"]))
        right, images = before.right, before.images
        for batch in store.batches(path, store.TAKEN_AT_ONCE, ["correct"]):
            right += pc.sum(batch["correct"], min_count=0).as_py()
            images += len(batch)
        found[network] = Clean(right, images, name["classes"])
    return {network: one for network, one in found.items() if one.images}


def alarms(found: Mapping[Network, Clean]) -> list[str]:
    """Return a sentence for each network that is not above chance."""
    return [
        f"No number of {model} on {dataset} says anything: its accuracy is {one.text()}, so that "
        "labels, preprocessing or weights are wrong."
        for (dataset, model), one in found.items()
        if not one.above
    ]
