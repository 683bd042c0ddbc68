"""Try cheap transforms, and the defence, on clean images and on the document's adversarial ones."""

import logging

import pyarrow as pa

from bandlimit import progress
from bandlimit.attacks import selection
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.robustness import judging
from bandlimit.studies.robustness.configured import defenses

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model, controls = defenses(job, "control by")
    stream.check_shape(job.input.dataset, model.shape)
    tables = [judging.CONTROLS.empty_table()]

    def judge(inputs, epsilon, ids, labels, images):
        for name, control in controls.items():
            found = judging.drawn(
                control, images, ids, labels, draws=p.draws, stop=p.stop, error=p.error
            )
            tables.append(
                judging.rows(
                    judging.CONTROLS,
                    found,
                    labels,
                    image_id=ids,
                    inputs=inputs,
                    epsilon=epsilon,
                    control=name,
                )
            )

    for ids, labels, images in progress.images(
        stream.batches(job.input.dataset, BATCH, w["shard"]),
        progress.count(job.input.dataset, w["shard"]),
        "controls on clean",
    ):
        judge("clean", None, ids, labels, images)
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
        for columns, labels, images in progress.images(
            judging.batches(path, BATCH, keep, ["epsilon"]),
            progress.count(path, keep=keep),
            f"controls on {inputs}",
        ):
            here = [
                row
                for row, epsilon in enumerate(columns["epsilon"])
                if not fixed or abs(epsilon - p.epsilon) < 1e-9
            ]
            if here:
                ids = [columns["image_id"][row] for row in here]
                judge(inputs, p.epsilon, ids, labels[here], images[here])
    store.write(job.output.controls, pa.concat_tables(tables), job.certificate(device))


run(main, snakemake)
