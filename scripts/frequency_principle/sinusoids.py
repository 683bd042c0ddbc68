"""When networks learn sinusoids of equal and of growing amplitudes, and noise on them."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response.sinusoids import sinusoids
from bandlimit.studies.frequency_principle.response.sinusoids_tables import LAYOUTS, table


def main(job):
    found = sinusoids(**vars(job.params))
    for i, name in enumerate(name for name in LAYOUTS if name in found):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
