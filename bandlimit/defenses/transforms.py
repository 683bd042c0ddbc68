"""Defences that change the input before the network sees it, and those that change nothing.

Most are controls: cheap changes that undo an attack of minimal perturbation as well as a defence
does. All pass gradients on: rounding and JPEG have no useful gradient of their own, and pass it on
as if they left the input unchanged.
"""

from __future__ import annotations

import copy
import io
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bandlimit.defenses.base import Defense, DrawName
from bandlimit.defenses.directions import random_directions
from bandlimit.defenses.kinds import JPEG_CHANNELS
from bandlimit.errors import UserError, suggest
from bandlimit.spectral import fourier, masks

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

DIRECTIONS = ("right", "left", "down", "up")
"""Where a shift moves the image."""


class Undefended(Defense):
    """The classifier as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, N x classes."""
        logits: Tensor = self.classifier(x)
        return logits


class OtherModel(Undefended):
    """Another classifier in place of the one under attack: "another checkpoint".

    Args:
        classifier: the one under attack.
        other: the one that is asked.

    Raises:
        UserError: it takes images of another shape, or has another number of classes.
    """

    def __init__(self, classifier: Classifier, other: Classifier) -> None:
        if (other.shape, other.classes) != (classifier.shape, classifier.classes):
            raise UserError(
                "The other model of a defence must take the images and have the classes of the "
                f"model it stands in for, {classifier.shape} and {classifier.classes}, got "
                f"{other.shape} and {other.classes}."
            )
        super().__init__(other)


class TransformDefense(Defense):
    """A classifier behind a transform of its input.

    Attributes:
        differentiable: whether `transform` has a gradient. If not, the gradient of the defence is
            always taken as if the transform were the identity.
        through_identity: whether the gradient treats the transform as the identity.
    """

    differentiable: bool = True

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.through_identity = not self.differentiable

    def transform(self, x: Tensor) -> Tensor:
        """Return the transformed pixels, of the shape of x, N x C x H x W."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, N x classes, of the transformed pixels."""
        if not self.through_identity:
            logits: Tensor = self.classifier(self.transform(x))
            return logits
        with torch.no_grad():
            y = self.transform(x)
        # Adds an exact zero whose gradient is one.
        logits = self.classifier(y + (x - x.detach()))
        return logits

    def gradient_through_identity(self) -> TransformDefense:
        """Return the defence with its gradient taken as if its transform were the identity."""
        changed = copy.copy(self)
        changed.through_identity = True
        return changed


class Rounding(TransformDefense):
    """Pixels rounded to `levels` equidistant values from 0 to 1, as a file of 8 bits does.

    Raises:
        UserError: there are fewer than 2 levels.
    """

    differentiable = False

    def __init__(self, classifier: Classifier, *, levels: int = 256) -> None:
        super().__init__(classifier)
        if levels < 2:
            raise UserError(f"The levels of rounding must be >= 2, got {levels}.")
        self.levels = levels

    def transform(self, x: Tensor) -> Tensor:
        """Return pixels that are multiples of 1 / (levels - 1)."""
        return torch.round(x * (self.levels - 1)) / (self.levels - 1)


class Flip(TransformDefense):
    """The image mirrored, left to right."""

    def transform(self, x: Tensor) -> Tensor:
        """Return the mirrored pixels."""
        return x.flip(3)


class Shift(TransformDefense):
    """The image moved by whole pixels; the edge it moves away from is repeated.

    Args:
        classifier: the classifier behind it.
        pixels: how far, at least 1 and less than the side of the image.
        direction: one of `DIRECTIONS`.

    Raises:
        UserError: the direction is unknown, or the pixels are out of range.
    """

    def __init__(
        self, classifier: Classifier, *, pixels: int = 1, direction: str = "right"
    ) -> None:
        super().__init__(classifier)
        if direction not in DIRECTIONS:
            raise UserError(
                f"A shift has no direction {direction!r}; {suggest(direction, DIRECTIONS)}."
            )
        self.axis = 2 if direction in ("down", "up") else 3
        self.forwards = direction in ("down", "right")
        side = classifier.shape[self.axis - 1]
        if not 0 < pixels < side:
            raise UserError(
                f"A shift of images of side {side} must be from 1 to {side - 1} pixels, "
                f"got {pixels}."
            )
        self.pixels = pixels

    def transform(self, x: Tensor) -> Tensor:
        """Return the moved pixels."""
        side, axis = x.shape[self.axis], self.axis
        kept = x.narrow(axis, 0 if self.forwards else self.pixels, side - self.pixels)
        edge = x.narrow(axis, 0 if self.forwards else side - 1, 1)
        edge = edge.repeat_interleave(self.pixels, dim=axis)
        return torch.cat([edge, kept] if self.forwards else [kept, edge], dim=axis)


class JPEG(TransformDefense):
    """The image written as JPEG and read again, by Pillow, with its chroma subsampling.

    Args:
        classifier: the classifier behind it; takes images of 1 or 3 channels.
        quality: Pillow's, from 1 to 100.

    Raises:
        UserError: the quality or the number of channels is not one of those.
    """

    differentiable = False

    def __init__(self, classifier: Classifier, *, quality: int = 90) -> None:
        super().__init__(classifier)
        if not 1 <= quality <= 100:
            raise UserError(f"The quality of JPEG must be from 1 to 100, got {quality}.")
        if classifier.shape[0] not in JPEG_CHANNELS:
            raise UserError(
                f"JPEG needs images of 1 or 3 channels, got {classifier.shape[0]} channels."
            )
        self.quality = quality

    def transform(self, x: Tensor) -> Tensor:
        """Return the pixels that the file holds, in steps of 1/255."""
        values = (x.detach() * 255).round().clamp(0, 255).to("cpu", torch.uint8)
        images = [self._through_file(image) for image in values.permute(0, 2, 3, 1).numpy()]
        return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255).to(x)

    def _through_file(self, image: np.ndarray) -> np.ndarray:
        """Return an image, H x W x C of uint8, after writing and reading it."""
        grey = image.shape[2] == 1
        with io.BytesIO() as file:
            Image.fromarray(image[..., 0] if grey else image).save(
                file, "JPEG", quality=self.quality
            )
            with Image.open(file) as read:
                return np.asarray(read).reshape(image.shape)


class LowPass(TransformDefense):
    """Only the frequencies of an image within a disk around frequency 0, in each channel.

    With the spectrum shifted so that frequency 0 lies at index n // 2 of each side n, a frequency
    at Euclidean distance d from it passes where d <= cutoff. The filtered image is not clipped, so
    the transform is linear: what it makes of a perturbation does not depend on the image.

    Source: "A frequency domain analysis of gradient-based adversarial examples", figure 6, where
    the attacker does not know of the filter.

    Args:
        classifier: the classifier behind it.
        cutoff: radius of the disk, in frequencies, >= 0.

    Raises:
        UserError: the cutoff is negative or not finite.
    """

    passed: Tensor

    def __init__(self, classifier: Classifier, *, cutoff: float) -> None:
        super().__init__(classifier)
        if not 0 <= cutoff < math.inf:
            raise UserError(f"The cutoff of a low-pass must be a finite number >= 0, got {cutoff}.")
        self.cutoff = cutoff
        disk = fourier.uncentred(masks.disk(self.shape[1:], cutoff))
        self.register_buffer("passed", disk.to(classifier.mean), persistent=False)

    def transform(self, x: Tensor) -> Tensor:
        """Return the part of x in the band, N x C x H x W; x is any real signal."""
        # One image at a time, since how a transform of several is split up depends on their number.
        return torch.stack([fourier.filtered(image, self.passed) for image in x.unbind()])

    def project(self, delta: Tensor) -> Tensor:
        """Return the part of a perturbation, N x C x H x W, that the filter passes."""
        return self.transform(delta)


class Noise(TransformDefense):
    """One forward pass at a random point, u + radius v, in standardised space.

    v is a random unit direction for each image and draw, so the point lies at an L2 distance of
    `radius` from u. Compared with post-averaging of equal radius, it shows what the averaging is
    worth.

    Args:
        classifier: the classifier behind it.
        radius: L2, in standardised space, >= 0.
        name: seed and purpose of the draws.

    Raises:
        UserError: the radius is negative or not finite.
    """

    random = True

    def __init__(self, classifier: Classifier, *, radius: float, name: DrawName) -> None:
        super().__init__(classifier)
        if not 0 <= radius < math.inf:
            raise UserError(f"The radius of noise must be a finite number >= 0, got {radius}.")
        self.radius = radius
        self.name = name

    def transform(self, x: Tensor) -> Tensor:
        """Return x + radius v std, not clipped.

        Raises:
            ValueError: the defence is not bound to that many images.
        """
        ids, draw = self.next_draw(len(x))
        directions = [
            random_directions(
                self.shape, 1, seed=self.name.seed, name=self.name.parts(image_id, draw)
            )
            for image_id in ids
        ]
        return x + self.radius * torch.cat(directions).to(x) * self.classifier.std
