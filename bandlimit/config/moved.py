"""Keys of older configuration files: where each of them is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandlimit.errors import UserError

SHARED = ("dataset", "model", "attacks", "document", "stand_in", "shards")
"""Keys of an experiment that all studies share."""


def check(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that is written as it was before experiments were shared.

    Raises:
        UserError: it is; one sentence says what moved where.
    """
    section = config.get("bandlimiting")
    if not isinstance(section, Mapping):
        return
    if "epsilon" in section:
        raise UserError(
            "The key 'epsilon' of bandlimiting has moved: each experiment has its own, "
            "experiments.NAME.epsilon."
        )
    if isinstance(section.get("experiments"), list):
        raise UserError(
            "bandlimiting.experiments is a list, as it was before experiments were shared by "
            f"studies: of each entry {', '.join(SHARED)} have moved to experiments.NAME, "
            "'robustness' to robustness.experiments.NAME, and the rest to "
            "bandlimiting.experiments.NAME; 'only: [NAME]' at the top runs these experiments alone."
        )
    entries = section.get("experiments")
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        for key in entry if isinstance(entry, Mapping) else ():
            if key in SHARED or key == "robustness":
                place = (
                    f"experiments.{name}.{key}" if key in SHARED else f"{key}.experiments.{name}"
                )
                raise UserError(
                    f"The key {key!r} of bandlimiting.experiments.{name} has moved: it is "
                    f"{place} at the top of the configuration."
                )
