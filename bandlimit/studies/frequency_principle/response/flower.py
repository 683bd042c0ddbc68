"""The curve in the plane that turns L times, as it is drawn: of arrays, which need no torch.

Source: "On the spectral bias of neural networks", section 4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REACH = 1.6
"""Half a side of the square that is drawn; the curve reaches 1.5."""


def points(z: Floats, turns: int) -> Floats:
    """Return the points gamma_L(z) of the plane, N x 2, as `manifolds.curve` does.

    Args:
        z: places on the curve, of a period of 1, N.
        turns: L; 0 is the unit circle.
    """
    angle = 2 * math.pi * z
    radius = 1 + np.sin(2 * math.pi * turns * z) / 2
    found: Floats = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return found
