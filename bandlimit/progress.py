"""How far a long job is: plain lines in its log, and a bar where someone sits at a terminal.

What is counted is only looked at, so results are the same to the bit with and without it. Imports
nothing heavy.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines in a log."""

LINES = 16
"""Bars that have a line of the terminal of their own; the jobs beyond show none."""

WIDTH = 100
"""Columns of a bar, at most."""

Item = TypeVar("Item")
Batch = TypeVar("Batch", bound=tuple[Any, ...])


def bar(
    iterable: Iterable[Item],
    total: int | None,
    what: str,
    *,
    size: Callable[[Item], int] | None = None,
    title: str = "",
    resuming: Callable[[], bool] = lambda: False,
) -> Iterator[Item]:
    """Yield the items of an iterable, and tell how many of them have been worked on.

    An item counts once the next one is asked for. In the log there is a line about every `EVERY`
    seconds and one at the end; on a terminal a bar stands on standard error until the end.

    Args:
        iterable: what is worked on, such as batches of images.
        total: how much there is in all, if that is known.
        what: what is counted, in the plural: 'images'.
        size: how much an item counts; 1 by default.
        title: what the bar stands for, such as the attack.
        resuming: whether an earlier attempt had done the item at hand, which says nothing of speed.
    """
    start = said = time.monotonic()
    done = before = 0
    head = f"{title}: " if title else ""
    with _shown(total, what, title) as shown:
        for item in iterable:
            yield item
            count = 1 if size is None else size(item)
            done += count
            shown(count)
            now = time.monotonic()
            if resuming():
                start, before = now, done
            if now - said >= EVERY and done != total:
                said = now
                logger.info("%s%s", head, line(done, total, what, now - start, before=before))
    seconds = time.monotonic() - start
    logger.info("%s%s", head, line(done, total, what, seconds, before=before, ended=True))


def images(
    batches: Iterable[Batch],
    total: int | None,
    title: str,
    resuming: Callable[[], bool] = lambda: False,
) -> Iterator[Batch]:
    """Yield batches that end in their images, as `bar` does, counting the images.

    Args:
        batches: tuples of columns, the last of them images, N x C x H x W.
        total: how many images there are in all.
        title: what the bar stands for, such as the attack.
        resuming: as of `bar`.
    """
    return bar(
        batches,
        total,
        "images",
        size=lambda batch: len(batch[-1]),
        title=title,
        resuming=resuming,
    )


def count(
    path: str | os.PathLike[str],
    shard: str = "1of1",
    keep: frozenset[str] | None = None,
    *,
    success: bool = False,
) -> int:
    """Return how many rows with an image a Parquet file has.

    Args:
        path: a dataset or adversarial records.
        shard: the part of a dataset that is worked on, such as '2of8'.
        keep: ids of the images to count; None for all.
        success: whether to count the successes of an attack only.
    """
    from bandlimit.files import store  # imports pyarrow, which counting alone should not

    part, parts = map(int, shard.split("of"))
    rows = store.read(path, ["image_id", *(["success"] if success else [])]).to_pydict()
    wins = rows.get("success", [True] * len(rows["image_id"]))
    chosen = list(zip(rows["image_id"], wins, strict=True))[part - 1 :: parts]
    return sum(won and (keep is None or name in keep) for name, won in chosen)


def line(
    done: int,
    total: int | None,
    what: str,
    seconds: float,
    *,
    before: int = 0,
    ended: bool = False,
) -> str:
    """Return how far a job is, as a log says it: 'images 120 of 1000, 12.1 a second, 1:13 left'.

    Args:
        done: how much has been worked on.
        total: how much there is in all, if that is known.
        what: what is counted.
        seconds: how long that took, but for what was done before.
        before: how much of it an earlier attempt had done.
        ended: whether that was all.
    """
    said = f"{what} {done}" if total is None else f"{what} {done} of {total}"
    if seconds <= 0 or done <= before:
        return said
    rate = (done - before) / seconds
    said += f", {rate:.3g} a second" if rate >= 1 else f", {1 / rate:.3g} seconds each"
    if ended:
        return f"{said}, {clock(seconds)} in all"
    return said if total is None else f"{said}, {clock((total - done) / rate)} left"


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, after hours where there are any: '1:13', '2:00:05'."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def _shown(total: int | None, what: str, title: str) -> Iterator[Callable[[int], Any]]:
    """Yield what moves the bar; nothing is written where standard error is no terminal."""
    with contextlib.ExitStack() as stack:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        place = stack.enter_context(_place()) if terminal else None
        if place is None:
            yield lambda count: None
            return
        from tqdm import tqdm

        columns, rows = _room()
        yield stack.enter_context(
            tqdm(
                total=total,
                desc=title or what,
                unit=f" {what}",
                position=place,
                leave=False,
                mininterval=1.0,
                ncols=columns,
                nrows=rows,
                file=_Terminal(),
            )
        ).update


class _Terminal:
    """Standard error; the cursor returns to the start of its line after it was moved up to it.

    What Snakemake says next would begin where the bar ends otherwise.
    """

    def write(self, text: str) -> None:
        sys.stderr.write(text + "\r" if text.endswith("\x1b[A") else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def _room() -> tuple[int, int]:
    """Return how many columns and rows of the terminal the bars may take."""
    columns = rows = 0
    with contextlib.suppress(OSError):
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    # A line as wide as the terminal would wrap; some terminals say that they have no size.
    return min(WIDTH, columns - 1) if columns > 1 else WIDTH, rows if rows > 1 else LINES + 2


@contextlib.contextmanager
def _place() -> Iterator[int | None]:
    """Yield a line of the terminal that no other job's bar stands on, or None if all are taken.

    Jobs are processes of their own and know nothing of each other but the locks of these lines,
    which end with the process that holds them, however that ends.
    """
    if not Path(".snakemake").is_dir():  # not in a workflow, where nobody else draws
        yield 0
        return
    with contextlib.ExitStack() as stack:
        # The line of the cursor itself is left to what Snakemake says.
        yield next(filter(lambda number: _take(stack, number), range(1, LINES + 1)), None)


def _take(stack: contextlib.ExitStack, number: int) -> bool:
    """Hold a line of the terminal until the stack is left; False if another process has it."""
    try:
        Path(".snakemake/bars").mkdir(exist_ok=True)
        held = open(f".snakemake/bars/{number}", "w")  # noqa: SIM115 (open as long as the bar stands)
        stack.enter_context(held)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
