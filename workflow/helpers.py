"""What the rules ask of the configuration; everything a lambda would be too long for."""

import fcntl
import hashlib
import os
import sys
from functools import partial
from pathlib import Path

from bandlimit import lineage, settings
from bandlimit.errors import UserError
from bandlimit.settings import ATTACKS  # noqa: F401 (read by the Snakefile)


def load_settings(config, home):
    """Return the checked settings, or end with one sentence."""
    try:
        check_writable("results")
        return settings.load(config, home)
    except UserError as error:
        sys.exit(f"Error: {error}")


def check_ready(study, local):
    """End with one sentence where a run that is about to start lacks a folder or a card.

    Planning a run needs neither; nor does the head of a cluster need the card.
    """
    try:
        settings.check_paths(study)
        if study.device == "cuda" and local:
            from bandlimit import models

            models.device("cuda")
    except UserError as error:
        sys.exit(f"Error: {error}")


def check_writable(folder):
    """Refuse a results folder that can't be written, before any work is lost."""
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(
            f"The results folder {folder!r} can't be written; it must be a folder you may write to."
        )


def code_of(home):
    """Return a function that lists the code files a script reaches, as inputs of its rule."""
    return partial(_code, Path(home))


def _code(home, script):
    # Relative, so that a project that was moved re-runs nothing.
    return [os.path.relpath(home / path) for path in lineage.reach(f"scripts/{script}.py", home)]


def release_stale_lock():
    """Remove the lock that a killed run left behind, so that the same command goes on.

    A run holds a file lock, which ends with its process however that ends; where it can be taken,
    no other run is alive.
    """
    os.makedirs(".snakemake/locks", exist_ok=True)
    alive = open(".snakemake/alive", "w")  # noqa: SIM115 (open as long as the process lives)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        alive.close()
        return None
    for lock in Path(".snakemake/locks").iterdir():
        lock.unlink()
    return alive


def named(study, **params):
    """Return the params of a job that touches a model as one mapping, with device and seed.

    Snakemake compares the values of params without their names, so that two that change places, or
    one that becomes equal to another, would go unseen.
    """
    return {**params, "device": study.device, "seed": study.seed}


def model_params(study, name):
    """Return what identifies a converted model."""
    model = study.models[name]
    return {
        "source": model.source,
        "architecture": model.architecture,
        "sha256": model.sha256,
        "mean": list(model.mean),
        "std": list(model.std),
        "shape": list(model.shape),
        "classes": model.classes,
    }


def training_params(study, name):
    """Return what identifies a trained model, less the dataset, which is an input."""
    model = study.models[name]
    recipe = study.training[name]
    return {
        "recipe": {key: value for key, value in recipe.items() if key != "dataset"},
        "architecture": model.architecture,
        "mean": list(model.mean),
        "std": list(model.std),
        "classes": model.classes,
        "seed": study.seed,
    }


def dataset_params(study, name):
    """Return what identifies a dataset, with a digest of the names and sizes in its folder."""
    dataset = study.datasets[name]
    return {
        "source": dataset.source,
        "loader": dataset.loader,
        "urls": list(dataset.urls),
        "sha256": list(dataset.sha256),
        "classes": dataset.classes,
        "shape": list(dataset.shape) if dataset.shape else None,
        "counts": dict(dataset.counts),
        "path": dataset.path,
        "resize": dataset.resize,
        "crop": dataset.crop,
        "split": dataset.split,
        "images": dataset.images,
        "seed": study.seed,
        "files": _listing(dataset.path),
    }


def _listing(path):
    """Return a digest of the files of a folder by name and size: Snakemake sees the folder only."""
    if path is None or not os.path.isdir(path):
        return None
    files = sorted(part for part in Path(path).rglob("*") if part.is_file())
    rows = [(part.relative_to(path).as_posix(), part.stat().st_size) for part in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def names(entries, chosen):
    """Return the names whose entries are chosen; a name nothing has, where there is none."""
    return [name for name, entry in entries.items() if chosen(entry)] or ["(?!)"]


def weights_file(study, name):
    """Return the weights file that a model is converted from; packaged ones are no input."""
    model = study.models[name]
    if model.downloads:
        return {"weights": f"results/models/downloads/{name}.weights"}
    return {"weights": model.path} if model.path else {}


def local_files(dataset):
    """Return the local files a dataset is made from: those shipped here, or the user's own."""
    if dataset.path is None or "{split}" in dataset.path and dataset.split is None:
        return []
    path = dataset.path.format(split=dataset.split) if dataset.split else dataset.path
    return path if os.path.exists(path) else []


def gpus(study):
    """Return how many cards a job that touches a model takes; asks the driver, not torch."""
    card = Path("/proc/driver/nvidia/gpus").is_dir()
    return int(study.device == "cuda" or study.device == "auto" and card)


def experiment(study, wildcards):
    """Return the experiment of the job's dataset and model."""
    return study.experiment(wildcards.dataset, wildcards.model)


def gate_files(study, model):
    """Return the evaluations that stop the run where a model is not as accurate as stated."""
    return [
        f"results/evaluations/{dataset}/{model}/clean/undefended/1of1.parquet"
        for dataset in study.gates(model)
    ]


def gate_of(study, wildcards):
    """Return (accuracy, tolerance) where the job judges the whole gate dataset, or None."""
    whole = wildcards.shard == "1of1"
    return study.gate(wildcards.dataset, wildcards.model) if whole else None


def attack_parameters(study, wildcards):
    """Return the attack's parameters as a plain mapping, in a fixed order."""
    return dict(sorted(experiment(study, wildcards).attacks[wildcards.attack].items()))


def defense_settings(study, wildcards):
    """Return [radius, directions, draws] of each setting of post-averaging for these inputs."""
    return [list(setting) for setting in experiment(study, wildcards).settings(wildcards.inputs)]


def images_of(wildcards):
    """Return the file that holds the input images of an evaluation."""
    if wildcards.inputs == "clean":
        return f"results/datasets/{wildcards.dataset}.parquet"
    return (
        f"results/adversarial/{wildcards.dataset}/{wildcards.model}/{wildcards.inputs}/"
        f"{wildcards.shard}.parquet"
    )


def adversarial_files(study):
    """Return all adversarial sets of the study."""
    return [
        f"results/adversarial/{e.dataset}/{e.model}/{attack}/{shard}.parquet"
        for e in study.experiments
        for attack in e.attacks
        for shard in e.shard_names()
    ]


def evaluation_files(study, defense):
    """Return the evaluations of all input sets with a defence ('undefended': clean only)."""
    return [
        f"results/evaluations/{e.dataset}/{e.model}/{inputs}/{defense}/{shard}.parquet"
        for e in study.experiments
        for inputs in (["clean"] if defense == "undefended" else e.inputs())
        for shard in e.shard_names()
    ]


def sampler_files(study):
    """Return the comparisons of samplers, on the minimising attacks of the document."""
    return [
        f"results/evaluations/{e.dataset}/{e.model}/{attack}/samplers/{shard}.parquet"
        for e in study.experiments
        if e.samplers
        for attack in e.attacks
        if attack in settings.MINIMAL[:4]
        for shard in e.shard_names()
    ]


def crossing_files(study):
    """Return the counts of hyperplanes crossed."""
    return [
        f"results/crossings/{e.dataset}/{e.model}/{attack}/{shard}.parquet"
        for e in study.experiments
        for attack in e.crossings
        for shard in e.shard_names()
    ]


THEORY_TABLES = [
    "region_counts",
    "lemma_2_6",
    "simplex_decay",
    "theorem_2_7",
    "equation_6",
    "sampler_response",
]
"""Tables of the theory of section 2 and eq. 6."""

REGION_PARTS = ["polygons", "segments", "decision", "crossings", "points", "step"]
"""Tables that Figure 1 is drawn from."""


def tables(study):
    """Return the tables of the study, those without records to make them of left out."""
    names = ["defense_rates", "table_1", "table_2", "table_2_time", *THEORY_TABLES]
    if sampler_files(study):
        names.append("table_samplers")
    if crossing_files(study):
        names.append("table_crossings")
    return names


def figures(study):
    """Return the figures of the study, those without records to make them of left out."""
    names = ["figure_1", "figure_2", "figure_3", "figure_response"]
    if crossing_files(study):
        names.append("figure_crossings")
    return names


def experiment_main(study):
    """Return what identifies each experiment and its main setting, in the order of the config."""
    return [
        {
            "dataset": e.dataset,
            "model": e.model,
            "radius": e.radius,
            "directions": e.directions,
            "document": e.document,
        }
        for e in study.experiments
    ]


def experiment_shards(study):
    """Return dataset, model, attacks and shards of each experiment, as its files are listed."""
    return [
        {
            "dataset": e.dataset,
            "model": e.model,
            "attacks": list(e.attacks),
            "shards": e.shard_names(),
            "settings": {attack: e.settings(attack) for attack in e.attacks},
            "epsilons": {
                attack: parameters["epsilons"]
                for attack, parameters in e.attacks.items()
                if attack in settings.FIXED
            },
        }
        for e in study.experiments
    ]


def sampler_directions(study, wildcards):
    """Return how many directions each sampler takes.

    At most half the classes: the last layer has a hyperplane per class, and samplers that take all
    of them would be one.
    """
    classes = study.models[wildcards.model].classes
    return min(experiment(study, wildcards).directions, classes // 2)


def sampler_names(study):
    """Return [dataset, model, attack] of each file of `sampler_files`."""
    return [path.split("/")[2:5] for path in sampler_files(study)]


def sampler_adversarial_files(study):
    """Return the adversarial sets of `sampler_files`, in the same order."""
    return [
        path.replace("results/evaluations/", "results/adversarial/").replace("/samplers/", "/")
        for path in sampler_files(study)
    ]


def crossing_names(study):
    """Return [dataset, model, attack] of each file of `crossing_files`."""
    return [path.split("/")[2:5] for path in crossing_files(study)]
