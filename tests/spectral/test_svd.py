"""Splits by singular values."""

from __future__ import annotations

import numpy as np
import plain_spectra as plain
import pytest
import torch

from bandlimit.spectral.svd import svd_split


@pytest.mark.parametrize("sides", [(12, 12), (12, 9), (9, 12)])
@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99])
def test_leading_values_are_the_fewest_that_hold_the_energy(sides, energy):
    x = plain.images(2, 3, *sides) - 0.5
    leading, trailing = svd_split(x, energy)
    assert torch.allclose(leading + trailing, x, atol=1e-12)
    for image, part in zip(x.flatten(0, 1).numpy(), leading.flatten(0, 1).numpy(), strict=True):
        left, values, right = np.linalg.svd(image, full_matrices=False)
        shares = np.cumsum(values**2) / (values**2).sum()
        count = int((shares < energy).sum()) + 1
        assert np.allclose(part, left[:, :count] * values[:count] @ right[:count], atol=1e-10)
        assert (part**2).sum() / (image**2).sum() >= energy - 1e-12


@pytest.mark.parametrize("sides", [(12, 12), (12, 9), (9, 12)])
@pytest.mark.parametrize("energy", [0.6, 0.9, 0.99])
def test_the_nearest_number_of_values_is_the_nearest_of_all(sides, energy):
    x = plain.images(4, 3, *sides) - 0.5
    leading, trailing = svd_split(x, energy, nearest=True)
    assert torch.allclose(leading + trailing, x, atol=1e-12)
    below = 0
    for image, part in zip(x.flatten(0, 1).numpy(), leading.flatten(0, 1).numpy(), strict=True):
        left, values, right = np.linalg.svd(image, full_matrices=False)
        shares = np.concatenate([[0], np.cumsum(values**2)]) / (values**2).sum()
        count = int(np.abs(shares - energy).argmin())
        assert np.allclose(part, left[:, :count] * values[:count] @ right[:count], atol=1e-10)
        below += shares[count] < energy
    # On either side of the share, unlike the fewest that hold it.
    assert 0 < below < 12


def test_of_two_equally_near_numbers_the_smaller_is_kept():
    x = torch.diag(torch.tensor([2.0, 1.0, 1.0])).double()[None]
    # Energies are 4, 5 and 6 of 6; 4.5 is as far from 4 as from 5.
    assert svd_split(x, 0.75, nearest=True)[0].square().sum() == pytest.approx(4)
    assert svd_split(x, 0.75)[0].square().sum() == pytest.approx(5)
    assert svd_split(x, 0.76, nearest=True)[0].square().sum() == pytest.approx(5)


def test_all_of_the_energy_is_the_image_and_none_is_nothing():
    x = plain.images(2, 3, 12, 9)
    for nearest in (False, True):
        assert torch.allclose(svd_split(x, 1.0, nearest=nearest)[0], x, atol=1e-12)
        assert not svd_split(x, 0.0, nearest=nearest)[0].any()
        assert not svd_split(torch.zeros(1, 1, 4, 4), 0.5, nearest=nearest)[0].any()


def test_each_image_may_keep_a_share_of_its_own():
    x = plain.images(3, 2, 12, 9) - 0.5
    shares = torch.tensor([0.3, 0.6, 0.9]).double()
    leading = svd_split(x, shares[:, None])[0]
    for i, share in enumerate(shares.tolist()):
        assert torch.allclose(leading[i], svd_split(x[i], share)[0], atol=1e-12)
    assert not torch.allclose(leading[0], svd_split(x[0], 0.9)[0], atol=1e-3)


def test_a_split_keeps_the_type():
    x = plain.images(2, 3, 12, 9, dtype=torch.float32)
    leading, trailing = svd_split(x, 0.9)
    assert leading.dtype == trailing.dtype == torch.float32
    assert torch.allclose(leading + trailing, x, atol=1e-6)


@pytest.mark.parametrize("energy", [-0.1, 1.1, float("nan")])
def test_shares_that_are_none_are_refused(energy):
    with pytest.raises(ValueError, match=r"in \[0, 1\], got"):
        svd_split(torch.rand(1, 4, 4), energy)
