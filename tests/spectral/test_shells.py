"""Shells of a spectrum, and what is read of their energies without another transform."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import plain_spectra as plain
import pytest
import torch

from bandlimit.spectral import fourier, masks
from bandlimit.spectral import shells as of_shells
from bandlimit.spectral.shells import shells


@pytest.mark.parametrize("sides", [*plain.SIDES, (1, 1), (2, 1), (1, 4)])
def test_shells_are_the_distances_of_the_whole_plane(sides):
    squared, counts = np.unique(plain.squared_distances(sides), return_counts=True)
    found = shells(sides)
    assert np.array_equal(found.squared, squared) and found.squared.dtype == np.int64
    assert np.array_equal(found.counts, counts)


@pytest.mark.parametrize("sides", plain.SIDES)
def test_the_half_plane_stands_for_the_whole(sides):
    found = shells(sides)
    assert found.index.shape == found.weights.shape == (sides[0], sides[1] // 2 + 1)
    squared = np.fft.ifftshift(plain.squared_distances(sides))[:, : sides[1] // 2 + 1]
    assert np.array_equal(found.squared[found.index], squared)
    assert found.weights.sum() == math.prod(sides)
    assert set(found.weights[:, 0]) == {1} and set(found.weights[:, 1]) == {2}
    assert set(found.weights[:, -1]) == ({1} if sides[1] % 2 == 0 else {2})


def test_shells_are_made_once_and_stay_as_they_are():
    assert shells([32, 32]) is shells((32, 32))
    with pytest.raises(ValueError, match="read-only"):
        shells((32, 32)).counts[0] = 2


@pytest.mark.parametrize("sides", [(3,), (3, 0), (3, 3, 3)])
def test_sides_that_are_none_are_refused(sides):
    with pytest.raises(ValueError, match="two sides"):
        shells(sides)


@pytest.mark.parametrize(
    ("sides", "radius", "share"),
    [
        ((32, 32), 4, 0.048),
        ((32, 32), 8, 0.192),
        ((32, 32), 12, 0.431),
        ((32, 32), 16, 0.776),
        ((28, 28), 7, 0.190),
    ],
)
def test_uniform_shares_are_those_that_are_known(sides, radius, share):
    assert round(of_shells.uniform_share(shells(sides), radius), 3) == share


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize("radius", [0, 0.5, 1, math.sqrt(3), math.sqrt(13), 4.5, 5, 6, 40])
@pytest.mark.parametrize("strict", [False, True])
def test_shares_are_those_of_the_disk(sides, radius, strict):
    disk, found = masks.disk(sides, radius, strict=strict), shells(sides)
    share = of_shells.uniform_share(found, radius, strict=strict)
    assert share == pytest.approx(float(disk.double().mean()))
    x = plain.images(2, 3, *sides)
    power = np.abs(plain.spectrum(x)) ** 2
    expected = (power * disk.numpy()).sum(axis=(1, 2, 3)) / power.sum(axis=(1, 2, 3))
    ratio = of_shells.lfc_ratio(fourier.energies(x), found, radius, strict=strict)
    assert np.allclose(ratio.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("radius", [1, 4, 5, 8])
def test_a_wave_at_the_border_tells_whether_it_belongs_to_the_disk(radius):
    wave = torch.cos(2 * math.pi * radius * torch.arange(32).double() / 32).expand(1, 1, 32, 32)
    energies, found = fourier.energies(wave), shells((32, 32))
    assert float(of_shells.lfc_ratio(energies, found, radius)) == pytest.approx(1)
    strict = of_shells.lfc_ratio(energies, found, radius, strict=True)
    assert float(strict) == pytest.approx(0, abs=1e-12)


def test_arrays_and_tensors_are_read_alike():
    x, found = plain.images(4, 3, 9, 12), shells((9, 12))
    energies = fourier.energies(x)
    for read in (of_shells.lfc_ratio, of_shells.lift):
        assert np.allclose(read(energies, found, 3).numpy(), read(energies.numpy(), found, 3))


def test_nothing_has_no_ratio():
    energies = fourier.energies(torch.zeros(2, 1, 8, 8))
    energies[1, 0] = 1
    for values in (energies, energies.numpy()):
        ratio = of_shells.lfc_ratio(values, shells((8, 8)), 2)
        assert math.isnan(ratio[0]) and float(ratio[1]) == 1
        assert math.isnan(of_shells.lift(values, shells((8, 8)), -1)[1])


@pytest.mark.parametrize("sides", [(32, 32), (31, 28)])
@pytest.mark.parametrize("radius", [4, 8, 12, 16])
def test_white_noise_has_no_lift_and_smooth_noise_has(sides, radius):
    noise, found = plain.perturbations(300, 3, *sides), shells(sides)
    lift = of_shells.lift(fourier.energies(noise), found, radius)
    assert float(lift.mean()) == pytest.approx(1, abs=0.03)
    smooth = noise + noise.roll(1, -1) + noise.roll(1, -2)
    assert float(of_shells.lift(fourier.energies(smooth), found, radius).mean()) > 1.05


@pytest.mark.parametrize("sides", plain.SIDES)
def test_profiles_are_those_of_the_definition(sides):
    d, found = plain.perturbations(3, 2, *sides), shells(sides)
    magnitudes = np.abs(plain.spectrum(d))
    expected = plain.ring_means(magnitudes) / magnitudes.mean(axis=(1, 2, 3))[:, None]
    profile = of_shells.radial_profile(plain.by_shell(magnitudes), found)
    assert np.allclose(profile, expected, rtol=1e-10)
    means = of_shells.ring_means(plain.shell_means(magnitudes), found)
    assert np.allclose(means, plain.ring_means(magnitudes), rtol=1e-10)


def test_a_point_has_a_flat_profile_and_nothing_has_none():
    d = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    d[0, :, 5, 9] = 0.25
    magnitudes = fourier.measured(plain.images(2, 3, 32, 32), d).magnitudes
    profile = of_shells.radial_profile(magnitudes.numpy(), shells((32, 32)))
    assert profile.shape == (2, 24) and np.allclose(profile[0], 1)
    assert np.isnan(profile[1]).all()


@pytest.mark.parametrize("strict", [False, True])
def test_means_inside_and_outside_are_those_of_the_disk(strict):
    values = plain.images(3, 2, 12, 9).numpy()
    disk, found = plain.disk((12, 9), 4, strict=strict), shells((12, 9))
    means = plain.shell_means(values)
    inside, outside = of_shells.inside_and_outside(means, found, 4, strict=strict)
    assert np.allclose(inside, values[:, :, disk].mean(axis=(1, 2)))
    assert np.allclose(outside, values[:, :, ~disk].mean(axis=(1, 2)))
    assert np.isnan(of_shells.inside_and_outside(means, found, 40)[1]).all()


def test_readers_do_not_load_torch():
    code = "import sys, bandlimit.spectral.shells; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
