"""Kernels of a first convolution: smoothed as the equation says, and how smooth they are."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bandlimit.defenses.kinds import WITHOUT_CONVOLUTION
from bandlimit.errors import UserError
from bandlimit.models import architectures
from bandlimit.models.batches import MicroBatches, fold
from bandlimit.models.kernels import first_kernels, gain, high_band_share, roughness, smoothed

NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
RHOS = [0, 0.1, 0.25, 0.5, 1, 3]


def kernels_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(kernels, rho):
    """Equation 3, weight by weight; an index beyond an edge is that of the edge."""
    found = np.empty(kernels.shape)
    outputs, inputs, height, width = kernels.shape
    for o in range(outputs):
        for c in range(inputs):
            for i in range(height):
                for j in range(width):
                    around = 0.0
                    for down, right in NEIGHBOURS:
                        h = min(max(i + down, 0), height - 1)
                        k = min(max(j + right, 0), width - 1)
                        around += float(kernels[o, c, h, k])
                    found[o, c, i, j] = float(kernels[o, c, i, j]) + rho * around
    return found


def test_a_kernel_smoothed_by_hand():
    kernel = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    found = smoothed(kernel[None, None], 1.0)[0, 0]
    # The corner 1 has the neighbours 1, 1, 2, 1, 2, 4, 4, 5, and the centre all others.
    assert found[0, 0] == 1 + (1 + 1 + 2 + 1 + 2 + 4 + 4 + 5)
    assert found[1, 1] == 45
    assert found[0, 1] == 2 + (1 + 2 + 3 + 1 + 3 + 4 + 5 + 6)
    assert found.tolist() == [[21, 27, 33], [39, 45, 51], [57, 63, 69]]
    assert smoothed(kernel[None, None], 0)[0, 0].equal(kernel)


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (1, 2, 5, 7), (2, 1, 1, 1), (1, 1, 2, 1)])
@pytest.mark.parametrize("rho", RHOS)
def test_smoothing_is_the_plain_double_loop(shape, rho):
    kernels = kernels_of(*shape)
    expected = by_loops(kernels, rho)
    np.testing.assert_allclose(smoothed(kernels, rho), expected, atol=1e-12)
    normalised = smoothed(kernels, rho, normalize=True)
    np.testing.assert_allclose(normalised, expected / (1 + 8 * rho), atol=1e-12)


def test_channels_are_not_mixed():
    kernels = torch.zeros(4, 3, 3, 3)
    kernels[2, 1, 0, 0] = 1
    found = smoothed(kernels, 0.5)
    assert found[2, 1].count_nonzero() == 4
    found[2, 1] = 0
    assert not found.any()


@pytest.mark.parametrize("rho", RHOS)
def test_an_image_of_one_colour_is_answered_with_the_gain(rho):
    """What the first layer adds to its bias, away from borders, where zeros come in."""
    kernels, bias = kernels_of(4, 3, 3, 3), kernels_of(4)
    colour = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)
    image = colour.reshape(1, 3, 1, 1).expand(1, 3, 8, 8)

    def response(weights):
        found = functional.conv2d(image, weights, bias, padding=1) - bias.reshape(1, 4, 1, 1)
        return found[..., 1:-1, 1:-1]

    plain = response(kernels)
    assert plain.abs().min() > 0.01
    assert gain(rho) == 1 + 8 * rho
    assert torch.allclose(response(smoothed(kernels, rho)), gain(rho) * plain, rtol=1e-12)
    assert torch.allclose(response(smoothed(kernels, rho, normalize=True)), plain, rtol=1e-12)


@pytest.mark.parametrize("rho", RHOS)
def test_each_cosine_has_the_factor_that_the_gain_says(rho):
    places = torch.arange(3, dtype=torch.float64) + 0.5
    factors = {(0, 0): 1 + 8 * rho, (0, 1): 1 + 5 * rho, (1, 1): 1 + 3 * rho}
    for i in range(3):
        for j in range(3):
            down, right = (torch.cos(math.pi * k / 3 * places) for k in (i, j))
            cosine = torch.outer(down, right)[None, None]
            factor = factors.get((min(i, j), max(i, j)), 1 - rho)
            assert torch.allclose(smoothed(cosine, rho), factor * cosine, atol=1e-12), (i, j)


def test_roughness_by_hand():
    one = torch.tensor([[1.0, 2.0], [4.0, 0.0]])[None, None]
    # Beside each other 1 and 16, below each other 9 and 4; the squares add up to 21.
    assert roughness(one).tolist() == [30 / 21]
    both = torch.cat([one, torch.ones(1, 1, 2, 2)], dim=1)
    assert roughness(both).tolist() == [30 / 25]


def test_roughness_and_share_at_their_ends():
    flat = torch.ones(1, 2, 3, 3)
    chequers = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])[None, None]
    second = torch.tensor([1.0, -2, 1])
    steepest = torch.outer(second, second)[None, None]
    assert roughness(torch.cat([flat[:, :1], chequers, steepest])).tolist() == [0, 48 / 9, 6]
    shares = high_band_share(torch.cat([flat[:, :1], chequers, steepest]))
    assert shares.tolist() == pytest.approx([0, 80 / 81, 1], abs=1e-12)
    assert roughness(torch.ones(1, 1, 1, 1)).tolist() == [0]
    zero = torch.cat([flat, 0 * flat])
    assert roughness(zero).isnan().tolist() == [False, True]
    assert high_band_share(zero).isnan().tolist() == [False, True]


def test_white_kernels_have_the_roughness_and_share_that_are_named():
    white = kernels_of(1, 20_000, 3, 3)
    assert roughness(white).item() == pytest.approx(8 / 3, rel=0.02)
    assert high_band_share(white).item() == pytest.approx(8 / 9, rel=0.01)


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (6, 2, 4, 5), (3, 2, 7, 7)])
def test_the_share_is_that_of_the_weights_beside_their_mean(shape):
    """By Parseval: frequency 0 holds the square of the sum over the number of weights."""
    kernels = kernels_of(*shape)
    means = kernels.sum((2, 3)).square().sum(1) / (shape[2] * shape[3])
    expected = 1 - means / kernels.square().sum((1, 2, 3))
    assert torch.allclose(high_band_share(kernels), expected, atol=1e-12)


@pytest.mark.parametrize("measure", [roughness, high_band_share])
def test_measures_know_no_scale_and_fall_with_smoothing(measure):
    kernels = kernels_of(50, 2, 3, 3)
    scales = torch.linspace(-3, 1e-6, 50, dtype=torch.float64).reshape(50, 1, 1, 1)
    assert torch.allclose(measure(scales * kernels), measure(kernels), rtol=1e-9)
    values = [measure(smoothed(kernels, rho)) for rho in (0, 0.1, 0.25, 0.5, 1)]
    for less, more in zip(values, values[1:], strict=False):
        assert (more < less).all()
    for rho in (0.5, 1):
        normalised = measure(smoothed(kernels, rho, normalize=True))
        assert torch.allclose(normalised, measure(smoothed(kernels, rho)))


def test_the_share_of_no_size_of_kernels_rises():
    for side in (2, 4, 7):
        kernels = kernels_of(200, 1, side, side)
        for rho in (0.1, 1, 10):
            after = high_band_share(smoothed(kernels, rho))
            assert (after <= high_band_share(kernels) + 1e-12).all()


# The first convolution


class Backwards(nn.Module):
    """A network that defines its layers in another order than it applies them."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.first = nn.Conv2d(1, 4, 5)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))).mean((2, 3))


def test_the_first_convolution_is_the_first_that_is_applied():
    network = Backwards()
    assert first_kernels(network).data_ptr() == network.first.weight.data_ptr()
    assert first_kernels(MicroBatches(fold(network), 4)).shape == (4, 1, 5, 5)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_each_architecture_has_its_first_kernels(name):
    """Found on networks without storage, as they are run."""
    with torch.device("meta"):
        network = architectures.build(name, classes=5, channels=3, sides=(32, 32))
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
        assert (first is None) == (name in WITHOUT_CONVOLUTION)
        if first is None:
            with pytest.raises(UserError, match="the network has none; allowed: .*'two_layer'"):
                first_kernels(fold(network))
        else:
            shape = first.weight.shape
            assert shape[1] == 3 and first_kernels(fold(network)).shape == shape


def test_zeros_that_pad_a_kernel_are_none_of_its_weights():
    """EfficientNet's layer of zeros becomes a row and a column of the kernel it stands before."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = architectures.build("efficientnet_lite0", classes=3)
    given = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight.detach().clone()
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().reshape(-1, 1, 1, 1)
    folded = fold(network)
    kernels = first_kernels(folded)
    assert torch.allclose(kernels, scale * given, atol=1e-6)
    whole = next(m for m in folded.modules() if isinstance(m, nn.Conv2d)).weight
    assert whole.shape[2:] == (4, 4) and not whole[:, :, 0].any() and not whole[..., 0].any()
    kernels.fill_(1)
    assert whole[:, :, 1:, 1:].eq(1).all() and not whole[:, :, 0].any()


# Mistakes


@pytest.mark.parametrize("rho", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_rho_without_meaning_is_refused(rho, normalize):
    with pytest.raises(UserError, match=f"finite number >= 0, got {rho}"):
        smoothed(torch.ones(1, 1, 3, 3), rho, normalize=normalize)


@pytest.mark.parametrize("measure", [roughness, high_band_share, lambda k: smoothed(k, 1)])
def test_kernels_have_four_dimensions(measure):
    with pytest.raises(ValueError, match=r"outputs x inputs x height x width .*got \(3, 3\)"):
        measure(torch.ones(3, 3))
