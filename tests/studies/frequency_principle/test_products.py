"""Products and eigenvectors of matrices, whatever the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bandlimit.studies.frequency_principle.response import products

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(300, 2000)), RNG.normal(size=(2000, 90))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_product_has_the_same_bits_on_any_number_of_threads(threads):
    first = products.product(A, B)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert (products.product(A, B) == first).all()
    assert first == pytest.approx(A @ B)
    assert products.product(A.T[::2].T, B[::2, 0]) == pytest.approx(A[:, ::2] @ B[::2, 0])


def test_eigenvectors_have_the_same_bits_on_any_number_of_threads(threads):
    matrix = np.cov(A[:200])
    values, vectors = products.eigenvectors(matrix)
    torch.set_num_threads(1)
    again = products.eigenvectors(matrix)
    assert (again[0] == values).all() and (again[1] == vectors).all()
    assert (np.diff(values) > 0).all()
    assert matrix @ vectors == pytest.approx(vectors * values, abs=1e-9)
    assert vectors.T @ vectors == pytest.approx(np.eye(200), abs=1e-9)


SUMS = """
import hashlib, numpy
from bandlimit.studies.frequency_principle.response import counterexample, filtering, kernels
from bandlimit.studies.perturbation_spectra import theorems

draws = numpy.random.default_rng(0)
labels, outputs = draws.normal(size=(300, 200)), draws.normal(size=(1, 1, 300, 200))
made = {
    "by_formula": counterexample.by_formula(0.5, range(1, 40), 1000),
    "by_features": counterexample.by_features(0.5, range(1, 40), 1000),
    "spectra": kernels.spectra(201, 0.1),
    "errors": filtering.errors(draws.random((300, 300)), labels, outputs),
    "training": [one.tau for one in theorems.train_many(1, steps=5)],
    "alone": [one.tau for one in theorems.train_single(1, steps=5)],
}
for name, values in made.items():
    print(name, hashlib.sha256(numpy.array(values).tobytes()).hexdigest())
"""


def test_what_tables_hold_has_the_same_bits_on_any_number_of_threads():
    found = [
        subprocess.run(
            [sys.executable, "-c", SUMS],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "OPENBLAS_NUM_THREADS": number, "OMP_NUM_THREADS": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for number in ("1", "2")
    ]
    assert found[0] == found[1] and len(found[0]) == 6
