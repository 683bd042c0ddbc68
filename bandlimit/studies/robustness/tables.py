"""Tables of the study: accuracy under attack, checks, controls, from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bandlimit.files import store, tables
from bandlimit.files.tables import Column, Table
from bandlimit.studies import chance
from bandlimit.studies.robustness import checks, rates

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
    found = {"sanity": rates.typed([], checks.SANITY)}
    if told["controls"]:
        controls = read(files["controls"], told["controls"])
        found["controls"] = rates.control_rates(controls, told["attacked"])
        found["comparisons"] = rates.comparisons(controls, sets=told["attacked"])
    if told["scalings"]:
        scaled = read(files["scalings"], told["scalings"])
        found["scaling"] = rates.scaling_rates(scaled, told["stretched"])
    if told["defense_attacks"]:
        losses = read_losses(files["defense_attacks"], told["defense_attacks"])
        found["loss_curves"] = rates.loss_curves(losses)
    if told["judgements"]:
        judged = read(files["judgements"], told["judgements"])
        bounds = {(e["dataset"], e["model"]): e["epsilon"] for e in told["experiments"]}
        found["robust_accuracy"] = rates.robust_accuracy(judged)
        found["confidence"] = rates.confidence_rates(judged, bounds)
        symptoms = read(files["symptoms"], told["judgements"])
        found["sanity"] = checks.sanity(
            found["robust_accuracy"],
            checks.with_statuses(symptoms, judged),
            attacks=told["attacks"],
            defenses=told["defenses"],
            experiments=told["experiments"],
            judged=judged,
            losses=found.get("loss_curves"),
            controls=found.get("controls"),
            clean=chance.clean(told["undefended"], files["undefended"]),
            large=told["largest"],
        )
    return {
        name: checks.mark(frame, found["sanity"]) if "checks_failed" in TABLES[name][0] else frame
        for name, frame in found.items()
    }


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of `frames` as its readers see it."""
    return Table(frame, *TABLES[name])
