"""The graph of a research object as it is made: its entities, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from bandlimit.provenance import crate_flow
from bandlimit.provenance.crate_run import Job, Run
from bandlimit.provenance.crate_terms import RO_CRATE, TERMS, name_of, ref


class Graph:
    """The entities of a crate, with names that the run alone decides.

    Attributes:
        run: the run that they describe.
        crate: the crate of the `rocrate` package.
        parameters: identifiers of all parameters.
        roles: identifiers of the parameters that a file is an example of, by its identifier.
    """

    def __init__(self, run: Run) -> None:
        # Heavy, and only here: checking a crate does without.
        from rocrate.rocrate import ROCrate

        self.run = run
        self.crate = ROCrate(version=RO_CRATE)
        self.crate.metadata.extra_terms.update(TERMS)
        self.parameters: set[str] = set()
        self.roles: dict[str, set[str]] = {}
        self._ids = {n: self._identifier(n) for n in [*run.files, *run.outside, *run.project]}

    def add(self, identifier: str, kind: str, /, **properties: Any) -> dict[str, Any]:
        """Add an entity, without the properties that say nothing, and return it."""
        from rocrate.model import ContextEntity

        kept = {key: value for key, value in properties.items() if value not in (None, [])}
        entity = ContextEntity(self.crate, identifier, properties={"@type": kind, **kept})
        self.crate.add(entity)
        return dict(entity.as_jsonld())

    def id(self, name: str) -> str:
        """Return the identifier of a file."""
        return self._ids[name]

    def _identifier(self, name: str) -> str:
        """Return the identifier of a file: its place in the crate, or what it holds."""
        run = self.run
        if name in run.project or name in run.inside:
            return quote(name)
        entry = run.files.get(name) or run.outside[name]
        # That of a folder is of the list of its files.
        return name_of(entry["sha256"])

    def parts(self, name: str) -> list[str]:
        """Return a file, or the files of a folder of the results."""
        if name in self._ids:
            return [name]
        return [part for part in self.run.files if part.startswith(f"{name}/")]

    def licence(self, text: str) -> Any:
        """Return a licence: the entity of one that SPDX names, else the words themselves."""
        if not re.fullmatch(r"[A-Za-z0-9.+-]+", text):
            return text
        identifier = f"https://spdx.org/licenses/{text}"
        self.add(identifier, "CreativeWork", name=text, url=identifier)
        return ref(identifier)

    def parameter(
        self, identifier: str, name: str, kind: str, *, many: bool = False
    ) -> dict[str, Any]:
        """Add a parameter of the workflow or of a rule, and return it."""
        self.parameters.add(identifier)
        return self.add(
            identifier,
            "FormalParameter",
            name=name,
            additionalType=kind,
            multipleValues="True" if many else None,
            conformsTo=ref("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
        )

    def role(self, job: Job, slot: str, keyword: str, names: Sequence[str]) -> None:
        """Say of files as what a rule reads or writes them."""
        if not names:
            return
        identifier = crate_flow.parameter(job.rule, keyword, slot)
        self.parameter(identifier, keyword, "File", many=len(names) != 1)
        for name in names:
            for part in self.parts(name):
                self.roles.setdefault(self.id(part), set()).add(identifier)
