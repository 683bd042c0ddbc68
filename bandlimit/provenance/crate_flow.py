"""How parameters flow through a run: from what it was given, from job to job, to the artifacts.

A connection leads from a parameter of the workflow, or an output of a rule, to a parameter of
another rule or of the workflow. Jobs of a rule share its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import quote

from bandlimit.provenance.crate_run import Job

CONFIGURATION = "#parameter/workflow/configuration"
PROFILE = "#parameter/workflow/profile"
INPUTS = "#parameter/workflow/inputs"
ARTIFACTS = "#parameter/workflow/artifacts"
"""Parameters of the workflow: what it and its engine are told, what it reads and makes."""


class Connection(NamedTuple):
    """One way of a value: identifiers of two parameters, and the rule that receives it.

    The rule is None where the value leaves the workflow.
    """

    rule: str | None
    source: str
    target: str


def parameter(rule: str, name: str = "", slot: str = "") -> str:
    """Return the identifier of a rule's parameter; `slot` is 'reads' or 'writes' for files.

    Without a name it is what those of all parameters of the rule begin with.
    """
    return "#parameter/" + "/".join(quote(part, safe="") for part in (rule, slot, name) if part)


def connections(
    jobs: Iterable[Job],
    outside: Iterable[str],
    artifacts: Iterable[str],
    parts: Callable[[str], list[str]],
) -> list[Connection]:
    """Return the connections of a run, each once, in an order that the run alone decides.

    Args:
        jobs: the jobs of the run.
        outside: files that the run was given.
        artifacts: its final files.
        parts: returns a file itself, or the files of a folder.
    """
    jobs = list(jobs)
    sources = dict.fromkeys(outside, INPUTS)
    for job in jobs:
        for keyword, names in job.files("writes").items():
            source = parameter(job.rule, keyword, "writes")
            sources |= {part: source for name in names for part in parts(name)}
    found = []
    for job in jobs:
        # What identifies a job is taken from the configuration alone.
        for name in sorted(job.proof["params"]):
            found.append(Connection(job.rule, CONFIGURATION, parameter(job.rule, name)))
        for keyword, names in job.files("reads").items():
            target = parameter(job.rule, keyword, "reads")
            read = [part for name in names for part in parts(name)]
            found += [
                Connection(job.rule, sources[part], target) for part in read if part in sources
            ]
    made = [part for name in artifacts for part in parts(name) if part in sources]
    found += [Connection(None, sources[part], ARTIFACTS) for part in made]
    return list(dict.fromkeys(found))
