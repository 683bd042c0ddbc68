"""Section 2.2: hyperplanes crossed, by attack, and by random perturbations of equal length."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.bandlimiting import crossing_tables, crossings


def main(job):
    p, certificate = job.params, job.certificate()
    found = crossing_tables.counted(job.input.crossings, p.names)
    table = crossing_tables.table(found, p.names, job.input.claims, p.segments)
    tables.save(table, **job.forms(), certificate=certificate)
    layers = pa.Table.from_pandas(crossings.by_layer(found), preserve_index=False)
    store.write(job.output.layers, layers, certificate)


run(main, snakemake)
