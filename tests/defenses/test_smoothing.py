"""Smoothed kernels as a defence: of the first convolution alone, and attacked as it stands."""

import copy

import pytest
import torch
from torch import nn

from bandlimit.attacks.adaptive.base import Target
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.adaptive.gradient import margin
from bandlimit.attacks.base import create
from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.errors import UserError
from bandlimit.models import architectures
from bandlimit.models.batches import MicroBatches, fold
from bandlimit.models.classifier import Classifier
from bandlimit.models.kernels import first_kernels, smoothed

NAMES = ["strided_resnet8", "strided_resnet8_no_batchnorm", "cifar_resnet20"]
SHAPE = (1, 12, 12)
OTHERS = [{"rho": 0.5}, {"rho": 0.5, "normalize": True}]


def network_of(name, channels=1):
    """Return a network of random weights, whose BatchNorm statistics are not the neutral ones."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = architectures.build(name, classes=4, channels=channels)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, -1, 1)
                nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def classifier_of(network, dtype=torch.float32, shape=SHAPE):
    batches = MicroBatches(fold(network, dtype), 4, dtype=dtype)
    mean, std = [0.4] * shape[0], [0.3] * shape[0]
    made = Classifier(batches, mean=mean, std=std, shape=shape, classes=4, dtype=dtype)
    return made.eval().requires_grad_(False)


def images(count, dtype=torch.float32, shape=SHAPE):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(5), dtype=dtype)


def ids(count):
    return [f"image {i}" for i in range(count)]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_only_the_first_kernels_differ(name, normalize):
    model = classifier_of(network_of(name))
    before = copy.deepcopy(model.state_dict())
    defense = SmoothedKernels(model, rho=0.7, normalize=normalize)
    found = defense.classifier.state_dict()
    differing = [key for key, value in before.items() if not torch.equal(value, found[key])]
    assert differing == ["network.network.conv1.weight"]
    expected = smoothed(before[differing[0]], 0.7, normalize=normalize)
    assert torch.equal(found[differing[0]], expected)
    # The undefended network is attacked beside it.
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(p.requires_grad for p in defense.parameters()) and not defense.training


def test_nothing_changes_without_neighbours():
    model, x = classifier_of(network_of("strided_resnet8")), images(3)
    assert torch.equal(SmoothedKernels(model, rho=0)(x), model(x))


@pytest.mark.parametrize("change", OTHERS)
@pytest.mark.parametrize("name", [*NAMES, "efficientnet_lite0"])
def test_smoothing_before_batchnorm_is_folded_is_smoothing_afterwards(name, change):
    """So it is for a network that pads its first kernels by zeros; biases are as they were."""
    shape = SHAPE if name in NAMES else (3, 32, 32)
    network = network_of(name, channels=shape[0]).double()
    model = classifier_of(copy.deepcopy(network), torch.float64, shape)
    found = SmoothedKernels(model, **change).classifier
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.weight.data = smoothed(first.weight.data, **change)
    expected = classifier_of(network, torch.float64, shape)
    for key, value in expected.state_dict().items():
        assert torch.allclose(found.state_dict()[key], value, rtol=1e-12, atol=1e-14), key
    plain, kernels = first_kernels(model.network), first_kernels(found.network)
    assert not torch.allclose(kernels, plain, rtol=0.01)
    if name in NAMES:
        x = images(2, torch.float64)
        assert torch.allclose(found(x), expected(x), rtol=1e-9)
        assert not torch.allclose(found(x), model(x), rtol=0.01)


@pytest.mark.parametrize("change", OTHERS)
def test_gradient_equals_finite_differences(change):
    model = classifier_of(network_of("strided_resnet8"), torch.float64)
    defense = SmoothedKernels(model, **change).bind(ids(1))
    x = images(1, torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(defense(x)[0, 1], x)
    for place in [(0, 0, 0, 0), (0, 0, 3, 6), (0, 0, 11, 11)]:
        values = []
        for step in (1e-6, -1e-6):
            moved = x.detach().clone()
            moved[place] += step
            values.append(defense(moved)[0, 1].item())
        slope = (values[0] - values[1]) / 2e-6
        assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("change", OTHERS)
def test_output_and_gradient_of_an_image_depend_on_it_alone(change):
    defense = SmoothedKernels(classifier_of(network_of("strided_resnet8")), **change)
    x, names = images(7), ids(7)

    def run(rows):
        point = x[rows].requires_grad_()
        output = defense.bind([names[i] for i in rows])(point)
        (gradient,) = torch.autograd.grad(output.square().sum(), point)
        return output.detach(), gradient

    everything = run(list(range(7)))
    threads = torch.get_num_threads()
    try:
        for rows, count in (([5, 2], 1), ([3], 1), (list(range(7)), 2)):
            torch.set_num_threads(count)
            for some, whole in zip(run(rows), everything, strict=True):
                assert torch.equal(some, whole[rows])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("loss", ["nll", "margin"])
def test_attacks_go_through_the_smoothed_kernels(loss):
    """An attack on the defence harms it more than one of equal steps on the undefended network."""
    model = classifier_of(network_of("strided_resnet8_no_batchnorm"))
    defense = SmoothedKernels(model, rho=1)
    x = images(24)
    labels = defense(x).argmax(1)
    attack = create(KINDS, "eot_pgd", steps=10, samples=None, rel_stepsize=0.2, loss=loss)

    def attacked(victim):
        target = Target(victim, tuple(ids(24)), x, labels, 1, ("a", "d", "images", "net"))
        (trial,) = attack.spend(target, 0.03)
        assert (trial.images - x).abs().max() <= 0.03 + 1e-6
        assert not trial.broken.any() and not trial.flat.any()
        return margin(defense(trial.images), labels)

    clean = margin(defense(x), labels)
    aware, unaware = attacked(defense), attacked(SmoothedKernels(model, rho=0))
    assert (aware > clean).all()
    assert aware.mean() > unaware.mean()


def test_a_network_without_kernels_is_refused():
    network = architectures.build("two_layer", classes=4, channels=1, sides=SHAPE[1:])
    with pytest.raises(
        UserError, match=r"the network has none; allowed: .* but 'two_layer', 'fully_connected'\.$"
    ):
        SmoothedKernels(classifier_of(network), rho=1)


@pytest.mark.parametrize("rho", [-1, float("inf"), float("nan")])
def test_a_rho_without_meaning_is_refused(rho):
    model = classifier_of(network_of("strided_resnet8"))
    kept = first_kernels(model.network).clone()
    with pytest.raises(UserError, match=f"finite number >= 0, got {rho}"):
        SmoothedKernels(model, rho=rho)
    assert torch.equal(first_kernels(model.network), kept)
