"""Tables of corruptions, of noise of a band, and of networks behind filters."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.image.corruptions_rates import frames
from bandlimit.studies.frequency_principle.image.corruptions_tables import table


def main(job):
    found = frames(job.input.corrupted, job.params.experiments)
    for i, name in enumerate(job.params.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
