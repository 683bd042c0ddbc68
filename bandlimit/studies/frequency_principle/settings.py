"""The study `frequency_principle` as configured.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config import models
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import member
from bandlimit.errors import UserError

NATURAL, GAUSSIAN, ADVERSARIAL = "natural", "gaussian", "adversarial"
AUTOAUGMENT = "autoaugment"
"""Ways to train: on images as they are, with Gaussian noise, on adversarial images, or with
AutoAugment."""

MILDEST = 0.3
"""Relative error below which a frequency of labels counts as learnt: the mildest that is asked."""

ASKED = (MILDEST, 0.1, 0.05)
"""All such errors that figures and claims ask for."""


@dataclass(frozen=True)
class Network:
    """Networks trained alike, with what sets them apart from others.

    Attributes:
        name: of the model; further seeds have names of their own, see `models`.
        architecture: of the model.
        batchnorm: whether it has BatchNorm.
        training: natural, gaussian, adversarial or autoaugment; natural where it was not
            trained here.
        seeds: how many networks there are.
        recipe: how it was trained, but for noise, attack, AutoAugment and component; empty if
            not here.
        component: of each image, that it was trained on in its place, or None.
    """

    name: str
    architecture: str
    batchnorm: bool
    training: str
    seeds: int
    recipe: Mapping[str, Any]
    component: Mapping[str, Any] | None = None

    def models(self) -> list[str]:
        """Return the names of the models, one for each seed."""
        return [self.name, *(f"{self.name}_{end}" for end in models.further(self.seeds))]


@dataclass(frozen=True)
class Followed:
    """Networks whose outputs were recorded while they were trained.

    Attributes:
        name: of the model.
        architecture: of it.
        dataset: whose images they were shown.
        source: where that dataset comes from, as registered; None of one's own.
        classes: of the dataset.
        seeds: how many networks there are.
        loss: that they were trained by.
    """

    name: str
    architecture: str
    dataset: str
    source: str | None
    classes: int
    seeds: int
    loss: str


@dataclass(frozen=True)
class Sensitivity(Experiment):
    """An experiment whose networks' sensitivity to image frequencies is measured.

    Attributes:
        networks: that of the experiment first.
        images: how many are perturbed, or None for all.
        norm: L2 norm of a wave in each channel, in [0, 1] pixels; that of figures and claims.
        norms: all norms, ascending, that one among them.
        stride: each so many frequencies of a row and of a column are shown, 0 among them.
        bandwidth: side of the square of frequencies around 0 that are shown, or None for all.
        filtered: networks trained on components of images, which see them behind the same filter.
        corruptions: names of `bandlimit.data.corruptions`; none where nothing is corrupted.
        severity: of the corruptions, 1 to 5.
        noise_norm: L2 norm of noise of a band in each channel, in [0, 1] pixels.
        bandwidths: sides of the squares of frequencies below or above which noise lies, odd.
        high_pass: side of the square that high frequencies of a corruption lie beyond, odd.
        followed: networks whose response frequencies are measured along their training.
    """

    networks: tuple[Network, ...]
    images: int | None
    norm: float
    norms: tuple[float, ...]
    stride: int
    bandwidth: int | None
    filtered: tuple[Network, ...] = ()
    corruptions: tuple[str, ...] = ()
    severity: int = 3
    noise_norm: float = 8.0
    bandwidths: tuple[int, ...] = ()
    high_pass: int = 27
    followed: tuple[Followed, ...] = ()

    def corrupted(self) -> tuple[Network, ...]:
        """Return the networks that get corrupted images, those behind a filter last."""
        return (*self.networks, *self.filtered)

    def models(self) -> list[str]:
        """Return the names of all models, all seeds of a network together."""
        return [name for network in self.networks for name in network.models()]

    def natural(self, network: Network) -> Network | None:
        """Return the natural network trained as another one but for what `_network` tells apart."""
        if (network.training == NATURAL and not network.component) or not network.recipe:
            return None
        for other in self.networks:
            alike = (other.architecture, other.recipe) == (network.architecture, network.recipe)
            if other.training == NATURAL and not other.component and alike:
                return other
        return None


@dataclass(frozen=True)
class FrequencyPrinciple:
    """The study, checked and resolved.

    Attributes:
        experiments: in the order of the configuration; of image frequency.
        simulations: of response frequency, their settings by name; empty where none shall run.
        projection: how outputs are transformed along the first principal component.
        filtering: how they are smoothed.
    """

    experiments: tuple[Sensitivity, ...]
    simulations: Mapping[str, Mapping[str, Any]]
    projection: Mapping[str, Any]
    filtering: Mapping[str, Any]

    def experiment(self, dataset: str, model: str) -> Sensitivity:
        """Return the experiment of a dataset and a model.

        Raises:
            KeyError: the study has none.
        """
        for experiment in self.experiments:
            if (experiment.dataset, experiment.model) == (dataset, model):
                return experiment
        raise KeyError((dataset, model))

    def other_models(self, experiment: Experiment) -> list[str]:
        """Return the trained models besides its own that the study runs on an experiment."""
        for own in self.experiments:
            if own.name == experiment.name:
                names = [network.name for network in own.corrupted()]
                names += [network.name for network in own.followed]
                return [name for name in names if name != own.model]
        return []


def models_in_use(section: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the models besides those of its experiments that the study needs."""
    return {
        name
        for entry in section["experiments"].values()
        for group in ("networks", "filtered", "followed")
        for name in entry[group]
    }


def load(section: Mapping[str, Any], run: Run) -> FrequencyPrinciple:
    """Return the study as configured.

    Args:
        section: its section of the configuration, checked by its schema, with the experiments that
            run alone.
        run: all that studies share.

    Raises:
        UserError: a network is not a model of the run, takes other images than its experiment has,
            or shall be followed and records no outputs; there are fewer images, a spectrum has not
            the frequencies that are asked for, or a threshold is missing that claims ask for.
    """
    thresholds = section["projection"]["thresholds"]
    missing = [threshold for threshold in ASKED if threshold not in thresholds]
    if missing:
        raise UserError(
            "frequency_principle.projection.thresholds must have "
            f"{', '.join(map(str, ASKED))}, which figures and claims ask for, and may have others; "
            f"{', '.join(map(str, missing))} is missing from {list(thresholds)}."
        )
    return FrequencyPrinciple(
        experiments=tuple(
            _experiment(run, name, entry) for name, entry in section["experiments"].items()
        ),
        simulations={
            name: _simulation(run, name, sizes)
            for name, sizes in (section["simulations"] or {}).items()
            if sizes is not None
        },
        projection=section["projection"],
        filtering=section["filtering"],
    )


def _experiment(run: Run, name: str, entry: Mapping[str, Any]) -> Sensitivity:
    experiment = run.experiments[name]
    place = f"frequency_principle.experiments.{name}"
    dataset = run.datasets[experiment.dataset]
    ends = {n: model for n, model in run.models.items() if model.source != "checkpoint"}
    for network in (*entry["networks"], *entry["filtered"]):
        member(network, ends, "models of the run", f"{place}.networks")
        models.check_match(dataset, run.models[network])
        if run.models[network].shape != run.models[experiment.model].shape:
            # A dataset may not know the shape of its images.
            raise UserError(
                f"{place}.networks must have networks that take the images of "
                f"{experiment.model!r}, {run.models[experiment.model].shape}, and {network!r} "
                f"takes {run.models[network].shape}."
            )
    images, stride, bandwidth = entry.get("images"), entry["stride"], entry.get("bandwidth")
    if images is not None and dataset.size is not None and images > dataset.size:
        raise UserError(
            f"{place}.images must be from 1 to {dataset.size}, the images of {dataset.name!r}, "
            f"got {images}."
        )
    side = min(run.models[experiment.model].shape[1:])
    odd = side - 1 + side % 2
    if bandwidth is not None and (bandwidth > odd or bandwidth % 2 == 0):
        raise UserError(
            f"{place}.bandwidth must be an odd number from 1 to {odd}, the frequencies of images "
            f"{side} pixels wide, got {bandwidth}; without it, all frequencies are shown."
        )
    widest = max(1, (bandwidth or side) // 2)
    if stride > widest:
        raise UserError(
            f"{place}.stride must be from 1 to {widest}, the highest of the frequencies that are "
            f"shown, got {stride}; no frequency but 0 would be left."
        )
    # A square of all frequencies would leave none beyond it.
    square = side - 1 - side % 2
    for key in ("bandwidths", "high_pass"):
        for number in entry[key] if key == "bandwidths" else [entry[key]]:
            # Where nothing is corrupted, the default may not fit.
            if entry["corruptions"] and (number > square or number % 2 == 0):
                raise UserError(
                    f"{place}.{key} must be odd and from 1 to {square}, below the frequencies of "
                    f"images {side} pixels wide, got {number}."
                )
    filtered = tuple(_network(run, network) for network in dict.fromkeys(entry["filtered"]))
    for own in filtered:
        if own.component is None:
            raise UserError(
                f"{place}.filtered must have networks trained on a 'component' of each image; "
                f"{own.name!r} is none."
            )
    return Sensitivity(
        **vars(experiment),
        networks=tuple(
            _network(run, network)
            for network in dict.fromkeys([experiment.model, *entry["networks"]])
        ),
        images=images,
        norm=float(entry["norm"]),
        norms=tuple(sorted({float(norm) for norm in (entry["norm"], *entry["norms"])})),
        stride=stride,
        bandwidth=bandwidth,
        filtered=filtered,
        corruptions=tuple(entry["corruptions"]),
        severity=entry["severity"],
        noise_norm=float(entry["noise_norm"]),
        bandwidths=tuple(sorted(entry["bandwidths"])),
        high_pass=entry["high_pass"],
        followed=tuple(_followed(run, name, model) for model in entry["followed"]),
    )


def _network(run: Run, name: str) -> Network:
    model = run.models[name]
    recipe = run.training.get(name, {}) if model.source == "trained" else {}
    augmentation = dict(recipe.get("augmentation", {}))
    noise, policy = augmentation.pop("noise", 0), augmentation.pop("autoaugment", None)
    training = AUTOAUGMENT if policy else GAUSSIAN if noise else NATURAL
    # What tells networks apart, or leaves the training of the first one as it is.
    apart = (
        *("adversarial", "augmentation", "component", "checkpoints", "trajectory", "curves"),
        *("responses", "seeds", "architecture", "mean", "std"),
    )
    alike = {key: value for key, value in recipe.items() if key not in apart}
    return Network(
        name=name,
        architecture=model.architecture,
        batchnorm=model.batchnorm,
        training=ADVERSARIAL if recipe.get("adversarial") else training,
        seeds=int(recipe.get("seeds", 1)),
        recipe={**alike, "augmentation": augmentation} if recipe else {},
        component=recipe.get("component"),
    )


def _followed(run: Run, experiment: str, name: str) -> Followed:
    place = f"frequency_principle.experiments.{experiment}.followed"
    member(name, run.training, "models that the workflow trains", place)
    recipe, model = run.training[name], run.models[name]
    responses = recipe.get("responses")
    if responses is None or model.source != "trained":
        raise UserError(
            f"{place} must have networks whose recipes have 'responses', such as "
            f"'responses: {{images: 1000}}' under training.{name}; {name!r} has none."
        )
    dataset = run.datasets[responses.get("dataset", recipe["dataset"])]
    return Followed(
        name=name,
        architecture=model.architecture,
        dataset=dataset.name,
        source=dataset.source,
        classes=model.classes,
        seeds=recipe.get("seeds", 1),
        loss=recipe.get("loss", "cross_entropy"),
    )


def _simulation(run: Run, name: str, sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a simulation, checked against the run where it is of its images."""
    if "dataset" not in sizes:
        return sizes
    place = f"frequency_principle.simulations.{name}"
    member(sizes["dataset"], run.datasets, "datasets", f"{place}.dataset")
    dataset = run.datasets[sizes["dataset"]]
    low, high = sizes["classes"]
    if low == high or max(low, high) >= dataset.classes:
        raise UserError(
            f"{place}.classes must be two different ones of 0 to {dataset.classes - 1}, the "
            f"classes of {dataset.name!r}, got {[low, high]}."
        )
    return sizes
