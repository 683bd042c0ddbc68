"""The files of a research object: the project's own, the results, and what lies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bandlimit.config import registry
from bandlimit.provenance import crate_flow
from bandlimit.provenance.crate_graph import Graph
from bandlimit.provenance.crate_run import WORKFLOW, Job, Run, place
from bandlimit.provenance.crate_terms import (
    CONDA,
    FORMATS,
    LIBRARY,
    PIP,
    TYPES,
    compact,
    package,
    packages,
    ref,
    refs,
)

REGISTRIES = {
    "make_dataset": ("workflow/registry/datasets.csv", "source"),
    "convert_model": ("workflow/registry/models.csv", "model"),
}
"""Rules that bring in the work of others: their registry, and the parameter that names a row."""


def add(graph: Graph) -> None:
    """Add all files but the workflow's own; the roles of files must be known."""
    run = graph.run
    tools: dict[str, list[Job]] = {}
    for job in run.jobs:
        tools.setdefault(job.script, []).append(job)
    environment = run.environment(run.jobs)
    for identifier, name in FORMATS.items():
        graph.add(identifier, "WebPageElement", name=name, url=identifier)
    for name, sha256 in run.project.items():
        if name != WORKFLOW:
            path = run.home / name
            properties = facts(graph, name, sha256, path.stat().st_size)
            if name.endswith(".py"):
                properties |= {
                    "@type": ["File", "SoftwareSourceCode"],
                    "version": str(run.citation["version"]),
                    "programmingLanguage": "Python",
                }
            if name == "README.md":
                properties["about"] = ref("./")
            if name in environment:
                properties["conformsTo"] = ref(CONDA if name.endswith(".yaml") else PIP)
            if name in tools:
                properties |= _tool(graph, name, tools[name])
            graph.crate.add_file(path, name, properties=properties)
    works = _works(graph)
    named: dict[str, Any] = {}
    for name, entry in sorted({**run.files, **run.outside}.items()):
        properties = facts(graph, name, entry["sha256"], entry["bytes"])
        properties |= works.get(name, {})
        if name in run.inside:
            graph.crate.add_file(place(run.results, name), name, properties=properties)
        elif graph.id(name) in named:
            # What holds the same is one entity.
            named[graph.id(name)].append_to("alternateName", name, compact=True)
        else:
            named[graph.id(name)] = _named(graph, name, properties)


def facts(graph: Graph, name: str, sha256: str, size: int) -> dict[str, Any]:
    """Return the properties that all files have; a size is in bytes."""
    other = "text/plain" if name in graph.run.project else "application/octet-stream"
    roles = sorted(graph.roles.get(graph.id(name), ()))
    found = {
        "name": name,
        "sha256": sha256,
        "contentSize": str(size),
        "encodingFormat": TYPES.get(Path(name).suffix, other),
        "exampleOfWork": refs(roles),
    }
    return {key: value for key, value in found.items() if value}


def _named(graph: Graph, name: str, properties: dict[str, Any]) -> Any:
    """Add a file or folder that does not lie in the crate, and return its entity."""
    from rocrate.model import DataEntity

    kind = "File"
    if name in graph.run.outside and (graph.run.home / name).is_dir():
        # Its hash is of the list of its files.
        kind, properties["identifier"] = "Dataset", properties.pop("sha256")
    properties = {"@type": kind, **properties}
    return graph.crate.add(DataEntity(graph.crate, graph.id(name), properties=properties))


def _tool(graph: Graph, name: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what a script is made of: what it wraps, its packages and its parameters."""
    code = {part for job in jobs for part in job.proof["code"]} - {name}
    prefixes = tuple(f"{crate_flow.parameter(rule)}/" for rule in {job.rule for job in jobs})
    known = sorted(i for i in graph.parameters if i.startswith(prefixes))
    written = tuple(f"{prefix}writes/" for prefix in prefixes)
    needs = [package(*pair) for pair in sorted(packages(jobs))]
    found = {
        "@type": ["File", "SoftwareSourceCode", "SoftwareApplication"],
        "hasPart": refs(quote(part) for part in sorted(code)),
        "softwareRequirements": refs(needs),
        "input": refs(i for i in known if not i.startswith(written)),
        "output": refs(i for i in known if i.startswith(written)),
    }
    if any(part.startswith("bandlimit/") for part in code):
        # A script only calls the library.
        found["softwareRequirements"] = refs([LIBRARY, *needs])
        found["mainEntity"] = ref(LIBRARY)
    return found


def _works(graph: Graph) -> dict[str, dict[str, Any]]:
    """Return of each file that holds others' work what the registry says of that work."""
    found: dict[str, dict[str, Any]] = {}
    for job in graph.run.jobs:
        if job.rule not in REGISTRIES:
            continue
        register, key = REGISTRIES[job.rule]
        given = {**job.proof["params"], **job.wildcards}
        row = _row(graph.run, register, str(given.get(key)))
        if row is None:
            continue
        licence = graph.licence(row["licence"])
        work = graph.add(
            f"#work/{Path(register).stem}/{quote(row['name'])}",
            "CreativeWork",
            name=row["name"],
            citation=row["reference"],
            license=licence,
            url=compact([url for url in row["urls"].split() if "://" in url]),
        )
        said = {"isBasedOn": ref(work["@id"]), "license": licence}
        read = [part for name in job.proof["inputs"] for part in graph.parts(name)]
        found |= {name: said for name in [*job.outputs, *read]}
    return found


def _row(run: Run, name: str, entry: str) -> dict[str, str] | None:
    """Return an entry of a registry of the project, where it has one."""
    return registry.read(run.home / name).get(entry) if name in run.project else None
