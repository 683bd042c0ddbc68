"""Post-averaging ("Bandlimiting", section 3) as a differentiable module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bandlimit import keys
from bandlimit.defenses.directions import (
    SAMPLERS,
    Sampler,
    hyperplane_directions,
    random_directions,
)
from bandlimit.errors import UserError, suggest

if TYPE_CHECKING:
    from bandlimit.models import Classifier

CHOICES: dict[str, tuple[str, ...]] = {
    "vote": ("softmax", "logits", "majority", "weighted"),
    "sampler": SAMPLERS,
    "sign": ("both", "increase", "decrease"),
    "space": ("standardised", "pixel"),
    "draws": ("fresh", "fixed", "shared"),
}
FRACTIONS = (1 / 3, 2 / 3, 1.0)
"""Steps along a direction as fractions of the radius (section 3.2, after eq. 8)."""


@dataclass(frozen=True, kw_only=True)
class Squad:
    """One set of samples around an input: directions, how they are found, and steps along them.

    Attributes:
        radius: L2 radius r in the space of the defence, > 0; steps are r/3, 2r/3 and r.
        directions: K; for the sampler 'approximate' also one number for each linear layer.
        sampler: one of `directions.SAMPLERS`.
        sign: step along +v and -v ('both'), or only 'increase' (+v) or 'decrease' (-v).
        radii: the steps themselves, where they are not thirds of the radius.
    """

    radius: float
    directions: int | tuple[int, ...]
    sampler: Sampler = "random"
    sign: Literal["both", "increase", "decrease"] = "both"
    radii: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_choice("sampler", self.sampler)
        _check_choice("sign", self.sign)
        steps = self.steps()
        if not all(0 <= step < float("inf") for step in steps):
            raise UserError(
                f"The radius of post-averaging must be a finite number >= 0, got {steps}."
            )
        if any(count < 1 for count in self.counts()):
            raise UserError(
                f"The directions of post-averaging must be >= 1, got {self.directions}."
            )

    def steps(self) -> tuple[float, ...]:
        """Return the step lengths along a direction, shortest first."""
        return self.radii or tuple(fraction * self.radius for fraction in FRACTIONS)

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of directions, one for each linear layer where there are several."""
        return self.directions if isinstance(self.directions, tuple) else (self.directions,)

    def signed_steps(self) -> tuple[float, ...]:
        """Return all steps along one direction, with their signs."""
        signs = {"both": (1.0, -1.0), "increase": (1.0,), "decrease": (-1.0,)}[self.sign]
        return tuple(sign * step for step in self.steps() for sign in signs)


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


class PostAveraging(nn.Module):
    """The mean output of a network over samples around the input.

    For the standardised input u and directions v_k the samples are u (unless `center` is off) and
    u + s v_k over all signed steps s: 6K+1 with the default steps. The module returns
    log(mean softmax) for the vote 'softmax', so that cross-entropy on its output is the negative
    log-likelihood of the averaged probability; mean logits for 'logits'; the share of samples
    that vote for each class for 'majority' (a tie counts for each); mean logits times votes for
    'weighted'. The last two have no useful gradient.

    Source: "Bandlimiting", section 3, eqs. 5 to 8; spec of the switches: the authors' scripts.

    Args:
        classifier: pixels in [0, 1] -> logits, with `.network`, `.mean`, `.std`, `.shape`.
        squads: sample sets; with several, the averaged output of least entropy is chosen per
            image.
        vote: how the outputs of the samples are combined.
        center: whether the input itself is one of the samples.
        space: where radii are measured: 'standardised' (the document's experiments) or 'pixel'.
        clip: clip each sample to valid pixels.
        draws: 'fresh' directions in each call, 'fixed' per image (a deterministic defence), or
            'shared' by all images of a call.
        name: seed and purpose of the draws.
        samples_per_pass: how many samples enter the network at once; memory, not results.

    Raises:
        UserError: an option is not among the allowed ones.
    """

    def __init__(
        self,
        classifier: Classifier,
        squads: Sequence[Squad],
        *,
        name: DrawName,
        vote: str = "softmax",
        center: bool = True,
        space: str = "standardised",
        clip: bool = False,
        draws: str = "fresh",
        samples_per_pass: int = 256,
    ) -> None:
        super().__init__()
        _check_choice("vote", vote)
        _check_choice("space", space)
        _check_choice("draws", draws)
        if not squads:
            raise UserError("Post-averaging needs at least one set of samples, got none.")
        self.classifier = classifier
        self.squads = tuple(squads)
        self.name = name
        self.vote, self.center, self.space, self.clip = vote, center, space, clip
        self.draws = draws
        self.samples_per_pass = samples_per_pass
        self._image_ids: tuple[str, ...] | None = None
        self._draw = 0

    def bind(self, image_ids: Sequence[str], draw: int = 0) -> PostAveraging:
        """Return this defence for a batch of these images, beginning with draw number `draw`.

        The rows of each following call are these images. With fresh draws each call uses the next
        number, so the result of an image depends on its own calls alone.
        """
        bound = PostAveraging(
            self.classifier,
            self.squads,
            name=self.name,
            vote=self.vote,
            center=self.center,
            space=self.space,
            clip=self.clip,
            draws=self.draws,
            samples_per_pass=self.samples_per_pass,
        )
        bound._image_ids = tuple(image_ids)
        bound._draw = draw
        return bound

    def samples(self) -> int:
        """Return the number of forward passes per image: 6K+1 with the default switches."""
        return sum(
            int(self.center) + sum(squad.counts()) * len(squad.signed_steps())
            for squad in self.squads
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the defended output, N x classes, for pixels x, N x C x H x W in [0, 1]."""
        ids = self._image_ids or tuple(map(str, range(len(x))))
        if len(ids) != len(x):
            raise ValueError(f"expected {len(ids)} images, those of bind(), got {len(x)}")
        draw = self._draw
        if self.draws == "fresh":
            self._draw += 1
        u = (x - self.classifier.mean) / self.classifier.std
        outputs = [self._average(u, squad, ids, draw, i) for i, squad in enumerate(self.squads)]
        if len(outputs) == 1:
            return outputs[0]
        stacked = torch.stack(outputs)
        log_p = torch.log_softmax(stacked, dim=-1)
        best = (-(log_p.exp() * log_p).sum(-1)).argmin(dim=0)
        return stacked[best, torch.arange(len(x), device=x.device)]

    def _vectors(self, u: Tensor, squad: Squad, image_id: str, draw: int, number: int) -> Tensor:
        """Return the directions of one image, K x C x H x W, in standardised space."""
        key = self.name.parts("" if self.draws == "shared" else image_id, draw)
        if squad.sampler == "random":
            name = key if number == 0 else (*key, "squad", number)
            vectors = random_directions(
                u.shape, sum(squad.counts()), seed=self.name.seed, name=name
            ).to(u.device)
        else:
            vectors = hyperplane_directions(
                self.classifier.network,
                u,
                sampler=squad.sampler,
                counts=squad.counts(),
                generator=keys.generator(self.name.seed, *key),
            )
        if self.space == "pixel":
            vectors = vectors / self.classifier.std[0]
        return vectors

    def _average(
        self, u: Tensor, squad: Squad, ids: Sequence[str], draw: int, number: int
    ) -> Tensor:
        steps = torch.tensor(squad.signed_steps(), device=u.device)
        rows = []
        for i, image_id in enumerate(ids):
            vectors = self._vectors(u[i], squad, image_id, draw, number)
            offsets = (steps.reshape(-1, 1, 1, 1, 1) * vectors).flatten(0, 1)
            if self.center:
                offsets = torch.cat([torch.zeros_like(u[:1]), offsets])
            samples = u[i] + offsets
            if self.clip:
                mean, std = self.classifier.mean, self.classifier.std
                samples = ((samples * std + mean).clamp(0, 1) - mean) / std
            logits = torch.cat(
                [self.classifier.network(part) for part in samples.split(self.samples_per_pass)]
            )
            rows.append(combine(logits, self.vote))
        return torch.stack(rows)


def combine(logits: Tensor, vote: str) -> Tensor:
    """Return the combined output of the samples of one image, (samples x classes) -> classes."""
    if vote == "softmax":
        count = torch.tensor(float(len(logits)), device=logits.device)
        return torch.logsumexp(torch.log_softmax(logits, dim=1), dim=0) - count.log()
    if vote == "logits":
        return logits.mean(dim=0)
    votes = (logits == logits.amax(dim=1, keepdim=True)).to(logits.dtype)
    if vote == "majority":
        return votes.mean(dim=0)
    return logits.mean(dim=0) * votes.sum(dim=0)


def post_averaging(
    classifier: Classifier, *, radius: float, directions: int, name: DrawName, **switches: object
) -> PostAveraging:
    """Return post-averaging with one set of samples; `switches` are those of both classes.

    Raises:
        UserError: an option is not among the allowed ones.
    """
    squad = Squad(radius=radius, directions=directions)
    own = {key: switches.pop(key) for key in ("sampler", "sign", "radii") if key in switches}
    return PostAveraging(classifier, [replace(squad, **own)], name=name, **switches)  # type: ignore[arg-type]


def _check_choice(option: str, value: str) -> None:
    if value not in CHOICES[option]:
        raise UserError(
            f"Post-averaging has no {option} called {value!r}; {suggest(value, CHOICES[option])}."
        )
