"""The cosine transform, beside its definition."""

from __future__ import annotations

import numpy as np
import plain_spectra as plain
import pytest
import scipy.fft
import torch

from bandlimit.spectral.dct import dct, rct


@pytest.mark.parametrize("sides", [*plain.SIDES, (224, 224), (1, 3)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_coefficients_are_sums_of_cosines(sides, dtype, close):
    def cosines(side):
        places = np.arange(side)
        waves = np.cos(np.pi * places[:, None] * (2 * places + 1) / (2 * side))
        return waves * np.where(places == 0, 1, np.sqrt(2))[:, None] / np.sqrt(side)

    x = plain.images(2, 3, *sides, dtype=dtype)
    found = dct(x)
    expected = cosines(sides[0]) @ x.double().numpy() @ cosines(sides[1]).T
    assert found.dtype == dtype
    assert np.allclose(found.numpy(), expected, rtol=0, atol=close)


def test_the_transform_keeps_norms():
    x = plain.images(2, 3, 12, 9)
    assert torch.allclose(dct(x).square().sum(), x.square().sum())


def test_the_relative_change_is_a_mean_for_each_image():
    x, d = plain.images(4, 3, 12, 9), plain.perturbations(4, 3, 12, 9)
    before, after = (scipy.fft.dctn(of.numpy(), axes=(-2, -1), norm="ortho") for of in (x, x + d))
    expected = np.abs(after - before) / (np.abs(before) + plain.FLOOR)
    assert np.allclose(rct(x, d).numpy(), expected.mean(axis=(1, 2, 3)), rtol=1e-9)
    assert torch.allclose(rct(x, x * 0.5), torch.full((4,), 0.5).double(), rtol=1e-4)
    assert not rct(x, x * 0).any()
