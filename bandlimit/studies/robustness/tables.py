"""Tables of the study: accuracy under attack, checks, controls, from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bandlimit.files import store, tables
from bandlimit.files.tables import Column, Table
from bandlimit.studies import chance
from bandlimit.studies.robustness import checks, rates
from bandlimit.studies.robustness.rates import MODEL

RATE = {
    "low": Column("95% low", 3),
    "high": Column("95% high", 3),
}
NAMES = {"dataset": Column("Dataset"), "model": Column("Model")}
TABLES: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "robust_accuracy": (
        NAMES
        | {
            "defense": Column("Defence"),
            "against": Column("Attack on"),
            "attack": Column("Attack"),
            "epsilon": Column("ε · 255", 1, 255),
            "images": Column("N"),
            "restarts": Column("Restarts"),
            "draws": Column("Draws"),
            "mean": Column("Accuracy", 3),
        }
        | RATE
        | {
            "majority": Column("Majority", 3),
            "worst": Column("Worst", 3),
            "deviation_draws": Column("sd over draws", 3),
            "deviation_restarts": Column("sd over restarts", 3),
            "checks_failed": Column("Checks failed"),
        },
        "Robust accuracy of each defence under each attack",
        "N images, each judged by fresh draws of a random defence, which end when those to come "
        "can't change what most say: the mean over draws and restarts, which the early end does "
        "not bias, with its Wilson 95% interval over images; the share correct in most draws after "
        "each restart; and the share correct in all draws taken. 'Strongest' takes each image by "
        "the attack that hurts it most. Attacks on the undefended or on another network are "
        "transferred unchanged.",
    ),
    "controls": (
        NAMES
        | {
            "attack": Column("Attack"),
            "control": Column("Control"),
            "adversarial": Column("#Adv"),
            "draws": Column("Draws"),
            "restored": Column("Restored", 3),
        }
        | RATE
        | {
            "deviation": Column("sd over draws", 3),
            "ceiling": Column("Ceiling", 3),
            "clean": Column("Clean accuracy", 3),
            "checks_failed": Column("Checks failed"),
        },
        "What cheap transforms restore of the document's adversarial images",
        "#Adv counts adversarial images within the experiment's epsilon. The restored share has "
        "Wilson's 95% interval; the ceiling is the share of the same images that are classified "
        "correctly when clean.",
    ),
    "comparisons": (
        NAMES
        | {
            "attack": Column("Attack"),
            "control": Column("Control"),
            "images": Column("N"),
            "draws": Column("Draws"),
            "control_draws": Column("Draws of the control"),
            "only_reference": Column("Only the defence correct"),
            "only_control": Column("Only the control correct"),
            "difference": Column("Difference", 3),
            "p_value": Column("p", 4),
            "p_holm": Column("p (Holm)", 4),
            "different": Column("Different"),
            "checks_failed": Column("Checks failed"),
        },
        "Post-averaging compared with each control on the same images",
        "Exact McNemar tests of what most draws say of each image, a tie being wrong, corrected "
        "after Holm over the controls of one attack; different where that is below 0.05. The mean "
        "over draws stands in the table of controls.",
    ),
    "scaling": (
        NAMES
        | {
            "attack": Column("Attack"),
            "defense": Column("Defence"),
            "factor": Column("Factor", 2),
            "images": Column("N"),
            "draws": Column("Draws"),
            "restored": Column("Restored", 3),
        }
        | RATE
        | {
            "deviation": Column("sd over draws", 3),
            "median_linf": Column("median l_inf · 255", 2, 255),
            "checks_failed": Column("Checks failed"),
        },
        "Minimal perturbations, stretched",
        "Clean image plus factor times the perturbation, clipped to [0, 1]; the share that the "
        "defence still classifies correctly, with Wilson 95% intervals.",
    ),
    "confidence": (
        NAMES
        | {
            "defense": Column("Defence"),
            "against": Column("Attack on"),
            "attack": Column("Attack"),
            "confidence": Column("Confidence", 1),
            "images": Column("N"),
            "adversarial": Column("#Adv"),
            "draws": Column("Draws"),
            "defense_rate": Column("Defence rate", 3),
        }
        | RATE
        | {
            "deviation": Column("sd over draws", 3),
            "ceiling": Column("Ceiling", 3),
            "median_linf": Column("median l_inf · 255", 2, 255),
            "epsilon": Column("ε · 255", 1, 255),
            "adversarial_within": Column("#Adv within ε"),
            "rate_within": Column("Rate within ε", 3),
            "low_within": Column("95% low within ε", 3),
            "high_within": Column("95% high within ε", 3),
            "checks_failed": Column("Checks failed"),
        },
        "Defence rate against the attack's confidence",
        "Carlini-Wagner on the undefended network, which asks for a logit margin; the share of its "
        "successes that the defence classifies correctly, with Wilson 95% intervals. It has no "
        "bound: the last columns count only the successes within the experiment's epsilon.",
    ),
    "loss_curves": (
        NAMES
        | {
            "against": Column("Attack on"),
            "attack": Column("Attack"),
            "epsilon": Column("ε · 255", 1, 255),
            "step": Column("Step"),
            "images": Column("N"),
            "mean": Column("Mean loss", 4),
            "median": Column("Median", 4),
            "checks_failed": Column("Checks failed"),
        },
        "Loss of the adaptive attacks, step by step",
        "The loss that the attack raises, over images and restarts.",
    ),
    "sanity": (
        NAMES
        | {
            "defense": Column("Defence"),
            "question": Column("Check"),
            "value": Column("Value", 4),
            "limit": Column("Limit", 4),
            "passed": Column("Passed"),
            "note": Column("Note"),
        },
        "Can the evaluation be trusted?",
        "Checks for masked gradients and weak attacks. A failed one marks the numbers that depend "
        "on it in the column 'checks failed' of the other tables; a dash: the check was not run, "
        "since what it needs is not configured.",
    ),
}
"""Of each table its columns, its title and its note."""

Names = Sequence[Mapping[str, str]]


def read(paths: Sequence[str], names: Names) -> pd.DataFrame:
    """Return records of several files as one frame, with the names that each file stands for."""
    return tables.read_all(paths, **{name: [part[name] for part in names] for name in names[0]})


def read_losses(paths: Sequence[str], names: Names) -> pd.DataFrame:
    """Return the losses of adversarial records, with the names that each file stands for."""
    wanted = ["image_id", "epsilon", "restart", "losses"]
    parts = [
        store.read(path, wanted).to_pandas().assign(**part)
        for path, part in zip(paths, names, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _alike(
    keys: Sequence[str], names: Names, *files: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Yield the names and files that share values of `keys`, these in order and before them.

    Records of images are many, and what is asked of them is asked of a network or of a defence: in
    memory are those of one at a time.
    """
    found: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for part, *paths in zip(names, *files, strict=True):
        found.setdefault(tuple(part[key] for key in keys), []).append((part, *paths))
    for values, rows in sorted(found.items(), key=lambda item: item[0]):
        yield values, [list(column) for column in zip(*rows, strict=True)]


def frames(files: Mapping[str, Sequence[str]], told: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables by name, those without records left out; checks mark what depends on them.

    Args:
        files: of each kind of record (`defense_attacks`, `judgements`, `symptoms`, `controls`,
            `scalings`) its files, and evaluations of clean images without a defence,
            `undefended`.
        told: what these files stand for, by the same names, and `attacks` and `defenses` as
            configured, `experiments` (dataset, model, radius, directions, epsilon), `attacked`
            and `stretched`, the sets that controls and stretched perturbations are of, and
            `largest`, the greatest l_inf bound.
    """
    parts: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for network, (names, paths) in _alike(MODEL, told["controls"], files["controls"]):
        controls, sets = read(paths, names), _of_network(told["attacked"], network)
        parts["controls"].append(rates.control_rates(controls, sets))
        parts["comparisons"].append(rates.comparisons(controls, sets=sets))
    for network, (names, paths) in _alike(MODEL, told["scalings"], files["scalings"]):
        sets = _of_network(told["stretched"], network)
        parts["scaling"].append(rates.scaling_rates(read(paths, names), sets))
    of_attack = [*MODEL, "against", "attack"]
    for _, (names, paths) in _alike(of_attack, told["defense_attacks"], files["defense_attacks"]):
        parts["loss_curves"].append(rates.loss_curves(read_losses(paths, names)))
    by_image: dict[Any, pd.DataFrame] = {}
    symptoms, unbounded = [], []
    of_defense, sources = [*MODEL, "defense"], (files["judgements"], files["symptoms"])
    for _, (names, paths, seen) in _alike(of_defense, told["judgements"], *sources):
        judged = read(paths, names)
        parts["robust_accuracy"].append(rates.robust_accuracy(judged))
        by_image |= checks.by_image(judged)
        symptoms.append(checks.with_statuses(read(seen, names), judged))
        unbounded.append(judged[judged["confidence"].notna() | (judged["attack"] == rates.CLEAN)])
    found = {name: pd.concat(own, ignore_index=True) for name, own in parts.items()}
    if told["judgements"]:
        bounds = {(e["dataset"], e["model"]): e["epsilon"] for e in told["experiments"]}
        rows = pd.concat(unbounded, ignore_index=True)
        found["confidence"] = rates.confidence_rates(rows, bounds)
        found["sanity"] = checks.sanity(
            found["robust_accuracy"],
            pd.concat(symptoms, ignore_index=True),
            attacks=told["attacks"],
            defenses=told["defenses"],
            experiments=told["experiments"],
            by_image=by_image,
            losses=found.get("loss_curves"),
            controls=found.get("controls"),
            clean=chance.clean(told["undefended"], files["undefended"]),
            large=told["largest"],
        )
    else:
        found["sanity"] = rates.typed([], checks.SANITY)
    return {
        name: checks.mark(frame, found["sanity"]) if "checks_failed" in TABLES[name][0] else frame
        for name, frame in found.items()
    }


def _of_network(sets: rates.Sets, network: Sequence[str]) -> rates.Sets:
    return [each for each in sets if [each[name] for name in MODEL] == list(network)]


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of `frames` as its readers see it."""
    return Table(frame, *TABLES[name])
