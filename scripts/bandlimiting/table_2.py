"""Table 2: the defence against minimal PGD by number of directions."""

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.bandlimiting.tables import table_2


def main(job):
    rates = store.read(job.input.rates).to_pandas()
    table = table_2(rates, job.input.claims, job.params.experiments)
    tables.save(table, **job.forms(), certificate=job.certificate())


run(main, snakemake)
