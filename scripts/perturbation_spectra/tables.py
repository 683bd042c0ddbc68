"""Tables of the study: where perturbations lie, from records of each image."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.perturbation_spectra.rates import frames
from bandlimit.studies.perturbation_spectra.tables import table


def main(job):
    names = ("perturbations", "spectra", "trajectories", "filtered")
    found = frames({name: job.input.get(name) or [] for name in names}, vars(job.params))
    for i, name in enumerate(job.params.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
