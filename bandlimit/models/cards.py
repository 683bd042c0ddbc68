"""One card for each job, where a machine has several: handed out by file locks.

A scheduler such as SLURM shows each job its own card. Without one, all jobs see all cards and would
crowd the first. So a job takes the first card whose lock is free, and holds it to its end, however
that comes: the operating system takes back the lock of a process that is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks while all cards are taken."""

_held: dict[str, IO[bytes]] = {}
"""Locks of this process by the names of cards; open as long as it lives."""


def take(names: Sequence[str], folder: str | os.PathLike[str] | None = None) -> int:
    """Return the number of a card that is this process's own until it ends, from 0.

    Asked again, a process keeps the card that it has. While all are taken it waits.

    Args:
        names: what identifies each card on this machine, such as its UUID.
        folder: where the locks lie; all who share the cards must share it. By default a folder of
            the user's own for temporary files.

    Raises:
        ValueError: there are no cards.
    """
    if not names:
        raise ValueError("there are no cards to take")
    for number, name in enumerate(names):
        if name in _held:
            return number
    place = Path(folder or Path(tempfile.gettempdir(), f"bandlimit-cards-{os.getuid()}"))
    place.mkdir(mode=0o700, exist_ok=True)
    waited = False
    while True:
        for number, name in enumerate(names):
            lock = open(place / re.sub(r"[^\w.-]", "_", name), "ab")  # noqa: SIM115 (held)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            except OSError as error:
                _log.warning(
                    "Files in '%s' can't be locked (%s), so other jobs may take the same card: set "
                    "TMPDIR to a folder on a local disk.",
                    place,
                    error.strerror,
                )
            _held[name] = lock
            return number
        if not waited:
            _log.info("All %d cards are taken; waiting for one.", len(names))
            waited = True
        time.sleep(POLL)
