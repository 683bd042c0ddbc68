"""Try cheap transforms, and the defence, on clean images and on the document's adversarial ones."""

import logging

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.attacks import selection
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import memory
from bandlimit.models.device import choose_device
from bandlimit.studies.robustness import judging
from bandlimit.studies.robustness.configured import defenses

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model, controls = defenses(job, "control by")
    stream.check_shape(job.input.dataset, model.shape)

    def judged(name, inputs, epsilon):
        def rows(batch):
            ids, labels, images = batch
            found = judging.drawn(
                controls[name], images, ids, labels, draws=p.draws, stop=p.stop, error=p.error
            )
            return judging.rows(
                judging.CONTROLS,
                found,
                labels,
                image_id=ids,
                inputs=inputs,
                epsilon=epsilon,
                control=name,
            )

        return memory.Halving(rows)

    with job.parts({job.output.controls: judging.CONTROLS}, device) as parts:
        work = {name: judged(name, "clean", None) for name in controls}
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"]),
            progress.count(job.input.dataset, w["shard"]),
            "controls on clean",
            parts.resuming,
        ):
            for name in controls:
                parts.add(work[name], batch)
        attacked(job, parts, lambda inputs: {n: judged(n, inputs, p.epsilon) for n in controls})


def attacked(job, parts, works):
    """Try controls on the adversarial images of the document's epsilon."""
    p = job.params
    for inputs, path in zip(p.inputs[1:], job.input.adversarial, strict=True):
        records = store.read(path, [name for name in store.columns(path) if name != "image"])
        fixed = records["epsilon"].null_count < len(records)
        known = [epsilon for epsilon in records["epsilon"].to_pylist() if epsilon is not None]
        if fixed and not any(abs(epsilon - p.epsilon) < 1e-9 for epsilon in known):
            logging.warning("%s was not run at epsilon %.6g and is left out", inputs, p.epsilon)
            continue
        chosen = selection.select(records, p.epsilon)
        keep = frozenset(
            name
            for name, in_a in zip(
                chosen["image_id"].to_pylist(), chosen["attacked"].to_pylist(), strict=True
            )
            if in_a
        )
        work = works(inputs)
        for columns, labels, images in progress.images(
            judging.batches(path, BATCH, keep, ["epsilon"]),
            progress.count(path, keep=keep),
            f"controls on {inputs}",
            parts.resuming,
        ):
            here = [
                row
                for row, epsilon in enumerate(columns["epsilon"])
                if not fixed or abs(epsilon - p.epsilon) < 1e-9
            ]
            if here:
                ids = [columns["image_id"][row] for row in here]
                for judged in work.values():
                    parts.add(judged, (ids, labels[here], images[here]))


run(main, snakemake)
