"""Eleven questions that the authors of the Workflow Run Crate profiles keep, asked in SPARQL.

https://github.com/ResearchObject/workflow-run-crate/tree/main/docs/sparql has theirs; the terms
that an answer must use are the same here.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

import rdflib

BASE = "https://example.org/crate/"
"""Where the crate is said to lie, so that its relative identifiers mean something."""

PREFIXES = """
PREFIX s: <http://schema.org/>
PREFIX b: <https://bioschemas.org/>
PREFIX bw: <https://bioschemas.org/ComputationalWorkflow#>
PREFIX c: <https://codemeta.github.io/terms/>
PREFIX dct: <http://purl.org/dc/terms/>
PREFIX w: <https://w3id.org/ro/terms/workflow-run#>
"""

QUESTIONS = {
    # 1. Which container images did the run use?
    "containers": """SELECT ?action ?image WHERE {
        ?action a s:CreateAction ; w:containerImage ?image . }""",
    # 2. How much memory, processor and disk did it take?
    "resources": """SELECT ?action ?quantity ?unit ?value WHERE {
        ?action a s:CreateAction ; w:resourceUsage ?used .
        ?used a s:PropertyValue ; s:propertyID ?quantity ; s:value ?value .
        OPTIONAL { ?used s:unitCode ?unit } }""",
    # 3. Which configuration files was it given? The authors look among the objects of the engine's
    # action, where their validator lets none be; this looks where a tool's configuration stands.
    "configuration": """SELECT ?told WHERE {
        ?workflow a b:ComputationalWorkflow ; bw:input ?formal .
        ?action a s:CreateAction ; s:instrument ?workflow ; s:object ?told .
        ?told s:exampleOfWork ?formal .
        ?formal s:name ?name .
        FILTER (?name IN ("configuration", "profile")) }""",
    # 4. Which file is the environment of the workflow, and of a step, built from?
    "environment": """SELECT ?of ?file ?format ?profile WHERE {
        { ?of a s:HowTo, b:ComputationalWorkflow } UNION
        { ?workflow a s:HowTo, b:ComputationalWorkflow ; s:step ?of . ?of a s:HowToStep }
        ?of c:buildInstructions ?file .
        ?file a s:MediaObject .
        OPTIONAL { ?file s:encodingFormat ?format }
        OPTIONAL { ?file dct:conformsTo ?profile } }""",
    # 5. How long does a component take?
    "time of a step": """SELECT ?action ?start ?end WHERE {
        ?tool a s:SoftwareApplication .
        ?action a s:CreateAction ; s:instrument ?tool ; s:startTime ?start ; s:endTime ?end . }""",
    # 6. How long does the workflow take?
    "time of the run": """SELECT ?action ?start ?end WHERE {
        ?workflow a b:ComputationalWorkflow .
        ?action a s:CreateAction ; s:instrument ?workflow ;
            s:startTime ?start ; s:endTime ?end . }""",
    # 7. Was it successful?
    "success": """SELECT ?action ?status WHERE {
        ?action a s:CreateAction ; s:actionStatus ?status . }""",
    # 8. What went into the workflow, and what came out?
    "inputs": """SELECT ?file WHERE {
        ?workflow a b:ComputationalWorkflow .
        ?action a s:CreateAction ; s:instrument ?workflow ; s:object ?file . }""",
    "outputs": """SELECT ?file WHERE {
        ?workflow a b:ComputationalWorkflow .
        ?action a s:CreateAction ; s:instrument ?workflow ; s:result ?file . }""",
    # 9. Which version of a component was used?
    "versions": """SELECT ?name ?version WHERE {
        ?software a s:SoftwareApplication ; s:name ?name .
        OPTIONAL { ?software s:softwareVersion ?version }
        OPTIONAL { ?software s:version ?version } }""",
    # 10. What does a wrapper wrap, and what does it need?
    "requirements": """SELECT ?tool ?wrapped ?needed ?version WHERE {
        ?action a s:CreateAction ; s:instrument ?tool .
        ?tool a s:SoftwareApplication ; s:mainEntity ?wrapped ; s:softwareRequirements ?needed .
        ?needed s:version ?version . }""",
    # 11. How were parameters of the workflow used by its tools?
    # Types come last: rdflib would begin with all pairs of entities that have them.
    "flow": """SELECT ?given ?input ?parameter ?step WHERE {
        ?workflow a b:ComputationalWorkflow ; bw:input ?formal ; s:step ?step .
        ?action s:instrument ?workflow ; s:object ?given .
        ?given s:exampleOfWork ?formal .
        ?formal s:name ?input ; s:additionalType ?type .
        ?connection w:sourceParameter ?formal ; w:targetParameter ?target .
        ?step s:workExample ?tool ; w:connection ?connection .
        ?tool bw:input ?target .
        ?target s:name ?parameter .
        FILTER EXISTS { ?action a s:CreateAction }
        FILTER EXISTS { ?formal a b:FormalParameter }
        FILTER EXISTS { ?connection a w:ParameterConnection }
        FILTER EXISTS { ?step a s:HowToStep }
        FILTER EXISTS { ?tool a s:SoftwareApplication }
        FILTER EXISTS { ?target a b:FormalParameter } }""",
}


def context() -> dict:
    """Return the context of RO-Crate 1.1, without the net.

    The `rocrate` package ships the context of 1.3, which renames four terms; for the terms that
    crates use the rest is as in 1.1. What 1.1 has not is taken out, so that using it would show.
    """
    text = importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text()
    found = json.loads(text)
    found["@id"] = "https://w3id.org/ro/crate/1.1/context"
    terms = found["@context"]
    terms["ComputationalWorkflow"] = "https://bioschemas.org/ComputationalWorkflow"
    terms["FormalParameter"] = "https://bioschemas.org/FormalParameter"
    terms["input"] = "https://bioschemas.org/ComputationalWorkflow#input"
    terms["output"] = "https://bioschemas.org/ComputationalWorkflow#output"
    del terms["sha256"], terms["localPath"], terms["buildInstructions"]
    return found


def read(folder: str | Path) -> rdflib.Graph:
    """Return the graph of a crate."""
    metadata = json.loads(Path(folder, "ro-crate-metadata.json").read_text(encoding="utf-8"))
    named, own = metadata["@context"]
    assert named == "https://w3id.org/ro/crate/1.1/context"
    metadata["@context"] = [context()["@context"], own]
    return rdflib.Graph().parse(data=json.dumps(metadata), format="json-ld", publicID=BASE)


def ask(graph: rdflib.Graph, question: str) -> list[tuple[str, ...]]:
    """Return the answers to a question: different ones in order, identifiers as in the crate."""
    rows = graph.query(PREFIXES + QUESTIONS[question])
    return sorted({tuple(str(cell).removeprefix(BASE) for cell in row) for row in rows})
