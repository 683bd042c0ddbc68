"""What networks learn along a curve that turns in the plane."""

import pandas as pd
import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.frequency_principle.response.manifolds import manifolds
from bandlimit.studies.frequency_principle.response.manifolds_tables import LAYOUTS
from bandlimit.studies.frequency_principle.response.sinusoids_tables import table


def main(job):
    found = manifolds(**vars(job.params))
    certificate = job.certificate()
    for i, name in enumerate(LAYOUTS):
        tables.save(table(name, found[name], LAYOUTS), **job.forms(i), certificate=certificate)
    pictures = pa.Table.from_pandas(pd.DataFrame(found["manifold_pictures"]), preserve_index=False)
    store.write(job.output.pictures, pictures, certificate)


run(main, snakemake)
