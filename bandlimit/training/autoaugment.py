"""AutoAugment of training images, each by a draw of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

_GLOBAL = threading.Lock()
"""Held while torch's global generator, which all threads share, is on loan to an image."""


def autoaugment(images: torch.Tensor, policy: str, seeds: Sequence[int]) -> torch.Tensor:
    """Return images changed by AutoAugment, each by its seed alone.

    By `torchvision.transforms.AutoAugment`: two of its operations at most, pixels without a source
    becoming black. Source: Cubuk et al. 2019, "AutoAugment: Learning Augmentation Strategies from
    Data".

    Args:
        images: N x 3 x H x W, uint8, on any device; changed on the CPU, so that all agree.
        policy: cifar10 or imagenet, the data that the operations were found for.
        seeds: one per image, in [0, 2**63).

    Returns:
        uint8, of the shape of the images and on their device.
    """
    # Torchvision takes seconds to import, and few recipes need it.
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    change = AutoAugment(AutoAugmentPolicy(policy))
    changed = []
    for image, seed in zip(images.cpu(), seeds, strict=True):
        # It draws from the global generator; a card's own is left alone.
        with _GLOBAL, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed.append(change(image))
    return torch.stack(changed).to(images.device)
