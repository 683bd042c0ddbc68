"""Make results again from what their certificates say, and hold them against what is stored.

A job is a function of its certificate: the rule names a script, and the certificate its inputs,
params and wildcards. So a job can run again years later, without the workflow, in a folder of its
own where the inputs lie under the names that the certificate gives them, and what it makes there
must equal what is stored. Tables and figures are made again whole (`redraw`). Records took hours,
but the record of an image does not depend on the other images: a few are enough (`samples`). Code
of the user's own that a certificate names runs only where the project's configuration names it too
(`own_sources`).

Scripts run in this process, one at a time; what they change of it is put back.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bandlimit.errors import MachineError
from bandlimit.files import certificates, own_code, store
from bandlimit.plan import jobs
from bandlimit.provenance import origin, own_sources
from bandlimit.provenance.comparison import redrawn
from bandlimit.provenance.verdicts import Finding, Verdict
from bandlimit.studies.artifact import MEASURED, REDRAWN

_SCRIPT = re.compile(r"scripts/(\w+/)?\w+\.py")
"""What the name of a script may be: nothing that leads elsewhere is run."""


class Stop(Exception):
    """A job can't be replayed: the verdict on its files, or on the one named, and why."""

    def __init__(self, verdict: Verdict, detail: str, file: str | None = None) -> None:
        super().__init__(detail)
        self.verdict, self.detail, self.file = verdict, detail, file


def redraw(
    certificate: Mapping[str, Any],
    *,
    results: str | os.PathLike[str],
    home: str | os.PathLike[str],
    own: Collection[str] = (),
) -> list[Finding]:
    """Run a job again on its stored inputs, and compare all that it makes with what is stored.

    Content must be equal: decoded columns, pixels, text.

    Args:
        certificate: of any output of the job.
        results: folder of the results; nothing is written there.
        home: folder of the project, with its scripts.
        own: sources of code of the user's own that may run, those that the configuration names.

    Returns:
        A finding for each output of the job, or one for the first input that is missing.
    """
    job = Job(certificate, results, home, own)
    kind = jobs.replay_kind(job.rule)
    if kind == MEASURED:
        return job.all(Verdict.NOT_COMPARED, "It holds times, which differ between runs.")
    if kind != REDRAWN:
        return job.all(
            Verdict.NOT_COMPARED, f"What the rule {job.rule!r} makes is not made again whole."
        )
    try:
        with job.stage() as stage:
            job.run(stage, job.params, job.wildcards)
            return [
                redrawn(name, job.place(name), stage / name, job.certificate)
                for name in job.outputs
            ]
    except Stop as stop:
        return job.stopped(stop)


class Job:
    """A job as its certificate describes it."""

    def __init__(
        self,
        certificate: Mapping[str, Any],
        results: str | os.PathLike[str],
        home: str | os.PathLike[str],
        own: Collection[str] = (),
    ) -> None:
        self.certificate = certificate
        self.own = own
        self.results = Path(os.path.abspath(results))
        self.home = Path(home).resolve()
        self.rule = str(certificate.get("rule"))
        self.script = str(certificate.get("script"))
        self.params = dict(certificate.get("params", {}))
        self.wildcards = dict(self.params.pop("wildcards", {}))
        self.reads = Files(certificate.get("reads", {}))
        self.writes = Files(certificate.get("writes", {}))
        self.outputs = list(self.writes)

    def all(self, verdict: Verdict, detail: str) -> list[Finding]:
        """Return one finding of all outputs."""
        return [Finding(name, verdict, detail) for name in self.outputs]

    def stopped(self, stop: Stop) -> list[Finding]:
        """Return the findings of a job that could not be replayed."""
        if stop.file is not None:
            return [Finding(stop.file, stop.verdict, stop.detail)]
        return self.all(stop.verdict, stop.detail)

    def place(self, name: str) -> Path:
        """Return where a file lies that certificates name.

        Raises:
            Stop: the name leads out of the project.
        """
        path = Path(name)
        if path.is_absolute():
            return path
        if ".." in path.parts or not path.parts:
            raise Stop(Verdict.TAMPERED, f"The certificate names {name!r}, which no job does.")
        if path.parts[0] == "results":
            return self.results.joinpath(*path.parts[1:])
        return self.home / path

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Yield a new folder in which the inputs lie by their names, and outputs can be written.

        Raises:
            Stop: the job can't be replayed here.
        """
        if self.certificate.get("format") != certificates.FORMAT:
            raise Stop(
                Verdict.NOT_COMPARED,
                f"Its certificate has format {self.certificate.get('format')!r}, not "
                f"{certificates.FORMAT}.",
            )
        for name in self.outputs:
            # They are written by these names, by a script that asks nothing.
            if Path(name).parts[:1] != ("results",) or name == "results":
                raise Stop(
                    Verdict.TAMPERED,
                    f"The certificate names {name!r} as a result, which is not in the results.",
                )
            self.place(name)
        self._check_code()
        self._check_own_code()
        with tempfile.TemporaryDirectory(prefix="bandlimit-") as folder:
            stage = Path(folder).resolve()
            for name in dict.fromkeys(self.reads):
                place = self.place(name)
                if not place.exists():
                    raise Stop(Verdict.MISSING, f"{self.outputs[0]} was made from it.", name)
                if not Path(name).is_absolute():
                    staged(stage, name).symlink_to(place, target_is_directory=place.is_dir())
            for name in self.outputs:
                staged(stage, name)
            yield stage

    def _check_code(self) -> None:
        """Make sure that library and script are those of this process: results bring no code."""
        loaded = Path(__file__).resolve().parents[2]
        if loaded == self.home:
            return
        names = [self.script, *self.certificate.get("code", []), *self.reads]
        for name in (name for name in names if name.startswith(("bandlimit/", "scripts/"))):
            # Templates of pages are no Python, and are read as they are.
            meaning = origin.meaning if name.endswith(".py") else _sha256
            ours, theirs = meaning(loaded / name), meaning(self.home / name)
            if not ours or ours != theirs:
                raise Stop(
                    Verdict.NOT_COMPARED,
                    f"The code that runs here is not that of {str(self.home)!r}: {name} differs.",
                )

    def _check_own_code(self) -> None:
        """Make sure that no code runs that the certificate alone names."""
        places = [self.place(name) for name in self.reads]
        why = own_sources.refusal(self.params, places, self.own, self.home)
        if why is not None:
            raise Stop(Verdict.NOT_COMPARED, why)

    def run(self, stage: Path, params: Mapping[str, Any], wildcards: Mapping[str, str]) -> None:
        """Run the script of the rule in a folder that holds its inputs.

        Raises:
            Stop: it failed.
        """
        workflow = SimpleNamespace(
            rule=self.rule,
            input=self.reads,
            output=self.writes,
            params={"identity": params, "script": self.script},
            wildcards=wildcards,
            config={},
            threads=1,
            log=[str(stage / "log")],
            scriptdir=str((self.home / self.script).parent),
            # What is made again bears the certificate of what is stored, so that files whose
            # bytes depend on its length can be compared.
            certificate=self.certificate,
        )
        script = self.home / self.script
        if not _SCRIPT.fullmatch(self.script):
            raise Stop(
                Verdict.TAMPERED,
                f"The certificate names {self.script!r} as its script, which does not lie in "
                "'scripts'.",
            )
        if not script.is_file():
            raise Stop(
                Verdict.NOT_COMPARED, f"There is no script {str(script)!r} to make it again."
            )
        try:
            with _apart(self, stage):
                runpy.run_path(str(script), {"snakemake": workflow}, run_name=self.rule)
        except SystemExit as error:
            verdict = _blamed(error.__cause__ or error.__context__ or error)
            raise Stop(verdict, f"It could not be made again. {error.code}") from error
        except Exception as error:
            raise Stop(_blamed(error), f"It could not be made again: {said(error)}.") from error


_MACHINE = (
    *(MachineError, own_code.Unlike, ImportError, MemoryError, OSError, SystemError),
    *(Warning, UnicodeEncodeError, subprocess.SubprocessError),
)
"""Errors of a machine: it lacks a package, memory, room, a right or code of the user's own, or is
set up unlike others."""


def _blamed(error: BaseException) -> Verdict:
    """Return the verdict where a job fails: what is stored proves nothing if the machine is why."""
    text = str(error)
    card = isinstance(error, RuntimeError) and any(
        word in text for word in ("CUDA", "CUDNN", "CUBLAS", "out of memory", "can't allocate")
    )
    return Verdict.NOT_COMPARED if card or isinstance(error, _MACHINE) else Verdict.TAMPERED


def staged(stage: Path, name: str) -> Path:
    """Return the place of a file in a stage; nothing is there, and its folder is.

    Raises:
        Stop: it would lie elsewhere, or where another file lies.
    """
    path = stage / name
    between = path.parents[: len(path.parts) - len(stage.parts) - 1]
    if (
        not path.is_relative_to(stage)
        or any(part.is_symlink() or part.is_file() for part in between)
        or path.exists()
    ):
        raise Stop(
            Verdict.TAMPERED, f"The certificate names {name!r}, which can't lie by its other files."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _sha256(path: Path) -> str | None:
    """Return the sha256 of a file, None where there is none."""
    return store.sha256(path) if path.is_file() else None


class Files:
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
        """Return the file or files of a keyword."""
        return self._named.get(name, default)

    def items(self) -> Any:
        """Return keywords and files."""
        return self._named.items()


def said(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return f"{type(error).__name__}, {str(error).splitlines()[0]}" if str(error) else repr(error)


@contextlib.contextmanager
def _apart(job: Job, folder: Path) -> Iterator[None]:
    """Run code as if in a process of its own, in a folder: afterwards this one is as it was."""
    root, library = logging.getLogger(), logging.getLogger("bandlimit")
    handlers, levels = root.handlers[:], (root.level, library.level)
    shown, told = warnings.showwarning, logging.raiseExceptions
    with contextlib.ExitStack() as stack:
        if _reaches_torch(job):
            stack.enter_context(_torch_as_it_was())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.chdir(folder))
        # Code of the user's own is named as seen from the project, and may read what lies beside.
        stack.enter_context(own_code.named_from(job.home))
        # Whatever else may lead to such code: no other runs.
        stack.enter_context(own_code.only(job.own))
        path = sys.path[:]
        root.handlers[:] = []
        try:
            yield
        finally:
            if warnings.showwarning is not shown:
                logging.captureWarnings(False)
            for handler in root.handlers:
                handler.close()
            logging.raiseExceptions = told
            sys.path[:] = path
            for name in [name for name in sys.modules if name.startswith(own_code.PREFIX)]:
                del sys.modules[name]
            root.handlers[:] = handlers
            root.setLevel(levels[0])
            library.setLevel(levels[1])


def _reaches_torch(job: Job) -> bool:
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
