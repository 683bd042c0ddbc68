"""The gradient of a frozen network in its input, by fused kernels on the CPU.

Attacks ask for little else, so what they run need not be PyTorch's autograd: weights take no
gradient, convolution, bias, addition of the shortcut and rectifier are one kernel, and so are a
convolution's gradient and the addition of the shortcut's. Layers of other kinds are left to
autograd, one by one.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from bandlimit.models.fused import FusedConvolution, rewrite

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""How far logits and gradients may be off autograd's, as a share of the greatest."""


class Program:
    """A network laid out for gradients in its input.

    Args:
        network: frozen, float32, in eval mode, on the CPU; it can be traced.
        shape: of a batch, (N, C, H, W).

    Raises:
        RuntimeError: the network can't be traced, or a kernel refuses it.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int]) -> None:
        graph = rewrite(_without_in_place(network), torch.zeros(*shape), in_place=False)
        self.steps: list[_Step] = []
        modules = dict(graph.named_modules())
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self.input = node
            elif node.op == "output":
                self.output = node.args[0]
            else:
                module = modules.get(str(node.target)) if node.op == "call_module" else None
                if isinstance(module, FusedConvolution):
                    self.steps.append(_Convolution(node, module))
                else:
                    self.steps.append(_Other(node, graph))
        self.forward(torch.zeros(*shape), pack=True)

    def forward(self, x: Tensor, *, pack: bool = False) -> Pass:
        """Return the pass of a batch, whose logits may be differentiated several times."""
        found = Pass(self, {self.input: x})
        with torch.no_grad():
            for step in self.steps:
                found.values[step.node] = step.forward(found, pack)
        return found

    def fits(self, network: nn.Module, shape: Sequence[int]) -> bool:
        """Return whether logits and gradients are those of autograd, but for rounding."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(*shape, generator=generator).contiguous(memory_format=torch.channels_last)
        leaf = x.clone().requires_grad_()
        with torch.enable_grad():
            expected = network(leaf)
            toward = torch.randn(expected.shape, generator=generator)
            (gradient,) = torch.autograd.grad((expected * toward).sum(), leaf)
        found = self.forward(x)
        pairs = ((found.logits, expected.detach()), (found.gradient(toward), gradient))
        return all(
            bool((a - b).abs().max() <= TOLERANCE * (1e-6 + b.abs().max())) for a, b in pairs
        )


@dataclass
class Pass:
    """What a batch left in each layer."""

    program: Program
    values: dict[fx.Node, Tensor]
    locals: dict[fx.Node, tuple[list[Tensor], Tensor]] = field(default_factory=dict)

    @property
    def logits(self) -> Tensor:
        """The output of the network."""
        return self.values[self.program.output]

    def gradient(self, toward: Tensor) -> Tensor:
        """Return the gradient, in the input, of the sum of logits times weights of their shape."""
        gradients: dict[fx.Node, Tensor] = {self.program.output: toward}
        with torch.no_grad():
            for step in reversed(self.program.steps):
                gradient = gradients.pop(step.node, None)
                if gradient is not None:
                    step.backward(self, gradient, gradients)
        found = gradients.get(self.program.input)
        return torch.zeros_like(self.values[self.program.input]) if found is None else found


class _Step:
    """A layer: forward, and backward."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    def forward(self, found: Pass, pack: bool) -> Tensor:
        """Return the layer's output."""
        raise NotImplementedError

    def backward(self, found: Pass, gradient: Tensor, gradients: dict[fx.Node, Tensor]) -> None:
        """Add the gradients of what the layer read."""
        raise NotImplementedError


class _Convolution(_Step):
    """Convolution, addition and rectifier."""

    def __init__(self, node: fx.Node, kernel: FusedConvolution) -> None:
        super().__init__(node)
        self.kernel = kernel
        self.source, *others = node.args
        self.other = others[0] if others else None
        self.turned: FusedConvolution | None = None

    def forward(self, found: Pass, pack: bool) -> Tensor:
        x = found.values[self.source]  # type: ignore[index]
        if pack:
            self.kernel.pack(x.shape)
        other = None if self.other is None else found.values[self.other]  # type: ignore[index]
        out: Tensor = self.kernel(x, other)
        if pack:
            self.turned = self.kernel.turned()
            if self.turned is not None:
                self.turned.pack(out.shape)
        return out

    def backward(self, found: Pass, gradient: Tensor, gradients: dict[fx.Node, Tensor]) -> None:
        out = found.values[self.node]
        if self.kernel.rectifier == "relu":
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        elif self.kernel.rectifier == "hardtanh":
            gradient = torch.ops.aten.hardtanh_backward(gradient, out, *self.kernel.limits)
        if self.other is not None:
            _add(gradients, self.other, gradient)  # type: ignore[arg-type]
        before = gradients.pop(self.source, None)  # type: ignore[arg-type]
        if self.turned is not None:
            found_gradient = self.turned(gradient, before)
        else:
            found_gradient = self.kernel.backward_input(
                gradient,
                found.values[self.source],  # type: ignore[index]
            )
            if before is not None:
                found_gradient += before
        gradients[self.source] = found_gradient  # type: ignore[index]


class _Other(_Step):
    """Any other layer, by autograd."""

    def __init__(self, node: fx.Node, graph: fx.GraphModule) -> None:
        super().__init__(node)
        self.interpreter = fx.Interpreter(graph)
        self.reads = list(node.all_input_nodes)

    def forward(self, found: Pass, pack: bool) -> Tensor:
        leaves = [found.values[read].detach().requires_grad_() for read in self.reads]
        known = dict(zip(self.reads, leaves, strict=True))
        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), lambda node: known[node])
        with torch.enable_grad():
            out = getattr(self.interpreter, self.node.op)(self.node.target, args, kwargs)
        if not isinstance(out, Tensor):
            raise RuntimeError(f"{self.node.name} gives {type(out).__name__}, no tensor")
        found.locals[self.node] = leaves, out
        return out.detach()

    def backward(self, found: Pass, gradient: Tensor, gradients: dict[fx.Node, Tensor]) -> None:
        leaves, out = found.locals[self.node]
        # The gradient of a sum, since PyTorch imports SymPy to check one that is handed over.
        with torch.enable_grad():
            product = (out * gradient).sum()
        results = torch.autograd.grad(product, leaves, retain_graph=True, allow_unused=True)
        for read, result in zip(self.reads, results, strict=True):
            if result is not None:
                _add(gradients, read, result)


def _add(gradients: dict[fx.Node, Tensor], node: fx.Node, gradient: Tensor) -> None:
    before = gradients.get(node)
    gradients[node] = gradient if before is None else before + gradient


def _without_in_place(network: nn.Module) -> nn.Module:
    """Return a copy whose rectifiers leave their input as it is."""
    changed = copy.deepcopy(network)
    for module in changed.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False
    return changed


def program(network: nn.Module, shape: Sequence[int]) -> Program | None:
    """Return the network laid out for gradients, None where autograd must do.

    Args:
        network: as of `Program`.
        shape: of a batch, (N, C, H, W).
    """
    if not torch.backends.mkldnn.is_available():
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = Program(network, shape)
        if found.fits(network, shape):
            return found
        logger.warning("fused gradients differ from autograd's and are not used")
    except Exception as error:  # whatever a network of a user does
        logger.warning("fused gradients refuse this network and are not used: %s", error)
    finally:
        torch.set_num_threads(threads)
    return None
