"""Where the works disagree, and what our runs show of it."""

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.frequency_principle.disagreements import disagreements, table


def main(job):
    read = {name: store.read(job.input[name]).to_pandas() for name in job.params.tables}
    tables.save(table(disagreements(read)), **job.forms(), certificate=job.certificate())


run(main, snakemake)
