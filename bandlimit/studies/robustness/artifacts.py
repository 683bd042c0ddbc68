"""The catalogue of the study: its tables and figures, in order, and the rules of its records.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bandlimit.attacks.kinds import FIXED
from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.defenses.kinds import PARAMETERS
from bandlimit.studies.artifact import REDRAWN, SAMPLED, Figure, Made, Records, Table
from bandlimit.studies.robustness.settings import Examination, Robustness

TITLE = "Robustness"
CLAIMS = "workflow/claims/robustness.yaml"
TABLES = "results/tables/robustness"


def of(run: Run) -> Robustness:
    """Return the settings of the study."""
    study: Robustness = run.studies["robustness"]
    return study


def examination(run: Run, wildcards: Any) -> Examination:
    """Return the examination of the job's dataset and model."""
    return of(run).examination(wildcards.dataset, wildcards.model)


# Files


def attack_file(e: Examination, defense: str, attack: str, shard: str) -> str:
    """Return the file of an adversarial set that was made against a defence."""
    return f"results/defense_attacks/{e.dataset}/{e.model}/{defense}/{attack}/{shard}.parquet"


def attack_files(run: Run) -> list[str]:
    """Return all adversarial sets that were made against defences."""
    return [attack_file(*parts) for parts in _attacked(run)]


def judged_files(run: Run, wildcards: Any) -> list[str]:
    """Return the adversarial sets that a defence is judged on."""
    e = examination(run, wildcards)
    return [
        attack_file(e, defense, attack, wildcards.shard)
        for defense, attack in of(run).judged_sets(e, wildcards.defense)
    ]


def document_files(run: Run, wildcards: Any, scaled: bool = False) -> list[str]:
    """Return the document's adversarial sets of the job's dataset and model.

    Args:
        run: the run.
        wildcards: of the job.
        scaled: only those whose perturbations are stretched.
    """
    e = examination(run, wildcards)
    return [
        f"results/adversarial/{e.dataset}/{e.model}/{attack}/{wildcards.shard}.parquet"
        for attack in (e.scaled if scaled else e.attacks)
    ]


def judgement_files(run: Run, kind: str = "judgements") -> list[str]:
    """Return the judgements of defences; or the symptoms, which the same jobs write."""
    return [
        f"results/{kind}/{e.dataset}/{e.model}/{defense}/{shard}.parquet"
        for e, defense, shard in _judged(run)
    ]


def control_files(run: Run) -> list[str]:
    """Return the comparisons of controls."""
    return [f"results/controls/{e.dataset}/{e.model}/{shard}.parquet" for e, shard in _of(run)]


def scaling_files(run: Run) -> list[str]:
    """Return the records of stretched perturbations."""
    return [
        f"results/scalings/{e.dataset}/{e.model}/{shard}.parquet" for e, shard in _of(run, "scaled")
    ]


def other_models(run: Run, defenses: Sequence[str]) -> dict[str, Any]:
    """Return the files of the other models that some defences use."""
    names = of(run).others(list(defenses))
    return {"others": [paths.model_file(name) for name in names]} if names else {}


def _attacked(run: Run) -> list[tuple[Examination, str, str, str]]:
    return [
        (e, defense, attack, shard)
        for e in of(run).experiments
        for defense, attack in of(run).sets(e)
        for shard in e.shard_names()
    ]


def _judged(run: Run) -> list[tuple[Examination, str, str]]:
    return [
        (e, defense, shard)
        for e in of(run).experiments
        for defense in of(run).judges(e)
        for shard in e.shard_names()
    ]


def _of(run: Run, part: str = "controls") -> list[tuple[Examination, str]]:
    return [
        (e, shard) for e in of(run).experiments if getattr(e, part) for shard in e.shard_names()
    ]


# The page of a defence


def pages(run: Run) -> list[str]:
    """Return the pages of the defences under examination, in both forms."""
    examined = dict.fromkeys(d for e in of(run).experiments for d in e.defenses)
    return [f"results/defenses/{name}.{form}" for name in examined for form in ("html", "md")]


def page_files(run: Run, wildcards: Any) -> dict[str, Any]:
    """Return what the page of a defence is made from."""
    found: dict[str, Any] = {
        made.name: f"{TABLES}/{made.name}.parquet"
        for made in TABLES_OF_JOB
        if made.name in ("robust_accuracy", "sanity", "controls") and made.when(run)
    }
    compared = [
        f"results/controls/{e.dataset}/{e.model}/{shard}.parquet"
        for e, shard in _compared(run, wildcards.defense)
    ]
    return {**found, **({"records": compared} if compared else {})}


def _compared(run: Run, defense: str) -> list[tuple[Examination, str]]:
    return [(e, shard) for e, shard in _of(run) if defense in e.controls]


# What the tables read, and what identifies them


def _records(run: Run) -> dict[str, Any]:
    return {
        "defense_attacks": attack_files(run),
        "judgements": judgement_files(run),
        "symptoms": judgement_files(run, "symptoms"),
        "controls": control_files(run),
        "scalings": scaling_files(run),
        "undefended": paths.evaluation_files(of(run).experiments, "undefended"),
    }


def _tables(run: Run) -> dict[str, Any]:
    """Return what the files of the records stand for, and how attacks are configured."""
    study = of(run)
    return {
        "defense_attacks": [
            {"dataset": e.dataset, "model": e.model, "against": defense, "attack": attack}
            for e, defense, attack, _ in _attacked(run)
        ],
        "judgements": [
            {"dataset": e.dataset, "model": e.model, "defense": defense}
            for e, defense, _ in _judged(run)
        ],
        "controls": [{"dataset": e.dataset, "model": e.model} for e, _ in _of(run)],
        "scalings": [{"dataset": e.dataset, "model": e.model} for e, _ in _of(run, "scaled")],
        "undefended": paths.evaluation_names(run, study.experiments),
        "attacked": [
            {"dataset": e.dataset, "model": e.model, "attack": attack, "epsilon": e.epsilon}
            for e in study.experiments
            if e.controls
            for attack, parameters in e.attacks.items()
            # Others have no images at this bound.
            if attack not in FIXED or _spent(parameters, e.epsilon)
        ],
        "stretched": [
            {
                "dataset": e.dataset,
                "model": e.model,
                "attack": attack,
                "defenses": study.judges(e),
                "factors": list(study.factors),
            }
            for e in study.experiments
            for attack in e.scaled
        ],
        "attacks": attack_kinds(run),
        "defenses": defense_kinds(run),
        "tables": [made.name for made in TABLES_OF_JOB if made.when(run)],
        "draws": study.draws,
        "experiments": [
            {
                "dataset": e.dataset,
                "model": e.model,
                "radius": e.radius,
                "directions": e.directions,
                "document": e.document,
                "epsilon": e.epsilon,
            }
            for e in study.experiments
        ],
        "largest": max(study.epsilons),
    }


def _spent(parameters: Mapping[str, Any], epsilon: float) -> bool:
    return any(abs(bound - epsilon) < 1e-9 for bound in parameters["epsilons"])


def attack_kinds(run: Run) -> dict[str, Any]:
    """Return kind and parameters of each attack on a defence that is run, by name."""
    used = {attack for _, _, attack, _ in _attacked(run)}
    return {
        name: {"kind": attack.kind, **attack.parameters}
        for name, attack in of(run).attacks.items()
        if name in used
    }


def defense_kinds(run: Run) -> dict[str, Any]:
    """Return kind and parameters of each defence that is attacked, judged or compared, by name."""
    study = of(run)
    used = {name for e in study.experiments for name in study.used(e)}
    return {
        name: {"kind": entry.kind, **entry.parameters}
        for name, entry in study.defenses.items()
        if name in used
    }


def _kinds(run: Run) -> set[str]:
    return {of(run).attacks[attack].kind for _, _, attack, _ in _attacked(run)}


def _has_judgements(run: Run) -> bool:
    return bool(_judged(run))


def _has_attacks(run: Run) -> bool:
    return bool(_attacked(run))


def _has_controls(run: Run) -> bool:
    return bool(_of(run))


def _has_scalings(run: Run) -> bool:
    return bool(_of(run, "scaled"))


def _has_confidences(run: Run) -> bool:
    return "carlini_wagner_l2" in _kinds(run)


TABLES_OF_JOB = (
    Made(
        "robust_accuracy", "Table", "accuracy under attacks that know the defence", _has_judgements
    ),
    Made("sanity", "Table", "whether these attacks can be trusted", _has_judgements),
    Made("loss_curves", "Table", "loss of the adaptive attacks, step by step", _has_attacks),
    Made("controls", "Table", "what cheap transforms restore", _has_controls),
    Made("comparisons", "Table", "post-averaging against each control", _has_controls),
    Made("scaling", "Table", "stretched perturbations", _has_scalings),
    Made("confidence", "Table", "defence rate against confidence", _has_confidences),
)


def _table(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from one table."""
    return lambda run: {"table": f"{TABLES}/{name}.parquet"}


def _robust_accuracy(run: Run) -> dict[str, Any]:
    defenses = dict.fromkeys(d for e in of(run).experiments for d in e.defenses)
    return {"attacks": attack_kinds(run), "defenses": list(defenses), "draws": of(run).draws}


def _epsilons(run: Run) -> dict[str, Any]:
    return {
        "experiments": [
            {"dataset": e.dataset, "model": e.model, "epsilon": e.epsilon}
            for e in of(run).experiments
        ]
    }


ARTIFACTS = (
    Table("tables", makes=TABLES_OF_JOB, reads=_records, identity=_tables),
    Figure(
        "figure_robust_accuracy",
        where="Figure",
        shows="robust accuracy against epsilon",
        reads=_table("robust_accuracy"),
        identity=_robust_accuracy,
        when=_has_judgements,
        in_ledger=True,
        face=True,
    ),
    Figure(
        "figure_scaling",
        where="Figure",
        shows="stretched perturbations",
        reads=_table("scaling"),
        when=_has_scalings,
        in_ledger=True,
    ),
    Figure(
        "figure_controls",
        where="Figure",
        shows="post-averaging beside controls",
        reads=_table("controls"),
        identity=_epsilons,
        when=_has_controls,
        in_ledger=True,
    ),
    Figure(
        "figure_confidence",
        where="Figure",
        shows="defence rate against confidence",
        reads=_table("confidence"),
        when=_has_confidences,
        in_ledger=True,
    ),
    Figure(
        "figure_losses",
        where="Figure",
        shows="loss of the adaptive attacks",
        reads=_table("loss_curves"),
        when=_has_attacks,
        in_ledger=True,
    ),
)


# Records


def _entries(run: Run, wildcards: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return kind and parameters of some defences by name, with r and K where they have them."""
    e = examination(run, wildcards)
    main = {"radius": e.radius, "directions": e.directions}
    entries = {}
    for name in dict.fromkeys(names):
        entry = of(run).defenses[name]
        # Those of the experiment, so that its r attacks nothing anew that has no r.
        own = {key: value for key, value in main.items() if key in PARAMETERS[entry.kind]}
        code = {"own_code": entry.code} if entry.code else {}
        entries[name] = {"kind": entry.kind, **own, **entry.parameters, **code}
    return entries


def _attack(run: Run, wildcards: Any) -> dict[str, Any]:
    e = examination(run, wildcards)
    attack = of(run).attacks[wildcards.defense_attack]
    counts = [count for count in (e.images, attack.images) if count is not None]
    return {
        "defenses": _entries(run, wildcards, [wildcards.defense]),
        "kind": attack.kind,
        "parameters": dict(sorted(attack.parameters.items())),
        "epsilons": list(attack.epsilons),
        "images": min(counts) if counts else None,
        "device": run.device,
        "seed": run.seed,
    }


def _judging(run: Run, draws: int) -> dict[str, Any]:
    study = of(run)
    return {
        "draws": draws,
        "stop": study.stop,
        "error": study.error,
        "device": run.device,
        "seed": run.seed,
    }


def _judgement(run: Run, wildcards: Any) -> dict[str, Any]:
    study, e = of(run), examination(run, wildcards)
    return {
        "defenses": _entries(run, wildcards, [wildcards.defense]),
        "sets": [list(names) for names in study.judged_sets(e, wildcards.defense)],
        "images": e.images,
        **_judging(run, study.draws),
    }


def _controls(run: Run, wildcards: Any) -> dict[str, Any]:
    e = examination(run, wildcards)
    return {
        "defenses": _entries(run, wildcards, e.controls),
        "inputs": ["clean", *e.attacks],
        "epsilon": e.epsilon,
        **_judging(run, of(run).control_draws),
    }


def _scalings(run: Run, wildcards: Any) -> dict[str, Any]:
    study, e = of(run), examination(run, wildcards)
    return {
        "defenses": _entries(run, wildcards, study.judges(e)),
        "attacks": list(e.scaled),
        "factors": list(study.factors),
        "images": e.images,
        **_judging(run, study.control_draws),
    }


def _page(run: Run, wildcards: Any) -> dict[str, Any]:
    name = wildcards.defense
    entry = of(run).defenses[name]
    return {
        "entry": {"kind": entry.kind, **entry.parameters},
        "attacks": attack_kinds(run),
        "controls": [{"dataset": e.dataset, "model": e.model} for e, _ in _compared(run, name)],
        "experiments": [
            {"dataset": e.dataset, "model": e.model, "epsilon": e.epsilon}
            for e in of(run).experiments
            if name in e.defenses
        ],
        "smoke": run.smoke,
    }


RECORDS = {
    "defense_page": Records(_page, again=REDRAWN),
    "attack_defense": Records(_attack, again=SAMPLED),
    "judge_defense": Records(_judgement, again=SAMPLED),
    "evaluate_controls": Records(_controls, again=SAMPLED),
    "scale_perturbations": Records(_scalings, again=SAMPLED, images="adversarial"),
}


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of an experiment, as this study knows it."""
    try:
        of(run).examination(dataset, model)
    except KeyError:
        return {}
    return {"has": ["robustness"]}
