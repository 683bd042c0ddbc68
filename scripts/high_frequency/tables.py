"""Tables that are read off the curves of all networks."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.high_frequency.rates import frames
from bandlimit.studies.high_frequency.tables import table


def main(job):
    p = job.params
    told = {"experiments": p.experiments, "trained": p.trained}
    found = frames(job.input.curves, job.input.get("histories") or [], told, job.input.claims)
    for i, name in enumerate(p.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
