"""What the scripts of the robustness study share: the defences that a job examines."""

from pathlib import Path

from bandlimit import models
from bandlimit.defenses import catalogue
from bandlimit.defenses.base import DrawName


def defenses(job, purpose):
    """Return the classifier of a job and its defences by name, their draws named by a purpose."""
    p, w = job.params, job.wildcards
    model = models.load(job.input.model, p.device)
    others = {Path(q).stem: models.load(q, p.device) for q in job.input.get("others", [])}
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
