"""Write the page of a defence: whether it holds, what it costs, and what was asked of it."""

from bandlimit.files import store
from bandlimit.provenance.job import run
from bandlimit.site import defense
from bandlimit.studies.robustness import figures, rates, summaries
from bandlimit.studies.robustness.tables import read


def main(job):
    p, name = job.params, job.wildcards["defense"]
    tables = {
        key: store.read(job.input[key]).to_pandas()
        for key in ("robust_accuracy", "sanity", "controls")
        if key in job.input.keys()  # noqa: SIM118 (Snakemake's inputs are no mapping)
    }
    if "records" in job.input.keys():  # noqa: SIM118
        tables["comparisons"] = rates.comparisons(read(job.input.records, p.controls), name)
    lines = rates.accuracy_curves(tables["robust_accuracy"], p.attacks, [name])
    defense.write(
        job.output.html,
        job.output.markdown,
        defense=name,
        entry=p.entry,
        found=summaries.summary(name, tables, p.experiments),
        figure=figures.robust_accuracy(lines),
        certificate=job.certificate(),
    )


run(main, snakemake)
