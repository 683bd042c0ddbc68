"""Minimal attacks: FGSM and PGD as the document's library ran them, DeepFool, Carlini-Wagner.

Their settings are those of Foolbox 1.8 (Bandlimiting, section 4.1: "default settings"). FGSM
and PGD search for the least epsilon, which Foolbox 3 no longer does, so the search is here;
DeepFool and Carlini-Wagner are Foolbox 3 with the settings of 1.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.deepfool import DeepFoolAttack, L2DeepFoolAttack, LinfDeepFoolAttack
from foolbox.criteria import Misclassification
from torch.nn.functional import cross_entropy

from bandlimit.attacks.base import (
    Found,
    MinimalAttack,
    Noise,
    Watched,
    check_count,
    check_not_negative,
    check_number,
    check_switch,
    foolbox_model,
    loss_gradient,
    ordered_sum,
    sound,
)

GROWTH = 1.5
"""Factor by which PGD's epsilon grows until a first adversarial is found."""

FIRST_BUDGET = 5
"""Steps of DeepFool's first pass; most images need fewer."""


@dataclass(frozen=True, kw_only=True)
class FGSMMinimal(MinimalAttack):
    """The least step along the sign of one cross-entropy gradient that changes the prediction.

    Steps of `step`, 2 `step`, ... up to `max_epsilon` are tried, clipped to [0, 1]. A success
    within the first `substeps` of them is refined: that epsilon is cut into `substeps` equal
    parts, tried in order. The default reaches just beyond 32/255.

    steps: queries that a search in order needs, the gradient included.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "fgsm_minimal"
    max_epsilon: float = 0.130
    step: float = 0.001
    substeps: int = 20

    def __post_init__(self) -> None:
        check_number(self.name, "max_epsilon", self.max_epsilon, above=0, most=1)
        check_number(self.name, "step", self.step, above=0, most=self.max_epsilon)
        check_count(self.name, "substeps", self.substeps)

    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""
        logits, gradient = loss_gradient(model, images, labels)
        direction = gradient.sign()
        broken = ~(sound(logits) & sound(gradient))
        # A millionth of a step forgives 0.13 / 0.001 = 129.99...
        count = math.floor(self.max_epsilon / self.step + 1e-6)
        grid = self.step * torch.arange(1, count + 1, dtype=torch.float64)
        first, unsound = _first_success(
            model, images, direction, labels, grid.expand(len(images), -1)
        )
        broken |= unsound
        steps = 1 + torch.where(first < 0, count, first + 1)
        epsilon = torch.where(first < 0, 0, grid[first])

        near = ((first >= 0) & (first < self.substeps)).nonzero().flatten()
        parts = torch.arange(1, self.substeps + 1, dtype=torch.float64) / self.substeps
        finer = epsilon[near, None] * parts
        rows = near.to(images.device)
        second, unsound = _first_success(model, images[rows], direction[rows], labels[rows], finer)
        broken[rows] |= unsound
        # The last part is the coarse epsilon itself; a model whose answers vary may still refuse
        # it, and then the coarse one stays.
        steps[near] += torch.where(second < 0, self.substeps, second + 1)
        fine = finer.gather(1, second.clamp(min=0)[:, None])[:, 0]
        epsilon[near] = torch.where(second < 0, epsilon[near], fine)

        size = epsilon.float().to(images.device)[:, None, None, None]
        return Found((images + size * direction).clamp(0, 1), steps, broken)


def _first_success(
    model: torch.nn.Module,
    images: torch.Tensor,
    direction: torch.Tensor,
    labels: torch.Tensor,
    epsilons: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each image the index of its first epsilon (N x E) that succeeds, or -1.

    Also whether a logit up to there was not finite. Images that are done leave the batch, and
    their places go to further epsilons of the others.
    """
    first = torch.full((len(images),), -1)
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    open_ = torch.arange(len(images), device=images.device)
    start, end = 0, epsilons.shape[1]
    with torch.no_grad():
        while len(open_) and start < end:
            width = min(len(images) // len(open_), end - start)
            sizes = epsilons[open_.cpu(), start : start + width].float().to(images.device)
            x = images[open_, None] + sizes[..., None, None, None] * direction[open_, None]
            logits = model(x.clamp(0, 1).flatten(0, 1)).unflatten(0, (len(open_), width))
            finite = torch.isfinite(logits).all(dim=2)
            hit = finite & (logits.argmax(dim=2) != labels[open_, None])
            before = hit.cumsum(dim=1) == 0
            broken[open_] |= (~finite & before).any(dim=1)
            done = hit.any(dim=1)
            first[open_[done].cpu()] = start + hit[done].int().argmax(dim=1).cpu()
            open_ = open_[~done]
            start += width
    return first, broken


@dataclass
class _EpsilonSearch:
    """The search of one image for the least epsilon at which PGD succeeds.

    Epsilon grows by `GROWTH` until a success, at most `limit` rounds; then `limit` bisections
    between the last failure, at first 0, and the last success.
    """

    epsilon: float
    limit: int
    bad: float = 0.0
    good: float = math.inf
    rounds: int = 0
    bisections: int = 0

    def goes_on(self, success: bool) -> bool:
        """Take in a round's outcome, set the next epsilon, and return whether to go on."""
        self.rounds += 1
        if math.isinf(self.good) and not success:
            self.epsilon *= GROWTH
            return self.rounds < self.limit
        if success:
            self.good = self.epsilon
        else:
            self.bad = self.epsilon
        self.epsilon = (self.good + self.bad) / 2
        self.bisections += 1
        return self.bisections <= self.limit


@dataclass(frozen=True, kw_only=True)
class PGDMinimal(MinimalAttack):
    """PGD with a search for the least epsilon, per image.

    A round starts uniformly in the epsilon-box (not clipped before the first gradient), takes
    steps of rel_stepsize * epsilon along the sign of the cross-entropy gradient, and ends at the
    first adversarial iterate. Each round has a fresh start. Of all adversarial iterates the one
    of least l_inf is kept. The first epsilon is `start_epsilon`; with the default of 20 binary
    search steps, epsilon is resolved to 0.3 / 2**20.

    steps: gradients that the rounds need.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "pgd_minimal"
    start_epsilon: float = 0.3
    rel_stepsize: float = 1 / 30
    steps: int = 40
    binary_search_steps: int = 20

    def __post_init__(self) -> None:
        check_number(self.name, "start_epsilon", self.start_epsilon, above=0, most=1)
        check_number(self.name, "rel_stepsize", self.rel_stepsize, above=0, most=2)
        check_count(self.name, "steps", self.steps)
        check_count(self.name, "binary_search_steps", self.binary_search_steps)

    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""
        device = images.device
        best = images.clone()
        best_linf = torch.full((len(images),), math.inf, device=device)
        spent = torch.zeros(len(images), dtype=torch.int64, device=device)
        broken = torch.zeros(len(images), dtype=torch.bool, device=device)
        searches = [_EpsilonSearch(self.start_epsilon, self.binary_search_steps) for _ in images]
        epsilon = torch.full((len(images), 1, 1, 1), self.start_epsilon, device=device)
        stepsize = torch.full_like(epsilon, self.start_epsilon * self.rel_stepsize)
        iteration = torch.zeros(len(images), dtype=torch.int64, device=device)
        x = images + epsilon * torch.stack([noise(i, 0) for i in range(len(images))])

        # Each image has its own rounds: when it ends one it starts the next at once, so the batch
        # stays full until the last rounds.
        active = torch.arange(len(images), device=device)
        while len(active):
            point = x[active].requires_grad_()
            logits = model(point)
            wrong = logits.argmax(dim=1) != labels[active]
            success = wrong & (iteration[active] > 0) & sound(logits.detach())
            ended = success | (iteration[active] == self.steps)
            gradient = torch.zeros_like(point)
            if not ended.all():
                losses = cross_entropy(logits, labels[active], reduction="none")
                (gradient,) = torch.autograd.grad(losses[~ended].sum(), point)
            point = point.detach()
            # An ended image gets the gradient 0, or NaN by 0 * inf inside the model: not its own.
            unsound = ~sound(logits.detach()) | (~ended & ~sound(gradient))
            broken[active[unsound]] = True

            rows, keep = active[success], success
            linf = (point[keep] - images[rows]).abs().flatten(1).amax(dim=1)
            closer = linf < best_linf[rows]
            best[rows[closer]] = point[keep][closer]
            best_linf[rows[closer]] = linf[closer]

            rows, keep = active[~ended], ~ended
            limit = epsilon[rows]
            moved = point[keep] + stepsize[rows] * gradient[keep].sign()
            shift = torch.clamp(moved - images[rows], -limit, limit)
            x[rows] = (images[rows] + shift).clamp(0, 1)
            iteration[rows] += 1
            spent[rows] += 1

            finished = unsound.clone()
            for place in (ended & ~unsound).nonzero().flatten().tolist():
                i = int(active[place])
                if searches[i].goes_on(bool(success[place])):
                    epsilon[i] = searches[i].epsilon
                    stepsize[i] = searches[i].epsilon * self.rel_stepsize
                    iteration[i] = 0
                    x[i] = images[i] + epsilon[i] * noise(i, searches[i].rounds)
                else:
                    finished[place] = True
            active = active[~finished]
        return Found(best, spent, broken)


class _OrderedL2DeepFool(L2DeepFoolAttack):
    """DeepFool with norms that do not depend on the batch in their last bit."""

    def get_distances(self, losses: Tensor, grads: Tensor) -> Tensor:
        return losses.abs() / (_ordered_l2(grads, keep=2) + 1e-8)

    def get_perturbations(self, distances: Tensor, grads: Tensor) -> Tensor:
        scale = distances / (_ordered_l2(grads, keep=1) + 1e-8)
        return scale.reshape((-1,) + (1,) * (grads.ndim - 1)) * grads


class _OrderedLinfDeepFool(LinfDeepFoolAttack):
    """DeepFool with norms that do not depend on the batch in their last bit."""

    def get_distances(self, losses: Tensor, grads: Tensor) -> Tensor:
        norms = ordered_sum(grads.raw.abs().flatten(2))
        return losses.abs() / (astensor(norms) + 1e-8)


def _ordered_l2(values: Tensor, keep: int) -> Tensor:
    return astensor(ordered_sum(values.raw.square().flatten(keep)).sqrt())


@dataclass(frozen=True, kw_only=True)
class DeepFoolL2(MinimalAttack):
    """DeepFool in L2: steps to the nearest of the linearised class boundaries.

    The `candidates` likeliest classes are considered; the perturbation is stretched by
    1 + overshoot.

    steps: gradients taken, candidates - 1 in each step.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "deepfool_l2"
    steps: int = 100
    candidates: int = 10
    overshoot: float = 0.05

    def __post_init__(self) -> None:
        _check_deepfool(self.name, self.steps, self.candidates, self.overshoot)

    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""
        return _deepfool(
            lambda steps: _OrderedL2DeepFool(
                steps=steps,
                candidates=self.candidates,
                overshoot=self.overshoot,
                loss="crossentropy",
            ),
            self.steps,
            model,
            images,
            labels,
        )


@dataclass(frozen=True, kw_only=True)
class DeepFoolLinf(MinimalAttack):
    """DeepFool in l_inf, the norm of the threat model; otherwise as in L2.

    steps: gradients taken, candidates - 1 in each step.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "deepfool_linf"
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        _check_deepfool(self.name, self.steps, self.candidates, self.overshoot)

    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""
        return _deepfool(
            lambda steps: _OrderedLinfDeepFool(
                steps=steps, candidates=self.candidates, overshoot=self.overshoot
            ),
            self.steps,
            model,
            images,
            labels,
        )


def _check_deepfool(name: str, steps: int, candidates: int, overshoot: float) -> None:
    check_count(name, "steps", steps)
    check_count(name, "candidates", candidates, least=2)
    check_not_negative(name, "overshoot", overshoot)


def _deepfool(
    build: Callable[[int], DeepFoolAttack],
    steps: int,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> Found:
    """Run Foolbox's DeepFool with few steps, and again from the start with more where that failed.

    Foolbox takes gradients of the whole batch until its last image is done. DeepFool is
    deterministic, so an image done within few steps gives the same result in a longer run.
    """
    best = images.clone()
    spent = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    pending = torch.arange(len(images), device=images.device)
    budget = min(FIRST_BUDGET, steps)
    while len(pending):
        watched = Watched(model, labels[pending], until_adversarial=True)
        best[pending] = build(budget).run(
            foolbox_model(watched, images), images[pending], Misclassification(labels[pending])
        )
        spent[pending], broken[pending] = watched.gradients, watched.broken
        if budget == steps:
            break
        with torch.no_grad():
            logits = model(best[pending])
        done = sound(logits) & (logits.argmax(dim=1) != labels[pending])
        pending = pending[~(done | watched.broken)]
        budget = min(4 * budget, steps)
    return Found(best, spent, broken)


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerL2(MinimalAttack):
    """The Carlini-Wagner L2 attack: Adam on a penalty whose weight is found by binary search.

    `abort_early` ends a search whose loss no longer falls. Foolbox judges this by the loss of the
    whole batch, so the images are then attacked one by one; without it, in batches.

    steps: gradients taken.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "carlini_wagner_l2"
    binary_search_steps: int = 5
    steps: int = 1000
    stepsize: float = 5e-3
    confidence: float = 0.0
    initial_const: float = 1e-2
    abort_early: bool = False

    def __post_init__(self) -> None:
        check_count(self.name, "binary_search_steps", self.binary_search_steps)
        check_count(self.name, "steps", self.steps)
        check_number(self.name, "stepsize", self.stepsize, above=0)
        check_not_negative(self.name, "confidence", self.confidence)
        check_number(self.name, "initial_const", self.initial_const, above=0)
        check_switch(self.name, "abort_early", self.abort_early)

    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""
        size = 1 if self.abort_early else len(images)
        parts = [
            self._attack(model, images[start : start + size], labels[start : start + size])
            for start in range(0, len(images), size)
        ]
        return Found(
            torch.cat([part.images for part in parts]),
            torch.cat([part.steps for part in parts]),
            torch.cat([part.broken for part in parts]),
        )

    def _attack(self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Found:
        count = len(images)
        if count == 1:
            # Foolbox keeps the iterate of least norm. The sum in a norm is split over threads for
            # one row and for one row only, which moves its last bit: so a lone image gets a twin.
            images, labels = images.repeat(2, 1, 1, 1), labels.repeat(2)
        attack = L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )
        watched = Watched(model, labels, until_adversarial=False)
        found = attack.run(foolbox_model(watched, images), images, Misclassification(labels))
        # Foolbox gives zeros, which may well be misclassified, where it never broke an image. No
        # image found is zero throughout: the attack space is a little smaller than [0, 1].
        failed = (found == 0).flatten(1).all(dim=1)[:, None, None, None]
        found = torch.where(failed, images, found)
        return Found(found[:count], watched.gradients[:count], watched.broken[:count])
