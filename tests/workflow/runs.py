"""What tests of the workflow ask of a finished run: what a change makes anew, and who made what."""

import contextlib
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import yaml

from bandlimit.files import contents, store
from bandlimit.provenance import audit


def reruns(project, config=None):
    """Return the files that a run would make anew, each with its rule, as the audit sees it.

    A file is made anew where something that it rests on is stale, and where it reads a file that
    is made anew.
    """
    overlay = project.folder / "changed.yaml"
    overlay.write_text(yaml.safe_dump(config or project.config), encoding="utf-8")
    auditor = audit.Auditor(
        project.folder / "results",
        project.folder,
        level="meta",
        configfiles=["config.yaml", overlay.name],
    )
    nodes = {}
    # The folder of the user's images is named as seen from the project.
    with contextlib.chdir(project.folder):
        for path in project.results():
            nodes |= auditor.audit(project.folder / path).nodes
    overlay.unlink()
    wrong = {
        name: any(edge.verdict in ("STALE", "TAMPERED") for edge in node.edges)
        for name, node in nodes.items()
    }
    grown = True
    while grown:
        grown = False
        for name, node in nodes.items():
            reads = (edge.name for edge in node.edges if edge.kind == "input")
            if not wrong[name] and any(wrong.get(other) for other in reads):
                wrong[name] = grown = True
    found = {name: node.rule for name, node in nodes.items() if wrong[name] and node.rule}
    # The research object has metadata of its own, and is made of all that and of the project.
    if found:
        found["results/provenance/ro-crate.zip"] = "ro_crate"
    return found


def planned(project, config=None):
    """Return what `reruns` does, as Snakemake plans it."""
    plan = project.plan(config)
    folders = ("results/site", "results/provenance/ro-crate")
    return {path: rule for path, rule in plan.items() if path not in folders}


def certificates(project):
    """Return the certificate of each job of a run, by rule."""
    found = defaultdict(dict)
    for name in project.results():
        proof = contents.certificate(project.folder / name)
        if proof is not None:
            found[proof["rule"]][str(proof["writes"])] = proof
    return {rule: list(proofs.values()) for rule, proofs in found.items()}


def rewrite(results: Path, name: str, column: str, row: int, value) -> str:
    """Change one value of a Parquet file, which keeps its certificate; return the row's image."""
    path = results / Path(name).relative_to("results")
    table = store.read(path)
    field = table.schema.field(column)
    if column == "image":
        images = store.images_of(table).copy()
        images[row, 0, 3, 5] = value
        values = store.image_column(images)
    else:
        cells = table[column].to_pylist()
        assert cells[row] != value
        cells[row] = value
        values = pa.array(cells, field.type)
    table = table.set_column(table.column_names.index(column), field, values)
    store.write(path, table, contents.certificate(path))
    return table["image_id"][row].as_py() if "image_id" in table.column_names else ""


def one(told, rule, **wildcards):
    """Return the certificate of the job of a rule with some wildcards."""
    (proof,) = (
        proof for proof in told[rule] if wildcards.items() <= proof["params"]["wildcards"].items()
    )
    return proof
