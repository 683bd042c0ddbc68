"""Figure: noise of low and of high response frequency on labels."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.label_noise_figures import draw_label_noise


def main(job):
    frames = (store.read(job.input[name]).to_pandas() for name in ("curves",))
    files.save(draw_label_noise(*frames), **job.pictures(), certificate=job.certificate())


run(main, snakemake)
