"""Tables of what a network says of parts of images."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.high_frequency.component_rates import frames
from bandlimit.studies.high_frequency.tables import table


def main(job):
    found = frames(job.input.components, job.params.experiments)
    for i, name in enumerate(job.params.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
