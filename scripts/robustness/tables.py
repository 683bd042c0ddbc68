"""Tables of the robustness study: accuracy under attack, controls, checks, from records."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.robustness.tables import frames, table


def main(job):
    found = frames(job.input, vars(job.params))
    for i, name in enumerate(job.params.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
