"""Run a function on pieces of a batch while a network sees the images of all of them in one batch.

Code that draws from the global generators must be run for one image at a time, since its draws
belong to that image; other code for batches of one size. A network runs best on many. So each piece
has a thread; one thread runs at a time, up to where it asks for the network, and once all have
asked, one batch answers them all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

States = tuple[Any, ...]


def states() -> States:
    """Return the states of the global generators of torch, numpy and random.

    Those of all cards are among them once a card is in use.
    """
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate(), cards


def restore(saved: States) -> None:
    """Set the global generators to states of before."""
    torch.set_rng_state(saved[0])
    np.random.set_state(saved[1])
    random.setstate(saved[2])
    if saved[3]:
        torch.cuda.set_rng_state_all(saved[3])


def same(one: States, other: States) -> bool:
    """Return whether two states are the same, so that nothing was drawn between them.

    Nothing is known of cards that were not in use at one of the two.
    """
    words = (one[1]["state"], other[1]["state"])
    return (
        torch.equal(one[0], other[0])
        and words[0]["pos"] == words[1]["pos"]
        and np.array_equal(words[0]["key"], words[1]["key"])
        and one[2] == other[2]
        and all(torch.equal(*cards) for cards in zip(one[3], other[3], strict=False))
    )


class _Turn:
    """The thread of one image: it runs when told, until it asks or ends."""

    def __init__(self, work: Callable[[], Tensor], seed: int | None, grad: bool) -> None:
        self.asked: Tensor | None = None
        self.answer: Tensor | None = None
        self.result: Tensor | None = None
        self.error: BaseException | None = None
        self._seed = seed
        self._saved: States | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._left = False
        self._thread = threading.Thread(target=self._run, args=(work, grad), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Tensor], grad: bool) -> None:
        self._go.acquire()
        try:
            if not self._left:
                # Kernels of one thread each: those of many threads would wait busily for more work.
                # A thread takes the number of all when it first asks for its own.
                torch.get_num_threads()
                torch.set_num_threads(1)
                _own.turn = self
                with torch.set_grad_enabled(grad):
                    self.result = work()
        except BaseException as error:  # handed to whoever waits
            self.error = error
        self._back.release()

    def go(self) -> bool:
        """Let it run until it asks, or ends; return whether it asks."""
        if self._seed is None:
            pass
        elif self._saved is None:
            torch.manual_seed(self._seed)
            np.random.seed(self._seed)
            random.seed(self._seed)
        else:
            restore(self._saved)
        self.asked = None
        self._go.release()
        self._back.acquire()
        if self._seed is not None:
            self._saved = states()
        if self.error is not None:
            raise self.error
        return self.asked is not None

    def ask(self, x: Tensor) -> Tensor:
        """Wait, within its thread, for the network's answer to some images.

        Raises:
            RuntimeError: nobody will answer, since it was left.
        """
        # Also where code caught the error and asks again: nobody would ever wake it.
        if not self._left:
            self.asked = x
            self._back.release()
            self._go.acquire()
        if self._left:
            raise RuntimeError("another image ended in an error")
        assert self.answer is not None
        return self.answer

    def images(self) -> Tensor:
        """Return the images that it asks for."""
        assert self.asked is not None
        return self.asked

    def leave(self) -> None:
        """End it wherever it waits."""
        self._left = True
        self._go.release()
        self._thread.join()


_own = threading.local()


def answer(x: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a network says of images, together with those of other turns within `take`."""
    turn: _Turn | None = getattr(_own, "turn", None)
    return network(x) if turn is None else turn.ask(x)


def take(
    work: Callable[[int], Tensor], seeds: Sequence[int | None], network: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Return work(i) for each seed, each on one thread, the generators keyed by its seed.

    Args:
        work: is told a number, and asks for the network by `answer`.
        seeds: one for each number, from 0 to 2**32 - 1; None leaves the generators alone, for work
            that draws nothing.
        network: images to logits, of which each depends on its image alone.

    The global generators are afterwards as before, unless work without a seed drew.
    """
    before, grad, threads = states(), torch.is_grad_enabled(), torch.get_num_threads()
    turns = [_Turn(partial(work, i), seed, grad) for i, seed in enumerate(seeds)]
    try:
        waiting = [turn for turn in turns if turn.go()]
        # Who sets the own number also sets the one that new threads begin with.
        torch.set_num_threads(threads)
        while waiting:
            asked = [turn.images() for turn in waiting]
            answers = network(torch.cat(asked)).split([len(x) for x in asked])
            for turn, part in zip(waiting, answers, strict=True):
                turn.answer = part
            waiting = [turn for turn in waiting if turn.go()]
    finally:
        for turn in turns:
            turn.leave()
        torch.set_num_threads(threads)
        if any(seed is not None for seed in seeds):
            restore(before)
    return [turn.result for turn in turns if turn.result is not None]
