"""The study `high_frequency` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import epsilon, member
from bandlimit.defenses.kinds import WITHOUT_CONVOLUTION
from bandlimit.errors import UserError
from bandlimit.files import folders
from bandlimit.models.kinds import NO_BATCHNORM

GROUPS = ("components", "batchnorm", "heuristics", "architectures", "optimizers")
"""Lists of networks that an experiment compares, each with its own network or with each other."""


@dataclass(frozen=True)
class Network:
    """Networks trained alike, with what sets them apart from others.

    Attributes:
        name: of the model; further seeds have names of their own, see `models`.
        architecture: of the model, without what says that it has no BatchNorm.
        batchnorm: whether it has BatchNorm.
        recipe: how it was trained.
        shuffled: whether the labels of its training images were.
    """

    name: str
    architecture: str
    batchnorm: bool
    recipe: Mapping[str, Any]
    shuffled: bool

    @property
    def seeds(self) -> int:
        """How many networks there are."""
        return int(self.recipe.get("seeds", 1))

    def models(self) -> list[str]:
        """Return the names of the models, one for each seed."""
        return [self.name, *(f"{self.name}_seed_{k}" for k in range(2, self.seeds + 1))]

    @property
    def curves(self) -> Mapping[str, Any]:
        """How its accuracy is measured along the training."""
        curves: Mapping[str, Any] = self.recipe["curves"]
        return curves

    @property
    def part(self) -> tuple[str, float] | None:
        """Part of the spectrum that it was trained on, with the radius; None for whole images."""
        component = self.recipe.get("component")
        return (component["part"], float(component["radius"])) if component else None


@dataclass(frozen=True)
class Learning(Experiment):
    """An experiment on what networks learn from which frequencies.

    Attributes:
        vanilla: the network of the experiment.
        radii: of the components, in periods per side.
        images: how many the components of which are shown to `vanilla`, or None for all.
        labels: networks of true and of shuffled labels, or None.
        components: networks that were trained on a part of the spectrum.
        batchnorm: networks with BatchNorm, trained on the low parts of `components`.
        heuristics: networks trained with one of them each.
        architectures: other ones.
        optimizers: networks trained by other ones.
        equal_epochs: networks of several batch sizes.
        equal_updates: the same at equal numbers of updates.
        robust: the network trained on adversarial images, or None.
    """

    vanilla: Network
    radii: tuple[float, ...]
    images: int | None
    labels: tuple[Network, Network] | None
    components: tuple[Network, ...]
    batchnorm: tuple[Network, ...]
    heuristics: tuple[Network, ...]
    architectures: tuple[Network, ...]
    optimizers: tuple[Network, ...]
    equal_epochs: tuple[Network, ...]
    equal_updates: tuple[Network, ...]
    robust: Network | None

    def networks(self) -> list[Network]:
        """Return all networks, each once, that of the experiment first."""
        found = [self.vanilla, *(self.labels or ()), *self.grouped()]
        return list({network.name: network for network in found}.values())

    def grouped(self) -> list[Network]:
        """Return the networks besides its own and those of labels; some more than once."""
        groups = (*GROUPS, "equal_epochs", "equal_updates")
        found = [network for group in groups for network in getattr(self, group)]
        return [*found, *([self.robust] if self.robust else [])]

    def smoothed(self) -> list[Network]:
        """Return the networks whose kernels are smoothed."""
        return [self.vanilla, *([self.robust] if self.robust else [])]


@dataclass(frozen=True)
class Smoothing:
    """The smoothing of kernels, and the attacks that it meets.

    Attributes:
        rhos: weights of the neighbours, above 0.
        epsilons: l_inf bounds of FGSM and PGD, in [0, 1] pixels.
        images: how many are attacked, or None for all.
        steps: of PGD.
        rel_stepsize: of a step, in epsilon.
    """

    rhos: tuple[float, ...]
    epsilons: tuple[float, ...]
    images: int | None
    steps: int
    rel_stepsize: float


@dataclass(frozen=True)
class Detection:
    """Objects that a detector finds in a COCO folder.

    Attributes:
        annotations: file of the objects that are there.
        pictures: folder of the images.
        weights: the detector's own file, or None to fetch what torchvision publishes.
        sha256: of the weights, or the beginning of it.
        radius: of the components, in periods per side of each image.
        strict: whether the border of the disk is left out.
        scale: none, clipped to [0, 1], or maximum, divided by it.
        images: a seeded choice of so many, or None for all.
    """

    annotations: str
    pictures: str
    weights: str | None
    sha256: str
    radius: float
    strict: bool
    scale: str
    images: int | None

    @functools.cached_property
    def files(self) -> str | None:
        """Digest of the names and contents of the images; None where there is no folder."""
        return folders.digest(self.pictures)


DETECTOR_URL = "https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth"
DETECTOR_SHA256 = "eeacb38b"
"""torchvision's weights `RetinaNet_ResNet50_FPN_Weights.COCO_V1`: address, begin of the sha256."""


@dataclass(frozen=True)
class HighFrequency:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration.
        smoothing: of the first layer's kernels.
        detection: of objects, or None.
        trained: accuracy on training images at which a network counts as trained.
    """

    experiments: tuple[Learning, ...]
    smoothing: Smoothing
    detection: Detection | None
    trained: float

    def experiment(self, dataset: str, model: str) -> Learning:
        """Return the experiment that a model belongs to, that of a seed included.

        Raises:
            KeyError: the study has none.
        """
        for experiment in self.experiments:
            names = [name for network in experiment.networks() for name in network.models()]
            if experiment.dataset == dataset and model in names:
                return experiment
        raise KeyError((dataset, model))

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the trained models besides its own that the study runs on an experiment."""
        for own in self.experiments:
            if own.name == experiment.name:
                return [network.name for network in own.networks() if network.name != own.model]
        return []


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs."""
    return {name for entry in section["experiments"].values() for name in _names(entry)}


def runs_alone(section: Mapping[str, Any]) -> bool:
    """Return whether there is something to do without an experiment: objects to detect."""
    return bool(section.get("detection", {}).get("folder"))


def _names(entry: Mapping[str, Any]) -> list[str]:
    found = [name for group in GROUPS for name in entry[group]]
    for scheme in ("equal_epochs", "equal_updates"):
        found += entry["batch_sizes"][scheme]
    found += [entry["labels"][key] for key in ("true", "shuffled")] if entry.get("labels") else []
    return found + ([entry["robust"]] if entry.get("robust") else [])


def load(section: Mapping[str, Any], run: Run) -> HighFrequency:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.

    Raises:
        UserError: a network is not one that the run trains, or its curves are not measured on the
            images and radii of its experiment or as those that it is compared with, or it is not
            what its place says; or a dataset has fewer images than are asked for.
    """
    place = "high_frequency.smoothing.epsilons"
    smoothing = section["smoothing"]
    for name in section["experiments"]:
        dataset = run.experiments[name].dataset
        _check_images(run, dataset, smoothing.get("images"), "high_frequency.smoothing")
    return HighFrequency(
        experiments=tuple(
            _experiment(run, name, entry) for name, entry in section["experiments"].items()
        ),
        smoothing=Smoothing(
            rhos=tuple(map(float, smoothing["rhos"])),
            epsilons=tuple(epsilon(bound, place) for bound in smoothing["epsilons"]),
            images=smoothing.get("images"),
            steps=int(smoothing["steps"]),
            rel_stepsize=float(smoothing["rel_stepsize"]),
        ),
        detection=_detection(section.get("detection")),
        trained=float(section["trained"]),
    )


def _detection(entry: Mapping[str, Any] | None) -> Detection | None:
    if not entry or not entry.get("folder"):
        return None
    folder = str(entry["folder"])
    weights = entry.get("weights")
    if weights is None and "sha256" in entry:
        raise UserError(
            "high_frequency.detection.sha256 is that of 'weights', a file of one's own, and none "
            f"is given; got {entry['sha256']!r}."
        )
    if weights is not None and "sha256" not in entry:
        raise UserError(
            "high_frequency.detection.weights needs 'sha256' beside it, without which no file is "
            f"opened; got {weights!r} alone."
        )
    return Detection(
        annotations=os.path.join(folder, "annotations", f"instances_{entry['split']}.json"),
        pictures=os.path.join(folder, entry["split"]),
        weights=weights,
        sha256=entry.get("sha256", DETECTOR_SHA256),
        radius=float(entry["radius"]),
        strict=entry["strict"],
        scale=entry["scale"],
        images=entry.get("images"),
    )


def _experiment(run: Run, name: str, entry: Mapping[str, Any]) -> Learning:
    experiment = run.experiments[name]
    place = f"high_frequency.experiments.{name}"
    radii = tuple(map(float, entry["radii"]))
    _check_images(run, experiment.dataset, entry.get("images"), place)

    def network(model: str, where: str) -> Network:
        return _network(run, experiment, radii, model, f"{place}.{where}")

    def group(where: str, names: Sequence[str]) -> tuple[Network, ...]:
        return tuple(network(model, where) for model in names)

    labels, sizes = entry.get("labels"), entry["batch_sizes"]
    found = Learning(
        **vars(experiment),
        vanilla=_network(run, experiment, radii, experiment.model, f"experiments.{name}.model"),
        radii=radii,
        images=entry.get("images"),
        labels=(
            network(labels["true"], "labels.true"),
            network(labels["shuffled"], "labels.shuffled"),
        )
        if labels
        else None,
        components=group("components", entry["components"]),
        batchnorm=group("batchnorm", entry["batchnorm"]),
        heuristics=group("heuristics", entry["heuristics"]),
        architectures=group("architectures", entry["architectures"]),
        optimizers=group("optimizers", entry["optimizers"]),
        equal_epochs=group("batch_sizes.equal_epochs", sizes["equal_epochs"]),
        equal_updates=group("batch_sizes.equal_updates", sizes["equal_updates"]),
        robust=network(entry["robust"], "robust") if entry.get("robust") else None,
    )
    _check_places(found, place)
    _check_alike(found, place)
    _check_convolutions(run, found, place)
    return found


def _check_images(run: Run, dataset: str, images: int | None, place: str) -> None:
    size = run.datasets[dataset].count
    if images is not None and size is not None and images > size:
        raise UserError(
            f"{place}.images must be from 1 to {size}, the images of {dataset!r}, got {images}."
        )


def _check_places(found: Learning, place: str) -> None:
    """Refuse networks that are not what their place says."""
    wrong = [
        (f"{place}.components", "trained on a component", n.name)
        for n in found.components
        if n.part is None
    ]
    wrong += [
        (f"{place}.batchnorm", "with BatchNorm", n.name) for n in found.batchnorm if not n.batchnorm
    ]
    if found.labels is not None:
        true, shuffled = found.labels
        wrong += [(f"{place}.labels.true", "of true labels", true.name)] if true.shuffled else []
        if not shuffled.shuffled:
            wrong.append((f"{place}.labels.shuffled", "of shuffled labels", shuffled.name))
    if found.robust is not None and not found.robust.recipe.get("adversarial"):
        wrong.append((f"{place}.robust", "trained on adversarial images", found.robust.name))
    for where, what, name in wrong:
        raise UserError(f"{where} must have networks {what}; {name!r} is none.")
    for own in found.labels or ():
        measured = own.curves["train_radii"]
        if min(found.radii) not in map(float, measured):
            raise UserError(
                f"training.{own.name}.curves.train_radii must have the least radius of "
                f"{place}, {min(found.radii):g}, got {measured}."
            )


def _check_alike(found: Learning, place: str) -> None:
    """Refuse networks that are compared, but not on the same images or not in the same way."""
    true, shuffled = found.labels or (found.vanilla, found.vanilla)
    pairs = [(found.vanilla, own, "train_images") for own in found.grouped()]
    # Those of labels may have training images of their own.
    pairs += [(true, shuffled, "train_images")]
    pairs += [
        (found.vanilla, own, key)
        for own in found.networks()
        for key in ("images", "strict", "scale")
    ]
    for one, other, key in pairs:
        _check_equal(one, other, f"curves.{key}", (one.curves[key], other.curves[key]), place)
    epochs = (true.recipe["epochs"], shuffled.recipe["epochs"])
    _check_equal(true, shuffled, "epochs", epochs, f"{place}.labels")


def _check_equal(
    one: Network, other: Network, key: str, values: tuple[Any, Any], place: str
) -> None:
    if values[0] != values[1]:
        # As a configuration has them.
        asked, given = map(json.dumps, values)
        raise UserError(
            f"training.{other.name}.{key} must be that of {one.name!r}, with which {place} "
            f"compares it, {asked}, got {given}."
        )


def _check_convolutions(run: Run, found: Learning, place: str) -> None:
    """Refuse to smooth the kernels of a network that has none."""
    places = [f"experiments.{found.name}.model", f"{place}.robust"]
    # There may be no robust network.
    for where, own in zip(places, found.smoothed(), strict=False):
        if run.models[own.name].architecture in WITHOUT_CONVOLUTION:
            raise UserError(
                f"{where} must have a first convolution, whose kernels are smoothed, and "
                f"{own.name!r} has none; allowed: networks of any architecture but "
                f"{', '.join(map(repr, WITHOUT_CONVOLUTION))}."
            )


def _check_component(name: str, recipe: Mapping[str, Any]) -> None:
    """Refuse a network whose curves are not of the component that it is trained on."""
    component, curves = recipe["component"], recipe["curves"]
    if "radius" not in component:
        raise UserError(
            f"training.{name}.component must have a 'radius', as this study's networks are trained "
            f"on disks of frequencies, got the bandwidth {component['bandwidth']} of a square."
        )
    radius = float(component["radius"])
    if radius not in map(float, curves["train_radii"]):
        raise UserError(
            f"training.{name}.curves.train_radii must have the radius of the component that the "
            f"network is trained on, {radius:g}, got {curves['train_radii']}."
        )
    for key in ("strict", "scale"):
        if curves[key] != component[key]:
            raise UserError(
                f"training.{name}.curves.{key} must be that of the component that the network is "
                f"trained on, {json.dumps(component[key])}, got {json.dumps(curves[key])}."
            )


def _network(
    run: Run, experiment: Experiment, radii: Sequence[float], name: str, place: str
) -> Network:
    ends = {n: model for n, model in run.models.items() if model.source != "checkpoint"}
    # What has a recipe could be named as well, though nobody does.
    member(name, {**run.training, **ends}, "models that the workflow trains", place)
    model = run.models[name]
    recipe = run.training.get(name, {}) if model.source == "trained" else {}
    curves = recipe.get("curves")
    if not curves or curves["dataset"] != experiment.dataset:
        raise UserError(
            f"{place} must have networks that the workflow trains with 'curves' on "
            f"{experiment.dataset!r}; {name!r} has "
            + (f"them on {curves['dataset']!r}." if curves else "none.")
        )
    missing = [radius for radius in radii if radius not in map(float, curves["radii"])]
    if missing:
        raise UserError(
            f"training.{name}.curves.radii must have all radii of {place.rpartition('.')[0]}, "
            f"{list(radii)}, got {curves['radii']}."
        )
    if "component" in recipe:
        _check_component(name, recipe)
    return Network(
        name=name,
        architecture=model.architecture.removesuffix(NO_BATCHNORM),
        batchnorm=model.batchnorm,
        recipe=recipe,
        shuffled=bool(run.datasets[recipe["dataset"]].shuffle_labels),
    )
