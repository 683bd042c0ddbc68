"""A defence as configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config.schema import member
from bandlimit.defenses.kinds import FILTERS, PARAMETERS, REQUIRED, SOURCES, TRANSFORMS
from bandlimit.errors import UserError, suggest
from bandlimit.files import own_code


@dataclass(frozen=True)
class DefenseEntry:
    """A defence by name: its kind and what the configuration says of it."""

    name: str
    kind: str
    parameters: Mapping[str, Any]

    @property
    def random(self) -> bool:
        """Whether its output differs from call to call."""
        if self.kind == "post_averaging":
            return bool(self.parameters.get("draws") != "fixed")
        return self.kind == "noise" or bool(self.parameters.get("random"))

    def belongs(self, group: str) -> bool:
        """Return whether it is one of those that a word of `GROUPS` stands for."""
        if self.kind in SOURCES:
            return False
        if group == "transforms":
            return self.kind in TRANSFORMS
        if group == "filters":
            return self.kind in FILTERS
        return self.random == (group == "random")

    @property
    def code(self) -> dict[str, str]:
        """The sha256 of each file of the user's own that it consists of or reads, if it is code."""
        if self.kind != "python":
            return {}
        return _files(self.name, self.parameters)


def _files(name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of the files of code of the user's own, and of those that it reads."""
    place, more = f"defenses.{name}.source", parameters.get("files", ())
    return own_code.files(parameters["source"], place, more)


def resolve(name: str, entry: Mapping[str, Any], models: Mapping[str, Any]) -> DefenseEntry:
    """Return a defence as configured.

    Args:
        name: in the configuration.
        entry: its kind and parameters, checked by the schema.
        models: all models by name.

    Raises:
        UserError: a parameter is not one of its kind, is missing, or names no model.
    """
    parameters = {key: value for key, value in entry.items() if key != "kind"}
    check_parameters(f"defenses.{name}", entry["kind"], parameters, PARAMETERS)
    if name == "undefended" and entry["kind"] != "undefended":
        raise UserError(
            f"defenses.{name} is of the kind {entry['kind']!r}; this name is for the network "
            "without a defence, of the kind 'undefended'."
        )
    for key in sorted(REQUIRED.get(entry["kind"], frozenset()) - set(parameters)):
        raise UserError(f"defenses.{name} is of the kind {entry['kind']!r}, which needs {key!r}.")
    if "source" in parameters:
        _files(name, parameters)
    if "model" in parameters:
        member(parameters["model"], models, "models", f"defenses.{name}.model")
    return DefenseEntry(name=name, kind=entry["kind"], parameters=parameters)


def check_parameters(
    place: str,
    kind: str,
    parameters: Mapping[str, Any],
    known: Mapping[str, frozenset[str]],
) -> None:
    """Check that parameters are those of a kind.

    Raises:
        UserError: one is not.
    """
    for key in parameters:
        if key not in known[kind]:
            raise UserError(
                f"{place} is of the kind {kind!r}, which has no {key!r}; "
                f"{suggest(key, known[kind])}."
            )
