"""The kernels of a network's first convolution: smoothed, and how smooth they are.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 6: a kernel whose neighbouring weights are alike passes little of an image's high
frequencies, and that of the first layer alone acts on the image itself.
"""

from __future__ import annotations

import math

from torch import Tensor, fx, nn
from torch.nn import functional

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches
from bandlimit.spectral import fourier


def gain(rho: float) -> float:
    """Return by how much `smoothed` multiplies a kernel's response to an image of one colour.

    It is 1 + 8 rho for a kernel of any size: with edges replicated, each weight is counted once for
    itself and eight times as a neighbour, by weights at an edge also as its own. So the sum of the
    weights, which is the response at frequency 0, grows by exactly that.

    Nothing grows by more. Of a kernel of n x n weights, smoothing multiplies the part that is a
    cosine of type II with i and j half periods along the sides by
    1 + rho ((1 + 2 cos(pi i / n)) (1 + 2 cos(pi j / n)) - 1). For n = 3 that is 1 + 8 rho where i
    and j are 0, 1 + 5 rho where one is 1 and the other 0, 1 + 3 rho where both are 1, and 1 - rho
    where one is 2: smoothing scales the response up, and filters it only relative to that scale.

    Raises:
        UserError: rho is negative or not finite.
    """
    if not 0 <= rho < math.inf:
        raise UserError(f"The rho of smoothed kernels must be a finite number >= 0, got {rho}.")
    return 1 + 8 * rho


def smoothed(kernels: Tensor, rho: float, *, normalize: bool = False) -> Tensor:
    """Return kernels with rho times the sum of its eight neighbours added to each weight.

    Weights beyond an edge are those at the edge. Only weights of one kernel are neighbours, that is
    of one output and one input channel. Biases do not act on the image and stay as they are.

    Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
    Networks", section 6.3, eq. 3; the released code does not divide by the gain.

    Args:
        kernels: outputs x inputs x height x width.
        rho: weight of the neighbours, >= 0.
        normalize: whether to divide by `gain`, so that the response to an image of one colour stays
            what it was.

    Raises:
        UserError: rho is negative or not finite.
        ValueError: the kernels have another number of dimensions.
    """
    _check(kernels)
    scale = gain(rho)
    padded = functional.pad(kernels, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    blocks = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    found = kernels + rho * (blocks - kernels)
    return found / scale if normalize else found


def roughness(kernels: Tensor) -> Tensor:
    """Return the squared differences of adjacent weights over the squared weights, per output.

    Adjacent are weights beside or below each other in one kernel, each pair once; both sums run
    over all kernels of an output channel. A constant kernel has 0, independent weights of mean 0
    and equal variance have about 8/3 where kernels are 3 x 3, and no kernel has 8 or more (none of
    3 x 3 more than 6). The scale of a channel does not matter, so neither does a BatchNorm folded
    into it. Smoothing makes no kernel of 3 x 3 rougher: the rougher a cosine, the less it
    multiplies that, see `gain`.

    Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
    Networks", figure 7, which shows the kernels; this puts a number on what "tend to share the same
    colour" means.

    Args:
        kernels: outputs x inputs x height x width.

    Returns:
        One number per output channel, float64; NaN where all its weights are 0.

    Raises:
        ValueError: the kernels have another number of dimensions.
    """
    _check(kernels)
    w = kernels.detach().double()
    changes = sum(w.diff(dim=axis).square().sum(dim=(1, 2, 3)) for axis in fourier.AXES)
    return changes / w.square().sum(dim=(1, 2, 3))


def high_band_share(kernels: Tensor) -> Tensor:
    """Return the share of a kernel's spectral energy that is not at frequency 0, per output.

    The discrete Fourier transform of a kernel of 3 x 3 weights knows 0 and a third of a cycle per
    pixel along each side, and nothing between, so all but frequency 0 is the high band; larger
    kernels are measured by the same rule. Energies are summed over all kernels of an output
    channel. A constant kernel has 0, one whose weights add up to 0 has 1, and independent weights
    of mean 0 and equal variance have about 8/9 where kernels are 3 x 3. Smoothing never raises it.

    Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
    Networks", section 6.1, "negligible weight at the high-end of the frequency domain".

    Args:
        kernels: outputs x inputs x height x width.

    Returns:
        One number in [0, 1] per output channel, float64; NaN where all its weights are 0.

    Raises:
        ValueError: the kernels have another number of dimensions.
    """
    _check(kernels)
    energy = fourier.power(kernels.detach().double()).sum(dim=1)
    height, width = energy.shape[1:]
    whole = energy.sum(dim=(1, 2))
    high = energy.clone()
    high[:, height // 2, width // 2] = 0
    return high.sum(dim=(1, 2)) / whole


def first_kernels(network: nn.Module) -> Tensor:
    """Return the kernels of the first convolution that a network applies, a view of its weights.

    A row or column of zeros that `architectures.with_own_padding` put before them is left out: it
    is padding, not weights. What is written into the view changes the network.

    Args:
        network: standardised input -> logits, as a `classifier.Classifier` holds it, or any other
            that `torch.fx` can trace.

    Returns:
        Outputs x inputs x height x width; inputs per group, where there are groups.

    Raises:
        UserError: the network has no convolution.
    """
    if isinstance(network, MicroBatches):
        network = network.network
    try:
        graph = network if isinstance(network, fx.GraphModule) else fx.symbolic_trace(network)
    except Exception as error:  # whatever the user's own code raises at a proxy
        raise UserError(
            "The kernels of the first convolution are asked for, and the network can't be traced "
            f"to find it: {error}."
        ) from error
    modules = dict(graph.named_modules())
    # The nodes are in the order of the forward pass, which that of the definition need not be.
    for node in graph.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            rows, columns = getattr(module, "zeros_before", (0, 0))
            return module.weight[:, :, rows:, columns:]
    raise UserError(
        "The kernels of the first convolution are asked for, and the network has none; allowed: "
        "networks with a convolution, of any architecture but 'two_layer', "
        "'fully_connected'."
    )


def _check(kernels: Tensor) -> None:
    if kernels.ndim != 4:
        raise ValueError(
            "kernels of shape outputs x inputs x height x width are needed, got "
            f"{tuple(kernels.shape)}"
        )
