"""An experiment as configured: a model attacked on a dataset, the ground that studies share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.attacks.kinds import FIXED
from bandlimit.config.schema import epsilon, epsilons
from bandlimit.errors import UserError


@dataclass(frozen=True)
class Experiment:
    """A model attacked on a dataset.

    Attributes:
        name: in the configuration.
        dataset: name of the dataset.
        model: name of the model.
        attacks: parameters of each attack on the model, by name.
        epsilon: l_inf bound in [0, 1] of the tables.
        shards: parts of the dataset, a job each.
        document: the document's data set that it is or stands in for, or None.
        stand_in: whether it only stands in for it.
    """

    name: str
    dataset: str
    model: str
    attacks: Mapping[str, Mapping[str, Any]]
    epsilon: float
    shards: int
    document: str | None
    stand_in: bool

    def shard_names(self) -> list[str]:
        """Return the names of the shards, '1of1' where the set is not cut."""
        return [f"{k}of{self.shards}" for k in range(1, self.shards + 1)]

    def inputs(self) -> list[str]:
        """Return the names of the input sets: the clean images and each attack."""
        return ["clean", *self.attacks]


def resolve(
    name: str, entry: Mapping[str, Any], attacks: Mapping[str, Mapping[str, Any] | None]
) -> Experiment:
    """Return an experiment as configured.

    Args:
        name: in the configuration.
        entry: what the configuration says of it, checked by its schema.
        attacks: parameters of the attacks where the experiment says nothing.

    Raises:
        UserError: an epsilon is not allowed, or an attack that spends one is given none.
    """
    place = f"experiments.{name}"
    found: dict[str, dict[str, Any]] = {}
    for attack, changes in entry["attacks"].items():
        parameters = {**(attacks.get(attack) or {}), **(changes or {})}
        if "epsilons" in parameters:
            own = "epsilons" in (changes or {})
            where = f"{place}.attacks.{attack}" if own else f"attacks.{attack}"
            parameters["epsilons"] = epsilons(parameters["epsilons"], f"{where}.epsilons")
        elif attack in FIXED:
            raise UserError(
                f"The attack {attack!r} of {place} needs 'epsilons', the l_inf bounds that it "
                f"spends, there or under attacks.{attack}; none are given."
            )
        found[attack] = parameters
    return Experiment(
        name=name,
        dataset=entry["dataset"],
        model=entry["model"],
        attacks=found,
        epsilon=epsilon(entry["epsilon"], f"{place}.epsilon"),
        shards=int(entry["shards"]),
        document=entry.get("document"),
        stand_in=entry["stand_in"],
    )
