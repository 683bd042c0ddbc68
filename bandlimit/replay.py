"""Make results again from what their certificates say, and hold them against what is stored.

A job is a function of its certificate: the rule names a script, and the certificate its inputs,
params and wildcards. So a job can run again years later, without the workflow, in a folder of its
own where the inputs lie under the names that the certificate gives them, and what it makes there
must equal what is stored. Tables and figures are made again whole (`redraw`). Records are the
result of hours, but that of an image depends on nothing but the configuration, the seed and the
image, never on batch, shard or company: so a few images are enough (`sample`).

Scripts run in this process, one at a time; what they change of it is put back.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import os
import re
import runpy
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageChops

from bandlimit import certificates, contents, keys, store
from bandlimit.errors import UserError

OK, TAMPERED, MISSING, NOT_COMPARED = "OK", "TAMPERED", "MISSING", "NOT COMPARED"
"""Verdicts. NOT COMPARED says nothing of a file, neither good nor bad."""

REDRAWN = (
    "defense_rates",
    "evaluate_claims",
    "figure_1",
    "figure_2",
    "figure_3",
    "figure_confidence",
    "figure_controls",
    "figure_crossings",
    "figure_losses",
    "figure_response",
    "figure_robust_accuracy",
    "figure_scaling",
    "linear_regions",
    "robustness_tables",
    "table_1",
    "table_2",
    "table_crossings",
    "table_samplers",
    "theory",
)
"""Rules whose results are made from other results alone, or from nothing: tables and figures."""

SOURCES = ("convert_model", "make_dataset")
"""Rules that `redraw` knows besides: they bring a model's weights, or images, into one file."""

MEASURED = ("table_2_time",)
"""Rules whose results are times, which differ between runs."""

SAMPLED = (
    "attack",
    "attack_defense",
    "count_crossings",
    "evaluate_controls",
    "evaluate_post_averaging",
    "evaluate_samplers",
    "evaluate_undefended",
    "judge_defense",
    "scale_perturbations",
)
"""Rules whose results are records of images."""

TOLERANCE = 1e-5
"""How far numbers of a sample may lie apart by default, relative to the stored one or to 1.

On the same kind of device they are equal. A processor with other instructions sums float32 in
another order, which was seen to move the probabilities of defences by up to 4e-6; an attack that
goes another way there ends at other pixels, and no tolerance would bridge that.
"""

PROBES = 32
"""Images that show whether this processor rounds as the one that made the results."""

SHOWN = 8
"""Images of a sample that a finding names, at most."""

EQUAL = "equal, "
"""Start of what is said of records that are equal to the last bit."""

KEYS = (
    *("image_id", "against", "attack", "inputs", "control", "defense", "sampler", "kind", "layer"),
    *("epsilon", "confidence", "factor", "radius", "directions", "restart", "draw"),
)
"""Columns that tell the rows of records apart."""

_RECORDS = ("dataset", "images", "adversarial")
"""Keywords of the inputs that hold images, of which a sample takes a few."""


@dataclass(frozen=True)
class Finding:
    """What became of one file.

    Attributes:
        file: its name, as certificates give it.
        verdict: 'OK', 'TAMPERED', 'MISSING' or 'NOT COMPARED'.
        detail: a sentence: what was compared, or where it differs.
    """

    file: str
    verdict: str
    detail: str


class _Stop(Exception):
    """A job can't be replayed: the verdict on its files, or on the one named, and why."""

    def __init__(self, verdict: str, detail: str, file: str | None = None) -> None:
        super().__init__(detail)
        self.verdict, self.detail, self.file = verdict, detail, file


def redraw(
    certificate: Mapping[str, Any],
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
) -> list[Finding]:
    """Run a job again on its stored inputs, and compare all that it makes with what is stored.

    Content must be equal: decoded columns, pixels, text.

    Args:
        certificate: of any output of the job.
        results: folder of the results; nothing is written there.
        home: folder of the project, with its scripts.

    Returns:
        A finding for each output of the job, or one for the first input that is missing.
    """
    job = _Job(certificate, results, home)
    if job.rule in MEASURED:
        return job.all(NOT_COMPARED, "It holds times, which differ between runs.")
    if job.rule not in REDRAWN + SOURCES:
        return job.all(NOT_COMPARED, f"What the rule {job.rule!r} makes is not made again whole.")
    try:
        with job.stage() as stage:
            job.run(stage, job.params, job.wildcards)
            return [
                _redrawn(name, job.place(name), stage / name, job.certificate)
                for name in job.outputs
            ]
    except _Stop as stop:
        return job.stopped(stop)


def sample(
    certificate: Mapping[str, Any],
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
    images: int,
    seed: int,
    tolerance: float = TOLERANCE,
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

    Returns:
        A finding for each output of the job, or one for the first input that is missing.

    Raises:
        ValueError: less than one image is asked for.
    """
    if images < 1:
        raise ValueError(f"images is {images}, at least 1 is needed")
    job = _Job(certificate, results, home)
    if job.rule not in SAMPLED:
        return job.all(NOT_COMPARED, f"What the rule {job.rule!r} makes holds no rows of images.")
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
    except _Stop as stop:
        return job.stopped(stop)
    if all(finding.verdict != TAMPERED for finding in found):
        return found
    if not same:
        why = f"it was made on {certificate.get('device')}, and this is {_name(device)}"
    elif _computes_otherwise(job):
        why = "this processor computes other last digits of the same model"
    else:
        return found
    return [
        Finding(f.file, MISSING, f"{f.detail} But {why}: what could decide is not here.")
        if f.verdict == TAMPERED
        else f
        for f in found
    ]


# Jobs


class _Job:
    """A job as its certificate tells it."""

    def __init__(
        self,
        certificate: Mapping[str, Any],
        results: str | os.PathLike[str],
        home: str | os.PathLike[str],
    ) -> None:
        self.certificate = certificate
        self.results = Path(os.path.abspath(results))
        self.home = Path(home).resolve()
        self.rule = str(certificate.get("rule"))
        self.params = dict(certificate.get("params", {}))
        self.wildcards = dict(self.params.pop("wildcards", {}))
        self.reads = _Files(certificate.get("reads", {}))
        self.writes = _Files(certificate.get("writes", {}))
        self.outputs = list(self.writes)

    def all(self, verdict: str, detail: str) -> list[Finding]:
        """Return one finding of all outputs."""
        return [Finding(name, verdict, detail) for name in self.outputs]

    def stopped(self, stop: _Stop) -> list[Finding]:
        """Return the findings of a job that could not be replayed."""
        if stop.file is not None:
            return [Finding(stop.file, stop.verdict, stop.detail)]
        return self.all(stop.verdict, stop.detail)

    def place(self, name: str) -> Path:
        """Return where a file lies that certificates name.

        Raises:
            _Stop: the name leads out of the project.
        """
        path = Path(name)
        if path.is_absolute():
            return path
        if ".." in path.parts or not path.parts:
            raise _Stop(TAMPERED, f"The certificate names {name!r}, which no job does.")
        if path.parts[0] == "results":
            return self.results.joinpath(*path.parts[1:])
        return self.home / path

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Yield a new folder in which the inputs lie by their names, and outputs can be written.

        Raises:
            _Stop: the job can't be replayed here.
        """
        if self.certificate.get("format") != certificates.FORMAT:
            raise _Stop(
                NOT_COMPARED,
                f"Its certificate has format {self.certificate.get('format')!r}, not "
                f"{certificates.FORMAT}.",
            )
        for name in self.outputs:
            # They are written by these names, by a script that asks nothing.
            if Path(name).parts[:1] != ("results",) or name == "results":
                raise _Stop(TAMPERED, f"The certificate names {name!r} as a result, which is none.")
            self.place(name)
        self._check_code()
        with tempfile.TemporaryDirectory(prefix="bandlimit-") as folder:
            stage = Path(folder).resolve()
            for name in dict.fromkeys(self.reads):
                place = self.place(name)
                if not place.exists():
                    raise _Stop(MISSING, f"{self.outputs[0]} was made from it.", name)
                if not Path(name).is_absolute():
                    _staged(stage, name).symlink_to(place, target_is_directory=place.is_dir())
            for name in self.outputs:
                _staged(stage, name)
            yield stage

    def _check_code(self) -> None:
        """Make sure that the library in this process is that of the project."""
        loaded = Path(__file__).parents[1]
        names = [
            name for name in [*self.certificate.get("code", []), *self.reads] if loaded != self.home
        ]
        for name in (name for name in names if name.startswith("bandlimit/")):
            ours, theirs = loaded / name, self.home / name
            if not (
                ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes()
            ):
                raise _Stop(
                    NOT_COMPARED,
                    f"The code that runs here is not that of {str(self.home)!r}: {name} differs.",
                )

    def run(self, stage: Path, params: Mapping[str, Any], wildcards: Mapping[str, str]) -> None:
        """Run the script of the rule in a folder that holds its inputs.

        Raises:
            _Stop: it failed.
        """
        workflow = SimpleNamespace(
            rule=self.rule,
            input=self.reads,
            output=self.writes,
            params={"named": params},
            wildcards=wildcards,
            config={},
            threads=1,
            log=[str(stage / "log")],
            scriptdir=str(self.home / "scripts"),
            # What is made again bears the certificate of what is stored, so that files whose
            # bytes hang on its length can be compared.
            certificate=self.certificate,
        )
        script = self.home / f"scripts/{self.rule}.py"
        if not script.is_file():
            raise _Stop(NOT_COMPARED, f"There is no script {str(script)!r} to make it again.")
        try:
            with _apart(self, stage):
                runpy.run_path(str(script), {"snakemake": workflow}, run_name=self.rule)
        except SystemExit as error:
            raise _Stop(TAMPERED, f"It could not be made again. {error.code}") from error
        # Not the fault of what is stored: this machine lacks a package, memory or room.
        except (ImportError, MemoryError, OSError) as error:
            raise _Stop(NOT_COMPARED, f"It could not be made again: {_said(error)}.") from error
        except Exception as error:
            verdict = NOT_COMPARED if type(error).__name__ == "OutOfMemoryError" else TAMPERED
            raise _Stop(verdict, f"It could not be made again: {_said(error)}.") from error


def _staged(stage: Path, name: str) -> Path:
    """Return the place of a file in a stage; nothing is there, and its folder is.

    Raises:
        _Stop: it would lie elsewhere, or where another file lies.
    """
    path = stage / name
    between = path.parents[: len(path.parts) - len(stage.parts) - 1]
    if (
        not path.is_relative_to(stage)
        or any(part.is_symlink() or part.is_file() for part in between)
        or path.exists()
    ):
        raise _Stop(
            TAMPERED, f"The certificate names {name!r}, which can't lie by its other files."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class _Files:
    """Files by the keywords of a rule, as scripts ask for them."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    def __getattr__(self, name: str) -> Any:
        try:
            return self._named[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __getitem__(self, name: str) -> Any:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        for value in self._named.values():
            yield from [value] if isinstance(value, str) else value

    def get(self, name: str, default: Any = None) -> Any:
        return self._named.get(name, default)

    def items(self) -> Any:
        return self._named.items()


def _said(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return f"{type(error).__name__}, {str(error).splitlines()[0]}" if str(error) else repr(error)


@contextlib.contextmanager
def _apart(job: _Job, folder: Path) -> Iterator[None]:
    """Run code as if in a process of its own, in a folder: afterwards this one is as it was."""
    scripts = job.home / "scripts"
    names = [path.stem for path in scripts.glob("*.py")]
    modules = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    search = sys.path[:]
    root, library = logging.getLogger(), logging.getLogger("bandlimit")
    handlers, levels = root.handlers[:], (root.level, library.level)
    shown = warnings.showwarning
    with contextlib.ExitStack() as stack:
        if _reaches_torch(job):
            stack.enter_context(_torch_as_it_was())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.chdir(folder))
        root.handlers[:] = []
        sys.path.insert(0, str(scripts))
        try:
            yield
        finally:
            if warnings.showwarning is not shown:
                logging.captureWarnings(False)
            for handler in root.handlers:
                handler.close()
            root.handlers[:] = handlers
            root.setLevel(levels[0])
            library.setLevel(levels[1])
            sys.path[:] = search
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(modules)


def _reaches_torch(job: _Job) -> bool:
    """Return whether the script of a job imports torch at its start."""
    start = re.compile(rb"^(?:import|from) torch\b", re.MULTILINE)
    files = (job.home / name for name in job.certificate.get("code", []))
    return any(start.search(path.read_bytes()) for path in files if path.is_file())


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Put threads, precision and random state of torch back."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = (
        (matmul, "allow_tf32"),
        *((cudnn, name) for name in ("allow_tf32", "deterministic", "benchmark")),
    )
    before = [getattr(place, name) for place, name in flags]
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        for (place, name), value in zip(flags, before, strict=True):
            setattr(place, name, value)


# Whole results


def _redrawn(name: str, stored: Path, found: Path, certificate: Mapping[str, Any]) -> Finding:
    """Compare a result with what was made again."""
    if not stored.exists():
        return Finding(name, MISSING, "It is not in the results.")
    try:
        own, digest = contents.read(stored)
    except UserError as error:
        return Finding(name, TAMPERED, str(error))
    if not found.exists():
        return Finding(name, TAMPERED, "The job that its certificate tells does not make it.")
    if digest == contents.digest(found):
        return Finding(name, OK, f"equal{_size(stored)}")
    detail = _where(stored, found)
    apart = ("file", "content", "seal")
    if {k: v for k, v in (own or {}).items() if k not in apart} != {
        k: v for k, v in certificate.items() if k not in apart
    }:
        detail += " Its certificate is not that of the other results of the job."
    return Finding(name, TAMPERED, detail)


def _size(path: Path) -> str:
    """Return how much was compared, for a sentence."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return f", {_count(len(store.read(path)), 'row')}"
    if head.startswith(contents.PNG):
        with Image.open(path) as image:
            return f", {image.width} x {image.height} pixels"
    return ""


def _where(stored: Path, found: Path) -> str:
    """Return a sentence on the first place where two files differ."""
    old, new = stored.read_bytes(), found.read_bytes()
    if old.startswith(b"PAR1") and new.startswith(b"PAR1"):
        return _where_rows(store.read(stored), store.read(found))
    if old.startswith(contents.PNG) and new.startswith(contents.PNG):
        return _where_pixels(old, new)
    texts = []
    for data in (old, new):
        with contextlib.suppress(ValueError):
            parts = certificates.find_text(data)
            texts.append((data if parts is None else parts[1]).decode("utf-8").splitlines())
    if len(texts) < 2 or old.startswith(b"%PDF"):
        return "It differs from what is made again."
    for number, (a, b) in enumerate(itertools.zip_longest(*texts, fillvalue=""), start=1):
        if a != b:
            return f"Line {number} is {_cut(a)}; made again it is {_cut(b)}."
    return "It differs from what is made again by the ends of its lines."


def _cut(text: str, length: int = 160) -> str:
    return repr(text if len(text) <= length else text[:length] + "...")


def _where_pixels(old: bytes, new: bytes) -> str:
    with Image.open(io.BytesIO(old)) as a, Image.open(io.BytesIO(new)) as b:
        if a.size != b.size:
            return "It has {} x {} pixels; made again {} x {}.".format(*a.size, *b.size)
        apart = ImageChops.difference(a.convert("RGBA"), b.convert("RGBA"))
    changed = np.asarray(apart).any(axis=2)
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return "Its pixels are of another kind than those made again."
    return (
        f"Of its pixels {len(rows)} differ from those made again, between column {columns.min()} "
        f"and {columns.max()}, row {rows.min()} and {rows.max()} (from 0, at the top left)."
    )


def _where_rows(stored: pa.Table, found: pa.Table) -> str:
    if wrong := _other_columns(stored.schema, found.schema):
        return wrong
    if len(stored) != len(found):
        return f"It has {_count(len(stored), 'row')}; made again it has {len(found)}."
    for number, (a, b) in enumerate(zip(_rows(stored), _rows(found), strict=True)):
        for name in a:
            if _apart_by(a[name], b[name]):
                return f"Row {number} (from 0), column {name!r}: {_both(a[name], b[name])}."
    return "It differs from what is made again by the kind of a missing value."


def _other_columns(stored: pa.Schema, found: pa.Schema) -> str | None:
    """Return a sentence on the first column that has another name or type, or None."""
    pairs = itertools.zip_longest(*([f"{f.name} ({f.type})" for f in s] for s in (stored, found)))
    for number, (a, b) in enumerate(pairs):
        if a != b:
            return f"Its column {number} (from 0) is {a or 'missing'}; made again {b or 'missing'}."
    return None


# Samples of records


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


def _computes_otherwise(job: _Job) -> bool:
    """Return whether the results were made by a processor that rounds otherwise than this one.

    Certificates tell cards apart, but not processors. What the undefended model says of images
    does: of all records it hangs the least on rounding, and shows it in the last digits. Attacks
    follow signs of gradients, which a last digit may turn.
    """
    w = job.wildcards
    if job.rule == "evaluate_undefended" or not {"dataset", "model", "shard"} <= set(w):
        return False
    folder = f"results/evaluations/{w['dataset']}/{w['model']}/clean/undefended"
    try:
        proof = contents.certificate(job.place(f"{folder}/{w['shard']}.parquet"))
    except (UserError, _Stop):
        return False
    if proof is None or proof.get("rule") != "evaluate_undefended":
        return False
    (finding,) = sample(proof, results=job.results, home=job.home, images=PROBES, seed=0)
    return finding.verdict == OK and not finding.detail.startswith(EQUAL)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turn what is wrong with the inputs of a job into its end."""
    try:
        yield
    except UserError as error:
        raise _Stop(TAMPERED, f"It could not be made again. {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        detail = f"Its certificate does not say what the job needs: {_said(error)}."
        raise _Stop(TAMPERED, detail) from error


def _chosen(job: _Job, images: int, seed: int) -> list[str]:
    """Return the ids of a seeded choice of the images that a job has records of.

    They are listed from what the job reads, so that an image that was taken out of its results is
    chosen as likely as any.
    """
    known = _image_ids(job)
    # A name per image: which are chosen does not hang on how many there are.
    order = sorted(known, key=lambda name: keys.derive(seed, "audit", job.outputs[0], name))
    chosen = frozenset(order[:images])
    return [name for name in known if name in chosen]


def _image_ids(job: _Job) -> list[str]:
    """Return the ids of the images that a job has records of, in their order."""
    if job.rule in ("evaluate_post_averaging", "evaluate_samplers"):
        if job.wildcards["inputs"] != "clean":
            return _successes(job, [job.reads.images])
        dataset = job.place(job.reads.images)
    else:
        dataset = job.place(job.reads.dataset)
    if job.rule == "count_crossings":
        return _successes(job, [job.reads.adversarial])
    from bandlimit import datasets

    name, seed = job.wildcards["dataset"], job.params["seed"]
    keep = datasets.chosen(dataset, job.params.get("images"), name=name, seed=seed)
    if job.rule == "scale_perturbations":
        ids = _successes(job, job.reads.adversarial)
    else:
        # As `datasets.stream` shares them out; it would decode all images.
        shard, shards = map(int, job.wildcards["shard"].split("of"))
        ids = store.read(dataset, ["image_id"])["image_id"].to_pylist()[shard - 1 :: shards]
    return [name for name in ids if keep is None or name in keep]


def _successes(job: _Job, names: Sequence[str]) -> list[str]:
    """Return the ids of the images that some attacks made adversarial."""
    ids: dict[str, None] = {}
    for name in names:
        rows = store.read(job.place(name), ["image_id", "success"]).filter(pc.field("success"))
        ids |= dict.fromkeys(rows["image_id"].to_pylist())
    return list(ids)


def _restrict(job: _Job, stage: Path, chosen: Sequence[str]) -> None:
    """Put files with the rows of a few images in the place of those that hold all."""
    ids = pa.array(chosen, pa.string())
    for name in _Files({key: job.reads.get(key, []) for key in _RECORDS}):
        if not Path(name).is_absolute():
            (stage / name).unlink()
        place = _staged(stage, name)
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
        return Finding(name, MISSING, "It is not in the results.")
    new = store.read(found)
    if "image_id" not in new.column_names:
        return Finding(name, NOT_COMPARED, "It sums up all images, and a sample has a few.")
    try:
        old = _rows_of(stored, chosen)
    except UserError as error:
        return Finding(name, TAMPERED, str(error))
    if wrong := _other_columns(old.schema, new.schema):
        return Finding(name, TAMPERED, wrong)
    shown = [*map(repr, chosen[:SHOWN]), *["..."] * (len(chosen) > SHOWN)]
    images = f"{_count(len(chosen), 'image')} ({', '.join(shown) or 'no attack succeeded'})"
    a, b = _by_key(old), _by_key(new)
    wrong = _other_rows(a, b) or _other_values(a, b, tolerance)
    if wrong:
        return Finding(name, TAMPERED, f"{wrong} Compared were {images}.")
    largest = max((_apart_by(*values) for *_, values in _values(a, b)), default=0.0)
    start = f"equal within {largest:.1g}, " if largest else EQUAL
    return Finding(name, OK, f"{start}{_count(len(new), 'row')} of {images}")


def _rows_of(path: Path, chosen: Sequence[str]) -> pa.Table:
    """Return the rows of some images."""
    ids = pa.array(chosen, pa.string())
    tables = [
        table.filter(pc.is_in(table["image_id"], value_set=ids))
        for table in store.batches(path, 1024)
    ]
    return pa.concat_tables(tables) if tables else store.read(path)


Row = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]


def _by_key(table: pa.Table) -> dict[Key, list[Row]]:
    """Return the rows of a table by what tells them apart: names and values of key columns."""
    names = [name for name in KEYS if name in table.column_names]
    found: dict[Key, list[Row]] = {}
    for row in _rows(table):
        found.setdefault(tuple((name, row[name]) for name in names), []).append(row)
    return found


def _other_rows(stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]]) -> str | None:
    """Return a sentence on the first row that one of two tables lacks, or has twice, or None."""
    for key in [*stored, *found]:
        old, new = len(stored.get(key, [])), len(found.get(key, []))
        if old != new:
            return f"{_called(key)} has {_count(old, 'row')} stored, and {new} made again."
    return None


def _values(
    stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]]
) -> Iterator[tuple[Key, str, tuple[Any, Any]]]:
    """Yield key, column and both values of all values of tables that have the same rows."""
    for key, rows in stored.items():
        for old, new in zip(rows, found[key], strict=True):
            for name in old:
                yield key, name, (old[name], new[name])


def _other_values(
    stored: Mapping[Key, list[Row]], found: Mapping[Key, list[Row]], tolerance: float
) -> str | None:
    """Return a sentence on the first value that lies too far off, or None."""
    wrong = [place for place in _values(stored, found) if _apart_by(*place[-1]) > tolerance]
    if not wrong:
        return None
    key, name, values = wrong[0]
    rows = len({key for key, *_ in wrong})
    return (
        f"{_called(key)}, column {name!r}: {_both(*values)}; {rows} of "
        f"{_count(len(stored), 'row')} {'differs' if rows == 1 else 'differ'}."
    )


def _called(key: Key) -> str:
    """Return a row by its key, for a sentence."""
    (_, image), *rest = key
    parts = ", ".join(f"{name} {value!r}" for name, value in rest if value is not None)
    return f"Image {image!r}" + (f" ({parts})" if parts else "")


# Values


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table; images and lists of numbers are arrays."""
    columns: dict[str, list[Any]] = {}
    for field in table.schema:
        if isinstance(field.type, pa.FixedShapeTensorType):
            columns[field.name] = list(store.images_of(table, field.name)) if len(table) else []
        else:
            columns[field.name] = table[field.name].to_pylist()
    return [{name: values[row] for name, values in columns.items()} for row in range(len(table))]


def _apart_by(stored: Any, found: Any) -> float:
    """Return how far two values lie apart: 0 if equal, infinite unless both are numbers alike.

    Of fractions the distance is relative to the stored one or to 1; whole numbers count as texts.
    """
    if isinstance(stored, np.ndarray | list) and isinstance(found, np.ndarray | list):
        return _arrays_apart(stored, found)
    if isinstance(stored, float) and isinstance(found, float):
        return _arrays_apart([stored], [found])
    same = type(stored) is type(found) and bool(stored == found)
    return 0.0 if same else math.inf


def _arrays_apart(stored: Any, found: Any) -> float:
    try:
        a, b = np.asarray(stored, dtype=np.float64), np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        return 0.0 if repr(stored) == repr(found) else math.inf
    if a.shape != b.shape:
        return math.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not (np.isfinite(a) & np.isfinite(b))[~same].all():
        return math.inf
    return float(np.max(np.abs(a - b)[~same] / np.maximum(1.0, np.abs(a[~same]))))


def _both(stored: Any, found: Any) -> str:
    """Return two values that differ, for a sentence; of arrays the entry that differs most."""
    arrays = [
        np.asarray(value) for value in (stored, found) if isinstance(value, np.ndarray | list)
    ]
    if len(arrays) == 2:
        a, b = arrays
        if a.shape != b.shape:
            return f"{a.shape} values are stored, {b.shape} made again"
        if np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number):
            apart = np.nan_to_num(np.abs(a.astype(float) - b), nan=math.inf)
            place = np.unravel_index(int(np.argmax(apart)), a.shape)
            where = ", ".join(str(int(number)) for number in place)
            return f"at ({where}) {_shown(a[place])} is stored, {_shown(b[place])} made again"
    return f"{_shown(stored)} is stored, {_shown(found)} made again"


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.9g}"
    return "nothing" if value is None else _cut(value) if isinstance(value, str) else repr(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
