"""Sets of frequencies, and the parts of a signal that they split."""

from __future__ import annotations

import math

import numpy as np
import plain_spectra as plain
import pytest
import torch

from bandlimit.spectral import fourier, masks

RADII = [0, 1, 3, math.sqrt(3), math.sqrt(13), 4.5, 6, 40]


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("strict", [False, True])
def test_a_disk_is_that_of_its_definition(sides, radius, strict):
    disk = masks.disk(sides, radius, strict=strict)
    assert np.array_equal(disk.numpy(), plain.disk(sides, radius, strict=strict))
    assert masks.is_symmetric(disk)


@pytest.mark.parametrize("radius", [1, 4, 5, 8, 12])
def test_the_border_of_a_disk_is_all_that_strictness_takes(radius):
    border = masks.disk((32, 32), radius) & ~masks.disk((32, 32), radius, strict=True)
    expected = np.sqrt(plain.squared_distances((32, 32))) == radius
    assert np.array_equal(border.numpy(), expected)
    assert border[16 + radius, 16] and border[16, 16 - radius]


@pytest.mark.parametrize("radius", [0.5, 4.5, 8.01])
def test_strictness_takes_nothing_between_distances(radius):
    assert torch.equal(masks.disk((32, 32), radius), masks.disk((32, 32), radius, strict=True))


@pytest.mark.parametrize(
    ("sides", "side"), [((32, 32), 1), ((32, 32), 7), ((9, 12), 9), ((9, 12), 3), ((31, 31), 31)]
)
def test_a_square_lies_around_frequency_0(sides, side):
    square = masks.square(sides, side)
    rows, columns = (square.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert int(square.sum()) == side**2 == len(rows) * len(columns)
    assert float(rows.double().mean()) == sides[0] // 2
    assert float(columns.double().mean()) == sides[1] // 2
    assert masks.is_symmetric(square)


def test_a_square_may_be_the_whole_of_an_even_spectrum():
    assert masks.square((12, 12), 12).all()


@pytest.mark.parametrize(
    ("sides", "side"), [((32, 32), 4), ((12, 9), 8), ((12, 16), 12), ((16, 12), 12)]
)
def test_a_square_without_a_middle_is_refused(sides, side):
    with pytest.raises(ValueError, match=f"even side {side} .* odd, {side - 1} or {side + 1}"):
        masks.square(sides, side)


@pytest.mark.parametrize("side", [0, -1, 10])
def test_a_square_that_does_not_fit_is_refused(side):
    with pytest.raises(ValueError, match=f"from 1 to 9, got {side}"):
        masks.square((9, 12), side)


@pytest.mark.parametrize("sides", plain.SIDES)
def test_a_mask_without_one_opposite_is_not_symmetric(sides):
    for row, column in [(0, 0), (1, 2), (sides[0] // 2, sides[1] // 2), (sides[0] - 1, 0)]:
        mask = torch.zeros(sides, dtype=torch.bool)
        mask[row, column] = True
        passed = np.fft.ifft2(np.fft.ifftshift(mask.numpy()))
        assert masks.is_symmetric(mask) == bool(np.abs(passed.imag).max() < 1e-12)


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [lambda s: masks.disk(s, 4), lambda s: masks.square(s, 5)])
def test_both_parts_of_a_split_are_those_of_the_definition(sides, dtype, mask):
    x, low_part = plain.images(2, 3, *sides, dtype=dtype), mask(sides)
    low, high = fourier.split(x, low_part)
    close = 1e-6 if dtype == torch.float32 else 1e-12
    for part, passed in ((low, low_part.numpy()), (high, ~low_part.numpy())):
        z = np.fft.ifftshift(plain.spectrum(x) * passed, axes=(-2, -1))
        expected = np.fft.ifft2(z, axes=(-2, -1))
        assert float(np.abs(expected.imag).max()) < 1e-12
        assert np.allclose(part.numpy(), expected.real, atol=close, rtol=0)
        assert part.dtype == dtype
    assert torch.allclose(low + high, x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sides", plain.SIDES)
def test_a_split_is_linear_and_leaves_the_low_part(sides):
    x, y, disk = plain.images(1, *sides), plain.images(1, *sides, seed=5), masks.disk(sides, 3)
    low = fourier.split(2 * x - y, disk)[0]
    apart = 2 * fourier.split(x, disk)[0] - fourier.split(y, disk)[0]
    assert torch.allclose(low, apart, atol=1e-12)
    assert torch.allclose(fourier.split(low, disk)[0], low, atol=1e-12)


def test_a_split_has_a_gradient():
    x = plain.images(2, 3, 9, 12).requires_grad_()
    low, _ = fourier.split(x, masks.disk((9, 12), 3))
    weights = plain.images(2, 3, 9, 12, seed=5)
    (gradient,) = torch.autograd.grad((low * weights).sum(), x)
    expected = fourier.split(weights, masks.disk((9, 12), 3))[0]
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_a_mask_that_is_not_symmetric_splits_nothing():
    mask = masks.disk((8, 8), 2)
    mask[4, 7] = True
    with pytest.raises(ValueError, match="symmetric about frequency 0"):
        fourier.split(plain.images(1, 8, 8), mask)


def test_a_mask_of_another_size_splits_nothing():
    with pytest.raises(ValueError, match=r"\(8, 9\), got \(9, 8\)"):
        fourier.split(plain.images(1, 8, 9), masks.disk((9, 8), 2))
