"""Directions along which post-averaging moves an input ("Bandlimiting", section 3.2, eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches

Sampler = Literal["random", "approximate", "exact", "last_layer", "random_units"]
SAMPLERS: tuple[Sampler, ...] = ("random", "approximate", "exact", "last_layer", "random_units")
"""Random directions, or directions towards hyperplanes of the linear layers (not differentiable).

`approximate` ranks units by |pre-activation| / norm of the unit's weights, `exact` by
|pre-activation| / norm of its input gradient over all linear layers, `last_layer` likewise over
the last layer only, and `random_units` picks units of all linear layers at random.
"""

FRACTIONS = (1 / 3, 2 / 3, 1.0)
"""Steps along a direction as fractions of the radius (section 3.2, after eq. 8)."""


def random_directions(
    shape: Sequence[int], count: int, *, seed: int, name: Sequence[str | int]
) -> Tensor:
    """Return `count` random unit vectors, count x C x H x W, of uniform direction.

    Direction k has a key of its own, so the first K of more directions are the K directions of a
    smaller call: numbers of directions are nested. The norm runs over all coordinates jointly.

    Args:
        shape: (C, H, W).
        count: K.
        seed: the configured seed.
        name: what the draw is for: purpose, dataset, model, image, draw.
    """
    size = 1
    for length in shape:
        size *= length
    vectors = torch.empty(count, size)
    for k in range(count):
        torch.randn(size, generator=keys.generator(seed, *name, k), out=vectors[k])
    vectors /= torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors.reshape(count, *shape)


def hyperplane_directions(
    network: nn.Module,
    u: Tensor,
    *,
    sampler: Sampler,
    counts: Sequence[int],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return unit vectors towards near hyperplanes of one input, sum(counts) x C x H x W.

    Each direction is the normalised input gradient of |z|, z the pre-activation of one unit of a
    linear layer: it points away from the hyperplane z = 0, its opposite towards it. The distance
    is that to z = 0, not to a class boundary, as in the document's experiments.

    Args:
        network: standardised input -> logits, with `torch.nn.Linear` layers.
        u: one standardised input, C x H x W.
        sampler: any but 'random'.
        counts: how many units: one number for the last layer (`approximate`, `last_layer`) or
            over all linear layers together (`exact`, `random_units`); for `approximate` also one
            number for each linear layer, in order.
        generator: picks the units of `random_units`.

    Raises:
        UserError: more units are asked for than a layer has.
    """
    if isinstance(network, MicroBatches):
        # Its own threads would hide the pre-activations from the gradient.
        network = network.network
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # kernels sum in another order for another number of threads
        with torch.enable_grad():
            return _towards(network, u, sampler, counts, generator)
    finally:
        torch.set_num_threads(threads)


def _towards(
    network: nn.Module,
    u: Tensor,
    sampler: Sampler,
    counts: Sequence[int],
    generator: torch.Generator | None,
) -> Tensor:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    outputs: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda module, _, output: outputs.__setitem__(module, output))
        for layer in layers
    ]
    point = u.detach().unsqueeze(0).requires_grad_(True)
    try:
        network(point)
    finally:
        for hook in hooks:
            hook.remove()
    pre = [outputs[layer][0].flatten() for layer in layers]

    def gradient(z: Tensor) -> Tensor:
        (result,) = torch.autograd.grad(z.abs(), point, retain_graph=True)
        return result[0]

    def check(count: int, units: int) -> None:
        if count > units:
            raise UserError(
                f"The sampler {sampler!r} has {units} hyperplanes to choose from here; "
                f"directions must be from 1 to {units}, got {count}."
            )

    chosen: list[Tensor] = []
    if sampler == "approximate":
        per_layer = list(zip(layers, pre, strict=True))
        targets = per_layer[-1:] if len(counts) == 1 else per_layer[-len(counts) :]
        for (layer, z), count in zip(targets, counts, strict=True):
            check(count, len(z))
            distance = z.detach().abs() / torch.linalg.vector_norm(layer.weight, dim=1)
            chosen += [z[i] for i in distance.argsort(stable=True)[:count].tolist()]
        vectors = [gradient(z) for z in chosen]
    else:
        units = list((pre[-1] if sampler == "last_layer" else torch.cat(pre)).unbind())
        (count,) = counts
        check(count, len(units))
        if sampler == "random_units":
            picks = torch.randperm(len(units), generator=generator)[:count].tolist()
            vectors = [gradient(units[i]) for i in picks]
        else:
            gradients = [gradient(z) for z in units]
            distance = torch.stack(
                [
                    z.detach().abs() / torch.linalg.vector_norm(g).clamp_min(1e-12)
                    for z, g in zip(units, gradients, strict=True)
                ]
            )
            vectors = [gradients[i] for i in distance.argsort(stable=True)[:count].tolist()]
    stacked = torch.stack(vectors)
    norms = torch.linalg.vector_norm(stacked.flatten(1), dim=1).clamp_min(1e-12)
    return stacked / norms.reshape(-1, 1, 1, 1)
