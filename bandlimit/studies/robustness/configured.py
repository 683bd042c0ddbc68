"""The defences that a job of this study is told, made for its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bandlimit.defenses import catalogue
from bandlimit.defenses.base import Defense, DrawName
from bandlimit.models import classifier
from bandlimit.models.classifier import Classifier


def defenses(job: Any, purpose: str) -> tuple[Classifier, dict[str, Defense]]:
    """Return the classifier of a job, and its defences by name.

    Args:
        job: what a script is handed: params `defenses`, `device` and `seed`; wildcards `dataset`
            and `model`; inputs `model` and, where a defence is another model, `others`.
        purpose: names their draws. Whoever attacks gives another purpose than whoever judges.
    """
    p, w = job.params, job.wildcards
    model = classifier.load(job.input.model, p.device)
    others = {Path(q).stem: classifier.load(q, p.device) for q in job.input.get("others", [])}
    # What kinds that have no radius and no directions are given in their place, and ignore.
    ignored = {"radius": 0.0, "directions": 0}
    made = {}
    for name, entry in p.defenses.items():
        draw = DrawName(p.seed, f"{purpose} {name}", w["dataset"], w["model"])
        other = others.get(entry.get("model"))
        made[name] = catalogue.create(
            **{**ignored, **entry}, classifier=model, name=draw, other=other
        )
    return model, made
