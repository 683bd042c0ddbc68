"""What every defence is: a differentiable module that can be bound to the images it will see."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from bandlimit.errors import UserError

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

Stop = Literal["exact", "sequential", "all"]
"""When a defence that averages samples may stop early, see `defenses.prediction`; 'all': never."""


@dataclass(frozen=True)
class DrawName:
    """What makes a draw of directions unique besides the image: seed, purpose, dataset, model."""

    seed: int
    purpose: str
    dataset: str
    model: str

    def parts(self, image_id: str, draw: int) -> tuple[str | int, ...]:
        """Return the name of draw number `draw` for one image, for `keys.generator`."""
        return (self.purpose, self.dataset, self.model, image_id, draw)


def check_finite(outputs: Tensor, image_ids: Sequence[str]) -> None:
    """Check outputs before they count as an answer: the greatest of NaN is the first class.

    Args:
        outputs: N x ..., logits or probabilities.
        image_ids: N names.

    Raises:
        UserError: an output is not a finite number.
    """
    finite = torch.isfinite(outputs).flatten(1).all(dim=1)
    if not bool(finite.all()):
        broken = (~finite).nonzero().flatten().tolist()
        raise UserError(
            "Outputs must be finite numbers, or nothing can be said of an image; they are NaN or "
            f"infinite for {len(broken)} of {len(outputs)} images, the first of which is "
            f"{image_ids[broken[0]]!r}: the weights, or mean and std of the model, are far off, or "
            "a defence computes what is no number."
        )


class Defense(nn.Module):
    """Pixels in [0, 1], N x C x H x W, to outputs, N x classes, whose argmax is the prediction.

    The outputs are logits or log-probabilities, never probabilities, so that cross-entropy on
    them is meaningful and no gradient vanishes for saturation. Here, the methods of a defence that
    draws nothing; one that does sets `random` and calls `next_draw` in each forward.

    Attributes:
        random: whether the output differs from call to call.
        classifier: the network behind the defence.
    """

    random: bool = False

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self._image_ids: tuple[str, ...] | None = None
        self._draw = 0
        self.eval()

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.classifier.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.classifier.shape

    def bind(self, image_ids: Sequence[str], draw: int = 0) -> Self:
        """Return this defence for a batch of these images.

        The rows of each following call are these images. A random defence uses draw number `draw`
        in the first call, `draw + 1` in the next and so on, so the output for an image depends on
        its own calls alone. The weights are shared with this defence.
        """
        bound = copy.copy(self)
        bound._image_ids = tuple(image_ids)
        bound._draw = draw
        return bound

    def next_draw(self, rows: int) -> tuple[tuple[str, ...], int]:
        """Return the images of a call and the number of its draw, which is always 0 if not random.

        Raises:
            ValueError: the defence is not bound, or to another number of images than `rows`.
        """
        if self._image_ids is None:
            raise ValueError(
                f"{type(self).__name__} draws by image: bind(image_ids) it before it runs"
            )
        if len(self._image_ids) != rows:
            raise ValueError(f"expected {len(self._image_ids)} images, those of bind(), got {rows}")
        draw = self._draw if self.random else 0
        self._draw += 1
        return self._image_ids, draw

    def surrogate(self, samples: int | None) -> Defense:
        """Return what an attacker differentiates, unbound, so bind it afterwards.

        Args:
            samples: how many fresh samples the log-mean-softmax of each call takes; None for the
                defence itself, as for any defence that is not random.
        """
        if samples is not None and samples < 1:
            raise ValueError(f"samples must be >= 1, got {samples}")
        if samples is None or not self.random:
            return self
        return self._few(samples)

    def _few(self, samples: int) -> Defense:
        """Return a defence like this random one that averages `samples` samples in each call."""
        return Averaged(self, samples)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        image_ids: Sequence[str],
        draws: Sequence[int],
        *,
        stop: Stop = "exact",
        error: float = 1e-3,
    ) -> np.ndarray:
        """Return the predicted classes, N x len(draws), int64.

        Args:
            x: pixels in [0, 1], N x C x H x W.
            image_ids: N names, keys of the draws.
            draws: numbers of the draws; a defence that is not random gives the same in each.
            stop: when a defence that averages samples may stop early; others ignore it.
            error: probability, per image, that a 'sequential' prediction differs from that of
                all samples.

        Raises:
            UserError: `stop` or `error` is not among the allowed ones, where they matter, or an
                output is not finite.
        """
        x = x.to(self.classifier.mean.device)
        result = np.empty((len(x), len(draws)), dtype=np.int64)
        for column, draw in enumerate(draws):
            if self.random or column == 0:
                result[:, column] = self._predict(x, image_ids, draw, stop, error)
            else:
                result[:, column] = result[:, 0]
        return result

    def _predict(
        self, x: Tensor, image_ids: Sequence[str], draw: int, stop: Stop, error: float
    ) -> np.ndarray:
        """Return the classes predicted in one draw."""
        outputs = self.bind(image_ids, draw)(x)
        check_finite(outputs, image_ids)
        predicted: np.ndarray = outputs.argmax(dim=1).cpu().numpy()
        return predicted

    def gradient_through_identity(self) -> Defense:
        """Return a defence of equal output, with a gradient as if it left its input as it is.

        To be called before `surrogate` and `bind`. This is backward pass differentiable
        approximation (BPDA), for transforms of the input whose own gradient misleads.

        Raises:
            UserError: the defence does not transform its input.
        """
        raise UserError(
            "A gradient through the identity needs a defence that transforms its input, and "
            f"{type(self).__name__} does not: its gradient must be 'exact'."
        )

    def project(self, delta: Tensor) -> Tensor:
        """Return what the defence lets pass of a perturbation, N x C x H x W: here, all of it."""
        return delta


class Averaged(Defense):
    """The log of the mean softmax of several calls of a random defence, as one defence."""

    random = True

    def __init__(self, defense: Defense, samples: int) -> None:
        super().__init__(defense.classifier)
        self.defense = defense
        self.samples = samples

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities, N x classes; draw d has the defence's draws from d samples."""
        ids, draw = self.next_draw(len(x))
        bound = self.defense.bind(ids, draw * self.samples)
        outputs = torch.stack([bound(x) for _ in range(self.samples)], dim=1)
        return torch.stack([log_mean_softmax(rows) for rows in outputs.unbind()])


def log_mean_softmax(outputs: Tensor) -> Tensor:
    """Return the log of the mean softmax of the samples of one image, (samples x C) -> C.

    One image at a time: over a batch, the last bits would depend on how many images it has.
    """
    return torch.logsumexp(torch.log_softmax(outputs, dim=1), dim=0) - math.log(len(outputs))
