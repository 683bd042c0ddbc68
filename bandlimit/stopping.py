"""How a job is stopped in its midst: after the step it is at, with what is finished kept.

A cluster that takes a machine back sends SIGTERM and kills a while later. A job that keeps its
finished steps (`deferred`) ends after the step it is at; any other ends at once.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

EXIT = 75
"""Exit status of a job that was stopped and can go on: that of a failure that will pass."""

EVERY = 10.0
"""Seconds of work between two times of keeping it, at least."""

SHARE = 0.02
"""Share of the work so far that may be lost, where that is more than `EVERY` seconds."""

COST = 0.01
"""Share of the time that keeping may take, at most."""


class Stopped(BaseException):
    """The job was asked to stop. No error of the program, so that nothing takes it for one."""


class _State:
    asked = False
    deferred = 0


@contextmanager
def listening() -> Iterator[None]:
    """Take SIGTERM for a wish to stop, until the end; in the main thread only."""
    _State.asked, _State.deferred = False, 0
    before = signal.signal(signal.SIGTERM, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _State.asked = False


def _ask(number: int, frame: Any) -> None:
    # A process group and its parent may each send one: what comes again asks for nothing new.
    if _State.deferred:
        if not _State.asked:
            _State.asked = True
            logger.info("asked to stop: the step that is under way is finished first")
        return
    if not _State.asked:
        _State.asked = True
        raise Stopped("nothing was kept")


@contextmanager
def deferred() -> Iterator[None]:
    """Leave it to the work inside to `check` whether it is to stop."""
    _State.deferred += 1
    try:
        yield
    finally:
        _State.deferred -= 1


def asked() -> bool:
    """Return whether the job is to stop."""
    return _State.asked


class Pace:
    """When finished work is worth keeping: often enough to lose little, at next to no cost."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Return whether it is time to keep what was done since the last time."""
        now = time.monotonic()
        return now - self._last >= max(EVERY, SHARE * (now - self._start), self._cost / COST)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Measure what keeping takes."""
        begun = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - begun
