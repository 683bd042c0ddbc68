"""The jobs of a run, from the configuration alone: what each is told, and how it is made again.

The rules of the workflow ask here for what identifies their jobs; the audit asks again, years later
and without Snakemake, whether today's configuration still means what a result was made with.
Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config import models, paths, schema
from bandlimit.config.datasets import Dataset
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.files import folders
from bandlimit.plan import catalogue
from bandlimit.studies.artifact import REDRAWN, SAMPLED, Records


def _download_weights(run: Run, wildcards: Any) -> dict[str, Any]:
    return {"sha256": run.models[wildcards.model].sha256}


def _convert_model(run: Run, wildcards: Any) -> dict[str, Any]:
    model = run.models[wildcards.model]
    return {
        "source": model.source,
        "architecture": model.architecture,
        "sha256": model.sha256,
        "mean": list(model.mean),
        "std": list(model.std),
        "shape": list(model.shape),
        "classes": model.classes,
        **_own(model),
    }


def _own(model: models.Model) -> dict[str, Any]:
    """Return the files of the user's own code that a model's architecture is, where it is."""
    return {"own_code": model.code} if model.code else {}


def _train_model(run: Run, wildcards: Any) -> dict[str, Any]:
    """Return what identifies a trained model, except the dataset, which is an input."""
    model, given = run.models[wildcards.trained], run.training[wildcards.trained]
    apart = ("dataset", "architecture", "mean", "std")
    recipe = {key: value for key, value in given.items() if key not in apart}
    adversarial = recipe.get("adversarial")
    if adversarial:
        place = f"training.{wildcards.trained}.adversarial.epsilon"
        recipe["adversarial"] = {
            **adversarial,
            "epsilon": schema.epsilon(adversarial["epsilon"], place),
        }
    return {
        "recipe": catalogue.canonical(recipe),
        "architecture": model.architecture,
        "mean": list(model.mean),
        "std": list(model.std),
        "classes": model.classes,
        **_own(model),
        "device": run.device,
        "seed": run.seed,
    }


@dataclass(frozen=True)
class Training:
    """Trained models whose jobs keep the same.

    Attributes:
        models: their names.
        checkpoints: names of the checkpoints.
        trajectory: whether the training is followed.
        seeds: networks that a job trains.
        curves: whether their accuracies are followed.
        responses: whether their outputs are recorded.
    """

    models: tuple[str, ...]
    checkpoints: tuple[str, ...]
    trajectory: bool
    seeds: int
    curves: bool
    responses: bool

    def outputs(self) -> dict[str, Any]:
        """Return the files that a job keeps besides the model and its history, by keyword."""
        found: dict[str, Any] = {}
        if self.checkpoints:
            found["checkpoints"] = [
                f"results/models/{{trained}}_{name}.safetensors" for name in self.checkpoints
            ]
        if self.trajectory:
            found["trajectory"] = paths.trajectory_file("{trained}")
        if self.seeds > 1:
            found["seeds"] = [
                f"results/models/{{trained}}_{name}.safetensors"
                for name in models.further(self.seeds)
            ]
        if self.curves:
            found["curves"] = paths.curves_file("{trained}")
        if self.responses:
            found["responses"] = paths.responses_file("{trained}")
        return found


def trainings(run: Run) -> list[Training]:
    """Return the trained models of a run, those together whose jobs keep the same."""
    found: dict[tuple[tuple[str, ...], bool, int, bool, bool], list[str]] = {}
    for name, model in run.models.items():
        if model.source == "trained":
            recipe = run.training[name]
            kept = (
                tuple(sorted(recipe.get("checkpoints", {}))),
                "trajectory" in recipe,
                recipe.get("seeds", 1),
                "curves" in recipe,
                "responses" in recipe,
            )
            found.setdefault(kept, []).append(name)
    return [Training(tuple(names), *kept) for kept, names in sorted(found.items())]


def _download_dataset(run: Run, wildcards: Any) -> dict[str, Any]:
    """Return what the files of a registered source must be."""
    dataset = next(d for d in run.datasets.values() if d.source == wildcards.source)
    return {"loader": dataset.loader, "sha256": list(dataset.sha256)}


def _make_dataset(run: Run, wildcards: Any) -> dict[str, Any]:
    """Return what identifies a dataset, with a digest of the user's own files."""
    dataset = run.datasets[wildcards.dataset]
    return {
        "source": dataset.source,
        "loader": dataset.loader,
        "sha256": list(dataset.sha256),
        "classes": dataset.classes,
        "shape": list(dataset.shape) if dataset.shape else None,
        "counts": dict(dataset.counts),
        "path": dataset.path,
        "resize": dataset.resize,
        "crop": dataset.crop,
        "split": dataset.split,
        "images": dataset.images,
        **({"shuffle_labels": True} if dataset.shuffle_labels else {}),
        "seed": run.seed,
        # Snakemake sees the time of a file or folder only, which tells little of what it holds.
        "files": _digest(dataset),
    }


def _digest(dataset: Dataset) -> str | None:
    """Return a digest of the files of a dataset that no checksum identifies, if they are there."""
    if dataset.path is None or dataset.sha256:
        return None
    return folders.digest(dataset.path.replace("{split}", dataset.split or "{split}"))


def _attack(run: Run, wildcards: Any) -> dict[str, Any]:
    experiment = run.experiment(wildcards.dataset, wildcards.model)
    return {
        "parameters": dict(sorted(experiment.attacks[wildcards.attack].items())),
        "device": run.device,
        "seed": run.seed,
    }


def _evaluate_undefended(run: Run, wildcards: Any) -> dict[str, Any]:
    # The gate is (accuracy, tolerance), where the job judges the whole dataset.
    whole = wildcards.shard == "1of1"
    return {
        "gate": run.gate(wildcards.dataset, wildcards.model) if whole else None,
        "device": run.device,
        "seed": run.seed,
    }


def clean(run: Run) -> list[Experiment]:
    """Return the experiments whose networks are looked at on clean images, one of each pair."""
    asked = ("bandlimiting", "robustness")
    used = {e.name for s in asked if s in run.studies for e in run.studies[s].experiments}
    return [
        e
        for e in run.experiments.values()
        if e.name in used or run.models[e.model].source == "file"
    ]


def clean_files(run: Run) -> list[str]:
    """Return the evaluations of these, which say whether they are above chance."""
    return paths.evaluation_files(clean(run), "undefended")


def _evaluate_claims(run: Run, wildcards: Any) -> dict[str, Any]:
    return {
        "clean": paths.evaluation_names(run, clean(run)),
        "tables": catalogue.table_names(run),
        "makeable": catalogue.table_names(),
        "figures": catalogue.pictures(run),
        "experiments": claim_experiments(run),
        "smoke": run.smoke,
    }


def _static_site(run: Run, wildcards: Any) -> dict[str, Any]:
    return {
        "clean": paths.evaluation_names(run, clean(run)),
        "browser": site_choice(run),
        "studies": list(run.studies),
        "faces": catalogue.faces(run),
        "smoke": run.smoke,
    }


def _nothing(run: Run, wildcards: Any) -> dict[str, Any]:
    return {}


SHARED = {
    "download_weights": Records(_download_weights),
    "convert_model": Records(_convert_model, again=REDRAWN),
    "train_model": Records(_train_model),
    "download_dataset": Records(_download_dataset),
    "make_dataset": Records(_make_dataset, again=REDRAWN),
    "attack": Records(_attack, again=SAMPLED),
    "evaluate_undefended": Records(_evaluate_undefended, again=SAMPLED),
    "evaluate_claims": Records(_evaluate_claims, again=REDRAWN),
    "static_site": Records(_static_site),
    "manifest": Records(_nothing),
    "ro_crate": Records(_nothing),
}
"""Rules that belong to no study."""


def identity(run: Run, rule: str, wildcards: Any = None) -> dict[str, Any]:
    """Return what identifies a job besides its inputs and its code, by name.

    One mapping for Snakemake, which compares the values of params without their names: two that
    change places, or one that becomes equal to another, would go unseen.

    Args:
        run: the run.
        rule: name of the rule.
        wildcards: object with the wildcards of the job as attributes, where the rule has any.

    Raises:
        KeyError: no rule has this name, or the run has no job with these wildcards.
    """
    known = _records().get(rule)
    if known is not None:
        return dict(known.identity(run, wildcards))
    for study, artifact in catalogue.artifacts():
        if f"{study}_{artifact.name}" == rule and study in run.studies and artifact.when(run):
            return catalogue.canonical(artifact.identity(run))
    raise KeyError(rule)


def replay_kind(rule: str) -> str | None:
    """Return how the audit makes what a rule makes again: 'redrawn', 'sampled', 'measured', None.

    None says that it is not made again, or that there is no such rule.
    """
    known = _records().get(rule)
    if known is not None:
        return known.again
    for study, artifact in catalogue.artifacts():
        if f"{study}_{artifact.name}" == rule:
            return artifact.again
    return None


def images_in(rule: str) -> str:
    """Return the keyword of the inputs that hold the images of a sampled job."""
    return _records()[rule].images


@functools.cache
def _records() -> dict[str, Records]:
    return {**SHARED, **catalogue.records()}


def closed(names: Mapping[str, Any], chosen: Callable[[Any], bool] = bool) -> str:
    """Return a pattern of the names whose entries are chosen; it matches nothing if none is."""
    return "|".join(name for name, entry in names.items() if chosen(entry)) or "(?!)"


def claim_experiments(run: Run) -> list[dict[str, Any]]:
    """Return of each experiment, and each further network, which claims it can answer."""
    found = []
    pairs = [(e, e.model) for e in run.experiments.values()]
    for study in run.studies:
        # A study may measure more networks than those of its experiments.
        pairs += getattr(catalogue.module(study), "networks", lambda run: [])(run)
    # Two studies may measure the same one.
    for e, model in {(e.dataset, model): (e, model) for e, model in pairs}.values():
        facts: dict[str, Any] = {"has": []}
        for study in run.studies:
            own = catalogue.module(study).facts(run, e.dataset, model)
            facts |= {**own, "has": [*facts["has"], *own.get("has", ())]}
        found.append(
            {
                "dataset": e.dataset,
                "model": model,
                "document": e.document,
                "stand_in": e.stand_in,
                "architecture": run.models[model].architecture,
                "main_epsilon": e.epsilon,
                "published_accuracy": run.models[model].gate_accuracy,
                **facts,
            }
        )
    return found


SITE_IMAGES = 24
"""Images that the site shows one by one."""


def site_choice(run: Run) -> dict[str, Any] | None:
    """Return what the site shows image by image: minimal PGD, or the first attack.

    None where no study defends by post-averaging.
    """
    study = run.studies.get("bandlimiting")
    if study is None:
        return None
    e = study.experiments[0]
    return {
        "dataset": e.dataset,
        # A name that one's own data has been given means nothing.
        "source": run.datasets[e.dataset].source if run.datasets[e.dataset].counts else None,
        "model": e.model,
        "attack": "pgd_minimal" if "pgd_minimal" in e.attacks else next(iter(e.attacks)),
        "images": SITE_IMAGES,
        "epsilon": e.epsilon,
        "radius": e.radius,
        "directions": e.directions,
    }


def site_files(run: Run) -> dict[str, Any]:
    """Return the records of these images, by the names that the job reads them by."""
    choice = site_choice(run)
    if choice is None:
        return {}
    dataset, model, attack = (choice[name] for name in ("dataset", "model", "attack"))
    # Shards take the images of a dataset in turns.
    shards = run.experiment(dataset, model).shard_names()[: choice["images"]]
    place = f"{dataset}/{model}"
    examined = run.studies.get("robustness")
    compared = {
        (e.dataset, e.model) for e in (examined.experiments if examined else ()) if e.controls
    }

    def files(folder: str) -> list[str]:
        return [f"results/{folder}/{shard}.parquet" for shard in shards]

    return {
        "dataset": f"results/datasets/{dataset}.parquet",
        "adversarial": files(f"adversarial/{place}/{attack}"),
        "clean": files(f"evaluations/{place}/clean/post_averaging"),
        "attacked": files(f"evaluations/{place}/{attack}/post_averaging"),
        "controls": files(f"controls/{place}") if (dataset, model) in compared else [],
    }


def site_artifacts(run: Run) -> list[str]:
    """Return the files of all tables and figures: those of a study together, tables first."""
    return [path for entry in catalogue.of(run) for path in entry.files()]
