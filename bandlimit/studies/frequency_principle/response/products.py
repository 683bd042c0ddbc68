"""Products and eigenvectors of matrices, to the same bits on any number of threads.

The library behind those of NumPy adds in another order on two threads than on one, and how many it
takes is not known here: a table would differ between machines of few and of many cores.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bandlimit.studies.frequency_principle.response.threads import one_thread

Floats = NDArray[np.float64]


def product(a: Floats, b: Floats) -> Floats:
    """Return a @ b.

    Args:
        a: ... x M x N, or N.
        b: ... x N x K, or N.
    """
    with one_thread():
        found: Floats = (_tensor(a) @ _tensor(b)).numpy()
    return found


def eigenvectors(matrix: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, rising, and unit eigenvectors, the columns of N x N; signs are free.

    Args:
        matrix: N x N, symmetric; its lower half counts.
    """
    with one_thread():
        values, vectors = torch.linalg.eigh(_tensor(matrix))
    return values.numpy(), vectors.numpy()


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
