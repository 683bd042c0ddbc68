"""The configuration, checked: what a run does, resolved against the registries.

Everything a user can get wrong in the configuration is found here, before any job starts, and told
in one sentence. Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bandlimit import examinations
from bandlimit.errors import UserError, suggest
from bandlimit.examinations import DefenseEntry, Robustness
from bandlimit.validation import check, epsilon, member, read_schema

MINIMAL = (
    "fgsm_minimal",
    "pgd_minimal",
    "deepfool_l2",
    "carlini_wagner_l2",
    "deepfool_linf",
)
"""Attacks that minimise the perturbation; epsilon filters their result afterwards."""

DOCUMENT_ATTACKS = MINIMAL[:4]
"""Those of the document's Table 1."""

FIXED = ("fgsm", "pgd")
"""Attacks that spend the whole epsilon."""

ATTACKS = MINIMAL + FIXED

MAX_EPSILON = 0.130
"""Largest step of minimal FGSM where the configuration names none."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of the run: its registry entry with what the configuration says of it."""

    name: str
    source: str
    loader: str
    urls: tuple[str, ...]
    sha256: tuple[str, ...]
    classes: int
    shape: tuple[int, ...] | None
    counts: Mapping[str, int]
    path: str | None
    split: str | None
    images: int | None
    resize: int | None
    crop: int | None

    @property
    def downloads(self) -> bool:
        """Whether its files come from the network."""
        return bool(self.urls) and self.path is None

    @property
    def size(self) -> int | None:
        """How many images it has; None where only a look at them would tell."""
        if self.images is not None or not self.counts:
            return self.images
        return self.counts[self.split] if self.split else sum(self.counts.values())

    def means(self, gate: str) -> bool:
        """Whether it is the complete set that a gate of the registry names.

        Such a name is that of a registered source, or of a source and a split, 'cifar10_test'.
        How the entry is called says nothing. That no image lacks is checked when it is read.
        """
        changed = (self.images, self.resize, self.crop) != (None, None, None)
        if changed or not self.counts:
            return False
        whole = self.split is None or set(self.counts) == {self.split}
        splits = list(self.counts) if self.split is None else [self.split]
        named = len(splits) == 1 and gate == f"{self.source}_{splits[0]}"
        return named or (whole and gate == self.source)

    def overlaps(self, other: Dataset) -> bool:
        """Whether both take images of one split of one source; subsets count as the whole."""
        # One's own data has no other identity than its place.
        mine, others = (
            d.source if d.counts else os.path.normpath(str(d.path)) for d in (self, other)
        )
        return mine == others and (None in (self.split, other.split) or self.split == other.split)


@dataclass(frozen=True)
class Model:
    """A model of the run: its registry entry or what the configuration says of it."""

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

    @property
    def downloads(self) -> bool:
        """Whether its weights come from the network."""
        return self.source in ("torchvision", "url")


@dataclass(frozen=True)
class Experiment:
    """A model attacked and defended on a dataset, with all settings of the defence."""

    dataset: str
    model: str
    attacks: Mapping[str, Mapping[str, Any]]
    radius: float
    directions: int
    draws: int
    radii: tuple[float, ...]
    directions_sweep: tuple[int, ...]
    shards: int
    document: str | None
    stand_in: bool = False
    crossings: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()

    def shard_names(self) -> list[str]:
        """Return the names of the shards, '1of1' where the set is not cut."""
        return [f"{k}of{self.shards}" for k in range(1, self.shards + 1)]

    def inputs(self) -> list[str]:
        """Return the names of the input sets: the clean images and each attack."""
        return ["clean", *self.attacks]

    def settings(self, inputs: str) -> list[tuple[float, int, int]]:
        """Return (radius, directions, draws) of each setting evaluated on one input set.

        The radius is swept on clean images and on the minimising attacks of the document, the
        directions on clean images and on minimal PGD, as in the document's Figure 2 and Table 2.
        """
        main = {(self.radius, self.directions): self.draws}
        if inputs in ("clean", *DOCUMENT_ATTACKS):
            main |= {(r, self.directions): 1 for r in self.radii if r != self.radius}
        if inputs in ("clean", "pgd_minimal"):
            main |= {(self.radius, k): 1 for k in self.directions_sweep if k != self.directions}
        return [(r, k, draws) for (r, k), draws in sorted(main.items())]


@dataclass(frozen=True)
class Settings:
    """The whole configuration, checked and resolved."""

    seed: int
    device: str
    datasets: Mapping[str, Dataset]
    models: Mapping[str, Model]
    training: Mapping[str, Mapping[str, Any]]
    attacks: Mapping[str, Mapping[str, Any]]
    epsilon: float
    epsilons: tuple[float, ...]
    experiments: tuple[Experiment, ...]
    theory: Mapping[str, Any]
    bfloat16: bool
    robustness: Robustness
    by_name: Mapping[tuple[str, str], Experiment] = field(repr=False)

    def experiment(self, dataset: str, model: str) -> Experiment:
        """Return the experiment of a dataset and a model."""
        return self.by_name[dataset, model]

    def gates(self, model: str) -> list[str]:
        """Return the dataset on which the model's accuracy is checked, if the run has it whole.

        A gate of the registry is for a source and a split, under any name, the first of several;
        that of one's own model may name any dataset of the configuration.
        """
        entry = self.models[model]
        gate = entry.gate_dataset
        if gate is None:
            return []
        if entry.source == "file" and gate in self.datasets:
            return [gate] if self.datasets[gate].images is None else []
        return [name for name, dataset in self.datasets.items() if dataset.means(gate)][:1]

    def gate(self, dataset: str, model: str) -> tuple[float, float] | None:
        """Return (accuracy, tolerance) that the model must reach on this dataset, or None."""
        if dataset not in self.gates(model):
            return None
        entry = self.models[model]
        assert entry.gate_accuracy is not None  # the registry's schema asks for both
        return entry.gate_accuracy, entry.gate_tolerance


def load(
    config: Mapping[str, Any], home: str | os.PathLike[str], *, files: bool = True
) -> Settings:
    """Check a configuration and resolve it against the registries.

    Args:
        config: the merged configuration, as read from YAML.
        home: the folder that holds `workflow/schemas` and `workflow/registry`.
        files: whether the weights files that it names must be there; not needed to tell what it
            means.

    Raises:
        UserError: anything in it is wrong; one sentence says what, where, and what is allowed.
    """
    home = Path(home)
    schema = read_schema(home / "workflow/schemas/config.schema.yaml")
    config = check(config, schema, "the configuration")
    known_datasets = _registry(home, "datasets")
    known_models = _registry(home, "models")

    datasets = {
        name: _dataset(name, entry, known_datasets) for name, entry in config["datasets"].items()
    }
    needed = {entry["model"] for entry in config["bandlimiting"]["experiments"]}
    # A defence that names a model unknown is told below, by its own name.
    needed |= examinations.models_in_use(config) & {*known_models, *config["models"]}
    models = {
        name: _model(name, config["models"], known_models)
        for name in sorted(needed | set(config["models"]))
    }
    for name, model in models.items():
        if files and model.path is not None and not os.path.isfile(model.path):
            raise UserError(
                f"models.{name}.path must be an existing file, got {model.path!r}, "
                "which does not exist."
            )
    for name, recipe in config["training"].items():
        member(name, {**known_models, **config["models"]}, "models", f"training.{name}")
        member(recipe["dataset"], datasets, "datasets", f"training.{name}.dataset")
    for name, model in models.items():
        if model.source == "trained" and name not in config["training"]:
            raise UserError(
                f"The model {name!r} is trained by the workflow, but the configuration has no "
                f"recipe for it under 'training'; {suggest(name, config['training'])}."
            )

    bandlimiting = config["bandlimiting"]
    experiments = []
    for number, entry in enumerate(bandlimiting["experiments"]):
        place = f"bandlimiting.experiments[{number}]"
        member(entry["dataset"], datasets, "datasets", f"{place}.dataset")
        experiments.append(_experiment(entry, config, place))
    by_name = {(e.dataset, e.model): e for e in experiments}
    if len(by_name) < len(experiments):
        raise UserError(
            "Two entries of bandlimiting.experiments have the same dataset and model; "
            "each pair is allowed once."
        )
    for experiment in experiments:
        _match(datasets[experiment.dataset], models[experiment.model])
    robustness = examinations.load(
        config,
        by_name,
        {**known_models, **config["models"]},
        {name: dataset.size for name, dataset in datasets.items()},
    )
    for examination in robustness.examinations:
        for name in robustness.others(robustness.used(examination)):
            _match_other(models[examination.model], models[name])
        for name in robustness.used(examination):
            _check_cutoff(robustness.defenses[name], models[examination.model])
    study = Settings(
        seed=int(config["seed"]),
        device=config["device"],
        datasets=datasets,
        models=models,
        training=config["training"],
        attacks=config["attacks"],
        epsilon=epsilon(bandlimiting["epsilon"], "bandlimiting.epsilon"),
        epsilons=tuple(
            epsilon(value, "bandlimiting.epsilons") for value in bandlimiting["epsilons"]
        ),
        experiments=tuple(experiments),
        theory=bandlimiting["theory"],
        bfloat16=bandlimiting["bfloat16"],
        robustness=robustness,
        by_name=by_name,
    )
    for number, experiment in enumerate(experiments):
        _check_reach(study, experiment, f"bandlimiting.experiments[{number}]")
    for name, model in models.items():
        if model.source == "trained":
            _check_unseen(study, name)
    return study


def read(
    paths: Sequence[str | os.PathLike[str]], overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the configuration of several files, each laid over those before it.

    Args:
        paths: YAML files.
        overrides: what was set besides, laid over them all.

    Raises:
        UserError: a file can't be read, or is not YAML.
    """
    config: dict[str, Any] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found = yaml.safe_load(file) or {}
        except yaml.YAMLError as error:
            raise UserError(
                f"The configuration {os.fspath(path)!r} is not YAML: "
                f"{' '.join(str(error).split())}."
            ) from error
        except OSError as error:
            raise UserError(
                f"The configuration {os.fspath(path)!r} can't be read: {error.strerror}; the "
                "command runs in the folder of the workflow."
            ) from error
        if not isinstance(found, Mapping):
            raise UserError(
                f"The configuration {os.fspath(path)!r} must be a mapping of keys to values, got "
                f"{type(found).__name__}."
            )
        lay_over(config, found)
    lay_over(config, overrides or {})
    return config


def lay_over(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Lay an overlay on a configuration: mappings merge, everything else is replaced."""
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            lay_over(config[key], value)
        else:
            config[key] = dict(value) if isinstance(value, Mapping) else value


def check_paths(settings: Settings) -> None:
    """Check that the local files and folders of all datasets in use are there.

    Not part of `load`, since a run on data that is elsewhere can be planned.

    Raises:
        UserError: one is not.
    """
    for name in {experiment.dataset for experiment in settings.experiments}:
        path = settings.datasets[name].path
        if path is not None and not os.path.exists(path.split("{split}")[0]):
            raise UserError(
                f"datasets.{name}.path must be an existing file or folder, got {path!r}, "
                "which does not exist."
            )


def _registry(home: Path, name: str) -> dict[str, dict[str, str]]:
    path = home / f"workflow/registry/{name}.csv"
    schema = read_schema(home / f"workflow/schemas/{name}.schema.yaml")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        check(row, schema, f"the entry {row.get('name')!r} of workflow/registry/{name}.csv")
    return {row["name"]: row for row in rows}


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(length) for length in text.replace("x", " ").split())


def _dataset(name: str, entry: Mapping[str, Any], known: Mapping[str, Any]) -> Dataset:
    place = f"datasets.{name}"
    source, path = entry.get("source"), entry.get("path")
    if source is None and not (entry.get("loader") and path and entry.get("classes")):
        raise UserError(
            f"{place} needs either 'source', a name of the registry, or 'loader', 'path' and "
            f"'classes' of your own data; got {', '.join(sorted(entry)) or 'nothing'}."
        )
    if source is not None and "loader" in entry:
        raise UserError(
            f"{place} has both 'source' {source!r} and 'loader' {entry['loader']!r}; allowed is "
            "either 'source', a name of the registry, or 'loader', for your own data."
        )
    row: Mapping[str, str] = {}
    if source is not None:
        member(source, known, "registered datasets", f"{place}.source")
        row = known[source]
    places = row.get("urls", "").split()
    urls = tuple(part for part in places if "://" in part)
    loader = str(entry.get("loader") or row["loader"])
    if path is None and not places and loader == "imagenet_val":
        raise UserError(
            f"{place} needs a 'path': the folder with the images of {source!r}, which can't be "
            "downloaded."
        )
    split, images = entry.get("split"), entry.get("images")
    counts = {part: int(count) for part, count in _pairs(row.get("images", ""))}
    if split is not None and counts:
        member(split, counts, f"splits of {source!r}", f"{place}.split")
    there = (counts[split] if split else sum(counts.values())) if counts else None
    if images is not None and there is not None and images > there:
        raise UserError(f"{place}.images must be from 1 to {there}, got {images}.")
    return Dataset(
        name=name,
        source=str(source or name),
        loader=loader,
        urls=urls,
        sha256=tuple(row.get("sha256", "").split()),
        classes=int(entry.get("classes") or row["classes"]),
        shape=_shape(row["shape"]) if row else None,
        counts=counts,
        path=path or next((part for part in places if "://" not in part), None),
        split=split,
        images=images,
        resize=entry.get("resize"),
        crop=entry.get("crop"),
    )


def _pairs(text: str) -> Iterator[list[str]]:
    return (part.split(":") for part in text.split())


def _model(name: str, own: Mapping[str, Any], known: Mapping[str, Any]) -> Model:
    if name in own:
        entry = own[name]
        if not len(entry["mean"]) == len(entry["std"]) == entry["shape"][0]:
            raise UserError(
                f"models.{name}.mean and .std need one number for each of the {entry['shape'][0]} "
                f"channels of its shape, got {entry['mean']} and {entry['std']}."
            )
        for key in ("mean", "std"):
            if max(entry[key]) > 1:
                raise UserError(
                    f"models.{name}.{key} is that of pixels in [0, 1], so that no number is above "
                    f"1, got {entry[key]}; divide what was measured on pixels from 0 to 255 by 255."
                )
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
    member(name, {**known, **own}, "registered models", "bandlimiting.experiments")
    row = known[name]
    return Model(
        name=name,
        source=row["source"],
        architecture=row["architecture"],
        urls=tuple(row["urls"].split()),
        sha256=row["sha256"] or None,
        path=None,
        classes=int(row["classes"]),
        shape=_shape(row["shape"]),
        mean=tuple(map(float, row["mean"].split())),
        std=tuple(map(float, row["std"].split())),
        gate_dataset=row["gate_dataset"] or None,
        gate_accuracy=float(row["gate_accuracy"]) if row["gate_accuracy"] else None,
        gate_tolerance=float(row["gate_tolerance"] or 0),
    )


def _experiment(entry: Mapping[str, Any], config: Mapping[str, Any], place: str) -> Experiment:
    attacks: dict[str, dict[str, Any]] = {}
    for name, changes in entry["attacks"].items():
        parameters = {**(config["attacks"].get(name) or {}), **(changes or {})}
        if "epsilons" in parameters:
            parameters["epsilons"] = [
                epsilon(value, f"attacks.{name}.epsilons") for value in parameters["epsilons"]
            ]
        elif name in FIXED:
            raise UserError(
                f"The attack {name!r} of {place} needs 'epsilons', the l_inf bounds that it "
                f"spends, there or under attacks.{name}; none are given."
            )
        attacks[name] = parameters
    for name in entry["crossings"]:
        member(name, attacks, "attacks of the experiment", f"{place}.crossings")
    return Experiment(
        dataset=entry["dataset"],
        model=entry["model"],
        attacks=attacks,
        radius=float(entry["radius"]),
        directions=int(entry["directions"]),
        draws=int(entry["draws"]),
        radii=tuple(map(float, entry["radii"])),
        directions_sweep=tuple(map(int, entry["directions_sweep"])),
        shards=int(entry["shards"]),
        document=entry.get("document"),
        stand_in=entry["stand_in"],
        crossings=tuple(entry["crossings"]),
        samplers=tuple(entry["samplers"]),
    )


def _match(dataset: Dataset, model: Model) -> None:
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


def _match_other(model: Model, other: Model) -> None:
    if (other.shape, other.classes) != (model.shape, model.classes):
        raise UserError(
            f"The model {other.name!r}, of a defence of {model.name!r}, takes images of shape "
            f"{other.shape} and knows {other.classes} classes; it must take {model.shape} and know "
            f"{model.classes}."
        )


def _check_cutoff(defense: DefenseEntry, model: Model) -> None:
    """Refuse a low-pass that lets everything pass: a defence that does nothing."""
    if defense.kind != "low_pass":
        return
    height, width = model.shape[1:]
    # The corner of the spectrum lies farthest from frequency 0, at index n // 2 of each side.
    farthest = math.hypot(height // 2, width // 2)
    cutoff = defense.parameters["cutoff"]
    if cutoff >= farthest:
        raise UserError(
            f"defenses.{defense.name}.cutoff lets every frequency of the {height} x {width} images "
            f"of the model {model.name!r} pass, so that it changes nothing; allowed: below "
            f"{math.floor(farthest * 100) / 100}, got {cutoff}."
        )


def _check_reach(study: Settings, experiment: Experiment, place: str) -> None:
    """Refuse a search that ends below a bound of the study, where it would find too little."""
    if "fgsm_minimal" not in experiment.attacks:
        return
    largest = max(study.epsilon, *study.epsilons)
    reach = experiment.attacks["fgsm_minimal"].get("max_epsilon", MAX_EPSILON)
    if reach < largest:
        raise UserError(
            f"The attack 'fgsm_minimal' of {place} ends at a max_epsilon of {reach}, but the "
            f"largest of bandlimiting.epsilon and .epsilons is {largest:.4f}; max_epsilon must be "
            f"at least {math.ceil(largest * 10_000) / 10_000}, there or under attacks.fgsm_minimal."
        )


def _check_unseen(study: Settings, name: str) -> None:
    """Refuse to train a model on images that it is tested on."""
    used = study.training[name]["dataset"]
    tests = [*study.gates(name), *(e.dataset for e in study.experiments if e.model == name)]
    # As a defence, in the place of another model.
    tests += [
        examination.dataset
        for examination in study.robustness.examinations
        if name in study.robustness.others(study.robustness.used(examination))
    ]
    for test in tests:
        if study.datasets[used].overlaps(study.datasets[test]):
            raise UserError(
                f"training.{name}.dataset is {used!r}, which has images of {test!r}, where the "
                "model is tested; allowed is a dataset of another source, or both with a 'split' "
                "of their own."
            )
