"""What the scripts of the robustness study share: the defences that a job examines."""

from bandlimit import models
from bandlimit.defenses import catalogue
from bandlimit.defenses.base import DrawName


def defenses(job, purpose):
    """Return the classifier of a job and its defences by name, their draws named by a purpose."""
    p, w = job.params, job.wildcards
    model = models.load(job.input.model, p.device)
    names = dict.fromkeys(entry["model"] for entry in p.defenses.values() if "model" in entry)
    paths = job.input.get("others", [])
    others = {name: models.load(path, p.device) for name, path in zip(names, paths, strict=True)}
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
