from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from bandlimit.studies.frequency_principle.response import stacks, threads

SIZES = (2, 16, 8, 1)


def drawn(members, **more):
    return stacks.draw(7, "test", members, SIZES, **more)


def alone(stack: stacks.Stack, place: int) -> nn.Sequential:
    """Return one network of a stack as ordinary modules."""
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data = weight[place].detach().T.clone()
        linear.bias.data = bias[place, 0].detach().clone()
        layers += [linear, {"relu": nn.ReLU, "tanh": nn.Tanh}[stack.activation]()]
    return nn.Sequential(*layers[:-1])


def inputs(count: int = 12) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(1))


# Draws


def test_a_network_is_the_same_in_any_stack():
    many, one = drawn(["a", "b", 3]), drawn([3])
    for values, alone_values in zip(many.parameters(), one.parameters(), strict=True):
        assert torch.equal(values[2], alone_values[0])
        assert not torch.equal(values[0], values[1])


def test_seed_and_purpose_change_a_network():
    first = drawn(["a"]).weights[0]
    assert not torch.equal(first, stacks.draw(8, "test", ["a"], SIZES).weights[0])
    assert not torch.equal(first, stacks.draw(7, "other", ["a"], SIZES).weights[0])


def test_initialised_as_linear_layers_are():
    stack = stacks.draw(1, "test", range(50), (64, 64, 1))
    for layer, inputs_ in ((0, 64), (1, 64)):
        bound = inputs_**-0.5
        for values in (stack.weights[layer], stack.biases[layer]):
            assert values.abs().max() <= bound
            assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    linear = nn.Linear(64, 64)
    assert stack.weights[0].std().item() == pytest.approx(linear.weight.std().item(), rel=0.05)


def test_initialised_by_a_normal_distribution():
    stack = stacks.draw(1, "test", range(50), (64, 64, 1), std=0.05)
    assert stack.weights[0].std().item() == pytest.approx(0.05, rel=0.02)
    assert stack.biases[0].std().item() == pytest.approx(0.05, rel=0.1)
    assert stack.weights[0].abs().max() > 3 * 0.05


def test_a_stack_without_members_is_refused():
    with pytest.raises(ValueError, match="members and layers"):
        drawn([])


# Outputs


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_outputs_are_those_of_single_networks(activation):
    stack, x = drawn([0, 1, 2], activation=activation), inputs()
    own = torch.stack([x, -x, 2 * x])
    for place in range(3):
        network = alone(stack, place)
        assert torch.allclose(stack(x)[place], network(x), atol=1e-6)
        assert torch.allclose(stack(own)[place], network(own[place]), atol=1e-6)


def test_taken_networks_are_copies():
    stack, x = drawn([0, 1]), inputs()
    taken = stack.take([1, 1, 0])
    assert torch.allclose(taken(x), stack(x)[[1, 1, 0]], atol=1e-6)
    before = stack(x).detach()
    stacks.train(taken, x, torch.ones(12, 1), steps=3, learning_rate=0.1)
    assert torch.equal(stack(x), before)


# Training


LOSSES = {"mse": functional.mse_loss, "bce": functional.binary_cross_entropy_with_logits}
OPTIMIZERS = {
    "adam": lambda network: torch.optim.Adam(network.parameters(), lr=0.01),
    "sgd": lambda network: torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("activation", "sizes"),
    [("tanh", SIZES), ("relu", SIZES), ("relu", (2, 16, 1, 8, 3)), ("tanh", (2, 1))],
    ids=str,
)
def test_training_is_that_of_single_networks(loss, optimizer, activation, sizes):
    """By autograd; of one output or several, and of layers of one unit."""
    stack = stacks.draw(7, "test", [0, 1, 2], sizes, activation=activation)
    x = inputs()
    targets = torch.stack([x, -x, x**2]).sum(dim=2, keepdim=True) - torch.arange(sizes[-1])
    targets = (targets > 0).float()
    networks = [alone(stack, place) for place in range(3)]
    stacks.train(
        stack,
        x,
        targets,
        steps=40,
        learning_rate=0.01,
        momentum=0.9,
        optimizer=optimizer,
        loss=loss,
    )
    for place, network in enumerate(networks):
        chosen = OPTIMIZERS[optimizer](network)
        before = network(x)
        for _ in range(40):
            chosen.zero_grad()
            LOSSES[loss](network(x), targets[place]).backward()
            chosen.step()
        assert torch.allclose(stack(x)[place], network(x), atol=1e-4)
        assert not torch.allclose(stack(x)[place], before, atol=1e-3)


def test_networks_learn_from_inputs_of_their_own():
    stack, x = drawn([0, 1]), inputs()
    own, targets = torch.stack([x, 2 * x]), torch.ones(12, 1)
    networks = [alone(stack, place) for place in range(2)]
    stacks.train(stack, own, targets, steps=10, learning_rate=0.01)
    for place, network in enumerate(networks):
        chosen = OPTIMIZERS["adam"](network)
        for _ in range(10):
            chosen.zero_grad()
            functional.mse_loss(network(own[place]), targets).backward()
            chosen.step()
        assert torch.allclose(stack(own)[place], network(own[place]), atol=1e-5)


def test_networks_do_not_see_each_other():
    x, targets = inputs(), inputs().sum(dim=1, keepdim=True)
    many, one = drawn([0, 1, 2, 3]), drawn([2])
    for stack in (many, one):
        stacks.train(stack, x, targets, steps=30, learning_rate=0.01)
    assert torch.allclose(many(x)[2], one(x)[0], atol=1e-5)


def test_steps_are_told_as_asked():
    stack, x = drawn([0, 1]), inputs()
    targets = torch.ones(12, 1)
    start, told, seen = stack(x).detach(), {}, []

    def record(step, outputs):
        told[step] = outputs
        seen.append(torch.allclose(stack(x), outputs, atol=1e-6))

    stacks.train(stack, x, targets, steps=5, learning_rate=0.01, at=[0, 2, 5], record=record)
    assert list(told) == [0, 2, 5] and all(seen)
    assert torch.equal(told[0], start)
    assert torch.equal(told[5], stack(x).detach())
    two = drawn([0, 1])
    stacks.train(two, x, targets, steps=2, learning_rate=0.01)
    assert torch.allclose(told[2], two(x), atol=1e-6)


def test_targets_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"got \(12,\)"):
        stacks.train(drawn([0]), inputs(), torch.ones(12), steps=1, learning_rate=0.1)


def test_losses_are_those_of_each_network():
    outputs = torch.tensor([[[0.0], [2.0]], [[1.0], [1.0]]])
    targets = torch.tensor([[1.0], [1.0]])
    assert stacks.losses(outputs, targets).tolist() == [1, 0]
    both = stacks.losses(outputs, targets, "bce")
    assert both[1].item() == pytest.approx(math.log(1 + math.exp(-1)))


# Steps and threads


def test_spaced_steps_have_both_ends():
    assert stacks.spaced_steps(10, 3) == [0, 5, 10]
    assert stacks.spaced_steps(3, 100) == [0, 1, 2, 3]
    steps = stacks.spaced_steps(2500, 101)
    assert (steps[0], steps[1], steps[-1], len(steps)) == (0, 25, 2500, 101)
    with pytest.raises(ValueError, match="at least 1 step"):
        stacks.spaced_steps(0, 5)


def test_threads_are_restored():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads.one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
