"""A defence tried on a few images, in seconds, before a run attacks it for hours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.attacks.base import exact_arithmetic
from bandlimit.config import paths
from bandlimit.config.models import Model
from bandlimit.config.run import Run
from bandlimit.data import stream
from bandlimit.defenses import catalogue
from bandlimit.defenses.base import Defense, DrawName
from bandlimit.defenses.kinds import PARAMETERS
from bandlimit.errors import UserError, suggest
from bandlimit.files import store
from bandlimit.models import architectures, classifier, weights
from bandlimit.models.classifier import Classifier
from bandlimit.studies.robustness.settings import Examination, Robustness
from bandlimit.studies.robustness.symptoms import symptoms

IMAGES = 8
"""Images that a defence is tried on."""

SAME = 1e-5
"""How far outputs may differ that should be the same, as a share of the greatest."""

PASSED, FAILED, NOTED = "ok", "FAILED", "note"


@dataclass(frozen=True)
class Line:
    """What was tried, how it went, and what follows."""

    state: str
    what: str
    note: str


def lines(run: Run, name: str) -> list[Line]:
    """Return what was found of a defence of a configuration.

    Args:
        run: a configuration with the study `robustness`.
        name: of a defence that one of its experiments examines or compares.

    Raises:
        UserError: no experiment uses it, or it can't be made or run at all.
    """
    study = run.studies.get("robustness")
    if not isinstance(study, Robustness):
        raise UserError("The configuration has no section 'robustness', which examines defences.")
    e, missed = _examination(study, name, run)
    with tempfile.TemporaryDirectory() as folder:
        network, told = _network(run, run.models[e.model], Path(folder))
        images, labels, told_of_images = _images(e, network)
        defense = _defense(run, study, e, name, network)
        found = [Line(NOTED, "tried on", f"{told}; {told_of_images}")]
        if missed:
            found.append(Line(NOTED, "not examined yet", missed))
        with exact_arithmetic():
            found += _tried(defense, images, labels)
    return found


def _examination(study: Robustness, name: str, run: Run) -> tuple[Examination, str]:
    """Return the experiment that uses a defence, or the first, and then what is missing."""
    for e in study.experiments:
        if name in (*e.defenses, *e.controls):
            return e, ""
    if name not in run.defenses or not study.experiments:
        raise UserError(
            f"There is no defence {name!r} in the configuration; {suggest(name, run.defenses)}."
        )
    e = study.experiments[0]
    return e, f"list it in robustness.experiments.{e.name}.defenses, or in those of another one"


def _network(run: Run, model: Model, folder: Path) -> tuple[Classifier, str]:
    """Return the network: as the run made it, of its weights file, or with fresh weights."""
    made = paths.model_file(model.name)
    if Path(made).is_file():
        return classifier.load(made, run.device), f"the network {model.name}"
    place = folder / "model.safetensors"
    fields: dict[str, Any] = {
        "architecture": model.architecture,
        "mean": model.mean,
        "std": model.std,
        "shape": model.shape,
        "classes": model.classes,
    }
    if model.path and Path(model.path).is_file():
        weights.convert(model.path, place, **fields)
        return classifier.load(place, run.device), f"the network {model.name}"
    if model.source == "package":
        weights.convert(weights.packaged_weights(model.architecture), place, **fields)
        return classifier.load(place, run.device), f"the network {model.name}"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = architectures.build(
            model.architecture,
            classes=model.classes,
            channels=model.shape[0],
            sides=model.shape[1:],
        )
    weights.save(place, fresh.state_dict(), **fields)
    return (
        classifier.load(place, run.device),
        f"a network like {model.name} with fresh weights, since the run has not made it yet",
    )


def _images(e: Examination, network: Classifier) -> tuple[Tensor, Tensor, str]:
    """Return images and labels: of the dataset, or drawn where the run has not made it yet."""
    path = Path(paths.dataset_file(e.dataset))
    if path.is_file():
        stream.check_shape(path, network.shape)
        table = store.read(path, ["label", "image"]).slice(0, IMAGES)
        images = torch.from_numpy(store.images_of(table).copy()).float() / 255
        labels = torch.tensor(table["label"].to_pylist())
        return images, labels, f"{len(images)} images of {e.dataset}"
    generator = keys.generator(0, "check-defense")
    images = torch.rand(IMAGES, *network.shape, generator=generator)
    labels = torch.randint(network.classes, (IMAGES,), generator=generator)
    return images, labels, f"{IMAGES} random images, since the run has not made {e.dataset} yet"


def _defense(
    run: Run, study: Robustness, e: Examination, name: str, network: Classifier
) -> Defense:
    entry = study.defenses[name]
    if entry.kind == "other_model":
        raise UserError(
            f"The defence {name!r} is another model, and there is nothing to try of one."
        )
    own = {"radius": e.radius, "directions": e.directions}
    given = {key: own[key] if key in PARAMETERS[entry.kind] else 0 for key in own}
    return catalogue.create(
        **{"kind": entry.kind, **given, **entry.parameters},
        classifier=network,
        name=DrawName(run.seed, f"trying {name}", e.dataset, e.model),
    )


def _tried(defense: Defense, images: Tensor, labels: Tensor) -> Iterator[Line]:
    ids = [str(number) for number in range(len(images))]
    with torch.no_grad():
        started = time.perf_counter()
        outputs = defense.bind(ids)(images)
        spent = (time.perf_counter() - started) / len(images)
        yield _shape(defense, outputs, images)
        yield _ends(defense, images, ids)
        yield _alone(defense, outputs, images, ids)
        yield from _draws(defense, outputs, images, ids)
    yield from _gradients(defense, outputs, images, labels, ids)
    yield Line(NOTED, "time", f"{1000 * spent:.1f} ms for an image, {len(images)} at a time")


def _state(passed: bool) -> str:
    return PASSED if passed else FAILED


def _off(a: Tensor, b: Tensor) -> float:
    """Return how far outputs differ, as a share of the greatest."""
    return float((a - b).abs().max() / (a.abs().max() + 1e-12))


def _shape(defense: Defense, outputs: Tensor, images: Tensor) -> Line:
    wanted = (len(images), defense.classes)
    good = tuple(outputs.shape) == wanted and bool(torch.isfinite(outputs).all())
    return Line(_state(good), "outputs", f"{tuple(outputs.shape)}, finite; wanted {wanted}")


def _ends(defense: Defense, images: Tensor, ids: Sequence[str]) -> Line:
    """Black and white images are as valid as others, and attacks go there."""
    ends = torch.zeros_like(images)
    ends[1::2] = 1
    good = bool(torch.isfinite(defense.bind(ids)(ends)).all())
    return Line(_state(good), "range", "black and white images give finite outputs")


def _alone(defense: Defense, outputs: Tensor, images: Tensor, ids: Sequence[str]) -> Line:
    order = list(range(len(images)))[::-1]
    parts = [order[:3], order[3:]]
    again = torch.empty_like(outputs)
    for part in parts:
        if part:
            again[part] = defense.bind([ids[i] for i in part])(images[part])
    off = _off(outputs, again)
    return Line(
        _state(off <= SAME),
        "independence",
        f"outputs differ by {off:.1e} in other batches and another order; an image's must depend "
        "on that image alone",
    )


def _draws(defense: Defense, outputs: Tensor, images: Tensor, ids: Sequence[str]) -> Iterator[Line]:
    off = _off(outputs, defense.bind(ids)(images))
    yield Line(_state(off <= SAME), "repetition", f"the same draw again differs by {off:.1e}")
    if defense.random:
        other = _off(outputs, defense.bind(ids, draw=1)(images))
        note = f"another draw differs by {other:.1e}"
        if other == 0:
            note += ": it says 'random: true' and does not draw"
        yield Line(_state(other > 0), "draws", note)


def _gradients(
    defense: Defense, outputs: Tensor, images: Tensor, labels: Tensor, ids: Sequence[str]
) -> Iterator[Line]:
    shown = symptoms(defense, [(ids, labels, images)])
    yield Line(
        _state(not shown.probability_output),
        "logits",
        "outputs are logits or log-probabilities"
        if not shown.probability_output
        else "outputs lie in [0, 1] and sum to 1: return logits or log-probabilities",
    )
    zero, broken = shown.zero_gradients, shown.nan_gradients
    note = f"exactly 0 at {zero}, not finite at {broken} of {shown.images} images"
    if zero:
        note += "; attacks with gradient 'identity' go around what hides it"
    yield Line(FAILED if broken else NOTED if zero else PASSED, "gradient", note)
    yield _try("identity", lambda: _through(defense, images, ids))
    sure = int((torch.softmax(outputs, dim=1).amax(dim=1) == 1).sum())
    yield Line(
        NOTED if sure else PASSED,
        "saturation",
        f"the softmax is exactly 1 at {sure} of {len(images)} images"
        + ("; the margin loss does not saturate" if sure else ""),
    )


def _through(defense: Defense, images: Tensor, ids: Sequence[str]) -> str:
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(defense.gradient_through_identity().bind(ids)(x).sum(), x)
    return f"the gradient through the identity is {float(gradient.abs().mean()):.1e} in the mean"


def _try(what: str, tried: Callable[[], str]) -> Line:
    try:
        return Line(PASSED, what, tried())
    except UserError as error:
        return Line(NOTED, what, str(error))


def text(found: Sequence[Line]) -> str:
    """Return the lines for a reader."""
    width = max(len(line.what) for line in found)
    return "\n".join(f"{line.state:>6}  {line.what:<{width}}  {line.note}" for line in found)
