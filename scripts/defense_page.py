"""Write the page of a defence: whether it holds, what it costs, and what was asked of it."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import backend  # noqa: F401 (before matplotlib)
from bandlimit.site import defense
from bandlimit.studies.robustness import figures, rates, summaries
from bandlimit.studies.robustness.tables import read


def main(job):
    p, name = job.params, job.wildcards["defense"]
    asked = ("robust_accuracy", "sanity", "controls")
    paths = {key: path for key in asked if (path := job.input.get(key))}
    tables = {key: store.read(path).to_pandas() for key, path in paths.items()}
    if records := job.input.get("records"):
        tables["comparisons"] = rates.comparisons(read(records, p.controls), name)
    lines = rates.accuracy_curves(tables["robust_accuracy"], p.attacks, [name])
    defense.write(
        job.output.html,
        job.output.markdown,
        defense=name,
        entry=p.entry,
        found=summaries.summary(name, tables, p.experiments, decides=not p.smoke),
        figure=figures.robust_accuracy(lines),
        certificate=job.certificate(),
    )


run(main, snakemake)
