"""Carlini-Wagner with confidences: adversarial images beyond the boundary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bandlimit.attacks.adaptive.base import AdaptiveAttack, Seen, Target, Trial, first_draw, joined
from bandlimit.attacks.minimal import CarliniWagnerL2
from bandlimit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ConfidentCarliniWagnerL2(AdaptiveAttack):
    """Carlini-Wagner L2 that goes beyond the boundary by each of some confidences.

    See `minimal.CarliniWagnerL2`; one run per confidence, epsilon null. Where a run finds nothing,
    the record holds the clean image.

    steps: gradients taken.

    Attributes:
        confidences: how far the greatest other output must exceed that of the true class.
        binary_search_steps: searches for the weight of the penalty.
        steps: of each search.
        stepsize: of Adam.
        initial_const: weight of the penalty in the first search.
        abort_early: end a search whose loss no longer falls.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "carlini_wagner_l2"
    minimal = True
    confidences: Sequence[float] = (0.0,)
    binary_search_steps: int = 5
    steps: int = 1000
    stepsize: float = 5e-3
    initial_const: float = 1e-2
    abort_early: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.confidences, list | tuple) or not self.confidences:
            raise UserError(
                f"The parameter 'confidences' of the attack {self.name!r} is "
                f"{self.confidences!r}; a list of numbers is allowed."
            )
        for confidence in self.confidences:
            self._run(confidence)
        if len(set(self.confidences)) < len(self.confidences):
            raise UserError(
                f"The parameter 'confidences' of the attack {self.name!r} is "
                f"{self.confidences!r}; each of them is needed once."
            )

    def _run(self, confidence: float) -> CarliniWagnerL2:
        return CarliniWagnerL2(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )

    def trials(self, target: Target, epsilon: float | None) -> Iterator[Trial]:
        """Yield what each confidence leaves, the least first."""
        # `minimal.CarliniWagnerL2` gives a lone image a twin, whose name the defence must know.
        count = len(target.images)
        size = 1 if self.abort_early else count
        for confidence in sorted(self.confidences):
            run = self._run(confidence)
            parts = []
            for start in range(0, count, size):
                part = target.rows(start, start + size)
                copies = 2 if size == 1 else 1
                bound = target.defense.bind(part.image_ids * copies, first_draw(confidence, 0))
                seen = Seen(bound, part.labels.repeat(copies), target.defense.classes)
                found = run.search(seen, part.images, part.labels, target.noise)
                rows = len(part.images)
                parts.append(
                    Trial(
                        found.images,
                        found.steps,
                        seen.broken[:rows],
                        seen.flat()[:rows],
                        part.images.new_zeros((rows, 0)),
                    )
                )
            yield joined(parts, confidence=float(confidence))
