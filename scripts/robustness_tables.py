"""Tables of the robustness study: accuracy under attack, controls, checks, from records."""

import pandas as pd

from bandlimit import robustness, sanity, store, tables
from bandlimit.tables import Column
from job import run

RATE = {
    "low": Column("95% low", 3),
    "high": Column("95% high", 3),
}
NAMES = {"dataset": Column("Dataset"), "model": Column("Model")}
TABLES = {
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
        "N images, each judged by fresh draws of a random defence: the mean over draws and restarts"
        " with its Wilson 95% interval over images, the share right in most draws after each "
        "restart, and the share right in all. 'Strongest' takes each image by the attack that "
        "hurts it most. Attacks on the undefended or on another network are tried as they are.",
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
        "#Adv adversarial images within epsilon of the study; the restored share with its Wilson "
        "95% interval; the ceiling is the share of the same images that are labelled rightly when "
        "clean.",
    ),
    "comparisons": (
        NAMES
        | {
            "attack": Column("Attack"),
            "control": Column("Control"),
            "images": Column("N"),
            "draws": Column("Draws"),
            "control_draws": Column("Draws of the control"),
            "only_reference": Column("Only the defence right"),
            "only_control": Column("Only the control right"),
            "difference": Column("Difference", 3),
            "p_value": Column("p", 4),
            "p_holm": Column("p (Holm)", 4),
            "different": Column("Different"),
            "checks_failed": Column("Checks failed"),
        },
        "Post-averaging beside each control on equal images",
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
        "defence still labels rightly, with Wilson 95% intervals.",
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
        "successes that the defence labels rightly, with Wilson 95% intervals. It knows no "
        "epsilon: the last columns are of those successes alone that lie within the document's.",
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


def read(paths, names):
    """Return records of several files as one frame, with the names that each path stands for."""
    columns = {name: [part[name] for part in names] for name in names[0]}
    return tables.read_all(paths, **columns)


def read_losses(paths, names):
    """Return the losses of adversarial records, with the names that each path stands for."""
    wanted = ["image_id", "epsilon", "restart", "losses"]
    parts = [
        store.read(path, wanted).to_pandas().assign(**part)
        for path, part in zip(paths, names, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def main(job):
    p = job.params
    # A study may have controls alone, or no controls; what has no records gets no table.
    frames = {"sanity": robustness.typed([], sanity.SANITY)}
    if p.controls:
        controls = read(job.input.controls, p.controls)
        frames["controls"] = robustness.control_rates(controls)
        frames["comparisons"] = robustness.comparisons(controls)
    if p.scaled:
        frames["scaling"] = robustness.scaling_rates(read(job.input.scaled, p.scaled))
    if p.adaptive:
        frames["loss_curves"] = robustness.loss_curves(read_losses(job.input.adaptive, p.adaptive))
    if p.judged:
        judged = read(job.input.judged, p.judged)
        frames["robust_accuracy"] = robustness.robust_accuracy(judged)
        frames["confidence"] = robustness.confidence_rates(judged, p.epsilon)
        frames["sanity"] = sanity.sanity(
            frames["robust_accuracy"],
            sanity.with_statuses(read(job.input.symptoms, p.judged), judged),
            attacks=p.attacks,
            defenses=p.defenses,
            experiments=p.experiments,
            judged=judged,
            losses=frames.get("loss_curves"),
            controls=frames.get("controls"),
            epsilon=p.epsilon,
            large=p.largest,
        )
    for i, name in enumerate(p.tables):
        columns, title, note = TABLES[name]
        frame = frames[name]
        if "checks_failed" in columns:
            frame = sanity.mark(frame, frames["sanity"])
        tables.save(
            frame,
            columns,
            **{
                form: job.output[form][i]
                for form in ("parquet", "markdown", "html", "latex", "csv")
            },
            title=title,
            note=note,
            certificate=job.certificate(),
        )


run(main, snakemake)
