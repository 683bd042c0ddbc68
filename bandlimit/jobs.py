"""The jobs of a run, from the settings alone: which files there are, and what each job is told.

The rules of the workflow ask here for the lists of their files and for their params; the audit asks
again, years later and without Snakemake, whether today's configuration still means what a result
was made with. Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bandlimit import lineage
from bandlimit.defenses.kinds import PARAMETERS
from bandlimit.examinations import Examination
from bandlimit.settings import DOCUMENT_ATTACKS, FIXED, Dataset, Experiment, Settings


def named(study: Settings, **params: Any) -> dict[str, Any]:
    """Return the params of a job that touches a model: these, the device and the seed."""
    return {**params, "device": study.device, "seed": study.seed}


def model_params(study: Settings, name: str) -> dict[str, Any]:
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


def training_params(study: Settings, name: str) -> dict[str, Any]:
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


def dataset_params(study: Settings, name: str) -> dict[str, Any]:
    """Return what identifies a dataset, with a digest of the names and sizes in its folder."""
    dataset = study.datasets[name]
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
        "seed": study.seed,
        "files": _listing(dataset.path),
    }


def _listing(path: str | None) -> str | None:
    """Return a digest of the files of a folder by name and size: Snakemake sees the folder only."""
    if path is None or not os.path.isdir(path):
        return None
    files = lineage.files_in(path)
    rows = [(part.relative_to(path).as_posix(), part.stat().st_size) for part in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def names(entries: Mapping[str, Any], chosen: Callable[[Any], bool]) -> list[str]:
    """Return the names whose entries are chosen; a name nothing has, where there is none."""
    return [name for name, entry in entries.items() if chosen(entry)] or ["(?!)"]


def weights_file(study: Settings, name: str) -> dict[str, Any]:
    """Return the weights file that a model is converted from; packaged ones are no input."""
    model = study.models[name]
    if model.downloads:
        return {"weights": f"results/models/downloads/{name}.weights"}
    return {"weights": model.path} if model.path else {}


def dataset_files(dataset: Dataset) -> dict[str, Any]:
    """Return what a dataset is made from: files fetched or shipped here, or the user's own."""
    if dataset.downloads:
        return {"archive": f"results/datasets/downloads/{dataset.source}"}
    if dataset.path is None:
        return {}
    if "{split}" in dataset.path:
        splits = [dataset.split] if dataset.split else dataset.counts
        return {"files": [dataset.path.format(split=split) for split in splits]}
    return {"files": dataset.path} if os.path.exists(dataset.path) else {}


def downloaded_sources(study: Settings) -> list[str]:
    """Return the registered sources that are fetched, each once."""
    return list(dict.fromkeys(d.source for d in study.datasets.values() if d.downloads))


def download_params(study: Settings, source: str) -> dict[str, Any]:
    """Return what the files of a registered source must be."""
    dataset = next(d for d in study.datasets.values() if d.source == source)
    return {
        "loader": dataset.loader,
        "sha256": list(dataset.sha256),
    }


def experiment(study: Settings, wildcards: Any) -> Experiment:
    """Return the experiment of the job's dataset and model."""
    return study.experiment(wildcards.dataset, wildcards.model)


def gate_files(study: Settings, model: str) -> list[str]:
    """Return the evaluations that stop the run where a model is not as accurate as stated."""
    return [
        f"results/evaluations/{dataset}/{model}/clean/undefended/1of1.parquet"
        for dataset in study.gates(model)
    ]


def gate_of(study: Settings, wildcards: Any) -> Any:
    """Return (accuracy, tolerance) where the job judges the whole gate dataset, or None."""
    whole = wildcards.shard == "1of1"
    return study.gate(wildcards.dataset, wildcards.model) if whole else None


def attack_parameters(study: Settings, wildcards: Any) -> dict[str, Any]:
    """Return the attack's parameters as a plain mapping, in a fixed order."""
    return dict(sorted(experiment(study, wildcards).attacks[wildcards.attack].items()))


def defense_settings(study: Settings, wildcards: Any) -> list[list[Any]]:
    """Return [radius, directions, draws] of each setting of post-averaging for these inputs."""
    return [list(setting) for setting in experiment(study, wildcards).settings(wildcards.inputs)]


def images_of(wildcards: Any) -> str:
    """Return the file that holds the input images of an evaluation."""
    if wildcards.inputs == "clean":
        return f"results/datasets/{wildcards.dataset}.parquet"
    return (
        f"results/adversarial/{wildcards.dataset}/{wildcards.model}/{wildcards.inputs}/"
        f"{wildcards.shard}.parquet"
    )


def adversarial_files(study: Settings) -> list[str]:
    """Return all adversarial sets of the study."""
    return [
        f"results/adversarial/{e.dataset}/{e.model}/{attack}/{shard}.parquet"
        for e in study.experiments
        for attack in e.attacks
        for shard in e.shard_names()
    ]


def evaluation_files(study: Settings, defense: str) -> list[str]:
    """Return the evaluations of all input sets with a defence ('undefended': clean only)."""
    return [
        f"results/evaluations/{e.dataset}/{e.model}/{inputs}/{defense}/{shard}.parquet"
        for e in study.experiments
        for inputs in (["clean"] if defense == "undefended" else e.inputs())
        for shard in e.shard_names()
    ]


def sampler_files(study: Settings) -> list[str]:
    """Return the comparisons of samplers, on the minimising attacks of the document."""
    return [
        f"results/evaluations/{e.dataset}/{e.model}/{attack}/samplers/{shard}.parquet"
        for e in study.experiments
        if e.samplers
        for attack in e.attacks
        if attack in DOCUMENT_ATTACKS
        for shard in e.shard_names()
    ]


def crossing_files(study: Settings) -> list[str]:
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


def tables(study: Settings) -> list[str]:
    """Return the tables of the study, those without records to make them of left out."""
    names = ["defense_rates", "table_1", "table_2", "table_2_time", *THEORY_TABLES]
    if sampler_files(study):
        names.append("table_samplers")
    if crossing_files(study):
        names.append("table_crossings")
    return names


def figures(study: Settings) -> list[str]:
    """Return the figures of the study, those without records to make them of left out."""
    names = ["figure_1", "figure_2", "figure_3", "figure_response"]
    if crossing_files(study):
        names.append("figure_crossings")
    return names


def experiment_main(study: Settings) -> list[dict[str, Any]]:
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


def experiment_shards(study: Settings) -> list[dict[str, Any]]:
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
                if attack in FIXED
            },
        }
        for e in study.experiments
    ]


def sampler_directions(study: Settings, wildcards: Any) -> int:
    """Return how many directions each sampler takes.

    At most half the classes: the last layer has a hyperplane per class, and samplers that take all
    of them would be one.
    """
    classes = study.models[wildcards.model].classes
    return min(experiment(study, wildcards).directions, classes // 2)


def sampler_names(study: Settings) -> list[list[str]]:
    """Return [dataset, model, attack] of each file of `sampler_files`."""
    return [path.split("/")[2:5] for path in sampler_files(study)]


def sampler_adversarial_files(study: Settings) -> list[str]:
    """Return the adversarial sets of `sampler_files`, in the same order."""
    return [
        path.replace("results/evaluations/", "results/adversarial/").replace("/samplers/", "/")
        for path in sampler_files(study)
    ]


def crossing_names(study: Settings) -> list[list[str]]:
    """Return [dataset, model, attack] of each file of `crossing_files`."""
    return [path.split("/")[2:5] for path in crossing_files(study)]


def examination(study: Settings, wildcards: Any) -> Examination:
    """Return the examination of the job's dataset and model."""
    return study.robustness.examination(wildcards.dataset, wildcards.model)


def other_models(study: Settings, defenses: Sequence[str]) -> dict[str, Any]:
    """Return the files of the other models that some defences use."""
    names = study.robustness.others(list(defenses))
    return {"others": [f"results/models/{name}.safetensors" for name in names]} if names else {}


def defense_entries(study: Settings, wildcards: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return kind and parameters of some defences by name, with r and K where they have them."""
    e = examination(study, wildcards)
    main = {"radius": e.radius, "directions": e.directions}
    entries = {}
    for name in dict.fromkeys(names):
        entry = study.robustness.defenses[name]
        # Those of the experiment, so that its r attacks nothing anew that has no r.
        own = {key: value for key, value in main.items() if key in PARAMETERS[entry.kind]}
        entries[name] = {"kind": entry.kind, **own, **entry.parameters}
    return entries


def adaptive_params(study: Settings, wildcards: Any) -> dict[str, Any]:
    """Return what identifies an attack on a defence."""
    e = examination(study, wildcards)
    attack = study.robustness.attacks[wildcards.adaptive]
    counts = [count for count in (e.images, attack.images) if count is not None]
    return named(
        study,
        defenses=defense_entries(study, wildcards, [wildcards.examined]),
        kind=attack.kind,
        parameters=dict(sorted(attack.parameters.items())),
        epsilons=list(attack.epsilons),
        images=min(counts) if counts else None,
    )


def adaptive_file(e: Examination, defense: str, attack: str, shard: str) -> str:
    """Return the file of an adversarial set that was made against a defence."""
    return f"results/adaptive/{e.dataset}/{e.model}/{defense}/{attack}/{shard}.parquet"


def judged_files(study: Settings, wildcards: Any) -> list[str]:
    """Return the adversarial sets that a defence is judged on."""
    e = examination(study, wildcards)
    return [
        adaptive_file(e, defense, attack, wildcards.shard)
        for defense, attack in study.robustness.judged_sets(e, wildcards.examined)
    ]


def judge_params(study: Settings, wildcards: Any) -> dict[str, Any]:
    """Return what identifies a judgement of a defence."""
    e = examination(study, wildcards)
    return named(
        study,
        defenses=defense_entries(study, wildcards, [wildcards.examined]),
        sets=[list(names) for names in study.robustness.judged_sets(e, wildcards.examined)],
        images=e.images,
        draws=study.robustness.draws,
        stop=study.robustness.stop,
        error=study.robustness.error,
    )


def attacked_files(study: Settings, wildcards: Any) -> list[str]:
    """Return the document's adversarial sets of the job's dataset and model."""
    return [
        f"results/adversarial/{wildcards.dataset}/{wildcards.model}/{attack}/{wildcards.shard}.parquet"
        for attack in experiment(study, wildcards).attacks
    ]


def control_params(study: Settings, wildcards: Any) -> dict[str, Any]:
    """Return what identifies a comparison of controls."""
    return named(
        study,
        defenses=defense_entries(study, wildcards, examination(study, wildcards).controls),
        inputs=["clean", *experiment(study, wildcards).attacks],
        epsilon=study.epsilon,
        draws=study.robustness.control_draws,
        stop=study.robustness.stop,
        error=study.robustness.error,
    )


def scaled_defenses(study: Settings, wildcards: Any) -> list[str]:
    """Return the defences that stretched perturbations are tried on."""
    return study.robustness.judges(examination(study, wildcards))


def scaled_files(study: Settings, wildcards: Any) -> list[str]:
    """Return the minimal sets whose perturbations are stretched."""
    return [
        f"results/adversarial/{wildcards.dataset}/{wildcards.model}/{attack}/{wildcards.shard}.parquet"
        for attack in examination(study, wildcards).scaled
    ]


def scale_params(study: Settings, wildcards: Any) -> dict[str, Any]:
    """Return what identifies the stretching of perturbations."""
    e = examination(study, wildcards)
    return named(
        study,
        defenses=defense_entries(study, wildcards, scaled_defenses(study, wildcards)),
        attacks=list(e.scaled),
        factors=list(study.robustness.factors),
        images=e.images,
        draws=study.robustness.control_draws,
        stop=study.robustness.stop,
        error=study.robustness.error,
    )


def adaptive_names(study: Settings) -> list[dict[str, Any]]:
    """Return dataset, model, attacked defence and attack of each file of `adaptive_files`."""
    return [
        {"dataset": e.dataset, "model": e.model, "against": defense, "attack": attack}
        for e in study.robustness.examinations
        for defense, attack in study.robustness.sets(e)
        for _ in e.shard_names()
    ]


def adaptive_files(study: Settings) -> list[str]:
    """Return all adversarial sets that were made against defences."""
    return [
        adaptive_file(e, defense, attack, shard)
        for e in study.robustness.examinations
        for defense, attack in study.robustness.sets(e)
        for shard in e.shard_names()
    ]


def study_names(study: Settings, kind: str) -> list[tuple[dict[str, str], str]]:
    """Return dataset, model and, of judgements, the defence, of each file of `study_files`."""
    places = []
    for e in study.robustness.examinations:
        names = {"dataset": e.dataset, "model": e.model}
        if kind in ("judged", "symptoms"):
            own = [{**names, "defense": defense} for defense in study.robustness.judges(e)]
        else:
            own = [names] if (e.controls if kind == "controls" else e.scaled) else []
        places += [(place, shard) for place in own for shard in e.shard_names()]
    return places


def study_files(study: Settings, kind: str) -> list[str]:
    """Return the records of one kind: judged, symptoms, controls or scaled."""
    return [
        f"results/{kind}/{'/'.join(place.values())}/{shard}.parquet"
        for place, shard in study_names(study, kind)
    ]


def attack_kinds(study: Settings) -> dict[str, Any]:
    """Return kind and parameters of each attack on a defence that is run, by name."""
    used = {name for _, name in _all_sets(study)}
    return {
        name: {"kind": attack.kind, **attack.parameters}
        for name, attack in study.robustness.attacks.items()
        if name in used
    }


def defense_kinds(study: Settings) -> dict[str, Any]:
    """Return kind and parameters of each defence that is attacked, judged or compared, by name."""
    robustness = study.robustness
    used = {name for e in robustness.examinations for name in robustness.used(e)}
    return {
        name: {"kind": entry.kind, **entry.parameters}
        for name, entry in robustness.defenses.items()
        if name in used
    }


def robustness_names(study: Settings) -> dict[str, Any]:
    """Return what the files of the study's records stand for, and how attacks are configured."""
    return {
        "adaptive": adaptive_names(study),
        **{
            kind: [place for place, _ in study_names(study, kind)]
            for kind in ("judged", "controls", "scaled")
        },
        "attacks": attack_kinds(study),
        "defenses": defense_kinds(study),
    }


def examined_defenses(study: Settings) -> list[str]:
    """Return the names of all defences under examination."""
    return list(dict.fromkeys(d for e in study.robustness.examinations for d in e.defenses))


def robustness_table_names(study: Settings) -> list[str]:
    """Return the tables of robustness, those without records to make them of left out."""
    if not study.robustness.examinations:
        return []
    kinds = {study.robustness.attacks[attack].kind for _, attack in _all_sets(study)}
    names = ["robust_accuracy", "sanity"] * bool(study_files(study, "judged"))
    names += ["loss_curves"] * bool(_all_sets(study))
    names += ["controls", "comparisons"] * bool(study_files(study, "controls"))
    names += ["scaling"] * bool(study_files(study, "scaled"))
    names += ["confidence"] * ("carlini_wagner_l2" in kinds)
    return names


def _all_sets(study: Settings) -> list[tuple[str, str]]:
    return [pair for e in study.robustness.examinations for pair in study.robustness.sets(e)]


ROBUSTNESS_FIGURES = {
    "robust_accuracy": "figure_robust_accuracy",
    "scaling": "figure_scaling",
    "controls": "figure_controls",
    "confidence": "figure_confidence",
    "loss_curves": "figure_losses",
}
"""Figure of each table of robustness that has one."""


def robustness_figures(study: Settings) -> list[str]:
    """Return the figures of robustness, those without a table left out."""
    tables = robustness_table_names(study)
    return [figure for table, figure in ROBUSTNESS_FIGURES.items() if table in tables]


BANDLIMITING_TABLES = ["defense_rates", "table_1", "table_2", "table_2_time", *THEORY_TABLES]
BANDLIMITING_TABLES += ["table_samplers", "table_crossings"]
ROBUSTNESS_TABLES = ["robust_accuracy", "sanity", "loss_curves", "controls", "comparisons"]
ROBUSTNESS_TABLES += ["scaling", "confidence"]
ALL_TABLES = [f"tables/bandlimiting/{name}" for name in BANDLIMITING_TABLES]
ALL_TABLES += [f"tables/robustness/{name}" for name in ROBUSTNESS_TABLES]
"""Tables that some run makes, as the claims name them."""


TABLE_LABELS = {
    "region_counts": {"artifact": "Section 2.2", "shows": "regions that hyperplanes cut"},
    "lemma_2_6": {"artifact": "Lemma 2.6", "shows": "transform of the unit simplex"},
    "simplex_decay": {"artifact": "Section 2.1", "shows": "decay of that transform"},
    "theorem_2_7": {"artifact": "Theorem 2.7", "shows": "transform of one linear piece"},
    "equation_6": {"artifact": "Eq. 6", "shows": "damping by the mean over a ball"},
    "sampler_response": {"artifact": "Eqs. 6 to 8", "shows": "response of the sampler, table"},
    "robust_accuracy": {"artifact": "Table", "shows": "accuracy under each attack"},
    "sanity": {"artifact": "Table", "shows": "can the evaluation be trusted?"},
    "loss_curves": {"artifact": "Table", "shows": "loss of the adaptive attacks, step by step"},
    "controls": {"artifact": "Table", "shows": "what cheap transforms restore"},
    "comparisons": {"artifact": "Table", "shows": "post-averaging against each control"},
    "scaling": {"artifact": "Table", "shows": "stretched perturbations"},
    "confidence": {"artifact": "Table", "shows": "defence rate against confidence"},
}
"""How the report lists tables that one rule makes together."""


def table_names(study: Settings) -> list[str]:
    """Return the tables of all studies, as the claims name them."""
    return [f"tables/bandlimiting/{name}" for name in tables(study)] + [
        f"tables/robustness/{name}" for name in robustness_table_names(study)
    ]


def claim_figures(study: Settings) -> list[list[str]]:
    """Return [claim or study, picture] of what the ledger shows beside the claims."""
    own = ["figure_2", "figure_3", *(["figure_crossings"] if crossing_files(study) else [])]
    pictures = [["bandlimiting", f"results/figures/bandlimiting/{name}.png"] for name in own]
    return pictures + [
        ["robustness", f"results/figures/robustness/{name}.png"]
        for name in robustness_figures(study)
    ]


def claim_experiments(study: Settings) -> list[dict[str, Any]]:
    """Return of each experiment what decides which claims it can answer."""
    examined = {(e.dataset, e.model) for e in study.robustness.examinations}
    parts = {"crossings": "crossings", "samplers": "samplers"}
    return [
        {
            "dataset": e.dataset,
            "model": e.model,
            "document": e.document,
            "stand_in": e.stand_in,
            "architecture": study.models[e.model].architecture,
            "main_radius": e.radius,
            "main_directions": e.directions,
            "study_epsilon": study.epsilon,
            "published_accuracy": study.models[e.model].gate_accuracy,
            "has": [
                *e.attacks,
                *(part for part, name in parts.items() if getattr(e, name)),
                *(["robustness"] if (e.dataset, e.model) in examined else []),
            ],
        }
        for e in study.experiments
    ]


SITE_IMAGES = 24
"""Images that the site shows one by one."""


def site_choice(study: Settings) -> dict[str, Any] | None:
    """Return what the site shows image by image: minimal PGD, or the first attack, or None."""
    e = study.experiments[0]
    if not e.attacks:
        return None
    return {
        "dataset": e.dataset,
        "source": study.datasets[e.dataset].source,
        "model": e.model,
        "attack": "pgd_minimal" if "pgd_minimal" in e.attacks else next(iter(e.attacks)),
        "images": SITE_IMAGES,
        "epsilon": study.epsilon,
        "radius": e.radius,
        "directions": e.directions,
    }


def site_files(study: Settings) -> dict[str, Any]:
    """Return the records of these images, by the names that the job reads them by."""
    choice = site_choice(study)
    if choice is None:
        return {}
    dataset, model, attack = (choice[name] for name in ("dataset", "model", "attack"))
    # All images to be shown are in the first shard.
    shard = study.experiments[0].shard_names()[0]
    place = f"{dataset}/{model}"
    controls = f"results/controls/{place}/{shard}.parquet"
    return {
        "dataset": f"results/datasets/{dataset}.parquet",
        "adversarial": [f"results/adversarial/{place}/{attack}/{shard}.parquet"],
        "clean": [f"results/evaluations/{place}/clean/post_averaging/{shard}.parquet"],
        "attacked": [f"results/evaluations/{place}/{attack}/post_averaging/{shard}.parquet"],
        "controls": [path for path in study_files(study, "controls") if path == controls],
    }


def site_figures(study: Settings) -> list[str]:
    """Return the figures of all studies, without a suffix."""
    return [f"results/figures/bandlimiting/{name}" for name in figures(study)] + [
        f"results/figures/robustness/{name}" for name in robustness_figures(study)
    ]


# Params of each rule


def _evaluations(study: Settings, wildcards: Any) -> dict[str, Any]:
    return named(study, settings=defense_settings(study, wildcards), bfloat16=study.bfloat16)


def _samplers(study: Settings, wildcards: Any) -> dict[str, Any]:
    e = experiment(study, wildcards)
    return named(
        study,
        samplers=list(e.samplers),
        radius=e.radius,
        directions=sampler_directions(study, wildcards),
    )


def _main_setting(study: Settings, wildcards: Any) -> dict[str, Any]:
    return {"epsilon": study.epsilon, "experiments": experiment_main(study)}


def _nothing(study: Settings, wildcards: Any) -> dict[str, Any]:
    return {}


_PARAMS: dict[str, Callable[[Settings, Any], dict[str, Any]]] = {
    "download_weights": lambda study, w: {"sha256": study.models[w.model].sha256},
    "convert_model": lambda study, w: model_params(study, w.model),
    "train_model": lambda study, w: training_params(study, w.model),
    "download_dataset": lambda study, w: download_params(study, w.source),
    "make_dataset": lambda study, w: dataset_params(study, w.dataset),
    "attack": lambda study, w: named(study, parameters=attack_parameters(study, w)),
    "evaluate_undefended": lambda study, w: named(study, gate=gate_of(study, w)),
    "evaluate_post_averaging": _evaluations,
    "evaluate_samplers": _samplers,
    "count_crossings": lambda study, w: named(study, segments=study.theory["segments"]),
    "defense_rates": lambda study, w: {
        "epsilons": sorted({study.epsilon, *study.epsilons}),
        "experiments": experiment_shards(study),
    },
    "table_1": _main_setting,
    "table_2": _main_setting,
    "table_2_time": lambda study, w: named(study, experiments=experiment_main(study)),
    "table_samplers": lambda study, w: {"epsilon": study.epsilon, "names": sampler_names(study)},
    "table_crossings": lambda study, w: {
        "names": crossing_names(study),
        "epsilon": study.epsilon,
        "segments": study.theory["segments"],
    },
    "theory": lambda study, w: {"tables": THEORY_TABLES, "seed": study.seed},
    "linear_regions": lambda study, w: {
        "parts": REGION_PARTS,
        "seed": study.theory["figure_1_seed"],
    },
    "figure_1": lambda study, w: {"parts": REGION_PARTS, "seed": study.theory["figure_1_seed"]},
    "figure_2": _main_setting,
    "figure_3": lambda study, w: {
        "epsilons": list(study.epsilons),
        "experiments": experiment_main(study),
    },
    "figure_response": _nothing,
    "figure_crossings": _nothing,
    "attack_defense": adaptive_params,
    "judge_defense": judge_params,
    "evaluate_controls": control_params,
    "scale_perturbations": scale_params,
    "robustness_tables": lambda study, w: {
        **robustness_names(study),
        "tables": robustness_table_names(study),
        "draws": study.robustness.draws,
        "epsilon": study.epsilon,
        "experiments": experiment_main(study),
        "largest": max(study.robustness.epsilons),
    },
    "figure_robust_accuracy": lambda study, w: {
        "attacks": attack_kinds(study),
        "defenses": examined_defenses(study),
        "draws": study.robustness.draws,
    },
    "figure_scaling": _nothing,
    "figure_controls": lambda study, w: {"epsilon": study.epsilon},
    "figure_confidence": _nothing,
    "figure_losses": _nothing,
    "static_site": lambda study, w: {"browser": site_choice(study)},
    "manifest": _nothing,
    "ro_crate": _nothing,
    "evaluate_claims": lambda study, w: {
        "tables": table_names(study),
        "makeable": ALL_TABLES,
        "figures": claim_figures(study),
        "experiments": claim_experiments(study),
    },
}


def params(study: Settings, rule: str, wildcards: Any = None) -> dict[str, Any]:
    """Return what a job is told, by name.

    One mapping for Snakemake, which compares the values of params without their names: two that
    change places, or one that becomes equal to another, would go unseen.

    Args:
        study: the settings of the run.
        rule: name of the rule.
        wildcards: object with the wildcards of the job as attributes, where the rule has any.

    Raises:
        KeyError: no rule has this name, or the settings have no job with these wildcards.
    """
    return _PARAMS[rule](study, wildcards)
