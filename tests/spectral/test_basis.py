"""Waves of one frequency each."""

from __future__ import annotations

import math

import numpy as np
import plain_spectra as plain
import pytest
import torch

from bandlimit.spectral.basis import basis, basis_vectors, half_plane

SMALL = [(8, 8), (7, 7), (6, 9), (9, 6)]


@pytest.mark.parametrize("sides", SMALL)
def test_a_basis_is_orthonormal_and_each_wave_at_its_frequency(sides):
    pairs = [(i - sides[0] // 2, j - sides[1] // 2) for i, j in np.ndindex(*sides)]
    vectors = basis_vectors(sides, pairs)
    assert vectors.shape == (math.prod(sides), *sides) and vectors.dtype == torch.float64
    norms = vectors.flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-14)
    spectra = plain.spectrum(vectors)
    for (i, j), z in zip(pairs, spectra, strict=True):
        expected = np.zeros(sides, dtype=complex)
        centre = (sides[0] // 2, sides[1] // 2)
        own = (centre[0] + i, centre[1] + j)
        opposite = ((centre[0] - i) % sides[0], (centre[1] - j) % sides[1])
        expected[own] += (0.5 + 0.5j) * math.sqrt(math.prod(sides))
        expected[opposite] += (0.5 - 0.5j) * math.sqrt(math.prod(sides))
        assert np.allclose(z, expected, atol=1e-12)


@pytest.mark.parametrize("sides", [*plain.SIDES, *SMALL])
def test_the_half_plane_has_one_of_each_pair(sides):
    half = half_plane(sides)
    opposites = [
        tuple((-of + side // 2) % side - side // 2 for of, side in zip(pair, sides, strict=True))
        for pair in half
    ]
    everything = {(i - sides[0] // 2, j - sides[1] // 2) for i, j in np.ndindex(*sides)}
    assert {*half, *opposites} == everything
    alone = sum(pair == opposite for pair, opposite in zip(half, opposites, strict=True))
    assert len(set(half)) == len(half) == (len(everything) + alone) / 2
    assert alone == math.prod(2 if side % 2 == 0 else 1 for side in sides)


@pytest.mark.parametrize("sides", SMALL)
def test_waves_of_the_half_plane_are_orthogonal(sides):
    vectors = basis_vectors(sides, half_plane(sides)).flatten(1)
    assert torch.allclose(vectors @ vectors.T, torch.eye(len(vectors)).double(), atol=1e-12)


def test_large_waves_keep_all_digits():
    found = basis((224, 224), 111, -112).numpy()
    rows = [111 * a * 2 + -112 * 201 * 2 for a in range(224)]
    exact = [math.cos(math.pi * ((step % 448) / 224 + 0.25)) * math.sqrt(2) / 224 for step in rows]
    assert np.allclose(found[:, 201], exact, atol=1e-15, rtol=0)


def test_one_wave_is_that_of_several():
    assert torch.equal(basis((9, 6), 2, -3), basis_vectors((9, 6), [(0, 1), (2, -3)])[1])
    assert basis_vectors((9, 6), []).shape == (0, 9, 6)


@pytest.mark.parametrize("pair", [(5, 0), (-5, 0), (0, 3), (0, -4)])
def test_frequencies_beyond_the_spectrum_are_refused(pair):
    with pytest.raises(ValueError, match=r"from \(-4, -3\) to \(4, 2\), got"):
        basis((9, 6), *pair)
