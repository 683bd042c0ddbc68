"""Where the records that studies share lie, by the names of the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from bandlimit.config.datasets import Dataset
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run


def dataset_file(name: str) -> str:
    """Return the file of a dataset."""
    return f"results/datasets/{name}.parquet"


def model_file(name: str) -> str:
    """Return the file of a model."""
    return f"results/models/{name}.safetensors"


def history_file(name: str) -> str:
    """Return loss and accuracy of each epoch of a model that the workflow trains."""
    return f"results/models/{name}_history.parquet"


def trajectory_file(name: str) -> str:
    """Return the trajectory of a model that the workflow trains."""
    return f"results/trajectories/{name}.parquet"


def curves_file(name: str) -> str:
    """Return the curves of a model that the workflow trains."""
    return f"results/curves/{name}.parquet"


def responses_file(name: str) -> str:
    """Return the outputs along the training of a model that the workflow trains."""
    return f"results/responses/{name}.parquet"


def training_files(run: Run, name: str) -> dict[str, str]:
    """Return what a model is trained on, and the images that it is measured on along the way."""
    recipe = run.training[name]
    found = {"dataset": dataset_file(recipe["dataset"])}
    if "trajectory" in recipe:
        found["measured"] = dataset_file(recipe["trajectory"]["dataset"])
    if "curves" in recipe:
        found["tested"] = dataset_file(recipe["curves"]["dataset"])
    if "dataset" in recipe.get("responses", {}):
        found["observed"] = dataset_file(recipe["responses"]["dataset"])
    return found


def weights_file(run: Run, name: str) -> dict[str, Any]:
    """Return the weights file that a model is converted from; packaged ones are no input."""
    model = run.models[name]
    if model.downloads:
        return {"weights": f"results/models/downloads/{name}.weights"}
    return {"weights": model.path} if model.path else {}


def source_files(dataset: Dataset) -> dict[str, Any]:
    """Return what a dataset is made from: files fetched or shipped here, or the user's own."""
    if dataset.downloads:
        return {"archive": f"results/datasets/downloads/{dataset.source}"}
    if dataset.path is None:
        return {}
    if "{split}" in dataset.path:
        splits = [dataset.split] if dataset.split else dataset.counts
        return {"files": [dataset.path.format(split=split) for split in splits]}
    return {"files": dataset.path} if os.path.exists(dataset.path) else {}


def downloaded_sources(run: Run) -> list[str]:
    """Return the registered sources that are fetched, each once."""
    return list(dict.fromkeys(d.source for d in run.datasets.values() if d.downloads))


def fetched_files(run: Run) -> list[str]:
    """Return what a run fetches over the network: weights, and archives of images."""
    weights = [weights_file(run, name)["weights"] for name, m in run.models.items() if m.downloads]
    archives = [f"results/datasets/downloads/{source}" for source in downloaded_sources(run)]
    return weights + archives


def gate_files(run: Run, model: str) -> list[str]:
    """Return the evaluations that stop the run where a model is not as accurate as stated."""
    return [
        f"results/evaluations/{dataset}/{model}/clean/undefended/1of1.parquet"
        for dataset in run.gates(model)
    ]


def evaluation_names(run: Run, experiments: Iterable[Experiment]) -> list[dict[str, Any]]:
    """Return dataset, model and its classes of each of `evaluation_files` without a defence."""
    return [
        {"dataset": e.dataset, "model": e.model, "classes": run.models[e.model].classes}
        for e in experiments
        for _ in e.shard_names()
    ]


def images_of(wildcards: Any) -> str:
    """Return the file that holds the input images of an evaluation."""
    if wildcards.inputs == "clean":
        return dataset_file(wildcards.dataset)
    return (
        f"results/adversarial/{wildcards.dataset}/{wildcards.model}/{wildcards.inputs}/"
        f"{wildcards.shard}.parquet"
    )


def adversarial_files(experiments: Iterable[Experiment]) -> list[str]:
    """Return the adversarial sets of some experiments."""
    return [
        f"results/adversarial/{e.dataset}/{e.model}/{attack}/{shard}.parquet"
        for e in experiments
        for attack in e.attacks
        for shard in e.shard_names()
    ]


def evaluation_files(experiments: Iterable[Experiment], defense: str) -> list[str]:
    """Return the evaluations of all input sets with a defence ('undefended': clean only)."""
    return [
        f"results/evaluations/{e.dataset}/{e.model}/{inputs}/{defense}/{shard}.parquet"
        for e in experiments
        for inputs in (["clean"] if defense == "undefended" else e.inputs())
        for shard in e.shard_names()
    ]
