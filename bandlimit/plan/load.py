"""The configuration of a run, checked as a whole and resolved: shared ground, then each study.

Everything a user can get wrong in the configuration is found here, before any job starts, and told
in one sentence. Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from bandlimit.config import datasets, defenses, experiments, models, moved, registry
from bandlimit.config.run import Run
from bandlimit.config.schema import check, member, read_schema
from bandlimit.errors import UserError, suggest
from bandlimit.plan import own_data
from bandlimit.studies import STUDIES

MEASURED = ("trajectory", "curves")
"""Keys of a recipe that name images to measure on along the way."""


def load(
    config: Mapping[str, Any],
    home: str | os.PathLike[str],
    *,
    files: bool = True,
    look: bool = False,
) -> Run:
    """Check a configuration and resolve it against the registries.

    Args:
        config: the merged configuration, as read from YAML.
        home: the folder that holds `workflow/schemas` and `workflow/registry`.
        files: whether the weights files that it names must be there; not needed to tell what it
            means.
        look: whether the user's own images are looked at, so that their number is known and what
            a job would stumble on is told; those that are not there are left out.

    Raises:
        UserError: anything in it is wrong; one sentence says what, where, and what is allowed.
    """
    home = Path(home)
    moved.check(config)
    config = check(_filled(config), _schema(home), "the configuration")
    known = {kind: _registered(home, kind) for kind in ("datasets", "models")}
    sections = _sections(config)
    names = list(dict.fromkeys(n for s in sections.values() for n in s["experiments"]))
    images = {
        name: datasets.resolve(name, entry, known["datasets"])
        for name, entry in config["datasets"].items()
    }
    described = _described(config, images, known["models"])
    models_known = {**known["models"], **config["models"], **described}
    run = Run(
        seed=int(config["seed"]),
        device=config["device"],
        smoke=config["smoke"],
        datasets=images,
        models=_models(config, names, sections, known["models"], described),
        training=config["training"],
        experiments={
            name: experiments.resolve(name, config["experiments"][name], config["attacks"])
            for name in names
        },
        defenses={
            name: defenses.resolve(name, entry, models_known)
            for name, entry in config["defenses"].items()
        },
    )
    _check_experiments(run, config, models_known)
    run = _fitted(run)
    if look:
        run = own_data.look(run)
    _check_shards(run)
    _check_models(run, models_known, files)
    for study, section in sections.items():
        settings = _settings(study).load(section, run)
        run = replace(run, studies={**run.studies, study: settings})
    for name, model in run.models.items():
        if model.source == "trained":
            _check_unseen(run, name)
    return run


def _fitted(run: Run) -> Run:
    """Return the run whose own data is as the models of its experiments take it."""
    attacked: dict[str, dict[str, models.Model]] = {}
    for name, experiment in run.experiments.items():
        attacked.setdefault(experiment.dataset, {})[name] = run.models[experiment.model]
    fitted = {n: models.fitted(d, attacked.get(n, {})) for n, d in run.datasets.items()}
    return replace(run, datasets=fitted)


def _check_shards(run: Run) -> None:
    for experiment in run.experiments.values():
        size = run.datasets[experiment.dataset].count
        if size is not None and experiment.shards > size:
            raise UserError(
                f"experiments.{experiment.name}.shards must be from 1 to {size}, the images of "
                f"{experiment.dataset!r}, got {experiment.shards}."
            )


def _filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration in which 'NAME:' alone, under a study's experiments, says nothing.

    YAML reads it as null; what it means is an experiment with all its defaults.
    """
    found = dict(config)
    for study in STUDIES:
        section = found.get(study)
        if isinstance(section, Mapping) and isinstance(section.get("experiments"), Mapping):
            entries = {n: {} if e is None else e for n, e in section["experiments"].items()}
            found[study] = {**section, "experiments": entries}
    return found


def _settings(study: str) -> ModuleType:
    """Return the module that knows the settings of a study."""
    return importlib.import_module(f"bandlimit.studies.{study}.settings")


def _schema(home: Path) -> dict[str, Any]:
    """Return the schema of the whole configuration: what is shared, and a section per study."""
    schema = read_schema(home / "workflow/schemas/config.schema.yaml")
    for study in STUDIES:
        section = read_schema(home / f"workflow/schemas/{study}.schema.yaml")
        # A part that names its own dialect would be checked by another validator than the whole.
        section.pop("$schema", None)
        schema["$defs"] |= section.pop("$defs", {})
        schema["properties"][study] = section
    return schema


def _registered(home: Path, kind: str) -> dict[str, dict[str, str]]:
    """Return the rows of a registry, checked."""
    schema = home / f"workflow/schemas/{kind}.schema.yaml"
    return registry.read(home / f"workflow/registry/{kind}.csv", schema)


def _sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of the studies that run, with the experiments that run alone."""
    only = config.get("only")
    for name in only or ():
        member(name, config["experiments"], "experiments", "only")
    found: dict[str, dict[str, Any]] = {}
    for study in STUDIES:
        section = config.get(study)
        if section is None:
            continue
        for name in section["experiments"]:
            member(name, config["experiments"], "experiments", f"{study}.experiments")
        entries = {
            name: section["experiments"][name]
            for name in (section["experiments"] if only is None else only)
            if name in section["experiments"]
        }
        # What needs no experiment runs without.
        if entries or getattr(_settings(study), "runs_alone", lambda section: False)(section):
            found[study] = {**section, "experiments": entries}
    if not found:
        raise UserError(
            "The configuration runs nothing: a section of a study "
            f"({', '.join(STUDIES)}) must name at least one experiment"
            + (f" of those in 'only', {', '.join(map(repr, only))}." if only else ".")
        )
    return found


def _described(
    config: Mapping[str, Any],
    images: Mapping[str, datasets.Dataset],
    known: Mapping[str, Any],
) -> dict[str, models.Model]:
    """Return the models whose recipes name an architecture, so that they need no other entry."""
    found = {}
    for name, recipe in config["training"].items():
        if "architecture" in recipe:
            if name in {*known, *config["models"]}:
                raise UserError(
                    f"training.{name} has an 'architecture' of its own, and there is a model of "
                    "that name in the registry or under 'models'; another name is allowed, or a "
                    "recipe without 'architecture'."
                )
            found[name] = models.of_recipe(name, recipe, images)
        elif "mean" in recipe or "std" in recipe:
            raise UserError(
                f"training.{name} has a 'mean' or 'std', which belong to an 'architecture' of its "
                "own, and none was given."
            )
    return found


def _models(
    config: Mapping[str, Any],
    names: list[str],
    sections: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Any],
    described: Mapping[str, models.Model],
) -> dict[str, models.Model]:
    """Return the models that experiments and defences need, and the user's own."""
    places = {name: f"models.{name}" for name in config["models"]}
    for name in names:
        places.setdefault(config["experiments"][name]["model"], f"experiments.{name}.model")
    for study, section in sections.items():
        others = _settings(study).models_in_use(section, config)
        # A defence that names an unknown model is told by its own name.
        for other in others & {*known, *config["models"], *described}:
            places.setdefault(other, "defenses")
    rows = {**known, **described}
    found = {
        name: described.get(name) or models.resolve(name, config["models"], rows, places[name])
        for name in sorted(places)
    }
    for name, model in list(found.items()):
        recipe = config["training"].get(name, {})
        kept = [("checkpoints", key) for key in recipe.get("checkpoints", {})]
        kept += [("seeds", key) for key in models.further(recipe.get("seeds", 1))]
        for place, key in kept:
            made = models.checkpoint(model, key)
            if made.name in {*rows, *config["models"], *found}:
                raise UserError(
                    f"training.{name}.{place} names {key!r}, whose model would be "
                    f"{made.name!r}, and there is a model of that name; another name is allowed."
                )
            found[made.name] = made
    return found


def _check_experiments(
    run: Run, config: Mapping[str, Any], models_known: Mapping[str, Any]
) -> None:
    """Check the names in all experiments, and that each pair is there once among those run."""
    for name, entry in config["experiments"].items():
        member(entry["dataset"], run.datasets, "datasets", f"experiments.{name}.dataset")
        member(entry["model"], models_known, "registered models", f"experiments.{name}.model")
    pairs: dict[tuple[str, str], str] = {}
    for experiment in run.experiments.values():
        pair = (experiment.dataset, experiment.model)
        if pair in pairs:
            raise UserError(
                f"The experiments {pairs[pair]!r} and {experiment.name!r} have the same dataset "
                "and model, and their files would be the same; each pair is allowed once in a run."
            )
        pairs[pair] = experiment.name
        models.check_match(run.datasets[experiment.dataset], run.models[experiment.model])


def _check_models(run: Run, known: Mapping[str, Any], files: bool) -> None:
    for name, model in run.models.items():
        if files and model.path is not None and not os.path.isfile(model.path):
            raise UserError(
                f"models.{name}.path must be an existing file, got {model.path!r}, "
                "which does not exist."
            )
    for name, recipe in run.training.items():
        member(name, known, "models", f"training.{name}")
        member(recipe["dataset"], run.datasets, "datasets", f"training.{name}.dataset")
        for key in _measured(recipe):
            place = f"training.{name}.{key}.dataset"
            member(recipe[key]["dataset"], run.datasets, "datasets", place)
        # What the run does not train may name datasets that it has less of.
        if "curves" in recipe and name in run.models:
            _check_curves(run, name, recipe)
        if "responses" in recipe and name in run.models:
            _check_responses(run, name, recipe)
        for key in ("mixup", "component"):
            if "adversarial" in recipe and key in recipe:
                raise UserError(
                    f"training.{name} must have either 'adversarial' or {key!r}, since the attack "
                    "is on images with pixels in [0, 1] and one label each, got both."
                )
        _check_component(name, recipe)
        if recipe.get("mixed_precision") and run.device == "cpu":
            raise UserError(
                f"training.{name}.mixed_precision must be false where 'device' is 'cpu', got true; "
                "it is for a card."
            )
        for checkpoint, epochs in recipe.get("checkpoints", {}).items():
            if epochs > recipe["epochs"]:
                raise UserError(
                    f"training.{name}.checkpoints.{checkpoint} must be at most the epochs, "
                    f"{recipe['epochs']}, got {epochs}."
                )
    for name, model in run.models.items():
        if model.source == "trained" and name not in run.training:
            raise UserError(
                f"The model {name!r} is trained by the workflow, but the configuration has no "
                f"recipe for it under 'training'; {suggest(name, run.training)}."
            )


def _check_component(name: str, recipe: Mapping[str, Any]) -> None:
    """Refuse a component without one size, and noise on one."""
    component = recipe.get("component")
    if component is None:
        return
    place = f"training.{name}"
    sizes = [key for key in ("radius", "bandwidth") if key in component]
    if len(sizes) != 1:
        raise UserError(
            f"{place}.component must have either 'radius', of a disk, or 'bandwidth', of a square, "
            f"got {' and '.join(sizes) or 'neither'}."
        )
    bandwidth = component.get("bandwidth", 1)
    if bandwidth % 2 == 0 or ("bandwidth" in component and component["strict"]):
        raise UserError(
            f"{place}.component.bandwidth must be odd, and without 'strict', which is of a disk, "
            f"got {bandwidth}."
        )
    if recipe.get("augmentation", {}).get("noise"):
        raise UserError(
            f"{place} must have either 'component' or 'noise' under 'augmentation', since noisy "
            "images are clipped to pixels in [0, 1], got both."
        )


def _measured(recipe: Mapping[str, Any]) -> list[str]:
    return [key for key in MEASURED if key in recipe]


def _check_curves(run: Run, name: str, recipe: Mapping[str, Any]) -> None:
    """Check that the datasets have as many images as curves are measured on."""
    curves = recipe["curves"]
    for key, dataset in (("images", curves["dataset"]), ("train_images", recipe["dataset"])):
        size = run.datasets[dataset].count
        if size is not None and curves[key] > size:
            raise UserError(
                f"training.{name}.curves.{key} must be from 1 to {size}, the images of "
                f"{dataset!r}, got {curves[key]}."
            )


def _check_responses(run: Run, name: str, recipe: Mapping[str, Any]) -> None:
    """Check that there are as many images as outputs are recorded of; they may be trained on."""
    responses, place = recipe["responses"], f"training.{name}.responses"
    dataset = responses.get("dataset", recipe["dataset"])
    member(dataset, run.datasets, "datasets", f"{place}.dataset")
    size = run.datasets[dataset].size
    if size is not None and responses["images"] > size:
        raise UserError(
            f"{place}.images must be from 1 to {size}, the images of {dataset!r}, got "
            f"{responses['images']}."
        )


def _check_unseen(run: Run, name: str) -> None:
    """Refuse to train a model on images that it is tested on."""
    used = run.training[name]["dataset"]
    tests = [*run.gates(name), *(e.dataset for e in run.experiments.values() if e.model == name)]
    tests += [run.training[name][key]["dataset"] for key in _measured(run.training[name])]
    # As a defence, in the place of another model.
    tests += [
        experiment.dataset
        for study in run.studies.values()
        for experiment in study.experiments
        if name in study.other_models(experiment)
    ]
    for test in tests:
        if run.datasets[used].overlaps(run.datasets[test]):
            raise UserError(
                f"training.{name}.dataset is {used!r}, which has images of {test!r}, where the "
                "model is tested; allowed is a dataset of another source, or both with a 'split' "
                "of their own."
            )
