"""How fast networks train here as one tensor program, beside a loop over the single networks.

The loop is ordinary PyTorch: `torch.nn.Sequential` and `torch.optim.Adam`, one network after the
other, full batch. Both sides start from the same parameters, make the same updates, and keep the
outputs at the same steps, at the embedded sizes of the simulations (fewer steps, since a step costs
the same throughout). Beside both are the products of matrices alone. Sides take turns within each
repetition, in one process on the same number of threads, with the memory settings of a job
(`bandlimit.provenance.job.keep_memory`). Times are CPU times of the process, in which waiting for
other processes does not count. Outputs are compared
after the first updates: later, rounding grows in any training.

    python benchmarks/simulations.py --threads 1
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bandlimit.provenance.job import keep_memory
from bandlimit.studies.frequency_principle.response import stacks
from bandlimit.studies.frequency_principle.response.manifolds import curve
from bandlimit.studies.frequency_principle.response.sinusoids import unit_grid

SEED = 0
COMPARED = 20
"""Updates after which outputs are compared."""

MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Case:
    """A simulation: its networks, and how they are trained."""

    name: str
    networks: int
    sizes: tuple[int, ...]
    samples: int
    learning_rate: float
    activation: stacks.Activation = "relu"
    std: float | None = None
    loss: stacks.Loss = "mse"
    every: int = 50

    def stack(self) -> stacks.Stack:
        """Return the networks as they start."""
        return stacks.draw(
            SEED,
            "benchmark",
            range(self.networks),
            self.sizes,
            activation=self.activation,
            std=self.std,
        )

    def data(self) -> tuple[Tensor, Tensor]:
        """Return inputs, N x D, and targets, S x N x 1."""
        z = unit_grid(self.samples)
        inputs = curve(z, 4) if self.sizes[0] == 2 else z[:, None]
        waves = [
            torch.sin(2 * math.pi * (k * z + s / 10))
            for s in range(self.networks)
            for k in (1, 3, 5)
        ]
        targets = torch.stack(waves).reshape(self.networks, 3, -1).sum(dim=1)
        if self.loss == "bce":
            targets = (targets > 0).double()
        return inputs.float(), targets.float()[..., None]


CASES = (
    Case("one_dimension", 5, (1, 100, 100, 50, 1), 128, 5e-4, "tanh", 0.05, every=10),
    Case("sinusoids", 10, (1, 64, 64, 64, 64, 64, 1), 128, 1e-3),
    Case("manifolds", 9, (2, 64, 64, 64, 64, 64, 1), 400, 1e-3),
    Case("classification", 3, (2, 64, 64, 64, 64, 64, 1), 300, 1e-3, loss="bce"),
)

# What happens at other widths: overhead counts less the more there is to multiply.
WIDTHS = tuple(
    Case(f"sinusoids, {width} wide", 10, (1, *[width] * 5, 1), 128, 1e-3) for width in (16, 32, 128)
)


def together(case: Case, steps: int) -> Tensor:
    """Train the networks as a stack; return the last outputs, S x N x 1."""
    inputs, targets = case.data()
    found: dict[int, Tensor] = {}
    stacks.train(
        case.stack(),
        inputs,
        targets,
        steps=steps,
        learning_rate=case.learning_rate,
        loss=case.loss,
        at=[*range(0, steps, case.every), steps],
        record=found.__setitem__,
    )
    return found[steps]


def alone(case: Case, steps: int) -> Tensor:
    """Train one network after the other; return the last outputs, S x N x 1."""
    inputs, targets = case.data()
    stack = case.stack()
    loss = nn.MSELoss() if case.loss == "mse" else nn.BCEWithLogitsLoss()
    last = []
    for place in range(case.networks):
        network = _single(stack, place)
        optimizer = torch.optim.Adam(network.parameters(), lr=case.learning_rate)
        found = []
        for step in range(steps):
            outputs = network(inputs)
            if step % case.every == 0:
                found.append(outputs.detach())
            optimizer.zero_grad()
            loss(outputs, targets[place]).backward()
            optimizer.step()
        with torch.no_grad():
            found.append(network(inputs))
        last.append(found[-1])
    return torch.stack(last)


def products(case: Case, steps: int) -> None:
    """Do the products of matrices between hidden layers alone, which no way of training avoids.

    They are as large as those of a step: of outputs, and of both gradients.
    """
    hidden = case.sizes[1:-1]
    layers = []
    for inputs, outputs in zip(hidden, hidden[1:], strict=False):
        of = case.networks, case.samples
        before, after = torch.rand(*of, inputs), torch.rand(*of, outputs)
        weights = torch.rand(case.networks, inputs, outputs)
        layers.append((before, weights, after, torch.empty_like(before), torch.empty_like(weights)))
    for _ in range(steps):
        for before, weights, after, back, gradient in layers:
            torch.bmm(before, weights, out=after)
            torch.bmm(after, weights.mT, out=back)
            torch.bmm(before.mT, after, out=gradient)


def _single(stack: stacks.Stack, place: int) -> nn.Sequential:
    """Return one network of a stack as modules."""
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data = weight[place].detach().T.contiguous()
        linear.bias.data = bias[place, 0].detach().clone()
        layers += [linear, MODULES[stack.activation]()]
    return nn.Sequential(*layers[:-1])


def compare(case: Case, steps: int, repetitions: int) -> str:
    """Return a row of the table: CPU time per step of all networks, ratio, and difference.

    The last ratio is that which products alone would leave.
    """
    a, b = alone(case, COMPARED), together(case, COMPARED)
    moved = (b - together(case, 0)).abs().max().item()
    difference = (a - b).abs().max().item() / moved
    if difference > 1e-2:
        raise SystemExit(
            f"{case.name}: the sides disagree, by {difference:.1e} of what they learnt"
        )
    sides = {"loop": alone, "here": together, "products": products}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, train in sides.items():
            start = time.process_time()
            train(case, steps)
            times[name].append(1000 * (time.process_time() - start) / steps)
    ratios = [a / b for a, b in zip(times["loop"], times["here"], strict=True)]
    loop, here, least = (statistics.median(times[name]) for name in sides)
    return (
        f"| {case.name} | {case.networks} | {'-'.join(map(str, case.sizes))} | {case.samples} "
        f"| {loop:.2f} | {here:.2f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}) | {least:.2f} | {loop / least:.2f} | {difference:.0e} |"
    )


def main() -> None:
    """Print a table of both sides."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--steps", type=int, default=200, help="updates of each network")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--widths", action="store_true", help="other widths, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    print(f"{platform.machine()}, torch {torch.__version__}, {options.threads} threads")
    print(
        "| simulation | networks | layers | samples | loop, CPU ms | here, CPU ms "
        "| ratio (min to max) | products alone | ratio of these | difference |"
    )
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    for case in CASES + (WIDTHS if options.widths else ()):
        print(compare(case, options.steps, options.repetitions), flush=True)


if __name__ == "__main__":
    main()
