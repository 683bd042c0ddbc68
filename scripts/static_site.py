"""Write the site: claims, tables and figures, images one by one, and the lineage of each file."""

from bandlimit.provenance.job import run
from bandlimit.site import browser, pages


def main(job):
    i, p = job.input, job.params
    choice = None
    if p.browser:
        choice = browser.Choice(
            **p.browser,
            images_file=i.dataset,
            adversarial=list(i.adversarial),
            clean=list(i.clean),
            attacked=list(i.attacked),
            controls=list(i.controls),
        )
    pages.write(
        job.output.index,
        job.output.pages,
        claims=i.claims,
        documents=list(i.documents),
        files=list(i.artifacts),
        captions=list(i.captions),
        page=i.ledger,
        choice=choice,
        certificate=job.certificate(),
    )


run(main, snakemake)
