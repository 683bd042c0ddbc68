"""Make a network fast for evaluation: fused kernels on the CPU, optional bfloat16.

Gradients are not needed where a defence is only evaluated, so convolution, bias, addition of the
shortcut and rectifier may run as one kernel. Attacks do not use this module.
"""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, fx, nn

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import Classifier

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""How far a fused network's logits may be off, as a share of the greatest logit."""

ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """Convolution, addition of a second input and rectifier in one oneDNN kernel.

    Called by its own name the kernel also runs where PyTorch would choose a slower one: for 1x1
    kernels and small batches on one thread.

    Args:
        convolution: its weights and geometry.
        rectifier: 'relu', 'hardtanh' (from 0 to 6) or 'none'.
        in_place: write the result over the second input.
    """

    def __init__(self, convolution: nn.Conv2d, *, rectifier: str, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place
        self.packed: Tensor | None = None
        self.weight = nn.Parameter(convolution.weight.detach(), requires_grad=False)
        self.bias = None
        if convolution.bias is not None:
            self.bias = nn.Parameter(convolution.bias.detach(), requires_grad=False)
        self.geometry = (
            list(map(int, convolution.padding)),
            list(map(int, convolution.stride)),
            list(map(int, convolution.dilation)),
            convolution.groups,
        )
        self.rectifier = rectifier
        self.limits = [0.0, 6.0] if rectifier == "hardtanh" else []

    def __getstate__(self) -> dict[str, object]:
        # Weights as they are laid out can be neither copied nor saved; a copy goes without.
        return {**self.__dict__, "packed": None}

    def pack(self, shape: Sequence[int]) -> None:
        """Lay out the weights once as the kernel wants them for inputs of a shape."""
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, *self.geometry, list(shape)
        )

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return rectifier(convolution(x) + other)."""
        run = torch.ops.mkldnn._convolution_pointwise
        weight = self.weight if self.packed is None else self.packed
        if other is None:
            return run(x, weight, self.bias, *self.geometry, self.rectifier, self.limits, "")
        if self.in_place:
            add, first, second = torch.ops.mkldnn._convolution_pointwise_.binary, other, x
        else:
            add, first, second = run.binary, x, other
        return add(
            first,
            second,
            weight,
            self.bias,
            *self.geometry,
            "add",
            1.0,
            None if self.rectifier == "none" else self.rectifier,
            self.limits,
            "",
        )


class Fast(nn.Module):
    """A network for evaluation only: float32 in, float32 logits out, arithmetic in `dtype`."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype

    def forward(self, u: Tensor) -> Tensor:
        """Return float32 logits of standardised inputs, N x C x H x W."""
        u = u.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.network(u).float()

    def pack(self, shape: Sequence[int]) -> None:
        """Lay out the weights of fused convolutions for batches of a shape, (N, C, H, W)."""
        shapes: dict[nn.Module, Sequence[int]] = {}
        hooks = [
            module.register_forward_pre_hook(
                lambda module, inputs: shapes.__setitem__(module, inputs[0].shape)
            )
            for module in self.modules()
            if isinstance(module, FusedConvolution)
        ]
        if hooks:
            with torch.no_grad():
                self(torch.zeros(*shape))
        for hook in hooks:
            hook.remove()
        for module, seen in shapes.items():
            assert isinstance(module, FusedConvolution)
            module.pack(seen)


MICRO_BATCH = {"cpu": 32, "cuda": 2048}
"""Samples of a small image (up to 64 x 64) in one pass, on the CPU for the cache of a core."""

MICRO_BATCH_LARGE = {"cpu": 4, "cuda": 256}
"""Samples of a larger image in one pass."""


def evaluator(classifier: Classifier, *, bfloat16: bool = False) -> MicroBatches:
    """Return an evaluation copy of a classifier's network: standardised input -> float32 logits.

    Args:
        classifier: as `classifier.load` returns it.
        bfloat16: compute in bfloat16. Only for evaluating defences: the result differs in the
            third digit of a probability.

    Raises:
        UserError: bfloat16 is asked for on a processor that does not support it.
    """
    device = classifier.mean.device.type
    if bfloat16 and device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UserError(
            "bfloat16 was asked for, and PyTorch finds no instructions for it on this processor: "
            "set 'bfloat16' to false, or use a card."
        )
    batches = classifier.network
    assert isinstance(batches, MicroBatches)  # as `classifier.load` makes it
    network: nn.Module = copy.deepcopy(batches.network).eval()
    if device == "cpu" and torch.backends.mkldnn.is_available():
        network = _fuse(network, classifier.shape)
    small = max(classifier.shape[1:]) <= 64
    size = (MICRO_BATCH if small else MICRO_BATCH_LARGE)[device]
    if bfloat16 and device == "cpu":
        size = size * 3 // 2  # features of half the size: more of them stay in the cache
    fast = Fast(network, torch.bfloat16 if bfloat16 else torch.float32)
    fast.pack((size, *classifier.shape))
    return MicroBatches(fast, size)


def _fuse(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return the network with fused kernels, or as it is where fusing would change its output."""
    if not isinstance(network, fx.GraphModule):
        try:
            network = fx.symbolic_trace(network)
        except Exception as error:  # whatever the user's own code raises at a proxy
            logger.info("the network runs as it is, since it can't be traced: %s", error)
            return network
    probe = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.no_grad():
        expected = network(probe)
        try:
            fused = _rewrite(copy.deepcopy(network), probe)
            output = fused(probe.to(memory_format=torch.channels_last))
        except RuntimeError as error:
            logger.warning("fused kernels refuse this network and are not used: %s", error)
            return network
        off = (output - expected).abs().max()
    if not off <= TOLERANCE * (1 + expected.abs().max()):
        logger.warning("fused kernels differ by %.2g and are not used", float(off))
        return network
    return fused


class _Shapes(fx.Interpreter):
    """Notes the shape of what each node returns. PyTorch's `ShapeProp` would also import SymPy."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = getattr(result, "shape", None)
        return result


def _rewrite(network: nn.Module, probe: Tensor) -> fx.GraphModule:
    graph = network if isinstance(network, fx.GraphModule) else fx.symbolic_trace(network)
    _Shapes(graph).run(probe)
    modules = dict(graph.named_modules())
    nodes = list(graph.graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}

    def called(node: fx.Node) -> nn.Module | None:
        return modules.get(str(node.target)) if node.op == "call_module" else None

    def rectifier(node: fx.Node) -> str | None:
        """Return the kernel's name of the rectifier that `node` applies, if it is one."""
        target = called(node) or node.target
        if node.op == "call_method" and node.target in ("relu", "relu_"):
            return "relu"
        if isinstance(target, nn.ReLU6) or target is F.relu6:
            return "hardtanh"
        if isinstance(target, nn.ReLU) or target in (F.relu, torch.relu):
            return "relu"
        return None

    def only_user(node: fx.Node) -> fx.Node | None:
        users = list(node.users)
        return users[0] if len(users) == 1 else None

    def shape_of(node: object) -> object:
        return node.meta.get("shape") if isinstance(node, fx.Node) else None

    def changed(value: fx.Node, start: fx.Node, end: fx.Node) -> bool:
        """Return whether a node between two others uses a value, and so may change it in place."""
        return any(
            user not in (start, end) and order[start] < order.get(user, -1) < order[end]
            for user in value.users
        )

    def free(value: fx.Node | None, addition: fx.Node | None) -> bool:
        """Return whether an addition may write over a value: nobody else reads it afterwards.

        Both it and what was made of it must be memory of their own, not a view of another's.
        """
        if value is None or addition is None:
            return False

        def owns(node: fx.Node) -> bool:
            return isinstance(called(node), FusedConvolution) or node.target is F.pad

        return owns(value) and all(
            user is addition or (owns(user) and order[user] < order[addition])
            for user in value.users
        )

    for number, node in enumerate(nodes):
        convolution = called(node)
        if not _is_plain(convolution) or len(node.args) != 1 or node.kwargs:
            continue
        assert isinstance(convolution, nn.Conv2d)
        source = node.args[0]
        last = node
        other: fx.Node | None = None
        addition: fx.Node | None = None
        user = only_user(node)
        if user is not None and user.op == "call_function" and user.target in ADDITIONS:
            rest = [argument for argument in user.args if argument is not node]
            if (
                len(rest) == 1
                and not user.kwargs
                and isinstance(rest[0], fx.Node)
                and shape_of(rest[0]) == shape_of(node) is not None
            ):
                other, addition, last = rest[0], user, user
                user = only_user(user)
            else:
                user = None
        name = rectifier(user) if user is not None else None
        if other is not None and name != "relu":
            name = None  # the kernel knows no other rectifier after a sum
        if name is not None and user is not None:
            last = user
        # The kernel runs where `last` does: its input must still be what the convolution saw.
        if not isinstance(source, fx.Node) or changed(source, node, last):
            continue
        fused = f"{str(node.target).replace('.', '_')}_fused_{number}"
        kernel = FusedConvolution(
            convolution,
            rectifier=name or "none",
            in_place=other is not source and free(other, addition),
        )
        graph.add_submodule(fused, kernel)
        modules[fused] = kernel
        inputs = (source,) if other is None else (source, other)
        with graph.graph.inserting_before(last):
            replacement = graph.graph.call_module(fused, inputs)
        replacement.meta = dict(last.meta)
        order[replacement] = order[last]
        last.replace_all_uses_with(replacement)
        for done in dict.fromkeys((last, addition, node)):
            if done is not None:
                graph.graph.erase_node(done)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _is_plain(module: nn.Module | None) -> bool:
    """Return whether a module is a convolution that the kernel knows; subclasses may pad first."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
