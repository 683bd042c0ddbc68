"""Tables of Fourier heat maps, and of waves as an attack."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.image.heat_maps_rates import frames
from bandlimit.studies.frequency_principle.image.heat_maps_tables import table


def main(job):
    found = frames(job.input.sensitivity, job.params.experiments)
    for i, name in enumerate(job.params.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
