"""What every script shares: its log, threads, memory, and the certificate of its outputs."""

import ctypes
import logging
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from bandlimit import origin
from bandlimit.errors import UserError

LOCK = "requirements.lock"

# Of glibc's malloc.h, and what they are set to.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_BYTES, MMAP_BYTES = 512 << 20, 32 << 20


class Job:
    """One job: its files, parameters and wildcards, free of the workflow's own types."""

    def __init__(self, snakemake):
        self.rule = snakemake.rule
        self.home = Path(snakemake.scriptdir).resolve().parent
        self.input = snakemake.input
        self.output = snakemake.output
        self.params = SimpleNamespace(**snakemake.params.get("named", {}))
        self.wildcards = dict(snakemake.wildcards.items())
        self.threads = snakemake.threads
        self.log = str(snakemake.log[0])
        # A replay bears the certificate of what it makes again.
        self._replayed = getattr(snakemake, "certificate", None)
        self._configuration = snakemake.config.get("given")
        self._code = sorted(map(str, snakemake.input.get("code", [])))
        # What it reads is hashed before it is read: it may be edited while the job runs.
        self._known = None if self._replayed else self._origin()

    def table_files(self):
        """Return the files of a table by the names that `tables.save` gives them."""
        return {name: self.output[name] for name in ("parquet", "markdown", "html", "latex", "csv")}

    def certificate(self, device="cpu"):
        """Return the certificate for this job's outputs; `device` is a torch device or 'cpu'."""
        if self._replayed is not None:
            return self._replayed
        changed = origin.changed(self._known, self.home)
        if changed:
            raise UserError(
                f"The file {changed!r} was changed while the job ran, so it can't be told which "
                "code made its outputs: run it again."
            )
        if str(device).startswith("cuda"):
            import torch

            device = torch.cuda.get_device_name(device)
        return {**self._known, "device": str(device)}

    def _origin(self):
        """Return the certificate of this job, as on a CPU."""
        code = [os.path.relpath(path, self.home) for path in self._code]
        inputs = [str(path) for path in self.input if str(path) not in self._code]
        return origin.certificate(
            rule=self.rule,
            params={**vars(self.params), "wildcards": self.wildcards},
            inputs={self._place(path): path for path in inputs},
            code=code,
            lock=LOCK,
            home=self.home,
            reads={k: self._places(v) for k, v in self.input.items() if k != "code"},
            writes={k: self._places(v) for k, v in self.output.items()},
            configuration=self._configuration,
        )

    def _places(self, value):
        """Return the names of one file or of several."""
        return self._place(value) if isinstance(value, str) else [self._place(v) for v in value]

    def _place(self, path):
        """Return a path as a certificate names it: relative to the project where it lies there."""
        path = Path(os.path.abspath(path))
        return (path.relative_to(self.home) if path.is_relative_to(self.home) else path).as_posix()


def run(main, snakemake):
    """Run `main(job)`; messages and the traceback of a failure go to the log of the rule."""
    job = Job(snakemake)
    logging.basicConfig(
        filename=job.log, filemode="w", level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    logging.getLogger("bandlimit").setLevel(logging.INFO)
    logging.captureWarnings(True)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(job.threads)
        keep_memory()
    try:
        main(job)
    except UserError as error:
        logging.error("%s", error)
        sys.exit(f"Error in rule {job.rule}: {error}")
    except BaseException:
        logging.error("%s", traceback.format_exc())
        raise


def keep_memory():
    """Let the C library keep what a pass of a network frees for the next pass.

    Otherwise glibc hands feature maps back to the system, which clears each page anew for the next
    pass: up to a fifth of the time of a gradient. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
