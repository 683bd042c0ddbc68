"""The words of a research object: profiles, terms, media types, and how things are named."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from bandlimit.provenance.crate_run import Job

RO_CRATE = "1.1"
WORKFLOW_RO_CRATE = "1.0"
PROFILE = "0.5"
"""Version of the Workflow Run Crate profiles, which is on RO-Crate 1.1; 0.6 moves to 1.3."""

PROFILES = {
    f"https://w3id.org/ro/wfrun/process/{PROFILE}": "Process Run Crate",
    f"https://w3id.org/ro/wfrun/workflow/{PROFILE}": "Workflow Run Crate",
    f"https://w3id.org/ro/wfrun/provenance/{PROFILE}": "Provenance Run Crate",
    f"https://w3id.org/workflowhub/workflow-ro-crate/{WORKFLOW_RO_CRATE}": "Workflow RO-Crate",
}

_RUN = "https://w3id.org/ro/terms/workflow-run#"
TERMS = {
    "sha256": f"{_RUN}sha256",
    "resourceUsage": f"{_RUN}resourceUsage",
    "ParameterConnection": f"{_RUN}ParameterConnection",
    "connection": f"{_RUN}connection",
    "sourceParameter": f"{_RUN}sourceParameter",
    "targetParameter": f"{_RUN}targetParameter",
    "ContainerImage": f"{_RUN}ContainerImage",
    "containerImage": f"{_RUN}containerImage",
    "buildInstructions": "https://codemeta.github.io/terms/buildInstructions",
}
"""What the profiles add to the context of RO-Crate 1.1, as far as it is used here."""

TYPES = {
    ".cff": "application/yaml",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "text/x-tex",
    ".yaml": "application/yaml",
}
"""Media types of what lies in a crate; the system's own list differs between machines."""

CONDA = (
    "https://conda.io/projects/conda/en/latest/user-guide/tasks/"
    "manage-environments.html#create-env-file-manually"
)
PIP = "https://pip.pypa.io/en/stable/reference/requirements-file-format/"
FORMATS = {CONDA: "Conda environment file", PIP: "Requirements file of pip"}
"""Formats of the files that an environment is built from."""

APPTAINER_IMAGE = f"{_RUN}SIFImage"
LIBRARY = "#library"
USAGE = "#usage/"
"""What the entities of measured resources begin with."""

Reference = dict[str, str]


def package(name: str, version: str) -> str:
    """Return the package URL of an installed package: a name for it that tools agree on."""
    return f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{quote(version)}"


def packages(jobs: Iterable[Job]) -> set[tuple[str, str]]:
    """Return name and version of the packages that jobs ran with."""
    return {pair for job in jobs for pair in job.proof["versions"].items()}


def name_of(sha256: str) -> str:
    """Return the name of what has this sha256, after RFC 6920."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{digest}"


def slug(job: Job) -> str:
    """Return what identifies a job, as part of an identifier."""
    parts = [job.rule, *(f"{key}={value}" for key, value in sorted(job.wildcards.items()))]
    return "/".join(quote(part, safe="=") for part in parts)


def label(job: Job) -> str:
    """Return what a job is called."""
    parts = ", ".join(f"{key} {value}" for key, value in sorted(job.wildcards.items()))
    return f"{job.rule} ({parts})" if parts else job.rule


def kind(value: Any) -> str:
    """Return the type of a parameter's value; lists and mappings are JSON text."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    return "Float" if isinstance(value, float) else "Text"


def ref(identifier: str) -> Reference:
    """Return a reference to an entity."""
    return {"@id": identifier}


def refs(identifiers: Iterable[str]) -> Any:
    """Return references to entities, each once, in the order given; of one, itself."""
    return compact([ref(identifier) for identifier in dict.fromkeys(identifiers)])


def compact(values: list[Any]) -> Any:
    """Return values as JSON-LD has them: of one, itself."""
    return values[0] if len(values) == 1 else values
