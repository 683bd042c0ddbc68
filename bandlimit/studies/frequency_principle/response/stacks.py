"""Many multilayer perceptrons of one shape as one tensor program.

The networks of a stack lie along a batch axis, so that a layer of all of them is one call of
`torch.baddbmm`, and a step of the optimizer another. Each is trained as it would be alone: the loss
is the sum of theirs, of which each depends on one network only, and the optimizers work element by
element. Gradients are written out (`_Passes`): of networks this small, half of a step would
otherwise go into memory and calls, and not into products of matrices.

Shapes: S networks, N samples, D inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bandlimit import keys
from bandlimit.training import optimizers

Activation = Literal["relu", "tanh"]
Loss = Literal["mse", "bce"]
Optimizer = Literal["adam", "sgd"]

# In place, since memory is what a step waits for; their gradients need the outputs alone.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}


def _through_relu(slopes: Tensor, outputs: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(slopes, outputs, 0, grad_input=slopes)


def _through_tanh(slopes: Tensor, outputs: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(slopes, outputs, grad_input=slopes)


# From gradients by outputs to those by inputs, in place.
THROUGH: dict[str, Callable[[Tensor, Tensor], None]] = {
    "relu": _through_relu,
    "tanh": _through_tanh,
}


@dataclass(frozen=True)
class Stack:
    """S multilayer perceptrons; the last layer has no activation.

    Attributes:
        weights: of each layer, S x inputs x outputs.
        biases: of each layer, S x 1 x outputs.
        activation: after each layer but the last.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    activation: Activation = "relu"

    def __len__(self) -> int:
        """Return the number of networks, S."""
        return len(self.weights[0])

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs of all networks, S x N x O.

        Args:
            inputs: N x D, the same for all, or S x N x D.
        """
        hidden = inputs.expand(len(self), *inputs.shape[-2:])
        for layer, weight in enumerate(self.weights):
            found = hidden.new_empty(*hidden.shape[:2], weight.shape[2])
            _forward(self, layer, hidden, found)
            hidden = found
        return hidden

    def parameters(self) -> list[Tensor]:
        """Return weights and biases, layer by layer."""
        return [p for pair in zip(self.weights, self.biases, strict=True) for p in pair]

    def take(self, members: Sequence[int]) -> Stack:
        """Return a stack of copies of some of the networks, by their places; a place may repeat."""
        places = list(members)
        return Stack(
            [weight[places] for weight in self.weights],
            [bias[places] for bias in self.biases],
            self.activation,
        )


def draw(
    seed: int,
    purpose: str,
    members: Sequence[str | int],
    sizes: Sequence[int],
    *,
    activation: Activation = "relu",
    std: float | None = None,
) -> Stack:
    """Return a stack of initialised networks.

    A network depends on (seed, purpose, member) and on the sizes alone, not on its place or on the
    others. A member that is named twice is there twice.

    Args:
        seed: of the run.
        purpose: what the networks are for, part of the key of their draws.
        members: names of the networks, part of the key too.
        sizes: units of each layer, inputs and outputs included, such as (1, 128, 128, 1).
        activation: 'relu' or 'tanh'.
        std: standard deviation of weights and biases, drawn from a normal distribution around 0;
            None draws both as `torch.nn.Linear` does, uniform in +-1 / sqrt(inputs).

    Raises:
        ValueError: no member is named, or there are fewer than two sizes.
    """
    if not members or len(sizes) < 2:
        raise ValueError(f"a stack has members and layers, got {list(members)} and {list(sizes)}")
    drawn = [_network(keys.generator(seed, purpose, member), sizes, std) for member in members]
    layers = list(zip(*drawn, strict=True))
    return Stack(
        [torch.stack([weight for weight, _ in layer]) for layer in layers],
        [torch.stack([bias for _, bias in layer]) for layer in layers],
        activation,
    )


def _network(
    generator: torch.Generator, sizes: Sequence[int], std: float | None
) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each layer of one network, inputs x outputs and 1 x outputs."""
    network = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        pair = torch.empty(inputs, outputs), torch.empty(1, outputs)
        for values in pair:
            if std is None:
                values.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
            else:
                values.normal_(0, std, generator=generator)
        network.append(pair)
    return network


def _forward(stack: Stack, layer: int, hidden: Tensor, found: Tensor) -> None:
    """Write the outputs of a layer, S x N x units, from those of the one before."""
    weight, bias = stack.weights[layer], stack.biases[layer]
    if weight.shape[2] == 1:
        # No product of matrices: as sums, it takes a quarter of the time.
        torch.linalg.vecdot(hidden, weight.mT, out=found[..., 0])
        found += bias
    else:
        torch.baddbmm(bias, hidden, weight, out=found)
    if layer < len(stack.weights) - 1:
        ACTIVATIONS[stack.activation](found)


class _Passes:
    """Outputs and gradients of a stack on some inputs, in memory that is made once.

    Args:
        stack: whose parameters it reads anew in each pass.
        inputs: N x D, the same for all, or S x N x D.
    """

    def __init__(self, stack: Stack, inputs: Tensor) -> None:
        self.stack = stack
        shape = len(stack), inputs.shape[-2]
        self._slopes = [inputs.new_empty(*shape, weight.shape[2]) for weight in stack.weights]
        self._values = [inputs.expand(*shape, inputs.shape[-1])]
        self._values += [torch.empty_like(slope) for slope in self._slopes]

    def outputs(self) -> Tensor:
        """Return the outputs, S x N x O, in memory that the next pass overwrites."""
        for layer in range(len(self._slopes)):
            _forward(self.stack, layer, *self._values[layer : layer + 2])
        return self._values[-1]

    def gradients(self, targets: Tensor, loss: Loss, into: Sequence[Tensor]) -> None:
        """Write the gradients of the sum of `losses`, of the outputs of the last pass.

        Args:
            targets: N x O or S x N x O.
            loss: as of `losses`.
            into: memory of the shapes of the parameters, in their order.
        """
        through = THROUGH[self.stack.activation]
        slope, outputs = self._slopes[-1], self._values[-1]
        if loss == "mse":
            torch.sub(outputs, targets, out=slope)
            slope *= 2
        else:
            torch.sigmoid(outputs, out=slope)
            slope -= targets
        slope /= outputs[0].numel()
        for layer in range(len(self._slopes) - 1, -1, -1):
            slope, hidden = self._slopes[layer], self._values[layer]
            weight = self.stack.weights[layer]
            of_weight, of_bias = into[2 * layer : 2 * layer + 2]
            one = weight.shape[2] == 1
            if one:
                torch.bmm(slope.mT, hidden, out=of_weight.mT)
            else:
                torch.bmm(hidden.mT, slope, out=of_weight)
            torch.sum(slope, dim=1, keepdim=True, out=of_bias)
            if layer:
                back = self._slopes[layer - 1]
                (torch.mul if one else torch.bmm)(slope, weight.mT, out=back)
                through(back, hidden)


def _together(parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Move parameters into one piece of memory; return it, and such memory for their gradients.

    One piece is one call of the optimizer.
    """
    whole = torch.cat([values.flatten() for values in parameters])
    whole.grad = torch.zeros_like(whole)
    sizes = [values.numel() for values in parameters]
    gradients = []
    parts = zip(parameters, whole.split(sizes), whole.grad.split(sizes), strict=True)
    for values, own, gradient in parts:
        values.data = own.view(values.shape)
        gradients.append(gradient.view(values.shape))
    return whole, gradients


def losses(outputs: Tensor, targets: Tensor, loss: Loss = "mse") -> Tensor:
    """Return the loss of each network, its mean over samples and outputs, shape (S,).

    Args:
        outputs: S x N x O; logits for 'bce'.
        targets: N x O or S x N x O; in [0, 1] for 'bce'.
        loss: 'mse', or 'bce', the binary cross-entropy.
    """
    if loss == "mse":
        return (outputs - targets).square().mean(dim=(1, 2))
    each = functional.binary_cross_entropy_with_logits(
        outputs, targets.expand_as(outputs), reduction="none"
    )
    return each.mean(dim=(1, 2))


def train(
    stack: Stack,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    learning_rate: float,
    optimizer: Optimizer = "adam",
    momentum: float = 0.0,
    loss: Loss = "mse",
    at: Collection[int] = (),
    record: Callable[[int, Tensor], None] | None = None,
) -> None:
    """Train all networks of a stack in place, on all samples in each step.

    Args:
        stack: S networks.
        inputs: N x D, the same for all, or S x N x D.
        targets: N x O, the same for all, or S x N x O; in [0, 1] for 'bce'.
        steps: updates of each network.
        learning_rate: of the optimizer.
        optimizer: 'adam' or 'sgd', as in `torch.optim`.
        momentum: of 'sgd'.
        loss: 'mse', or 'bce' on logits; the mean over samples and outputs.
        at: steps of which `record` is told, 0 to `steps`; step t is after t updates.
        record: called with the step and the outputs on the inputs, S x N x O, free to keep; the
            stack is then as it was at that step.

    Raises:
        ValueError: targets and outputs differ in shape, which would broadcast.
    """
    expected = (inputs.shape[-2], stack.biases[-1].shape[-1])
    if tuple(targets.shape) not in (expected, (len(stack), *expected)):
        raise ValueError(
            f"targets are {expected} or {(len(stack), *expected)}, got {tuple(targets.shape)}"
        )
    whole, gradients = _together(stack.parameters())
    if optimizer == "adam":
        update = optimizers.adam_update([whole], learning_rate, fused=True)
    else:
        update = optimizers.sgd_update([whole], learning_rate, momentum)
    told = frozenset(at)
    passes = _Passes(stack, inputs)
    for step in range(steps + 1):
        outputs = passes.outputs()
        if record is not None and step in told:
            record(step, outputs.clone())
        if step == steps:
            break
        passes.gradients(targets, loss, gradients)
        update()


def spaced_steps(steps: int, count: int) -> list[int]:
    """Return about `count` whole steps from 0 to `steps`, evenly spaced, both ends included.

    Raises:
        ValueError: fewer than one step, or fewer than two to return.
    """
    if steps < 1 or count < 2:
        raise ValueError(f"at least 1 step and 2 to return, got {steps} and {count}")
    every = max(1, round(steps / (count - 1)))
    return sorted({*range(0, steps + 1, every), steps})
