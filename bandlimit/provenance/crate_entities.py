"""A run in the terms of the Provenance Run Crate profile: actions, steps, tools, files, software.

The profile's authors keep eleven questions that a crate shall answer. What answers them, besides
what the profile demands: times and resources of the jobs, the configuration and the environment,
what the scripts wrap, and the connections of parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from bandlimit.errors import UserError
from bandlimit.provenance import crate_files, crate_flow, crate_measures
from bandlimit.provenance.crate_flow import Connection
from bandlimit.provenance.crate_graph import Graph
from bandlimit.provenance.crate_run import CITATION, WORKFLOW, Job, Run
from bandlimit.provenance.crate_terms import (
    APPTAINER_IMAGE,
    LIBRARY,
    PROFILES,
    USAGE,
    kind,
    label,
    package,
    packages,
    ref,
    refs,
    slug,
)

COMPLETED = "http://schema.org/CompletedActionStatus"


def build(run: Run) -> Any:
    """Return the crate of a run, ready to be written."""
    return _Builder(run).build()


class _Builder:
    """What was planned and what happened, in an order that the run alone decides."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._graph = Graph(run)

    def build(self) -> Any:
        run, graph = self._run, self._graph
        self._about()
        self._software()
        artifacts = [part for name in run.targets for part in graph.parts(name)]
        flow = crate_flow.connections(run.jobs, run.outside, artifacts, graph.parts)
        for connection in flow:
            self._connect(connection)
        steps = self._steps(flow)
        actions = [self._action(job) for job in run.jobs]
        controls = [
            graph.add(
                f"#control/{slug(job)}",
                "ControlAction",
                name=f"Start of {label(job)}",
                instrument=ref(steps[job.rule]["@id"]),
                object=ref(action["@id"]),
                actionStatus=COMPLETED,
            )
            for job, action in zip(run.jobs, actions, strict=True)
        ]
        configuration = self._configuration()
        # Snakemake takes a profile of this name by itself.
        profile = [graph.id(n) for n in run.project if n == "profiles/default/config.yaml"]
        inputs = [graph.id(name) for name in run.outside]
        made = [graph.id(name) for name in artifacts]
        for identifier, name, those in (
            (crate_flow.CONFIGURATION, "configuration", configuration),
            (crate_flow.PROFILE, "profile", profile),
            (crate_flow.INPUTS, "inputs", inputs),
            (crate_flow.ARTIFACTS, "artifacts", made),
        ):
            graph.parameter(identifier, name, "File", many=True)
            for each in those:
                graph.roles.setdefault(each, set()).add(identifier)
        whole = graph.add(
            "#run",
            "CreateAction",
            name="The run of the workflow",
            description="All jobs that led to the final artifacts, from the first to the last.",
            instrument=ref(WORKFLOW),
            object=refs([*configuration, *profile, *inputs]),
            result=refs(made),
            actionStatus=COMPLETED,
            **self._span(),
        )
        engine = graph.add(
            "#engine-run",
            "OrganizeAction",
            name="What Snakemake did",
            instrument=refs(
                package(*pair) for pair in sorted(packages(run.jobs)) if pair[0] == "snakemake"
            ),
            # The profile would have the configuration here too, and the validator refuses it.
            object=refs(control["@id"] for control in controls),
            result=ref(whole["@id"]),
            actionStatus=COMPLETED,
            **self._span(),
        )
        mentions = [whole, engine, *actions, *controls]
        graph.crate.root_dataset["mentions"] = refs(entity["@id"] for entity in mentions)
        self._workflow(steps, flow)
        crate_files.add(graph)
        return graph.crate

    def _about(self) -> None:
        """Say what the crate is, and whose."""
        citation = self._run.citation
        root = self._graph.crate.root_dataset
        try:
            root["name"] = f"A run of {citation['title']} {citation['version']}"
            root["description"] = " ".join(str(citation["abstract"]).split())
            # Not when the crate was made: the date is that of the version.
            root["datePublished"] = str(citation["date-released"])
            licence, authors = str(citation["license"]), citation["authors"]
        except KeyError as error:
            raise UserError(
                f"The file {CITATION!r} has no {error.args[0]!r}, which a crate needs."
            ) from error
        root["license"] = self._graph.licence(licence)
        people = []
        for number, author in enumerate(authors, 1):
            whole = " ".join(str(author[k]) for k in ("given-names", "family-names") if k in author)
            group = "Organization" if "name" in author else "Person"
            identifier = str(author.get("orcid", f"#author/{number}"))
            people.append(
                self._graph.add(identifier, group, name=str(author.get("name", whole)))["@id"]
            )
        root["author"] = refs(people)
        for identifier, name in PROFILES.items():
            version = identifier.rpartition("/")[2]
            self._graph.add(identifier, "CreativeWork", name=name, version=version)
        root["conformsTo"] = refs(PROFILES)

    def _steps(self, flow: Sequence[Connection]) -> dict[str, dict[str, Any]]:
        """Return the step of each rule; its position is when its first job can run."""
        rules: dict[str, list[Job]] = {}
        for job in self._run.jobs:
            rules.setdefault(job.rule, []).append(job)
        return {
            rule: self._graph.add(
                f"#step/{quote(rule)}",
                "HowToStep",
                name=rule,
                position=str(number),
                workExample=ref(quote(jobs[0].script)),
                buildInstructions=refs(
                    self._graph.id(name) for name in self._run.environment(jobs)
                ),
                connection=refs(_connection(each) for each in flow if each.rule == rule),
            )
            for number, (rule, jobs) in enumerate(rules.items(), 1)
        }

    def _connect(self, connection: Connection) -> None:
        self._graph.add(
            _connection(connection),
            "ParameterConnection",
            sourceParameter=ref(connection.source),
            targetParameter=ref(connection.target),
        )

    def _configuration(self) -> list[str]:
        """Return what the run was told: its configuration files, and what was set besides."""
        found = []
        for job in self._run.jobs:
            for given in job.proof["config"]:
                if isinstance(given, str):
                    found.append(self._graph.id(given))
                else:
                    # An overlay from elsewhere: its certificate holds what it says.
                    found.append(self._setting(given["name"], given["values"]))
            for name, value in sorted(job.proof["overrides"].items()):
                found.append(self._setting(name, value))
        return list(dict.fromkeys(found))

    def _setting(self, name: str, value: Any) -> str:
        text = _text(value)
        identifier = f"#setting/{quote(name, safe='')}/{_short(text)}"
        self._graph.add(
            identifier,
            "PropertyValue",
            name=name,
            value=text,
            exampleOfWork=ref(crate_flow.CONFIGURATION),
        )
        return identifier

    def _span(self) -> dict[str, str]:
        """Return when the first job began and the last one ended, where that was measured."""
        spans = [job.measures for job in self._run.jobs if job.measures is not None]
        if not spans:
            return {}
        return {
            "startTime": crate_measures.when(min(span.start for span in spans)),
            "endTime": crate_measures.when(max(span.end for span in spans)),
        }

    def _software(self) -> None:
        """Add the packages that jobs ran with, and the library that the scripts wrap."""
        run = self._run
        for name, version in sorted(packages(run.jobs)):
            self._graph.add(
                package(name, version), "SoftwareApplication", name=name, version=version
            )
        self._graph.add(
            LIBRARY,
            "SoftwareApplication",
            name="bandlimit",
            version=str(run.citation["version"]),
            hasPart=refs(quote(name) for name in run.project if name.startswith("bandlimit/")),
        )

    def _action(self, job: Job) -> dict[str, Any]:
        """Return one job: what it ran, read and wrote, with the parameters it was given."""
        proof, rule = job.proof, quote(job.rule, safe="")
        given = {**proof["params"], "device": proof["device"], "commit": proof["commit"]}
        values = []
        for name, value in sorted(given.items()):
            role = self._graph.parameter(crate_flow.parameter(job.rule, name), name, kind(value))
            text = _text(value)
            identifier = f"#value/{rule}/{quote(name, safe='')}/{_short(text)}"
            self._graph.add(
                identifier, "PropertyValue", name=name, value=text, exampleOfWork=ref(role["@id"])
            )
            values.append(identifier)
        for slot in ("reads", "writes"):
            for keyword, names in job.files(slot).items():
                self._graph.role(job, slot, keyword, names)
        read = [part for name in proof["inputs"] for part in self._graph.parts(name)]
        return self._graph.add(
            f"#job/{slug(job)}",
            "CreateAction",
            name=label(job),
            description=f"One job of the rule {job.rule!r}, on {proof['device']}.",
            instrument=ref(quote(job.script)),
            object=refs([*(self._graph.id(name) for name in read), *values]),
            result=refs(self._graph.id(name) for name in job.outputs),
            actionStatus=COMPLETED,
            **self._contained(job),
            **self._measured(job),
        )

    def _contained(self, job: Job) -> dict[str, Any]:
        """Return the image that a job ran in, if any."""
        image = job.proof.get("container")
        if not image:
            return {}
        name, built = str(image["name"]), image.get("id")
        identifier = f"#image/{quote(str(built or name), safe='')}"
        self._graph.add(
            identifier,
            "ContainerImage",
            additionalType=ref(APPTAINER_IMAGE),
            name=name,
            **({"identifier": f"urn:uuid:{built}"} if built else {}),
        )
        return {"containerImage": ref(identifier)}

    def _measured(self, job: Job) -> dict[str, Any]:
        """Return when a job ran, and what it took."""
        if job.measures is None:
            return {}
        used = []
        for column, value in job.measures.usage.items():
            name, unit = crate_measures.QUANTITIES[column]
            used.append(f"{USAGE}{slug(job)}/{column}")
            self._graph.add(
                used[-1],
                "PropertyValue",
                name=name,
                propertyID=crate_measures.DEFINED + column,
                unitCode=unit,
                value=value,
            )
        return {
            "startTime": crate_measures.when(job.measures.start),
            "endTime": crate_measures.when(job.measures.end),
            "resourceUsage": refs(used),
        }

    def _workflow(self, steps: Mapping[str, Mapping[str, Any]], flow: Sequence[Connection]) -> None:
        run = self._run
        properties = {
            **crate_files.facts(
                self._graph, WORKFLOW, run.project[WORKFLOW], (run.home / WORKFLOW).stat().st_size
            ),
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": str(run.citation["title"]),
            "version": str(run.citation["version"]),
            "license": self._graph.crate.root_dataset.as_jsonld()["license"],
            "conformsTo": ref("https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"),
            "step": refs(step["@id"] for step in steps.values()),
            "hasPart": refs(quote(job.script) for job in run.jobs),
            "input": refs([crate_flow.CONFIGURATION, crate_flow.PROFILE, crate_flow.INPUTS]),
            "output": ref(crate_flow.ARTIFACTS),
            "buildInstructions": refs(
                self._graph.id(name) for name in self._run.environment(run.jobs)
            ),
            "connection": refs(_connection(each) for each in flow if each.rule is None),
        }
        self._graph.crate.add_workflow(
            run.home / WORKFLOW, WORKFLOW, properties=properties, main=True, lang="snakemake"
        )


def _connection(connection: Connection) -> str:
    """Return the identifier of a connection."""
    source, target = (i.removeprefix("#parameter/") for i in connection[1:])
    return f"#connection/{source}/to/{target}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(text: str) -> str:
    """Return enough of a digest to tell values apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
