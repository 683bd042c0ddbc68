"""A long job keeps its finished steps beside its output, and another attempt goes on from there.

Steps, such as batches of images, come in the same order at each attempt. Their tables are kept as
numbered Parquet files in a hidden folder beside the output, each written whole or not at all. A
file names the job that it belongs to, by a digest of what decides the job's results, and its own
content: what is of another job, or damaged, is removed and never used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from bandlimit import stopping
from bandlimit.errors import MachineError, UserError
from bandlimit.files import attempts, certificates, contents, store

logger = logging.getLogger(__name__)

PARTS, STATE = ".parts", ".state"
"""Ends of the names of what a job keeps, hidden, beside its output: tables, or one state."""

WAITING_BYTES = 256 << 20
"""How much may wait in memory to be kept, whatever the pace.

With images a fast job would come to gigabytes before it is time; so much is worth the seconds that
writing it out takes.
"""

DECIDES = ("format", "rule", "params", "inputs", "writes", "code", "lock", "versions", "device")
"""What of a certificate decides the results; a commit, or where settings stood, does not."""


def folder_of(path: str | os.PathLike[str]) -> Path:
    """Return the hidden folder beside an output that keeps its finished steps.

    >>> folder_of("results/a.parquet").as_posix()
    'results/.a.parquet.parts'
    """
    path = Path(path)
    return path.with_name(f".{path.name}{PARTS}")


def state_of(path: str | os.PathLike[str]) -> Path:
    """Return the hidden file beside an output that keeps the state of a training.

    >>> state_of("results/a.safetensors").as_posix()
    'results/.a.safetensors.state'
    """
    path = Path(path)
    return path.with_name(f".{path.name}{STATE}")


def is_kept(name: str) -> bool:
    """Return whether a file or folder is what an unfinished job keeps, by its name.

    >>> is_kept("results/.a.parquet.parts"), is_kept("results/a.parquet")
    (True, False)
    """
    last = Path(name).name
    return last.startswith(".") and last.endswith((PARTS, STATE))


def identity(certificate: Mapping[str, Any]) -> str:
    """Return the digest of what decides a job's results, as 64 hexadecimal digits."""
    deciding = {name: certificate.get(name) for name in DECIDES}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class Parts:
    """The outputs of a long job, made of the tables of its steps.

    Use as a context manager: `add` each step, in the same order at each attempt, then `finish`,
    which leaving it without an error does too. What was finished is kept where the work is
    stopped, killed or fails; where a check after `finish` refuses the outputs, by a `UserError`
    that tells of more than a want of the machine, it is not, since it may be why.

    Args:
        outputs: Parquet files to write, each with its schema.
        certificate: what the job says of all its outputs; asked at the start and at the end.
        arrange: what becomes of all rows of an output before they are written, if anything.
    """

    def __init__(
        self,
        outputs: Mapping[str, pa.Schema],
        certificate: Callable[[], Mapping[str, Any]],
        arrange: Callable[[pa.Table], pa.Table] | None = None,
    ) -> None:
        self._outputs, self._certificate, self._arrange = dict(outputs), certificate, arrange
        self._folder = folder_of(next(iter(outputs)))
        self._parts = self._in_parts = self._kept = self._step = 0
        self._waiting: list[list[pa.Table]] = [[] for _ in outputs]
        self._waiting_steps = self._waiting_bytes = 0
        self._finished = False
        self._deferred = ExitStack()

    def __enter__(self) -> Parts:
        self._identity = identity(self._certificate())
        self._take_up()
        self._pace = stopping.Pace()
        self._deferred.enter_context(stopping.deferred())
        return self

    def resuming(self) -> bool:
        """Return whether the step at hand was kept by an earlier attempt."""
        return 0 < self._step <= self._kept

    def stop_if_asked(self) -> None:
        """End here where the job is to stop.

        Raises:
            stopping.Stopped: it is; all steps so far are kept.
        """
        if stopping.asked():
            self._keep()
            raise stopping.Stopped(f"what is finished, {self._in_parts} of its steps, is kept")

    def add(self, make: Callable[..., pa.Table | tuple[pa.Table, ...]], *arguments: Any) -> None:
        """Take the next step, by make(*arguments), unless an earlier attempt has kept it.

        Args:
            make: returns the table of the step, or one for each output.
            *arguments: for it.

        Raises:
            stopping.Stopped: the job is to stop; all steps before this one are kept.
        """
        self.stop_if_asked()
        self._step += 1
        if self._step <= self._kept:
            return
        made: Any = make(*arguments)
        tables = made if isinstance(made, tuple) else (made,)
        for waiting, table, schema in zip(
            self._waiting, tables, self._outputs.values(), strict=True
        ):
            waiting.append(table.select(schema.names).cast(schema))
            self._waiting_bytes += waiting[-1].nbytes
        self._waiting_steps += 1
        if self._waiting_bytes > WAITING_BYTES or self._pace.due():
            self._keep()

    def finish(self) -> None:
        """Write the outputs, all rows in the order of the steps; they are removed no more.

        Raises:
            stopping.Stopped: the job is to stop; all steps are kept.
        """
        self.stop_if_asked()
        # What comes after may take long, and keeps nothing more.
        self._keep_if_any()
        self._deferred.close()
        certificate = self._certificate()
        for number, (path, schema) in enumerate(self._outputs.items()):
            with store.TableWriter(path, schema, certificate) as writer:
                tables = self._tables(number)
                if self._arrange is not None:
                    whole = pa.concat_tables([schema.empty_table(), *tables])
                    tables = iter([self._arrange(whole)])
                for table in tables:
                    writer.write(table)
        self._finished = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._finished:
                self.finish()
            if kind is None or self._finished and _refuses(error):
                self._remove()
            elif isinstance(error, Exception | KeyboardInterrupt):
                # Why the work ends is told; that this can't be kept in addition is not.
                with suppress(Exception):
                    self._keep()
        finally:
            self._deferred.close()

    def _keep_if_any(self) -> None:
        """Keep the rest where steps were kept before: a job of seconds leaves nothing behind."""
        if self._parts:
            self._keep()

    def _keep(self) -> None:
        """Write the steps that wait as another part."""
        if not self._waiting_steps:
            return
        proof = {
            "format": certificates.FORMAT,
            "identity": self._identity,
            "first": self._in_parts + 1,
            "steps": self._waiting_steps,
        }
        with self._pace.keeping():
            for number, waiting in enumerate(self._waiting):
                place = self._place(self._parts, number)
                store.write(place, pa.concat_tables(waiting), proof)
        self._parts += 1
        self._in_parts += self._waiting_steps
        self._waiting = [[] for _ in self._outputs]
        self._waiting_steps = self._waiting_bytes = 0

    def _place(self, part: int, output: int) -> Path:
        return self._folder / f"{part:06}.{output}.parquet"

    def _tables(self, output: int) -> Iterator[pa.Table]:
        """Yield the rows of an output, those that are kept first."""
        for part in range(self._parts):
            yield from store.groups(self._place(part, output))
        yield from self._waiting[output]

    def _take_up(self) -> None:
        """Find what earlier attempts at this very job have kept, and remove all else."""
        if not self._folder.is_dir():
            return
        while (steps := self._steps_of(self._parts)) is not None:
            self._parts += 1
            self._in_parts += steps
        self._kept = self._in_parts
        good = {
            self._place(part, output)
            for part in range(self._parts)
            for output in range(len(self._outputs))
        }
        others = [path for path in self._folder.iterdir() if path not in good]
        with attempts.newest():
            for path in others:
                path.unlink(missing_ok=True)
        if others:
            logger.info("%s held what is of another job, or damaged: removed", self._folder)
        if self._kept:
            logger.info("goes on after %d steps that an earlier attempt has kept", self._kept)

    def _steps_of(self, part: int) -> int | None:
        """Return how many steps a part holds, None where it is missing or can't be used."""
        steps = None
        for output in range(len(self._outputs)):
            place = self._place(part, output)
            if contents.fault(place) is not None:
                return None
            found = contents.certificate(place) or {}
            if found.get("identity") != self._identity or found.get("first") != self._in_parts + 1:
                return None
            if steps not in (None, found["steps"]):
                return None
            steps = int(found["steps"])
        return steps

    def _remove(self) -> None:
        if self._folder.is_dir():
            with attempts.newest():
                shutil.rmtree(self._folder, ignore_errors=True)


def _refuses(error: BaseException | None) -> bool:
    """Return whether an error tells that what was written does not hold.

    A full disk, or a card without memory, says nothing of it.
    """
    return isinstance(error, UserError) and not isinstance(error, MachineError)
