"""The prediction of post-averaging with fewer than all 6K+1 samples.

Two ways to stop early. `exact`: as soon as the samples not yet seen can't change the winner; the
prediction is that of all samples, always. `sequential`: as soon as a test says so; the prediction
differs from that of all samples with a probability of at most `error` per image, over the random
order in which the samples are visited.

The test. Let c be the winner among the first `FIRST` samples, and X_i = (1 + p_i(c) - max_{j != c}
p_i(j)) / 2, in [0, 1], for each further sample. If the mean of X over all samples exceeds 1/2, then
c has the greatest mean probability, whatever the number of classes. The samples are visited in a
random order, that is drawn without replacement from a finite population, so under the hypothesis
"mean of X <= 1/2" the wealth prod (1 + b_t (X_t - m_t)), with m_t the greatest conditional mean
that the hypothesis allows and any predictable bet 0 <= b_t < 1/m_t, is a non-negative
supermartingale. By Ville's inequality it ever reaches 1/error with a probability of at most
`error`; so the test may look after every sample. (Waudby-Smith and Ramdas 2020, "Confidence
sequences for sampling without replacement"; Waudby-Smith and Ramdas 2024, "Estimating means of
bounded random variables by betting".)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.defenses.base import DrawName, check_finite
from bandlimit.defenses.sweep import GROUP_BYTES, Samples, Setting, draw_directions, plan
from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches, workers

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

FIRST = 2
"""Samples that choose the candidate of the sequential test before it begins."""

CHUNK = 4
"""Samples of an image that enter the network in one round, at least."""

GREATEST_BET = 0.95
"""Largest bet as a share of what could ruin the wealth."""

SLACK = 1e-4
"""Guard against rounding where the exact stop compares sums of float probabilities."""


@dataclass(frozen=True)
class Predictions:
    """Predicted class and number of samples used for each image."""

    prediction: np.ndarray
    samples: np.ndarray


def predict(
    classifier: Classifier,
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    image_ids: Sequence[str],
    setting: Setting,
    *,
    name: DrawName,
    stop: Literal["exact", "sequential"] = "exact",
    error: float = 1e-3,
    draw: int = 0,
) -> Predictions:
    """Return the class that post-averaging predicts for each image (softmax vote).

    Args:
        classifier: gives mean, std and device.
        network: standardised input -> logits, as `fused.evaluator` makes it.
        images: pixels in [0, 1], N x C x H x W.
        image_ids: N names, keys of the draws and of the order of the samples.
        setting: radius and number of directions; its draws are ignored.
        name: seed and purpose of the draws.
        stop: 'exact' or 'sequential', see above.
        error: probability, per image, that the sequential prediction differs from that of all
            samples; in (0, 1).
        draw: number of the draw.

    Raises:
        UserError: `error` is outside (0, 1), or an output is not finite.
    """
    if not 0 < error < 1:
        raise UserError(f"The error probability of the test must be in (0, 1), got {error}.")
    samples = plan([setting])
    bytes_per_image = 4 * (
        setting.directions * images[0].numel() + len(samples) * classifier.classes
    )
    pool = max(1, min(256, GROUP_BYTES[classifier.mean.device.type] // bytes_per_image))
    fill = network.size * workers() if isinstance(network, MicroBatches) else 1
    results = []
    for start in range(0, len(images), pool):
        part, ids = images[start : start + pool], image_ids[start : start + pool]
        directions = draw_directions(part, ids, setting.directions, name, draw)
        around = Samples(classifier, network, part, directions)
        order = torch.stack(
            [
                torch.randperm(
                    len(samples),
                    generator=keys.generator(
                        name.seed, *name.parts(image_id, draw), "order of samples"
                    ),
                )
                for image_id in ids
            ]
        )
        rule = _Exact(len(samples)) if stop == "exact" else _Sequential(len(samples), error)
        results.append(
            _run(
                around,
                samples.direction,
                samples.coefficient,
                order,
                classifier.classes,
                rule,
                fill,
                ids,
            )
        )
    return Predictions(
        prediction=np.concatenate([result.prediction for result in results]),
        samples=np.concatenate([result.samples for result in results]),
    )


class _Exact:
    """Stop when the leader's sum exceeds the runner-up's by more than the samples to come."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.first = total // 2 + 1

    def decide(self, seen: np.ndarray) -> np.ndarray:
        """Return per image the class that is certain to win, or -1.

        Args:
            seen: probabilities of the samples visited so far, N x t x classes.
        """
        sums = seen.sum(axis=1, dtype=np.float64)
        top = np.partition(sums, -2, axis=1)[:, -2:]
        certain = top[:, 1] - top[:, 0] > self.total - seen.shape[1] + SLACK
        return np.where(certain, sums.argmax(axis=1), -1)


class _Sequential:
    """Stop when the wealth of the bet on the candidate reaches 1 / error, or when certain.

    Whichever comes first decides, sample by sample, so the decision does not depend on how many
    samples were taken at once.
    """

    def __init__(self, total: int, error: float) -> None:
        self.total = total
        self.error = error
        self.exact = _Exact(total)
        # The first round ends where samples that all agree are accepted, as most images' do.
        agreed = np.zeros((1, total, 2))
        agreed[..., 0] = 1.0
        self.first = next(
            (t for t in range(FIRST + 1, total) if self.decide(agreed[:, :t])[0] >= 0), total
        )

    def decide(self, seen: np.ndarray) -> np.ndarray:
        """Return per image the class that the test has accepted or that is certain, or -1."""
        p = seen.astype(np.float64)
        candidate = p[:, :FIRST].sum(axis=1).argmax(axis=1)
        rows = np.arange(len(p))
        rivals = p.copy()
        rivals[rows, :, candidate] = -1.0
        x = (1 + p[rows, :, candidate] - rivals.max(axis=2)) / 2
        wealth = np.ones(len(x))
        winner = np.full(len(x), -1)
        for t in range(FIRST, x.shape[1]):
            past = x[:, :t]
            total = past.sum(axis=1)
            # The greatest mean of the samples still unseen that "mean of X <= 1/2" allows; where
            # it is negative, the hypothesis is ruled out for certain.
            bound = (self.total / 2 - total) / (self.total - t)
            mean = (0.5 + total) / (t + 1)
            spread = (0.25 + ((past - mean[:, None]) ** 2).sum(axis=1)) / (t + 1)
            edge = mean - bound
            with np.errstate(divide="ignore", invalid="ignore"):
                most = np.where(bound > 0, GREATEST_BET / bound, 0.0)
            bet = np.clip(edge / (spread + edge**2), 0.0, most)
            wealth *= 1 + bet * (x[:, t] - bound)
            accepted = (wealth >= 1 / self.error) | (bound < -SLACK)
            winner = np.where((winner < 0) & accepted, candidate, winner)
            if 2 * (t + 1) > self.total:
                certain = self.exact.decide(p[:, : t + 1])
                winner = np.where(winner < 0, certain, winner)
        return winner


def _run(
    around: Samples,
    direction: Tensor,
    coefficient: Tensor,
    order: Tensor,
    classes: int,
    rule: _Exact | _Sequential,
    fill: int,
    image_ids: Sequence[str],
) -> Predictions:
    """Visit the samples of each image in its order until the rule has decided."""
    count, total = order.shape
    seen = np.empty((count, total, classes), dtype=np.float32)
    prediction = np.empty(count, dtype=np.int64)
    used = np.empty(count, dtype=np.int64)
    active = np.arange(count)
    begin, end = 0, min(rule.first, total)
    while len(active):
        chosen = order[active, begin:end].flatten()
        p = around.probabilities(
            torch.from_numpy(active).repeat_interleave(end - begin),
            direction[chosen],
            coefficient[chosen],
        )
        p = p.cpu().reshape(len(active), end - begin, classes)
        check_finite(p, [image_ids[int(i)] for i in active])
        seen[active, begin:end] = p.numpy()
        so_far = seen[active, :end]
        winner = rule.decide(so_far)
        if end == total:
            winner = so_far.sum(axis=1, dtype=np.float64).argmax(axis=1)
        done = winner >= 0
        prediction[active[done]], used[active[done]] = winner[done], end
        active = active[~done]
        # Few images take more samples each, so that the last rounds fill the network too.
        begin, end = end, min(end + max(CHUNK, fill // max(1, len(active))), total)
    return Predictions(prediction=prediction, samples=used)
