"""Judge adversarial images by post-averaging with each way to find directions."""

import pyarrow as pa
import torch

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.defenses import evaluation
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.post_averaging import post_averaging
from bandlimit.defenses.sweep import Judgement, Setting, judge
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device

BATCH = 64


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    name = DrawName(p.seed, f"samplers on {w['inputs']}", w["dataset"], w["model"])
    setting = Setting(p.radius, p.directions)

    def judged(batch):
        ids, epsilons, labels, images = batch
        tables = []
        for sampler in p.samplers:
            defense = post_averaging(
                model, radius=p.radius, directions=p.directions, sampler=sampler, name=name
            ).bind(ids)
            with torch.no_grad():
                probability = defense(images.to(device)).exp().double().cpu()
            judgement = Judgement(setting, 0, *judge(probability, labels, ids))
            records = evaluation.defended(ids, epsilons, labels, judgement)
            tables.append(records.append_column("sampler", pa.array([sampler] * len(ids))))
        return pa.concat_tables(tables)

    work = memory.Halving(judged, groups=None)
    schema = evaluation.SCHEMA.append(pa.field("sampler", pa.string()))
    with job.parts({job.output.evaluation: schema}, device, evaluation.in_order) as parts:
        for batch in progress.images(
            evaluation.inputs(job.input.images, BATCH, w["shard"], clean=False),
            progress.count(job.input.images, success=True),
            f"samplers on {w['inputs']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
