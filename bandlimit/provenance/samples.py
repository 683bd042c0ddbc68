"""Make a few images of a set again, and compare their records with what is stored.

The record of an image depends on the configuration, the seed and the image alone, never on the
batch, the shard or the other images: so a few images are enough.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.plan import jobs
from bandlimit.provenance.comparison import (
    apart_by,
    by_key,
    count,
    other_columns,
    other_rows,
    other_values,
    pairs,
)
from bandlimit.provenance.replay import Files, Job, Stop, said, staged
from bandlimit.provenance.verdicts import Finding, Verdict
from bandlimit.studies.artifact import SAMPLED

TOLERANCE = 1e-5
"""How far numbers of a sample may lie apart by default, relative to the stored one or to 1.

On the same kind of device they are equal. A processor with other instructions sums float32 in
another order, which was seen to move the probabilities of defences by up to 4e-6; an attack that
goes another way there ends at other pixels, and no tolerance would bridge that.
"""

PROBES = 32
"""Images that show whether this processor rounds as the one did that made the results."""

SHOWN = 8
"""Images of a sample that a finding names, at most."""

EQUAL = "equal, "
"""Start of what is said of records that are equal to the last bit."""

_RECORDS = ("dataset", "images", "adversarial")
"""Keywords of the inputs that hold images, of which a sample takes a few."""


def sample(
    certificate: Mapping[str, Any],
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
    images: int,
    seed: int,
    tolerance: float = TOLERANCE,
    own: Collection[str] = (),
) -> list[Finding]:
    """Run a job again on a few of its images, and compare the records of these.

    Images are attacked and judged as they were. Texts, counts, predictions and what is missing
    must be equal; numbers and pixels within the tolerance. Where records differ that were made on
    another device, or on a processor that rounds otherwise, that proves nothing: an attack may
    have gone another way there. What could decide, that device, counts as missing.

    Args:
        certificate: of any output of the job.
        results: folder of the results; nothing is written there.
        home: folder of the project, with its scripts.
        images: how many images, of those that have records in the job's results.
        seed: what decides which; a larger sample contains a smaller one.
        tolerance: how far numbers may lie apart, relative to the stored one or, if that is
            smaller, to 1.
        own: sources of code of the user's own that may run, those that the configuration names.

    Returns:
        A finding for each output of the job, or one for the first input that is missing.

    Raises:
        ValueError: less than one image is asked for.
    """
    if images < 1:
        raise ValueError(f"images is {images}, at least 1 is needed")
    job = Job(certificate, results, home, own)
    if jobs.replay_kind(job.rule) != SAMPLED:
        return job.all(
            Verdict.NOT_COMPARED, f"What the rule {job.rule!r} makes holds no rows of images."
        )
    try:
        with job.stage() as stage:
            device, same = _device(str(job.certificate.get("device")))
            with _reading():
                chosen = _chosen(job, images, seed)
                _restrict(job, stage, chosen)
            params = {**job.params, "device": device}
            # What is left are the images that were chosen, and too few to judge the model by.
            params |= {name: None for name in ("images", "gate") if name in params}
            job.run(stage, params, {**job.wildcards, "shard": "1of1"})
            found = [
                _sampled(name, job.place(name), stage / name, chosen, tolerance)
                for name in job.outputs
            ]
    except Stop as stop:
        return job.stopped(stop)
    if all(finding.verdict != Verdict.TAMPERED for finding in found):
        return found
    if not same:
        why = f"it was made on {certificate.get('device')}, and this is {_name(device)}"
    elif _computes_otherwise(job):
        why = "this processor computes other last digits of the same model"
    else:
        return found
    return [
        Finding(f.file, Verdict.MISSING, f"{f.detail} But {why}: what could decide is not here.")
        if f.verdict == Verdict.TAMPERED
        else f
        for f in found
    ]


def _device(stored: str) -> tuple[str, bool]:
    """Return the device to run on, and whether records of a device can be made equal there."""
    import torch

    if stored == "cpu":
        return "cpu", True
    if not torch.cuda.is_available():
        return "cpu", False
    return "cuda", torch.cuda.get_device_name() == stored


def _name(device: str) -> str:
    """Return a device as certificates name it."""
    import torch

    return device if device == "cpu" else torch.cuda.get_device_name()


def _computes_otherwise(job: Job) -> bool:
    """Return whether the processor that made the results rounds differently from this one.

    Certificates name cards, but not processors. What the undefended model says of images shows the
    difference: of all records it depends least on rounding, and only in the last digits. Attacks
    follow signs of gradients, which a last digit may turn.
    """
    w = job.wildcards
    if job.rule == "evaluate_undefended" or not {"dataset", "model", "shard"} <= set(w):
        return False
    folder = f"results/evaluations/{w['dataset']}/{w['model']}/clean/undefended"
    try:
        proof = contents.certificate(job.place(f"{folder}/{w['shard']}.parquet"))
    except (UserError, Stop):
        return False
    if proof is None or proof.get("rule") != "evaluate_undefended":
        return False
    (finding,) = sample(
        proof, results=job.results, home=job.home, images=PROBES, seed=0, own=job.own
    )
    return finding.verdict == Verdict.OK and not finding.detail.startswith(EQUAL)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turn what is wrong with the inputs of a job into its end."""
    try:
        yield
    except UserError as error:
        raise Stop(Verdict.TAMPERED, f"It could not be made again. {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        detail = f"Its certificate does not say what the job needs: {said(error)}."
        raise Stop(Verdict.TAMPERED, detail) from error


def _chosen(job: Job, images: int, seed: int) -> list[str]:
    """Return the ids of a seeded choice of the images that a job has records of.

    They are listed from what the job reads, so that an image that was taken out of its results is
    chosen as likely as any.
    """
    known = _image_ids(job)
    # A key per image: which are chosen does not depend on how many there are.
    order = sorted(known, key=lambda name: keys.derive(seed, "audit", job.outputs[0], name))
    chosen = frozenset(order[:images])
    return [name for name in known if name in chosen]


def _image_ids(job: Job) -> list[str]:
    """Return the ids of the images that a job has records of, in their order."""
    name = job.reads[jobs.images_in(job.rule)]
    files = [name] if isinstance(name, str) else list(name)
    if "success" in store.columns(job.place(files[0])):
        ids = _successes(job, files)
    else:
        # As `stream.batches` shares them out; it would decode all images.
        shard, shards = map(int, job.wildcards["shard"].split("of"))
        rows = store.read(job.place(files[0]), ["image_id"])["image_id"]
        ids = rows.to_pylist()[shard - 1 :: shards]
    if "images" not in job.params:
        return ids
    from bandlimit.data import stream

    dataset, seed = job.wildcards["dataset"], job.params["seed"]
    place = job.place(job.reads["dataset"])
    keep = stream.chosen(place, job.params["images"], name=dataset, seed=seed)
    return [name for name in ids if keep is None or name in keep]


def _successes(job: Job, names: Sequence[str]) -> list[str]:
    """Return the ids of the images that some attacks made adversarial."""
    ids: dict[str, None] = {}
    for name in names:
        rows = store.read(job.place(name), ["image_id", "success"]).filter(pc.field("success"))
        ids |= dict.fromkeys(rows["image_id"].to_pylist())
    return list(ids)


def _restrict(job: Job, stage: Path, chosen: Sequence[str]) -> None:
    """Put files with the rows of a few images in the place of those that hold all."""
    ids = pa.array(chosen, pa.string())
    for name in Files({key: job.reads.get(key, []) for key in _RECORDS}):
        if not Path(name).is_absolute():
            (stage / name).unlink()
        place = staged(stage, name)
        rows = store.batches(job.place(name), 256)
        first = next(rows, None)
        if first is None:
            place.symlink_to(job.place(name))
            continue
        with store.TableWriter(place, first.schema) as writer:
            for table in itertools.chain([first], rows):
                writer.write(table.filter(pc.is_in(table["image_id"], value_set=ids)))


def _sampled(
    name: str, stored: Path, found: Path, chosen: Sequence[str], tolerance: float
) -> Finding:
    """Compare the stored rows of some images with those made again."""
    if not stored.exists():
        return Finding(name, Verdict.MISSING, "It is not in the results.")
    new = store.read(found)
    if "image_id" not in new.column_names:
        return Finding(name, Verdict.NOT_COMPARED, "It sums up all images, and a sample has a few.")
    try:
        old = _rows_of(stored, chosen)
    except UserError as error:
        return Finding(name, Verdict.TAMPERED, str(error))
    if wrong := other_columns(old.schema, new.schema):
        return Finding(name, Verdict.TAMPERED, wrong)
    shown = [*map(repr, chosen[:SHOWN]), *["..."] * (len(chosen) > SHOWN)]
    images = f"{count(len(chosen), 'image')} ({', '.join(shown) or 'no attack succeeded'})"
    a, b = by_key(old), by_key(new)
    wrong = other_rows(a, b) or other_values(a, b, tolerance)
    if wrong:
        return Finding(name, Verdict.TAMPERED, f"{wrong} Compared were {images}.")
    largest = max((apart_by(*values) for *_, values in pairs(a, b)), default=0.0)
    start = f"equal within {largest:.1g}, " if largest else EQUAL
    return Finding(name, Verdict.OK, f"{start}{count(len(new), 'row')} of {images}")


def _rows_of(path: Path, chosen: Sequence[str]) -> pa.Table:
    """Return the rows of some images."""
    ids = pa.array(chosen, pa.string())
    tables = [
        table.filter(pc.is_in(table["image_id"], value_set=ids))
        for table in store.batches(path, 1024)
    ]
    return pa.concat_tables(tables) if tables else store.read(path)
