"""Which attempt at a job is the newest: an older one that is still alive writes nothing more.

A job outlives the workflow that was killed, and the next run begins the same job. The newest
attempt leaves its token beside those of the other jobs; any file is put in its place under a lock,
after a look at the token. So what an orphan finds later takes no result's place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bandlimit.errors import MachineError

FOLDER = Path(".snakemake") / "attempts"
"""Tokens, each named by a digest of the job's first output, in the folder of the workflow."""


class Superseded(MachineError):
    """A newer attempt at this job has begun."""


class Attempt:
    """An attempt at the job that makes `output`; the newest from now on, until another begins.

    Outside of a workflow there are no other attempts, and nothing is left.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.output = os.fspath(output)
        self.token = secrets.token_hex(16)
        self.path: Path | None = None
        if FOLDER.parent.is_dir():
            name = hashlib.sha256(os.path.abspath(output).encode()).hexdigest()[:32]
            with suppress(OSError):
                FOLDER.mkdir(exist_ok=True)
                self.path = (FOLDER / name).absolute()
                with self._locked(create=True) as descriptor:
                    assert descriptor is not None
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, self.token.encode(), 0)

    @contextmanager
    def newest(self) -> Iterator[None]:
        """Hold the job: no newer attempt begins meanwhile.

        Raises:
            Superseded: one has begun.
        """
        with self._locked() as descriptor:
            if descriptor is not None:
                found = os.pread(descriptor, len(self.token), 0).decode("ascii", "replace")
                # What the next attempt has only begun to write is no token of another.
                if found and found != self.token:
                    raise Superseded(
                        f"A newer attempt at {self.output!r} has begun, so that this one, of an "
                        "earlier run, ends and writes nothing more."
                    )
            yield

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[int | None]:
        """Yield the open token under a lock, or None where there is none any more."""
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        try:
            descriptor = None if self.path is None else os.open(self.path, flags, 0o666)
        except OSError:
            descriptor = None
        try:
            if descriptor is not None:
                # Some network file systems have no locks; the token alone leaves a moment.
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


_current: list[Attempt] = []


@contextmanager
def begun(output: str | os.PathLike[str]) -> Iterator[None]:
    """Make this process the newest attempt at the job of an output, until the end."""
    _current.append(Attempt(output))
    try:
        yield
    finally:
        _current.pop()


@contextmanager
def newest() -> Iterator[None]:
    """Hold the job that this process is an attempt at, if it is one.

    Raises:
        Superseded: a newer attempt has begun.
    """
    if not _current:
        yield
        return
    with _current[-1].newest():
        yield
