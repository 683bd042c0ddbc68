"""Table 1: the model with and without the defence, on the clean and the attacked set."""

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.bandlimiting.tables import table_1


def main(job):
    rates = store.read(job.input.rates).to_pandas()
    table = table_1(rates, job.input.claims, job.params.experiments)
    tables.save(table, **job.forms(), certificate=job.certificate())


run(main, snakemake)
