"""A model as configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bandlimit.config import registry
from bandlimit.config.datasets import Dataset
from bandlimit.config.schema import member
from bandlimit.errors import UserError
from bandlimit.models.kinds import NO_BATCHNORM, check_architecture, own_files

WITHOUT_BATCHNORM = (
    *("two_layer", "fully_connected", "vgg16", "lenet", "cifar_alexnet", "cifar_vgg11"),
)
"""Architectures that never have it."""


@dataclass(frozen=True)
class Model:
    """A model of the run: its registry entry or what the configuration says of it.

    A checkpoint is a model of its own, with the source 'checkpoint' and the name of the trained
    model that it is one of as `base`; so is each further network of a recipe with several seeds.
    """

    name: str
    source: str
    architecture: str
    urls: tuple[str, ...]
    sha256: str | None
    path: str | None
    classes: int
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    gate_dataset: str | None
    gate_accuracy: float | None
    gate_tolerance: float
    base: str | None = None

    @property
    def batchnorm(self) -> bool:
        """Whether its architecture has BatchNorm."""
        return not self.architecture.endswith(NO_BATCHNORM) and (
            self.architecture not in WITHOUT_BATCHNORM
        )

    @property
    def code(self) -> dict[str, str]:
        """The sha256 of each file of code of the user's own that its architecture consists of."""
        return own_files(self.architecture, f"The architecture of {self.name!r}")

    @property
    def downloads(self) -> bool:
        """Whether its weights come from the network."""
        return self.source in ("torchvision", "url")


def resolve(name: str, own: Mapping[str, Any], known: Mapping[str, Any], place: str) -> Model:
    """Return a model as configured.

    Args:
        name: of the model.
        own: the user's own models by name, checked by their schema.
        known: rows of the registry by name.
        place: what names the model, for errors.

    Raises:
        UserError: there is no such model, or its mean and deviation do not fit its images.
    """
    if name in own:
        entry = own[name]
        _check_normalisation(f"models.{name}", entry["shape"], entry["mean"], entry["std"])
        check_architecture(entry["architecture"], f"models.{name}.architecture")
        return Model(
            name=name,
            source="file",
            architecture=entry["architecture"],
            urls=(),
            sha256=entry["sha256"].lower() if "sha256" in entry else None,
            path=entry["path"],
            classes=entry["classes"],
            shape=tuple(entry["shape"]),
            mean=tuple(entry["mean"]),
            std=tuple(entry["std"]),
            gate_dataset=entry.get("gate_dataset"),
            gate_accuracy=entry.get("gate_accuracy"),
            gate_tolerance=entry.get("gate_tolerance", 0.0),
        )
    member(name, {**known, **own}, "registered models", place)
    row = known[name]
    return Model(
        name=name,
        source=row["source"],
        architecture=row["architecture"],
        urls=tuple(row["urls"].split()),
        sha256=row["sha256"] or None,
        path=None,
        classes=int(row["classes"]),
        shape=registry.shape(row["shape"]),
        mean=tuple(map(float, row["mean"].split())),
        std=tuple(map(float, row["std"].split())),
        gate_dataset=row["gate_dataset"] or None,
        gate_accuracy=float(row["gate_accuracy"]) if row["gate_accuracy"] else None,
        gate_tolerance=float(row["gate_tolerance"] or 0),
    )


def of_recipe(name: str, recipe: Mapping[str, Any], datasets: Mapping[str, Dataset]) -> Model:
    """Return the trained model that a recipe with an architecture of its own describes.

    Its shape and classes are those of its dataset; pixels stay in [0, 1] where the recipe names no
    mean and deviation.

    Args:
        name: of the model.
        recipe: checked by its schema.
        datasets: by name.

    Raises:
        UserError: there is no such dataset, the shape of its images is not known before they are
            read, or mean and deviation do not fit them.
    """
    place = f"training.{name}"
    member(recipe["dataset"], datasets, "datasets", f"{place}.dataset")
    dataset = datasets[recipe["dataset"]]
    if dataset.shape is None:
        raise UserError(
            f"{place}.architecture needs a dataset whose images have a known shape: one with a "
            f"'source' of the registry, or with a 'shape' of its own; got {dataset.name!r}, which "
            "has neither."
        )
    check_architecture(recipe["architecture"], f"{place}.architecture")
    channels = dataset.shape[0]
    mean, std = recipe.get("mean", [0.0] * channels), recipe.get("std", [1.0] * channels)
    _check_normalisation(place, dataset.shape, mean, std)
    return Model(
        name=name,
        source="trained",
        architecture=recipe["architecture"],
        urls=(),
        sha256=None,
        path=None,
        classes=dataset.classes,
        shape=dataset.shape,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        gate_dataset=None,
        gate_accuracy=None,
        gate_tolerance=0.0,
    )


def _check_normalisation(
    place: str, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> None:
    """Check that there is a mean and a deviation for each channel, of pixels in [0, 1]."""
    if not len(mean) == len(std) == shape[0]:
        raise UserError(
            f"{place}.mean and .std need one number for each of the {shape[0]} channels of its "
            f"shape, got {mean} and {std}."
        )
    for key, values in (("mean", mean), ("std", std)):
        if max(values) > 1:
            raise UserError(
                f"{place}.{key} is that of pixels in [0, 1], so that no number is above 1, got "
                f"{values}; divide what was measured on pixels from 0 to 255 by 255."
            )


def further(seeds: int) -> list[str]:
    """Return what the names of the networks after the first end in: seed_2, seed_3 and so on."""
    return [f"seed_{number}" for number in range(2, seeds + 1)]


def checkpoint(model: Model, name: str) -> Model:
    """Return a checkpoint or further network of a trained model, as a model of its own."""
    return replace(
        model,
        name=f"{model.name}_{name}",
        source="checkpoint",
        base=model.name,
        gate_dataset=None,
        gate_accuracy=None,
    )


def check_match(dataset: Dataset, model: Model) -> None:
    """Check that a model takes the images of a dataset and knows their classes.

    Raises:
        UserError: it does not.
    """
    if dataset.shape is not None and dataset.shape != model.shape:
        raise UserError(
            f"The model {model.name!r} takes images of shape {model.shape}, but the dataset "
            f"{dataset.name!r} has {dataset.shape}; an experiment needs one shape."
        )
    if dataset.classes > model.classes:
        raise UserError(
            f"The dataset {dataset.name!r} has {dataset.classes} classes, but the model "
            f"{model.name!r} knows {model.classes}; it must know all of them."
        )


def fitted(dataset: Dataset, models: Mapping[str, Model]) -> Dataset:
    """Return the user's own data as the models of its experiments take it.

    Their images have one shape, which says whether pictures are read in colour. The labels of class
    folders are among the models' classes, however few folders there are.

    Args:
        dataset: as configured.
        models: those that are attacked on it, by experiment.

    Raises:
        UserError: models of several experiments take images of other shapes, or give the labels of
            class folders other meanings, since they know other numbers of classes.
    """
    if not dataset.is_own or not models:
        return dataset
    (first, model), *others = models.items()
    for name, other in others:
        for key, mine, its in (
            ("images of the shape", model.shape, other.shape),
            ("classes in the number", model.classes, other.classes),
        ):
            if mine != its and (key.startswith("images") or dataset.has_class_folders):
                raise UserError(
                    f"datasets.{dataset.name} is in the experiments {first!r} and {name!r}, whose "
                    f"models have {key} {mine} and {its}; a dataset for each is needed, with a "
                    "name of its own."
                )
    return replace(
        dataset,
        shape=dataset.shape or model.shape,
        classes=model.classes if dataset.has_class_folders else dataset.classes,
    )


def check_other(model: Model, other: Model, defense: str) -> None:
    """Check that another model can take the place of a model.

    Args:
        model: the one that is attacked.
        other: the other one.
        defense: name of the defence that it is.

    Raises:
        UserError: it takes other images, or knows other classes.
    """
    if (other.shape, other.classes) != (model.shape, model.classes):
        raise UserError(
            f"defenses.{defense}.model is {other.name!r}, which takes images of shape "
            f"{other.shape} and knows {other.classes} classes; in the place of {model.name!r} it "
            f"must take {model.shape} and know {model.classes}: name such a model there, or take "
            f"{defense!r} out of the lists of the experiment of {model.name!r}."
        )
