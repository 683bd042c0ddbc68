"""Checks of an evaluation: is a defence's failure to be broken the attack's failure?

Comparisons and checks use the majority of draws, since a single lucky draw decides nothing. A
failed check marks the numbers that depend on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.attacks.kinds import spends_more
from bandlimit.studies.chance import Clean, Network
from bandlimit.studies.robustness.rates import (
    CLEAN,
    MODEL,
    STRONGEST,
    UNDEFENDED,
    Attacks,
    cube_of,
    groups,
    typed,
)


@dataclass(frozen=True)
class Check:
    """A check of an evaluation.

    Attributes:
        question: in words; the check passes if the answer is yes.
        marks: which numbers depend on it: 'all' of the defence; 'adaptive', those under attacks on
            the defence itself and the strongest one; 'strongest', that one alone; 'network', those
            of all defences under attack; 'sets', those on sets attacked once, of all defences;
            'model', all that there are of a network.
    """

    question: str
    marks: str


CHECKS: Mapping[str, Check] = {
    "clean_accuracy": Check(
        "Is the network without a defence above chance on clean images?", "model"
    ),
    "random_output": Check(
        "Is the output the same at each call, or judged on enough fresh draws?", "all"
    ),
    "probability_output": Check(
        "Does the attack see logits or log-probabilities, not probabilities that saturate?",
        "adaptive",
    ),
    "zero_gradients": Check("Is the gradient other than exactly 0 at every image?", "adaptive"),
    "nan_gradients": Check("Is the gradient finite at every image?", "adaptive"),
    "attacked_by_gradient": Check("Was the defence itself attacked by its gradient?", "strongest"),
    "undefended_falls": Check(
        "Does the network without a defence fall to 0 by the same attack code, at the document's "
        "epsilon?",
        "network",
    ),
    "falls_to_zero": Check(
        "Does the best gradient attack bring accuracy to 0 at the largest epsilon?", "adaptive"
    ),
    "non_increasing": Check(
        "Does accuracy under an attack on the defence never rise with epsilon?", "adaptive"
    ),
    "many_steps": Check("Are many steps at least as strong as one?", "adaptive"),
    "more_budget": Check("Does a larger budget bring nothing more?", "adaptive"),
    "loss_rises": Check("Does the attack raise its own loss?", "adaptive"),
    "noise": Check("Is random noise weaker than the gradient attack?", "adaptive"),
    "black_box": Check(
        "Is the gradient attack at least as strong as the black-box attack?", "adaptive"
    ),
    "transfer": Check(
        "Is attacking the defence at least as strong as attacking other networks?", "adaptive"
    ),
    "fixed_randomness": Check(
        "Does the attack bring accuracy to 0 once randomness is fixed, at the document's epsilon?",
        "adaptive",
    ),
    "adversarial_inputs": Check(
        "Does the network without a defence misclassify every image counted as adversarial?", "sets"
    ),
}
"""What is checked, in order. The document checks nothing of this; the list is the field's."""

SANITY = {
    **dict.fromkeys(("dataset", "model", "defense", "check", "question"), "str"),
    **dict.fromkeys(("value", "limit"), "float64"),
    "passed": "boolean",
    "note": "str",
}

GRADIENT = ("eot_pgd", "pgd", "autoattack")
"""Kinds of attack that take many gradient steps; one with a single step is no such attack."""

SWITCHES: Mapping[str, Any] = {
    "radius": None,
    "directions": None,
    "vote": "softmax",
    "sampler": "random",
    "sign": "both",
    "space": "standardised",
    "center": True,
    "clip": False,
}
"""What makes post-averaging the same but for its draws, with the defaults; r and K are those of
the experiment."""

SYMPTOMS = {
    "images": "sum",
    "random_output": "any",
    "largest_difference": "max",
    "probability_output": "all",
    "zero_gradients": "sum",
    "nan_gradients": "sum",
}
"""How symptoms on several parts of the images add up."""

SAME = 1e-4
"""Greatest difference of outputs that counts as none."""


@dataclass(frozen=True)
class Answer:
    """What a check found: `passed` is None where it could not be run."""

    passed: bool | None
    value: float = np.nan
    limit: float = np.nan
    note: str = ""


def sanity(
    robust: pd.DataFrame,
    symptoms: pd.DataFrame,
    *,
    attacks: Attacks,
    defenses: Mapping[str, Mapping[str, Any]],
    experiments: Sequence[Mapping[str, Any]] = (),
    by_image: Mapping[tuple[Any, ...], pd.DataFrame] | None = None,
    losses: pd.DataFrame | None = None,
    controls: pd.DataFrame | None = None,
    clean: Mapping[Network, Clean] | None = None,
    epsilon: float = 8 / 255,
    large: float = 8 / 255,
    zero: float = 0.02,
    slack: float = 0.01,
    least_draws: int = 10,
) -> pd.DataFrame:
    """Return the answer to each check, for each defence of each dataset and model.

    Accuracies are by majority, or means where budgets are compared, restart by restart. Attacks are
    compared on the images that both were given. One counts as stronger than another where the
    accuracies differ by more than `slack`, and by more than two images; accuracy is 0 where it is
    at most `zero` or one image.

    Args:
        robust: as `robust_accuracy` gives it.
        symptoms: dataset, model, defense, images, random_output, largest_difference,
            probability_output, zero_gradients, nan_gradients; several rows of one defence are of
            different images.
        attacks: by name: kind ('eot_pgd', 'pgd', 'fgsm', 'autoattack', 'square', 'noise', ...)
            and parameters, as configured.
        defenses: by name: kind and parameters, as configured; of two of one kind, that with draws
            'fixed' is the other with its randomness fixed, if all else is equal.
        experiments: dataset, model, the radius and directions of defences that name none, and the
            epsilon where it is not the one below.
        by_image: as `by_image` gives it of what `robust` was made of; without it attacks of unequal
            numbers of images are not compared.
        losses: as `loss_curves` gives it.
        controls: as `control_rates` gives it, with the control 'undefended'.
        clean: what each network says of clean images, without a defence.
        epsilon: that of the document (l_inf, [0, 1] pixels), at which a network without a defence,
            and a defence whose randomness is known, have nothing to withstand with: each attack is
            asked at its least bound from there on.
        large: the least epsilon at which accuracy must be 0 under a gradient attack, whatever the
            defence.
        zero: greatest accuracy that counts as 0.
        slack: greatest difference of accuracies that counts as none.
        least_draws: number of draws that a random defence must be judged on.

    Columns: dataset, model, defense, check, question, value, limit, passed (null where the check
    was not run, since what it needs is not configured), note. Checks of the whole network stand
    under the defence 'undefended'.
    """
    rows: list[dict[str, Any]] = []
    known = pd.concat([robust[[*MODEL, "defense"]], symptoms[[*MODEL, "defense"]]])
    mains = {(each["dataset"], each["model"]): each for each in experiments}
    for (dataset, model), own in groups(known, MODEL):
        of_model = _of_model(robust, dataset, model)
        main = mains.get((dataset, model), {})
        bound = main.get("epsilon", epsilon)
        limits = {"epsilon": bound, "large": large, "zero": zero, "slack": slack}
        examiner = _Examiner(of_model, by_image or {}, attacks, defenses, main, **limits)
        flags = _of_model(symptoms, dataset, model).groupby("defense").agg(SYMPTOMS)
        for defense in sorted({UNDEFENDED, *own["defense"]}):
            flag = flags.loc[defense] if defense in flags.index else None
            draws = of_model.loc[of_model["defense"] == defense, "draws"].min()
            answers = _symptom_answers(flag, draws, least_draws)
            answers |= examiner.answers(defense)
            if flag is None or flag["random_output"]:
                answers["fixed_randomness"] = examiner.fixed_randomness(defense)
            answers["loss_rises"] = _not_run("no attack recorded its loss")
            if losses is not None:
                answers["loss_rises"] = _loss_answer(_of_model(losses, dataset, model), defense)
            if defense == UNDEFENDED:
                answers["clean_accuracy"] = _clean_answer((clean or {}).get((dataset, model)))
                answers["undefended_falls"] = examiner.undefended_falls()
                answers["adversarial_inputs"] = _not_run("there are no controls")
                if controls is not None:
                    of_controls = _of_model(controls, dataset, model)
                    answers["adversarial_inputs"] = _inputs_answer(of_controls)
            for name, check in CHECKS.items():
                if (answer := answers.get(name)) is not None:
                    rows.append(
                        {
                            "dataset": dataset,
                            "model": model,
                            "defense": defense,
                            "check": name,
                            "question": check.question,
                            **vars(answer),
                        }
                    )
    return typed(rows, SANITY)


NOT_RUN = "not run: "
"""What the note of a check begins with that was not run."""


def _not_run(why: str) -> Answer:
    return Answer(None, note=f"{NOT_RUN}{why}")


def _of_model(frame: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    return frame[(frame["dataset"] == dataset) & (frame["model"] == model)]


def by_image(judged: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Return what a defence says of each image, summed up over restarts and draws.

    Args:
        judged: as of `rates.robust_accuracy`; minimal attacks don't count here.

    Returns:
        By dataset, model, defense, against, attack and epsilon, the majority (0 or 1) and the mean
        over draws and restarts (in [0, 1]), with the images as the index.
    """
    found = {}
    keys = [*MODEL, "defense", "against", "attack", "epsilon"]
    for names, own in groups(judged[judged["epsilon"].notna()], keys):
        ids, cube = cube_of(own)
        shares = cube.shares().mean(axis=1)
        columns = {"majority": cube.majority().astype(float), "mean": shares}
        found[names] = pd.DataFrame(columns, index=ids)
    return found


def _symptom_answers(row: Any, draws: float, least_draws: int) -> dict[str, Answer]:
    """Return the answers that need no attack: `row` has the symptoms, if they were looked for."""
    names = ("random_output", "probability_output", "zero_gradients", "nan_gradients")
    if row is None:
        return {name: _not_run("symptoms were not looked for") for name in names}
    images = int(row["images"])
    difference = float(row["largest_difference"])
    passed: bool | None = True
    note = "the same at each call"
    if row["random_output"]:
        passed = None if pd.isna(draws) else bool(draws >= least_draws)
        note = f"{NOT_RUN}random, but no attack on it was judged"
        if passed is not None:
            note = f"random, judged on up to {draws:g} draws, {least_draws} are enough"
    probability = bool(row["probability_output"])
    answers = {
        "random_output": Answer(passed, difference, SAME, note),
        "probability_output": Answer(
            not probability, float(probability), 0.0, "probabilities" if probability else ""
        ),
    }
    for name, found in (("zero_gradients", "exactly 0"), ("nan_gradients", "not finite")):
        count = int(row[name])
        note = f"{found} at {count} of {images} images"
        answers[name] = Answer(count == 0, count, 0.0, note)
    return answers


def _clean_answer(found: Clean | None) -> Answer:
    if found is None:
        return _not_run("nobody looked at clean images without a defence")
    return Answer(found.above, found.accuracy, found.chance, found.text())


def _loss_answer(losses: pd.DataFrame, defense: str) -> Answer:
    gains = {}
    curves = losses[losses["against"] == defense].sort_values("step")
    for (attack, epsilon), own in groups(curves, ["attack", "epsilon"]):
        if len(own) > 1:
            gains[attack, epsilon] = float(own["mean"].iloc[-1] - own["mean"].iloc[0])
    if not gains:
        return _not_run("no attack of several steps recorded its loss")
    worst = min(gains, key=lambda name: gains[name] if gains[name] == gains[name] else -np.inf)
    note = (
        f"{worst[0]} at {_text(worst[1])}: mean loss of the last step minus that of the first is "
        f"{gains[worst]:.2g}"
    )
    return Answer(bool(gains[worst] > 0), gains[worst], 0.0, note)


def _inputs_answer(controls: pd.DataFrame) -> Answer:
    own = controls[(controls["control"] == UNDEFENDED) & (controls["adversarial"] > 0)]
    if own.empty:
        return _not_run(f"{UNDEFENDED!r} is no control")
    worst = own.loc[own["restored"].idxmax()]
    note = (
        f"share classified correctly, greatest for {worst['attack']}, {worst['adversarial']} images"
    )
    return Answer(bool(worst["restored"] == 0), float(worst["restored"]), 0.0, note)


def _text(epsilon: float) -> str:
    return f"{255 * epsilon:.3g}/255"


class _Examiner:
    """Compares the attacks on the defences of one dataset and model."""

    def __init__(
        self,
        robust: pd.DataFrame,
        by_image: Mapping[Any, pd.DataFrame],
        attacks: Attacks,
        defenses: Mapping[str, Mapping[str, Any]],
        main: Mapping[str, Any],
        *,
        epsilon: float,
        large: float,
        zero: float,
        slack: float,
    ) -> None:
        self.robust = robust
        self.by_image = by_image
        self.attacks = attacks
        self.defenses = defenses
        self.main = main
        self.epsilon, self.large, self.zero, self.slack = epsilon, large, zero, slack

    def answers(self, defense: str) -> dict[str, Answer]:
        """Return the answers of one defence."""
        own = self.robust[self.robust["defense"] == defense]
        named = own[~own["attack"].isin([CLEAN, STRONGEST])]
        itself = [defense, *self._twins(defense)[0]]
        # An attack that sees the randomness, or that sees it fixed, knows the defence as well.
        gradient = self._where(named[named["against"].isin(itself)], self._is_gradient)
        own_attacks = named[named["against"] == defense]
        if named.empty:
            attacked = _not_run("no attack was judged")
        else:
            number = gradient["attack"].nunique()
            attacked = Answer(number > 0, number, 1, "attacks of many steps, on itself")
        return {
            "attacked_by_gradient": attacked,
            "falls_to_zero": self._falls(gradient),
            "non_increasing": self._non_increasing(
                own[own["attack"] == CLEAN],
                self._where(own_attacks, lambda name: not self._is_noise(name)),
            ),
            "many_steps": self._compare(
                self._where(own_attacks, self._is_gradient),
                self._where(own_attacks, self._is_single_step),
                "an attack of one step and one of many",
            ),
            "more_budget": self._more_budget(own_attacks),
            "noise": self._noise(gradient, self._where(named, self._is_noise)),
            "black_box": self._compare(
                gradient,
                self._where(own_attacks, self._is_black_box),
                "a gradient attack and a black-box attack",
            ),
            "transfer": self._compare(
                gradient,
                self._where(
                    named[~named["against"].isin(itself)], lambda name: not self._is_noise(name)
                ),
                "an attack on the defence and one on another network",
            ),
        }

    def fixed_randomness(self, defense: str) -> Answer:
        """Return whether a random defence falls once its randomness is fixed."""
        twins, unlike = self._twins(defense)
        if not twins:
            return _not_run("; ".join(unlike) or "no defence has this one's draws fixed")
        own = self._near(self._on_itself(twins))
        if own.empty:
            return _not_run(
                f"no gradient attack on this one with its draws fixed at {_text(self.epsilon)} or "
                "more"
            )
        # The best attack at the least bound: one that falls short may have less budget.
        own = own[own["epsilon"] <= own["epsilon"].min() + 1e-9]
        return self._is_zero(own.loc[own["majority"].idxmin()])

    def undefended_falls(self) -> Answer:
        """Return whether each attack of many steps brings the bare network to 0.

        Each at its least bound from the document's epsilon on: what falls at a large one only says
        little of the code.
        """
        own = self._near(self._on_itself([UNDEFENDED]))
        if own.empty:
            return _not_run(f"no such attack on {UNDEFENDED!r} at {_text(self.epsilon)} or more")
        return self._is_zero(own.loc[own["majority"].idxmax()])

    def _on_itself(self, defenses: Sequence[str]) -> pd.DataFrame:
        """Return the rows of gradient attacks on the defences that they were judged by."""
        rows = self.robust[self.robust["defense"].isin(defenses)]
        return self._where(rows[rows["against"] == rows["defense"]], self._is_gradient)

    def _near(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the row of each attack on each defence at its least bound from epsilon on."""
        rows = rows[rows["epsilon"] >= self.epsilon - 1e-9].sort_values("epsilon", kind="stable")
        return rows.drop_duplicates(["defense", "attack"])

    def _kind(self, attack: str) -> str:
        return str(self.attacks.get(attack, {}).get("kind", attack))

    def _is_single_step(self, attack: str) -> bool:
        one = self.attacks.get(attack, {}).get("steps") == 1
        return self._kind(attack) == "fgsm" or (self._kind(attack) in GRADIENT and one)

    def _is_gradient(self, attack: str) -> bool:
        return self._kind(attack) in GRADIENT and not self._is_single_step(attack)

    def _is_noise(self, attack: str) -> bool:
        return self._kind(attack) == "noise"

    def _is_black_box(self, attack: str) -> bool:
        return self._kind(attack) == "square"

    def _where(self, rows: pd.DataFrame, belongs: Callable[[str], bool]) -> pd.DataFrame:
        """Return the rows whose attack belongs to a class."""
        return rows[np.array([belongs(name) for name in rows["attack"]], bool)]

    def _twins(self, defense: str) -> tuple[list[str], list[str]]:
        """Return under which names a defence's randomness is fixed, and why others are unlike it.

        What has another radius or fewer directions is another defence: that it falls says nothing.
        """
        own = self.defenses.get(defense, {})
        if own.get("draws") == "fixed":
            return [], []
        twins, unlike = [], []
        for name, other in sorted(self.defenses.items()):
            if other.get("kind") != own.get("kind") or other.get("draws") != "fixed":
                continue
            ours, theirs = self._switches(own), self._switches(other)
            differing = [key for key in SWITCHES if ours[key] != theirs[key]]
            if differing:
                parts = [f"{key} {theirs[key]} for {ours[key]}" for key in differing]
                unlike.append(f"not comparable, since {name} has {', '.join(parts)}")
            else:
                twins.append(name)
        return twins, unlike

    def _switches(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a defence is but for its draws, what it does not say being filled in."""
        defaults = {**SWITCHES, **{key: self.main.get(key) for key in ("radius", "directions")}}
        return {key: entry.get(key, default) for key, default in defaults.items()}

    def _is_zero(self, row: pd.Series, more: str = "") -> Answer:
        value, limit = float(row["majority"]), max(self.zero, 1 / float(row["images"]))
        note = f"{row['attack']} on {row['against']} at {_text(row['epsilon'])}{more}"
        return Answer(value <= limit, value, limit, note)

    def _falls(self, gradient: pd.DataFrame) -> Answer:
        """Return whether the best gradient attack brings accuracy to 0 at the largest bound."""
        if gradient.empty:
            return _not_run("no gradient attack on it")
        far = gradient[gradient["epsilon"] >= self.large - 1e-9]
        if far.empty:
            return _not_run(f"no gradient attack on it at {_text(self.large)} or more")
        # A large bound alone tells little: the text names the least one that does.
        fallen = None
        for bound, rows in sorted(groups(gradient, ["epsilon"]), reverse=True):
            best = rows.loc[rows["majority"].idxmin()]
            if not self._is_zero(best).passed:
                break
            fallen = bound[0]
        more = ""
        if fallen is not None:
            # One image, or some of many, may be left: what counts as 0 is told as it is.
            left = max(
                float(rows["majority"].min())
                for bound, rows in groups(gradient, ["epsilon"])
                if bound[0] >= fallen
            )
            more = f"; {f'at most {left:.3f}' if left else '0'} from {_text(fallen)} on"
        far = far[far["epsilon"] == far["epsilon"].max()]
        return self._is_zero(far.loc[far["majority"].idxmin()], more)

    def _difference(
        self, one: pd.Series, other: pd.Series, column: str = "majority"
    ) -> tuple[float, int] | None:
        """Return the first accuracy minus the second on the images of both, and their number."""
        keys = [*MODEL, "defense", "against", "attack", "epsilon"]
        ours, theirs = self.by_image.get(tuple(one[keys])), self.by_image.get(tuple(other[keys]))
        if ours is not None and theirs is not None:
            common = ours.index.intersection(theirs.index)
            if common.empty:
                return None
            difference = ours.loc[common, column].mean() - theirs.loc[common, column].mean()
            return float(difference), len(common)
        if one["images"] != other["images"]:
            return None
        return float(one[column] - other[column]), int(one["images"])

    def _non_increasing(self, clean: pd.DataFrame, attacked: pd.DataFrame) -> Answer:
        """Return whether no attack does less at a larger bound, 0 being the first."""
        found = []
        for attack, rows in attacked.groupby("attack", sort=True):
            line = pd.concat([clean, rows]).sort_values("epsilon")
            for (_, low), (_, high) in itertools.pairwise(line.iterrows()):
                note = f"{attack} from {_text(low['epsilon'])} to {_text(high['epsilon'])}"
                if (rise := self._difference(high, low)) is not None:
                    found.append((*rise, note))
        return self._answer(found, "an attack at two bounds")

    def _answer(self, found: Sequence[tuple[float, int, str]], needed: str) -> Answer:
        """Return the answer by the greatest of differences that should not be above 0."""
        if not found:
            return _not_run(f"needs {needed}, on images of both")
        excess, images, note = max(found, key=lambda each: each[0])
        limit = max(self.slack, 2 / images)
        return Answer(excess <= limit + 1e-12, excess, limit, f"{note}, {images} images")

    def _pairs(
        self, strong: pd.DataFrame, weak: pd.DataFrame
    ) -> list[tuple[float, int, pd.Series, pd.Series]]:
        """Return by how much each weak attack brings accuracy below the best of the strong ones.

        Each is compared with those strong ones at its epsilon that have the most images in common
        with it, and of these with the one that does best beside it.

        Returns:
            (difference, images, strong row, weak row) of each weak row, epsilons ascending.
        """
        found = []
        for _, theirs in weak.sort_values("epsilon", kind="stable").iterrows():
            beside = []
            for _, ours in strong[strong["epsilon"] == theirs["epsilon"]].iterrows():
                if (difference := self._difference(ours, theirs)) is not None:
                    beside.append((*difference, ours, theirs))
            if beside:
                found.append(min(beside, key=lambda pair: (-pair[1], pair[0])))
        return found

    def _compare(self, strong: pd.DataFrame, weak: pd.DataFrame, needed: str) -> Answer:
        """Return whether one kind of attack is at least as strong as another at each epsilon."""
        found = []
        for difference, images, ours, theirs in self._pairs(strong, weak):
            names = [f"{row['attack']} on {row['against']}" for row in (ours, theirs)]
            note = f"{names[0]} and {names[1]} at {_text(ours['epsilon'])}"
            found.append((difference, images, note))
        return self._answer(found, f"{needed} at one epsilon")

    def _noise(self, gradient: pd.DataFrame, noise: pd.DataFrame) -> Answer:
        pairs = self._pairs(gradient, noise)
        if not pairs:
            return _not_run("needs random noise and a gradient attack at one epsilon")
        far = max(theirs["epsilon"] for _, _, _, theirs in pairs)
        value, images, ours, theirs = max(
            (pair for pair in pairs if pair[3]["epsilon"] == far), key=lambda pair: pair[0]
        )
        note = f"{ours['attack']} and {theirs['attack']} at {_text(far)}, {images} images"
        # Strictly: a gradient that shows nowhere does as much as noise. At 0 nothing is below.
        fallen = self._is_zero(ours).passed
        return Answer(value < 0 or bool(fallen), value, 0.0, note)

    def _more_budget(self, own: pd.DataFrame) -> Answer:
        """Return whether no attack of more steps, samples or queries does more, restart by one."""
        found = []
        for (_, less), (_, more) in itertools.permutations(own.iterrows(), 2):
            if less["epsilon"] != more["epsilon"]:
                continue
            gain = self._difference(less, more, "mean")
            if gain is not None and self._spends_more(more["attack"], less["attack"]):
                note = f"{more['attack']} below {less['attack']} at {_text(less['epsilon'])}"
                found.append((*gain, note))
        return self._answer(found, "an attack of two budgets at one epsilon")

    def _spends_more(self, more: str, less: str) -> bool:
        """Return whether two attacks differ in their budgets alone, none of the first's smaller."""
        if not (self._is_gradient(less) or self._is_black_box(less)):
            return False
        return spends_more(self.attacks.get(more, {}), self.attacks.get(less, {}))


def with_statuses(symptoms: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return symptoms that also count the images on which an attack on the defence met no gradient.

    Symptoms look at clean images alone; a gradient may fail on the way. Of a defence there is one
    row, for all its images.

    Args:
        symptoms: as of `sanity`.
        judged: as of `rates.robust_accuracy`, with the attacks' status.
    """
    own = judged[judged["against"] == judged["defense"]]
    result = symptoms.groupby([*MODEL, "defense"], as_index=False).agg(SYMPTOMS)
    for column, status in (("nan_gradients", "nan_gradient"), ("zero_gradients", "zero_gradient")):
        broken = own[own["status"] == status].groupby([*MODEL, "defense"])["image_id"].nunique()
        keys = list(zip(*(result[name] for name in (*MODEL, "defense")), strict=True))
        counts = [int(broken.get(key, 0)) for key in keys]
        result[column] = np.maximum(result[column].to_numpy(), counts)
    return result


def mark(frame: pd.DataFrame, checks: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a column checks_failed: the failed checks that each row depends on.

    Args:
        frame: dataset and model; who judges as defense, or as control, beside a reference where
            two are compared; attack; against where the rows are of attacks on a defence. Rows that
            nobody judges, such as those of losses, depend on what is said of the attacked one.
        checks: as `sanity` gives it.

    The new column holds names joined by ', ', and null where no check failed.
    """
    failed = checks[checks["passed"].eq(False).fillna(False).astype(bool)]
    names: list[list[str]] = [[] for _ in range(len(frame))]
    for row in failed.itertuples():
        for place in np.flatnonzero(_depends(frame, row)):
            if row.check not in names[place]:
                names[place].append(row.check)
    text = [", ".join(found) if found else None for found in names]
    return frame.assign(checks_failed=pd.array(text, dtype="string"))


def _depends(frame: pd.DataFrame, row: Any) -> NDArray[np.bool_]:
    """Return which rows of a table depend on a check."""
    marks = CHECKS[row.check].marks
    own = (frame["dataset"] == row.dataset) & (frame["model"] == row.model)
    judges = [name for name in ("defense", "control", "reference") if name in frame] or ["against"]
    if marks == "model":
        return own.to_numpy(bool)
    if marks not in ("network", "sets"):
        own &= (frame[judges] == row.defense).any(axis=1)
    attacked = frame["attack"] != CLEAN
    if "against" not in frame:
        # Sets that were attacked once, without knowing the defence.
        if marks == "sets":
            own &= attacked
        return (own & (marks in ("all", "sets"))).to_numpy(bool)
    strongest = frame["attack"] == STRONGEST
    scopes: Mapping[str, Callable[[], Any]] = {
        "all": lambda: True,
        "network": lambda: attacked,
        "adaptive": lambda: attacked & ((frame["against"] == row.defense) | strongest),
        "strongest": lambda: strongest,
        "sets": lambda: False,
    }
    return (own & scopes[marks]()).to_numpy(bool)
