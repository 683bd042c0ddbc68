"""What every script shares: its log, threads, memory, and the certificate of its outputs."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bandlimit import stopping
from bandlimit.errors import UserError
from bandlimit.files import attempts, parts, shards, store
from bandlimit.plan import code
from bandlimit.provenance import origin

LOCK = "requirements.lock"

FORMS = ("parquet", "markdown", "html", "latex", "csv")
"""Keywords of the outputs that hold a table, as `tables.save` names them."""

# Of glibc's malloc.h, and what they are set to.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_BYTES, MMAP_BYTES = 512 << 20, 32 << 20

# Whether this process is a script of the workflow and nothing else.
SCRIPT = hasattr(sys.modules["__main__"], "snakemake")

# Imports make objects by the hundred thousand, none of them garbage, and the collector would go
# through them again and again: it waits for `run`. That saves .7 s of a job with PyTorch.
if SCRIPT:
    gc.disable()


class Job:
    """One job: its files, parameters and wildcards, free of the workflow's own types.

    Args:
        snakemake: what the workflow hands to a script.

    Attributes:
        rule: name of the rule.
        home: folder of the project.
        input: files that it reads, by the keywords of the rule.
        output: files that it writes, likewise.
        params: what identifies the job, by name.
        wildcards: by name.
        threads: how many it may use.
        log: file of its messages.

    Raises:
        UserError: an input can't be read, shards among them can't be gathered, or the code is no
            longer what the run was planned with.
    """

    def __init__(self, snakemake: Any) -> None:
        # Rules of one kind that differ in their outputs have one name.
        self.rule: str = snakemake.params.get("rule") or snakemake.rule
        folder = Path(snakemake.scriptdir).resolve()
        # A script of an artifact lies in the folder of its study.
        self.home = next(p for p in folder.parents if (p / "scripts") in (folder, *folder.parents))
        self.input = snakemake.input
        self.output = snakemake.output
        self.params = SimpleNamespace(**(snakemake.params.get("identity") or {}))
        self.wildcards: dict[str, str] = dict(snakemake.wildcards.items())
        self.threads: int = snakemake.threads
        self.log = str(snakemake.log[0])
        # A replay bears the certificate of what it makes again.
        self._replayed: Mapping[str, Any] | None = getattr(snakemake, "certificate", None)
        self._configuration = snakemake.config.get("given")
        self._script = snakemake.params.get("script") or f"scripts/{snakemake.rule}.py"
        self._planned = snakemake.params.get("code")
        # What it reads is hashed before it is read: it may be edited while the job runs.
        self._known = None if self._replayed else self._origin()

    def _check_library(self) -> None:
        """Refuse to run with another copy of the library than certificates would name."""
        here, library = Path(__file__).resolve().parents[1], (self.home / "bandlimit").resolve()
        if library.is_dir() and here != library:
            raise UserError(
                f"The library that is running lies in {str(here)!r}, and the code of this project "
                f"in {str(library)!r}: run the workflow by 'make', or put the project first in "
                "PYTHONPATH."
            )

    def forms(self, number: int | None = None) -> dict[str, str]:
        """Return the files of a table by the names that `tables.save` gives them.

        Args:
            number: which table, of a job that makes several.
        """
        files = {form: self.output[form] for form in FORMS}
        return files if number is None else {form: files[form][number] for form in FORMS}

    def pictures(self) -> dict[str, str]:
        """Return the files of a figure by the names that `plots.files.save` gives them."""
        return {form: self.output[form] for form in ("png", "pdf", "svg")}

    def parts(
        self,
        outputs: Mapping[str, Any],
        device: Any,
        arrange: Callable[[Any], Any] | None = None,
    ) -> parts.Parts:
        """Return what keeps the finished steps of a long job; the arguments are as of `Parts`.

        Args:
            outputs: Parquet files to write, each with its schema.
            device: what it runs on, as for `certificate`.
            arrange: what becomes of all rows of an output before they are written, if anything.
        """
        return parts.Parts(outputs, partial(self.certificate, device), arrange)

    def certificate(self, device: Any = "cpu") -> Mapping[str, Any]:
        """Return the certificate for this job's outputs; `device` is a torch device or 'cpu'.

        Raises:
            UserError: code was changed while the job ran.
        """
        if self._replayed is not None:
            return self._replayed
        assert self._known is not None
        changed = origin.changed(self._known, self.home)
        if changed:
            raise UserError(
                f"The file {changed!r} was changed while the job ran, so nothing can tell which "
                "code made its outputs: run it again."
            )
        if str(device).startswith("cuda"):
            import torch

            device = torch.cuda.get_device_name(device)
        return {**self._known, "device": str(device)}

    def _origin(self) -> dict[str, Any]:
        """Return the certificate of this job, as on a CPU."""
        self._check_library()
        found = code.digest(self._script, self.home, LOCK)
        # An environment of the job's own may hold other versions, which its certificate names.
        if self._planned and self._planned.split(".")[0] != found.split(".")[0]:
            raise UserError(
                f"The code of {self._script!r}, or the lock, is no longer what this run was "
                "planned with: run it again."
            )
        inputs = [str(path) for path in self.input]
        shards.check(inputs)
        return origin.certificate(
            rule=self.rule,
            script=self._script,
            params={**vars(self.params), "wildcards": self.wildcards},
            inputs={self._place(path): path for path in inputs},
            code=code.files_of(self._script, self.home),
            lock=LOCK,
            home=self.home,
            reads={k: self._places(v) for k, v in self.input.items()},
            writes={k: self._places(v) for k, v in self.output.items()},
            configuration=self._configuration,
        )

    def _places(self, value: Any) -> Any:
        """Return the names of one file or of several."""
        return self._place(value) if isinstance(value, str) else [self._place(v) for v in value]

    def _place(self, path: Any) -> str:
        """Return a path as a certificate names it: relative to the project where it lies there."""
        path = Path(os.path.abspath(path))
        return (path.relative_to(self.home) if path.is_relative_to(self.home) else path).as_posix()


def run(main: Callable[[Job], None], snakemake: Any) -> None:
    """Run `main(job)`; messages and the traceback of a failure go to the log of the rule.

    SIGTERM stops it, by one sentence and the exit status `stopping.EXIT`.
    """
    logging.basicConfig(
        filename=str(snakemake.log[0]),
        filemode="w",
        level=logging.WARNING,
        format="%(levelname)s %(message)s",
    )
    messages = logging.getLogger("bandlimit")
    messages.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # A log that can't be written, as on a full disk, must not drown what the job says.
    logging.raiseExceptions = False
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(snakemake.threads)
        keep_memory()
    # A replay is part of another program, and writes where nobody else does.
    alone = getattr(snakemake, "certificate", None) is None
    if SCRIPT:
        # What was imported stays to the end, so the collector need not look at it.
        gc.freeze()
        gc.enable()
    outputs = [str(path) for path in snakemake.output]
    try:
        with ExitStack() as stack:
            if alone:
                stack.enter_context(stopping.listening())
                attempt = stack.enter_context(attempts.begun(outputs[0]))
                for path in outputs:
                    store.remove_halves(path)
            main(Job(snakemake))
    except stopping.Stopped as stopped:
        said = f"The rule {snakemake.rule} was asked to stop: {stopped}; run it again to go on."
        logging.error("%s", said)
        print(said, file=sys.stderr)
        sys.exit(stopping.EXIT)
    except UserError as error:
        logging.error("%s", error)
        if isinstance(error, attempts.Superseded) and alone:
            attempt.end_watchers()
        sys.exit(f"Error in rule {snakemake.rule}: {error}")
    except BaseException as error:
        # Not all is written by `store.atomic`; what else was begun, the workflow removes.
        if store.is_full(error):
            told = store.full(os.path.dirname(outputs[0]))
            logging.error("%s", told)
            raise SystemExit(f"Error in rule {snakemake.rule}: {told}") from told
        logging.error("%s", traceback.format_exc())
        raise
    finally:
        # What a site's limits, and `mem_mb` on a cluster, must allow.
        if peak := most_memory():
            messages.info("Memory at most: %d MiB.", peak >> 20)
        if SCRIPT:
            # The process ends, and its memory with it.
            gc.freeze()


def most_memory() -> int | None:
    """Return the greatest resident memory of this process in bytes, where Linux tells it.

    The operating system's `getrusage` would name that of the process that started this one, where
    it was greater.
    """
    try:
        told = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", told, flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def keep_memory() -> None:
    """Let the C library keep what a pass of a network frees for the next pass.

    Otherwise glibc hands feature maps back to the system, which clears each page anew for the next
    pass: up to a fifth of the time of a gradient. Both thresholds are set, since setting either
    ends glibc's own adjustment of the other. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
