"""Make a network fast for evaluation: fused kernels on the CPU, optional bfloat16.

Gradients are not needed where a defence is only evaluated, so convolution, bias, addition of the
shortcut and rectifier may run as one kernel. Attacks do not use this module.
"""

from __future__ import annotations

import copy
import operator

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from bandlimit.models import Classifier, MicroBatches

ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """Convolution, addition of a second input and rectifier in one oneDNN kernel."""

    def __init__(self, convolution: nn.Conv2d, *, rectifier: str) -> None:
        super().__init__()
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

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return rectifier(convolution(x) + other)."""
        run = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return run(x, self.weight, self.bias, *self.geometry, self.rectifier, self.limits, "")
        return run.binary(
            x,
            other,
            self.weight,
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


MICRO_BATCH = {"cpu": 64, "cuda": 2048}
"""Samples of a small image (up to 64 x 64) in one pass, on the CPU for the cache of a core."""

MICRO_BATCH_LARGE = {"cpu": 4, "cuda": 256}
"""Samples of a larger image in one pass."""


def evaluator(classifier: Classifier, *, bfloat16: bool = False) -> MicroBatches:
    """Return an evaluation copy of a classifier's network: standardised input -> float32 logits.

    Args:
        classifier: as `models.load` returns it.
        bfloat16: compute in bfloat16. Only for evaluating defences: the result differs in the
            third digit of a probability.
    """
    device = classifier.mean.device.type
    batches = classifier.network
    assert isinstance(batches, MicroBatches)  # as `models.load` makes it
    network: nn.Module = copy.deepcopy(batches.network).eval()
    if device == "cpu" and torch.backends.mkldnn.is_available():
        network = _fuse(network, classifier.shape)
    small = max(classifier.shape[1:]) <= 64
    size = (MICRO_BATCH if small else MICRO_BATCH_LARGE)[device]
    return MicroBatches(Fast(network, torch.bfloat16 if bfloat16 else torch.float32), size)


def _fuse(network: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    graph = network if isinstance(network, fx.GraphModule) else fx.symbolic_trace(network)
    with torch.no_grad():
        ShapeProp(graph).propagate(torch.zeros(2, *shape))
    modules = dict(graph.named_modules())

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

    for number, node in enumerate(list(graph.graph.nodes)):
        convolution = called(node)
        if not isinstance(convolution, nn.Conv2d) or isinstance(convolution.padding, str):
            continue
        last, other = node, None
        user = only_user(node)
        if user is not None and user.op == "call_function" and user.target in ADDITIONS:
            rest = [argument for argument in user.args if argument is not node]
            if (
                len(rest) == 1
                and isinstance(rest[0], fx.Node)
                and rest[0].meta["tensor_meta"].shape == node.meta["tensor_meta"].shape
            ):
                other, last = rest[0], user
                user = only_user(user)
        name = rectifier(user) if user is not None else None
        if name is not None and user is not None:
            last = user
        if last is node:
            continue
        fused = f"{str(node.target).replace('.', '_')}_fused_{number}"
        graph.add_submodule(
            fused,
            FusedConvolution(convolution, rectifier=name or "none"),
        )
        inputs = (node.args[0],) if other is None else (node.args[0], other)
        with graph.graph.inserting_before(last):
            replacement = graph.graph.call_module(fused, inputs)
        replacement.meta = dict(last.meta)
        last.replace_all_uses_with(replacement)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
