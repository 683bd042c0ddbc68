"""Which attempt at a job is the newest: an older one that is still alive writes nothing more.

A job outlives the workflow that was killed, and the next run begins the same job. The newest
attempt leaves its token beside those of the other jobs; any file is put in its place under a lock,
after a look at the token. So what an orphan finds later takes no result's place.

The Snakemake process that watches over a job removes its outputs where the job fails; that of an
orphan would remove those of the newest attempt. So it ends before the orphan does, by SIGKILL.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bandlimit.errors import MachineError

FOLDER = Path(".snakemake") / "attempts"
"""Tokens, each named by a digest of the job's first output, in the folder of the workflow."""

LEVELS = 6
"""Processes between a job and the Snakemake process that watches over it, at most."""


class Superseded(MachineError):
    """A newer attempt at this job has begun."""


class Attempt:
    """An attempt at the job that makes `output`; the newest from now on, until another begins.

    An earlier attempt that is alive on this machine is ended. Outside of a workflow there are no
    other attempts, and nothing is left.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.output = os.fspath(output)
        self.token = secrets.token_hex(16)
        self.path: Path | None = None
        self.processes = _processes()
        if not FOLDER.parent.is_dir():
            return
        name = hashlib.sha256(os.path.abspath(output).encode()).hexdigest()[:32]
        with suppress(OSError):
            FOLDER.mkdir(exist_ok=True)
            self.path = (FOLDER / name).absolute()
            with self._locked(create=True) as descriptor:
                before = _read(descriptor)
                self._write(descriptor)
            if before.get("place") == _place():
                theirs = [process for process in before["processes"] if process[0] != os.getpid()]
                _end(process for process in theirs if process not in self.processes)

    @contextmanager
    def newest(self) -> Iterator[None]:
        """Hold the job: no newer attempt begins meanwhile.

        Raises:
            Superseded: one has begun.
        """
        if self.path is None:
            yield
            return
        try:
            place = self._locked()
            descriptor = place.__enter__()
        except OSError:
            # Its token is gone with the folder of the workflow, and with it all others.
            yield
            return
        try:
            if _read(descriptor).get("token", self.token) != self.token:
                raise Superseded(
                    f"A newer attempt at {self.output!r} has begun, so that this one, of an "
                    "earlier run, ends and writes nothing more."
                )
            yield
        finally:
            place.__exit__(None, None, None)

    def end(self) -> None:
        """Tell that this process works on the job no more; it is not ended by the next attempt."""
        with suppress(OSError, Superseded), self.newest():
            self.processes = []
            if self.path is not None:
                with open(self.path, "r+b", buffering=0) as file:
                    self._write(file.fileno())

    def _write(self, descriptor: int) -> None:
        mine = {"token": self.token, "place": _place(), "processes": self.processes}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(mine).encode(), 0)

    def end_watchers(self) -> None:
        """End the Snakemake process that watches over this attempt, before it sees it fail."""
        _end(process for process in self.processes if process[0] != os.getpid())

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[int]:
        """Yield the open token under a lock."""
        assert self.path is not None
        descriptor = os.open(self.path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        try:
            # Some network file systems have no locks; the token alone leaves a moment.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> dict[str, Any]:
    """Return what an attempt has left; nothing, where it was killed as it wrote."""
    try:
        found = json.loads(os.pread(descriptor, 1 << 16, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


Process = list[int]
"""Number of a process, and when it began, in ticks since the start of the machine."""


def _place() -> str:
    """Return what names the processes of this machine, or of this container, since its start."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _processes() -> list[Process]:
    """Return this process, after the Snakemake process that watches over it, if there is one."""
    own = _began(os.getpid())
    if own is None:
        return []
    number = os.getpid()
    for _ in range(LEVELS):
        found = _stat(number)
        if found is None or found["parent"] <= 1:
            break
        number = found["parent"]
        mode = _mode(number)
        if mode is not None:
            began = _began(number)
            # The main process of a run is not one: it watches over other jobs too.
            return [*([[number, began]] if mode and began is not None else []), [os.getpid(), own]]
    return [[os.getpid(), own]]


def _mode(number: int) -> str | None:
    """Return how a Snakemake process was started by another, '' by a user; None of another."""
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if not any(word == b"snakemake" or word.endswith(b"/snakemake") for word in words):
        return None
    return words[words.index(b"--mode") + 1].decode() if b"--mode" in words[:-1] else ""


def _stat(number: int) -> Mapping[str, int] | None:
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of a program, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return {"parent": int(fields[1]), "began": int(fields[19])}


def _began(number: int) -> int | None:
    found = _stat(number)
    return None if found is None else found["began"]


def _end(processes: Iterator[Process]) -> None:
    """Kill processes, in order, that are still those that they were."""
    for number, began in processes:
        if _began(number) == began:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)


_current: list[Attempt] = []


@contextmanager
def begun(output: str | os.PathLike[str]) -> Iterator[Attempt]:
    """Make this process the newest attempt at the job of an output, until the end."""
    _current.append(Attempt(output))
    try:
        yield _current[-1]
    finally:
        _current.pop().end()


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
