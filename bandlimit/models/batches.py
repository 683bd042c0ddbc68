"""Networks run in batches of one size, each on one thread, so that bits never vary."""

from __future__ import annotations

import logging
import operator
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bandlimit.models import architectures

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class MicroBatches(nn.Module):
    """Feed a network batches of one fixed size, each on one thread, so that bits never vary.

    Kernels add up in another order for another batch shape, and for another number of threads.
    Here an image meets the same kernels in every call: its logits and input gradients do not
    depend on which or how many images share the call, on their order, or on the number of threads.
    The last batch is filled up with zeros and its output cut back. On the CPU the batches are
    shared out to `workers()` threads; the gradient is of first order, and hooks on
    modules inside `network` run in those threads: a caller that needs more calls `network` itself.
    A call with a gradient keeps the features of all its images until the gradient is freed, so what
    bounds the memory is the number of images that the caller passes.

    Args:
        network: a frozen network in eval mode, in which images do not mix.
        size: images in each batch.
        dtype: of the network; input is cast to it, output to the wider one of input and network.
    """

    def __init__(
        self, network: nn.Module, size: int, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x classes, of standardised images, N x C x H x W; N may be 0."""
        if x.device.type != "cpu":
            return torch.cat([self.run(piece) for piece in self.cut(x)])
        if torch.is_grad_enabled() and x.requires_grad:
            logits: torch.Tensor = _OneThreadEach.apply(x, self)
            return logits
        return torch.cat(in_threads(self._run_without_grad, self.cut(x)))

    def cut(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return x in pieces of at most `size` images; at least one piece, if an empty one."""
        return list(torch.split(x, self.size))

    def run(self, piece: torch.Tensor) -> torch.Tensor:
        """Return the logits of at most `size` images by one pass of the network."""
        # A fresh buffer also gives every pass the same strides and alignment.
        batch = torch.empty(
            (self.size, *piece.shape[1:]),
            dtype=self.dtype,
            device=piece.device,
            memory_format=torch.channels_last,
        )
        batch[: len(piece)] = piece
        batch[len(piece) :] = 0
        logits: torch.Tensor = self.network(batch)[: len(piece)]
        return logits.to(torch.promote_types(piece.dtype, self.dtype))

    def _run_without_grad(self, piece: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():  # the mode of the caller does not reach a new thread
            return self.run(piece)


class _OneThreadEach(torch.autograd.Function):
    """`MicroBatches` on the CPU with a gradient: forward and backward of a piece on one thread.

    A function of its own, because the plain backward would run later, with all threads.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, batches: MicroBatches) -> torch.Tensor:
        def run(piece: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.enable_grad():
                leaf = piece.detach().requires_grad_()
                return leaf, batches.run(leaf)

        ctx.passes = in_threads(run, batches.cut(x))
        return torch.cat([logits.detach() for _, logits in ctx.passes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        def run(item: tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
            (leaf, logits), piece = item
            # The gradient of a sum, since PyTorch imports SymPy to check one that is handed over.
            # Kept: a caller asks for several gradients of one pass, as DeepFool does.
            with torch.enable_grad():
                product = (logits * piece).sum()
            (result,) = torch.autograd.grad(product, leaf, retain_graph=True)
            return result

        pieces = torch.split(gradient, [len(logits) for _, logits in ctx.passes])
        return torch.cat(in_threads(run, list(zip(ctx.passes, pieces, strict=True)))), None


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Return function(item) for each item, each computed by a thread that uses no others.

    The mode of the caller, such as `torch.no_grad`, does not reach the threads.
    """
    threads = workers()
    if threads == 1 or len(items) == 1:
        with _one_thread():
            return [function(item) for item in items]
    futures = [_pool(threads).submit(function, item) for item in items]
    wait(futures)  # also where one fails: nothing may still run when this is left
    return [future.result() for future in futures]


_workers: int | None = None
_own = threading.local()


def workers() -> int:
    """Return how many threads `in_threads` shares its items out to; within one of them, one."""
    if hasattr(_own, "worker"):  # waiting there for its like, all might wait for each other
        return 1
    return torch.get_num_threads() if _workers is None else _workers


@contextmanager
def alone_outside() -> Iterator[None]:
    """Keep all threads for `in_threads`; what runs outside of it uses one.

    The threads of a kernel wait busily for the next one, for milliseconds, on the cores that the
    threads of `in_threads` need: two of these were no faster than one.
    """
    global _workers
    before, threads = _workers, torch.get_num_threads()
    _workers = workers()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _workers = before
        torch.set_num_threads(threads)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return workers that stay, since a new thread lays out its kernels anew."""
    outside = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    # Each begins here, and none after the number outside is set again.
    together = threading.Barrier(threads, timeout=60)

    def begin(_: int) -> None:
        together.wait()
        _own.worker = True
        # A thread takes the number of all when it first asks for its own, however late that is.
        torch.get_num_threads()
        torch.set_num_threads(1)

    try:
        list(pool.map(begin, range(threads)))
    finally:
        # Who sets the own number also sets the one that new threads begin with.
        torch.set_num_threads(outside)
    return pool


# A process that was forked has no threads but its own.
os.register_at_fork(after_in_child=_pool.cache_clear)


def fold(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a network in eval mode with each BatchNorm folded into the convolution before it.

    Folding is done in float64 and the result cast to `dtype`, in channels_last, frozen. ReLUs work
    in place where nothing else reads their input, which halves the memory of a gradient: a hook
    that needs pre-activations is a forward pre-hook. The network that is given is used up: copy it
    first if it is needed afterwards. One that `torch.fx` can't trace, such as one whose way through
    its layers depends on the values, is returned as it is, frozen.
    """
    network = architectures.with_own_padding(network).eval()
    try:
        folded = fx.symbolic_trace(network)
    except Exception as error:  # whatever the user's own code raises at a proxy
        logger.info("the network runs as it is, since it can't be traced: %s", error)
        return frozen(network, dtype)
    folded = folded.double()
    modules = dict(folded.named_modules())
    calls = Counter(str(node.target) for node in folded.graph.nodes if node.op == "call_module")
    for node in list(folded.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        # A layer that is called twice is another one in each place.
        once = calls[str(before.target)] == calls[str(node.target)] == 1
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1 and once:
            folded.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            folded.graph.erase_node(node)
    _work_in_place(folded)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return frozen(folded, dtype)


def frozen(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a network in eval mode, without gradients of its weights, in channels_last."""
    network.requires_grad_(False)
    return network.to(dtype=dtype).to(memory_format=torch.channels_last).eval()


def _work_in_place(folded: fx.GraphModule) -> None:
    """Let ReLUs overwrite sums and outputs of convolutions: neither is needed for the gradient."""
    modules = dict(folded.named_modules())
    uses: dict[nn.ReLU | nn.ReLU6, list[fx.Node]] = {}
    for node in folded.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.ReLU | nn.ReLU6):
            uses.setdefault(module, []).append(node.args[0])
    for module, sources in uses.items():
        module.inplace = all(
            len(source.users) == 1
            and (
                source.target is operator.add
                or isinstance(modules.get(str(source.target)), nn.Conv2d)
            )
            for source in sources
        )


def micro_batch(shape: Sequence[int], device: torch.device | str) -> int:
    """Return how many images of a shape (C, H, W) a pass takes on a device.

    On the CPU few, so that a layer's features stay in the cache of a core and little is lost where
    an attack has few images left; on a card more, so that it is busy, but no more than the scripts
    hand over at once: what is missing is filled up by zeros, which cost as much.
    """
    small = shape[1] <= 64 and shape[2] <= 64
    if torch.device(device).type == "cuda":
        return 128 if small else 8
    return 64 if small else 4
