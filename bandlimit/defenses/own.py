"""A defence of the user's own: a module around a classifier, named by file and class.

The class is called with the classifier and its parameters, and makes a `torch.nn.Module` from
pixels in [0, 1], N x C x H x W, to logits or log-probabilities, N x classes. One that draws says so
in the configuration (`random: true`). Its forward may take a second argument, `generators`: a
`torch.Generator` for each image, so that all images go in one call. One that draws from the global
generators of torch, numpy and random is called image by image, with all three keyed by the image
and the number of the draw, while its classifier sees all images in one batch. Either way the output
for an image depends on no other image.

The module sees batches of one size, filled up with copies of the last image, and runs on one
thread: kernels add up in another order for another size or number. So the outputs for an image, and
their gradients, are the same to the last bit however many images share a call, as those of its
classifier are. That is promised on one kind of processor or card with one version of torch, for
operations whose kernels treat the rows of a batch alike, as convolutions do, and of gradients for
one number of threads.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bandlimit.defenses import turns
from bandlimit.defenses.base import Defense, DrawName
from bandlimit.errors import UserError
from bandlimit.files import own_code as code
from bandlimit.keys import generator

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

GENERATORS = "generators"
"""Name of the argument of a forward that draws by the image."""

PIECE = 16
"""Images of at most `SMALL` pixels a side in each batch that a module sees.

A call of few images, as late in an attack, costs little more than these, and a card or the cache of
a core is not idle at as many; the classifier behind sees the images of all batches at once.
"""

SMALL = 64
"""Larger images are seen one by one: filling up would cost more than it saves."""

ALIKE = 1e-3
"""How far an image's outputs may differ with its companions, as a share of the greatest."""


class OwnDefense(Defense):
    """A defence that the configuration names by file and class.

    Args:
        classifier: pixels in [0, 1] -> logits.
        name: seed and purpose of its draws.
        source: path/to/file.py:Class.
        random: whether it draws.
        parameters: keywords of the class.
        files: further files that the code reads.
        own_code: the sha256 of all its files when the job was planned; None checks nothing.

    Raises:
        UserError: there is no such code, it is no longer that, or the class makes no module.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        name: DrawName,
        source: str,
        random: bool = False,
        parameters: Mapping[str, Any] | None = None,
        files: Sequence[str] = (),
        own_code: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(classifier)
        self.random = random
        self.name = name
        self.source = source
        self._shown = Shown(classifier)
        kind = code.load(source, "The defence", own_code, files)
        self.module = _made(kind, source, self._shown, dict(parameters or {}))
        self._by_generators = (
            random and GENERATORS in inspect.signature(self.module.forward).parameters
        )
        self._through = False
        self._tried = [False]  # one for all copies that are bound
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or log-probabilities, N x classes, of pixels in [0, 1], N x C x H x W.

        Raises:
            UserError: the module returns another shape or numbers that are not finite, draws and
                was not said to or from a generator of its own, or mixes the images of a call.
        """
        ids, draw = self.next_draw(len(x)) if self.random else (("",) * len(x), 0)
        output = self._outputs(x, ids, draw)
        if not self._tried[0] and len(x) > 1:
            self._tried[0] = True
            with torch.no_grad():
                alone, again = (self._outputs(x[:1], ids[:1], draw) for _ in range(2))
            reach = output.detach().abs().max().item()
            # Kernels of a card may add up in another order each time.
            if (alone - again).abs().max().item() > ALIKE * reach:
                raise UserError(
                    f"The defence {self.source!r} gives the same image and the same draw other "
                    "outputs each time, so it draws from a generator of its own, which nothing "
                    "keys; draw from those of torch, numpy or random, or take 'generators'."
                )
            if (output[:1].detach() - alone).abs().max().item() > ALIKE * reach:
                raise UserError(
                    f"The defence {self.source!r} gives an image other outputs when other images "
                    "share the call; the outputs for an image must depend on that image alone."
                )
        return output

    def _outputs(self, x: Tensor, ids: tuple[str, ...], draw: int) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self.classes)
        if not self.random:
            before = turns.states()
            output = self._in_pieces(x)
            if not turns.same(before, turns.states()):
                raise UserError(
                    f"The defence {self.source!r} draws random numbers, and its entry in the "
                    "configuration does not say so; set 'random: true' beside 'source'."
                )
            return output
        if self._by_generators:
            return self._in_pieces(x, [self.name.parts(i, draw) for i in ids])
        keyed = [generator(self.name.seed, *self.name.parts(i, draw)) for i in ids]
        seeds = [int(torch.randint(2**32, (), generator=one)) for one in keyed]
        rows = x.split(1)
        return torch.cat(turns.take(lambda i: self._called(rows[i]), seeds, self.classifier))

    def _in_pieces(self, x: Tensor, names: Sequence[tuple[str | int, ...]] | None = None) -> Tensor:
        """Return what the module makes of images in batches of one size.

        Args:
            x: N x C x H x W, at least one image.
            names: of the draws of each image, where the module takes generators.
        """
        size = PIECE if max(x.shape[2:]) <= SMALL else 1
        missing = -len(x) % size
        # No gradient goes to the copies, whose outputs are cut off.
        filled = torch.cat([x, x[-1:].detach().expand(missing, *x.shape[1:])])
        pieces = filled.split(size)
        draws: list[dict[str, Any]] = [{} for _ in pieces]
        if names is not None:
            # A copy has a generator of its own, or it would take draws of the last image.
            keyed = [generator(self.name.seed, *n) for n in [*names, *[names[-1]] * missing]]
            draws = [{GENERATORS: keyed[i : i + size]} for i in range(0, len(keyed), size)]
        found = turns.take(
            lambda i: self._called(pieces[i], **draws[i]), [None] * len(pieces), self.classifier
        )
        return torch.cat(found)[: len(x)]

    def _called(self, x: Tensor, **more: Any) -> Tensor:
        """Return what the module makes of some images, checked."""
        with self._shown.like(x if self._through else None):
            output = self.module(x, **more)
        wanted = (len(x), self.classes)
        if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(
                f"The defence {self.source!r} must return N x classes outputs, {wanted} here, and "
                f"it returned {got}."
            )
        if not bool(torch.isfinite(output).all()):
            raise UserError(
                f"The defence {self.source!r} returned numbers that are not finite for images in "
                "[0, 1]; outputs must be finite logits or log-probabilities."
            )
        return output

    def gradient_through_identity(self) -> Defense:
        """Return this defence with the gradient of what it shows its classifier.

        What the module does to an image before its classifier sees it counts as the identity
        (BPDA); it must show the classifier as many images as it is given in a call.
        """
        through = copy.copy(self)
        through._through = True
        return through


class Shown(nn.Module):
    """The classifier that a module of the user's own is made around; it may stand for the identity.

    Attributes:
        shape: channels, height, width of an image.
        classes: number of logits.
        mean: 1 x C x 1 x 1, in pixels.
        std: 1 x C x 1 x 1, in pixels.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.shape, self.classes = classifier.shape, classifier.classes
        self._own = threading.local()

    @property
    def mean(self) -> Tensor:
        """Mean of each channel."""
        return self.classifier.mean

    @property
    def std(self) -> Tensor:
        """Deviation of each channel."""
        return self.classifier.std

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, N x classes, of pixels, N x C x H x W.

        Raises:
            UserError: the gradient shall go by the identity, and other images are shown than given.
        """
        given = getattr(self._own, "given", None)
        if given is not None:
            if x.shape != given.shape:
                raise UserError(
                    "A gradient through the identity needs a defence that shows its classifier "
                    f"images as it gets them, {tuple(given.shape)}, and it shows "
                    f"{tuple(x.shape)}; its gradient must be 'exact'."
                )
            x = x.detach() + (given - given.detach())
        return turns.answer(x, self.classifier)

    @contextmanager
    def like(self, x: Tensor | None) -> Iterator[None]:
        """Let gradients go to these images, as if they were what is shown; None changes nothing."""
        self._own.given = x
        try:
            yield
        finally:
            self._own.given = None


def _made(
    kind: Callable[..., Any], source: str, shown: Shown, parameters: Mapping[str, Any]
) -> nn.Module:
    try:
        module = kind(shown, **parameters)
    except Exception as error:  # whatever the user's own code raises
        raise UserError(
            f"The defence {source!r} can't be made with a classifier and the parameters "
            f"{dict(parameters)}: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(module, nn.Module):
        raise UserError(
            f"The defence {source!r} must be a torch.nn.Module, got {type(module).__name__}."
        )
    return module
