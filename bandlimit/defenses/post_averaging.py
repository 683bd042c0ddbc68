"""Post-averaging ("Bandlimiting", section 3) as a differentiable module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.defenses import prediction, sweep
from bandlimit.defenses.base import Defense, DrawName, Stop, log_mean_softmax
from bandlimit.defenses.directions import (
    FRACTIONS,
    SAMPLERS,
    Sampler,
    hyperplane_directions,
    random_directions,
)
from bandlimit.errors import UserError, suggest

if TYPE_CHECKING:
    from bandlimit.models.batches import MicroBatches
    from bandlimit.models.classifier import Classifier

CHOICES: dict[str, tuple[str, ...]] = {
    "vote": ("softmax", "logits", "majority", "weighted"),
    "sampler": SAMPLERS,
    "sign": ("both", "increase", "decrease"),
    "space": ("standardised", "pixel"),
    "draws": ("fresh", "fixed", "shared"),
    "stop": ("exact", "sequential", "all"),
}

FIXED = "fixed directions"
"""Purpose of fixed draws, whoever asks: an attacker and a judge must see the same directions."""


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


class PostAveraging(Defense):
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
        draws: 'fresh' directions in each call, 'fixed' per image (a deterministic defence, whose
            directions depend on the purpose in `name` no more than on the call), or fresh ones
            'shared' by all images of a call.
        name: seed and purpose of the draws.
        samples_per_pass: how many samples enter the network at once, at most; memory, not results.

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
        super().__init__(classifier)
        _check_choice("vote", vote)
        _check_choice("space", space)
        _check_choice("draws", draws)
        if not squads:
            raise UserError("Post-averaging needs at least one set of samples, got none.")
        self.squads = tuple(squads)
        self.random = draws != "fixed"
        self.name = name if self.random else replace(name, purpose=FIXED)
        self.vote, self.center, self.space, self.clip = vote, center, space, clip
        self.draws = draws
        self.samples_per_pass = samples_per_pass

    def samples(self) -> int:
        """Return the number of forward passes per image: 6K+1 with the default switches."""
        return sum(self.per_image(squad) for squad in self.squads)

    def per_image(self, squad: Squad) -> int:
        """Return the number of samples of one set."""
        return int(self.center) + sum(squad.counts()) * len(squad.signed_steps())

    def forward(self, x: Tensor) -> Tensor:
        """Return the defended output, N x classes, for pixels x, N x C x H x W in [0, 1].

        Raises:
            ValueError: the defence is not bound to as many images.
        """
        ids, draw = self.next_draw(len(x))
        u = (x - self.classifier.mean) / self.classifier.std
        outputs = [self._average(u, squad, ids, draw, i) for i, squad in enumerate(self.squads)]
        if len(outputs) == 1:
            return outputs[0]
        stacked = torch.stack(outputs)
        log_p = torch.log_softmax(stacked, dim=-1)
        best = (-(log_p.exp() * log_p).sum(-1)).argmin(dim=0)
        return stacked[best, torch.arange(len(x), device=x.device)]

    def _predict(
        self, x: Tensor, image_ids: Sequence[str], draw: int, stop: Stop, error: float
    ) -> np.ndarray:
        """Return the classes predicted in one draw, with fewer samples than all where possible.

        Only the document's samples and softmax vote stop early; other switches take all samples.
        """
        _check_choice("stop", stop)
        radius, directions = self.squads[0].radius, self.squads[0].directions
        switches = (self.vote, self.center, self.space, self.clip, self.draws == "shared")
        if (
            stop == "all"
            or not isinstance(directions, int)
            or self.squads != (Squad(radius=radius, directions=directions),)
            or switches != ("softmax", True, "standardised", False, False)
        ):
            return super()._predict(x, image_ids, draw, stop, error)
        return prediction.predict(
            self.classifier,
            self._evaluator,
            x,
            image_ids,
            sweep.Setting(radius, directions),
            name=self.name,
            stop=stop,
            error=error,
            draw=draw if self.random else 0,
        ).prediction

    @cached_property
    def _evaluator(self) -> MicroBatches:
        # Imported here, since an attack has no use for it.
        from bandlimit.models.fused import evaluator

        return evaluator(self.classifier)

    def _few(self, samples: int) -> Defense:
        squad = self.squads[0]
        if len(self.squads) > 1 or squad.sampler != "random" or squad.sign != "both":
            return super()._few(samples)
        return FewSamples(self, samples)

    def _vectors(self, u: Tensor, squad: Squad, image_id: str, draw: int, number: int) -> Tensor:
        """Return the directions of one image, K x C x H x W, in standardised space."""
        key = self.key(image_id, draw)
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
        return self.to_space(vectors)

    def key(self, image_id: str, draw: int) -> tuple[str | int, ...]:
        """Return the name of a draw for one image, for `keys.generator`."""
        return self.name.parts("" if self.draws == "shared" else image_id, draw)

    def to_space(self, vectors: Tensor) -> Tensor:
        """Return unit vectors of the space in which radii are measured in the standardised one."""
        return vectors / self.classifier.std[0] if self.space == "pixel" else vectors

    def valid(self, samples: Tensor) -> Tensor:
        """Return samples in standardised space, S x C x H x W, clipped to pixels if so chosen."""
        if not self.clip:
            return samples
        mean, std = self.classifier.mean, self.classifier.std
        return ((samples * std + mean).clamp(0, 1) - mean) / std

    def _average(
        self, u: Tensor, squad: Squad, ids: Sequence[str], draw: int, number: int
    ) -> Tensor:
        steps = torch.tensor(squad.signed_steps(), device=u.device, dtype=u.dtype)
        count = self.per_image(squad)
        # Images of few samples share a call, so that no micro-batch of the network is half empty.
        group = max(1, self.samples_per_pass // count)
        rows = []
        for start in range(0, len(ids), group):
            around = []
            for i, image in enumerate(u[start : start + group].unbind(), start):
                vectors = self._vectors(image, squad, ids[i], draw, number)
                offsets = (steps.reshape(-1, 1, 1, 1, 1) * vectors).flatten(0, 1)
                if self.center:
                    offsets = torch.cat([torch.zeros_like(offsets[:1]), offsets])
                around.append(self.valid(image + offsets))
            passes = torch.cat(around).split(self.samples_per_pass)
            logits = torch.cat([self.classifier.network(samples) for samples in passes])
            rows += [combine(part, self.vote) for part in logits.split(count)]
        return torch.stack(rows)


class FewSamples(Defense):
    """Log mean softmax of a few fresh samples of post-averaging: what an attacker differentiates.

    The samples come in pairs u + s v and u - s v along fresh random directions v, each with a step
    s drawn uniformly from those of the defence. An odd number is filled up by the centre, where
    the defence has it; a single sample, or the odd one of a defence without its centre, is one of
    a pair. All samples of all images enter the network in one call.

    Args:
        defense: post-averaging with one set of samples, in random directions, of both signs.
        samples: m, for each image and call.
    """

    random = True

    def __init__(self, defense: PostAveraging, samples: int) -> None:
        super().__init__(defense.classifier)
        self.defense = defense
        self.samples = samples

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities, N x classes, for pixels x, N x C x H x W in [0, 1].

        Raises:
            ValueError: the defence is not bound to as many images.
        """
        ids, draw = self.next_draw(len(x))
        u = (x - self.classifier.mean) / self.classifier.std
        around = [
            image + self._offsets(self.defense.key(image_id, draw), image)
            for image_id, image in zip(ids, u.unbind(), strict=True)
        ]
        logits = self.classifier.network(self.defense.valid(torch.cat(around)))
        return torch.stack([log_mean_softmax(rows) for rows in logits.split(self.samples)])

    def _offsets(self, key: tuple[str | int, ...], image: Tensor) -> Tensor:
        """Return what is added to one image, m x C x H x W, in standardised space."""
        seed, steps = self.defense.name.seed, self.defense.squads[0].steps()
        pairs = (self.samples + 1) // 2
        vectors = random_directions(self.shape, pairs, seed=seed, name=(*key, "few samples"))
        picks = torch.randint(
            len(steps), (pairs,), generator=keys.generator(seed, *key, "steps of few samples")
        )
        step = torch.tensor(steps, dtype=image.dtype)[picks].reshape(-1, 1, 1, 1).to(image.device)
        half = step * self.defense.to_space(vectors.to(image))
        offsets = torch.stack([half, -half], dim=1).flatten(0, 1)[: self.samples]
        if self.samples % 2 and self.samples > 1 and self.defense.center:
            offsets[-1] = 0
        return offsets


def combine(logits: Tensor, vote: str) -> Tensor:
    """Return the combined output of the samples of one image, (samples x classes) -> classes."""
    if vote == "softmax":
        return log_mean_softmax(logits)
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
