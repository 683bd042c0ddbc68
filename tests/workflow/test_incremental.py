"""What changes, and what runs again: a finished run, one change, and what a new run would do.

Most cases ask the audit, in this process: a job runs again where the audit calls something that it
rests on stale, and where it reads what runs again. That Snakemake plans the same is shown for each
kind of change; that the audit is content afterwards, by real runs of small targets.
"""

import contextlib
import copy
import os
import shutil
import subprocess
import sys

import pytest
from conftest import Project
from runs import planned, reruns

MODEL_A = "results/models/model_a.safetensors"
B, R = "bandlimiting_", "robustness_"
RATES = {f"{B}{name}" for name in ("defense_rates", "table_1", "table_2", "figure_2", "figure_3")}
"""The table of all rates, and what is made from it."""

PROOF = {"static_site", "manifest", "ro_crate"}
"""What shows and lists all results: made after them all."""

LEDGER = {"evaluate_claims", *PROOF}
"""Verdicts are read off tables, and the page holds pictures: it is made after all of them."""

SHOWN = {f"{B}figure_2", f"{B}figure_3", f"{B}figure_crossings"}
"""Figures of the first study that the ledger shows."""

FIGURES = {f"{B}figure_1", f"{B}figure_response", *SHOWN}
CURVES = {
    f"{R}figure_{name}"
    for name in ("robust_accuracy", "scaling", "controls", "confidence", "losses")
}
"""Figures of robustness, all of them shown by the ledger."""

STUDY = {"robustness_tables", "defense_page", *CURVES}
"""The tables of robustness, and what is made from them."""

DEFENSES = {"undefended", "post_averaging", "post_averaging_fixed", "low_pass"}
"""What is judged."""


def changed(config, **changes):
    """Return a configuration in which the first experiment, or the study, has other values."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        if key in ("epsilon", "stand_in", "attacks"):
            place = config["experiments"]["model_a"]
        elif key in ("epsilons", "theory", "timing"):
            place = config["bandlimiting"]
        else:
            place = config["bandlimiting"]["experiments"]["model_a"]
        place[key] = value
    return config


def examined(config, **changes):
    """Return a configuration in which the first experiment is examined otherwise."""
    config = copy.deepcopy(config)
    config["robustness"]["experiments"]["model_a"] |= changes
    return config


def robustly(config, **changes):
    """Return a configuration in which the study of robustness has other values."""
    return {**config, "robustness": {**config["robustness"], **changes}}


def attacked(config, **changes):
    """Return a configuration in which attacks on defences have other parameters."""
    attacks = config["robustness"]["attacks"]
    merged = {name: {**attacks[name], **parameters} for name, parameters in changes.items()}
    return robustly(config, attacks={**attacks, **merged})


def defended(config, **changes):
    """Return a configuration in which defences have other parameters."""
    return {**config, "defenses": {**config["defenses"], **changes}}


def sets(plan, start):
    """Return the sets that are made anew below a folder, as model/inputs/defence without shard."""
    folder = f"results/{start}/tiny/"
    return {
        path.removeprefix(folder).rpartition("/")[0] for path in plan if path.startswith(folder)
    }


# Nothing ----------------------------------------------------------------------------------------


def test_nothing_changed_nothing_runs(tiny_run):
    done = tiny_run.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout
    assert tiny_run.jobs() == {}
    assert tiny_run.plan() == {}


def test_touched_files_that_are_the_same_run_nothing(tiny_run):
    """Content counts, not the clock; a script is an exception, whose age Snakemake goes by."""
    names = ["Snakefile", "config.yaml", "requirements.lock"]
    code = ("bandlimit", "workflow/rules", "workflow/claims", "workflow/schemas")
    folders = [tiny_run.folder / name for name in code]
    paths = [tiny_run.folder / name for name in names]
    paths += [path for folder in folders for path in folder.rglob("*.*")]
    times = {path: path.stat() for path in paths}
    for path in paths:
        os.utime(path)
    try:
        assert tiny_run.jobs() == {}
    finally:
        for path, was in times.items():
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def test_a_project_that_was_moved_runs_nothing(tiny_run, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(tiny_run.folder, folder, symlinks=True)
    assert Project(folder).jobs() == {}


# Code and captions ------------------------------------------------------------------------------


def twist(text):
    """Return Python or other text that means something else."""
    return f"{text}\nTWISTED = 1\n"


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        # A colour, a caption.
        ("bandlimit/plots/style.py", FIGURES | CURVES | LEDGER | {"defense_page"}),
        ("bandlimit/studies/bandlimiting/curves.py", {f"{B}figure_2", f"{B}figure_3"} | LEDGER),
        ("scripts/bandlimiting/figure_1.py", {f"{B}figure_1"} | PROOF),
        ("scripts/bandlimiting/figure_3.py", {f"{B}figure_3"} | LEDGER),
        ("scripts/robustness/figure_scaling.py", {f"{R}figure_scaling"} | LEDGER),
        ("bandlimit/studies/robustness/figures.py", CURVES | LEDGER | {"defense_page"}),
        ("workflow/report/bandlimiting/figure_2.rst", PROOF),
        ("workflow/report/robustness/figure_controls.rst", PROOF),
        ("workflow/report/workflow.rst", PROOF),
        ("bandlimit/site/templates/style.css", PROOF | {"defense_page"}),
        ("bandlimit/site/templates/defense.md.j2", PROOF | {"defense_page"}),
        ("bandlimit/site/templates/index.html.j2", PROOF),
        # A module: the scripts that reach it, and what depends on what they make.
        (
            "bandlimit/studies/bandlimiting/theory.py",
            {f"{B}theory", f"{B}figure_response"} | LEDGER,
        ),
        ("bandlimit/studies/bandlimiting/regions.py", None),
        ("bandlimit/studies/bandlimiting/timing.py", {f"{B}table_2_time"} | LEDGER),
        ("bandlimit/training/loop.py", set()),
        ("bandlimit/studies/robustness/symptoms.py", {"judge_defense"} | STUDY | LEDGER),
        ("bandlimit/studies/robustness/checks.py", STUDY | LEDGER),
        ("scripts/scale_perturbations.py", {"scale_perturbations"} | STUDY | LEDGER),
        ("scripts/bandlimiting/table_1.py", {f"{B}table_1"} | LEDGER),
        ("scripts/package_fashion_mnist.py", set()),
        # The catalogue is asked by the workflow, never by a job.
        ("bandlimit/studies/bandlimiting/artifacts.py", set()),
        # The grammar of claims, and the page.
        ("bandlimit/claims/verdicts.py", LEDGER),
        ("bandlimit/claims/ledger.html.j2", LEDGER),
        ("workflow/schemas/claims.schema.yaml", LEDGER),
        # Nothing but the ledger reads what we claim ourselves.
        ("workflow/claims/robustness.yaml", LEDGER),
        # What the document reports stands beside what is measured.
        (
            "workflow/claims/bandlimiting.yaml",
            {
                *(f"{B}{name}" for name in ("table_1", "table_2", "table_2_time", "theory")),
                *(f"{B}{name}" for name in ("table_crossings", "figure_crossings")),
                f"{B}figure_response",
                *LEDGER,
            },
        ),
    ],
)
def test_code_runs_again_where_it_is_reached(tiny_run, name, rules):
    change = twist if name.endswith(".py") else "{}\n# a comment\n".format
    with tiny_run.edited(name, change):
        found = set(reruns(tiny_run).values())
    if rules is None:
        assert {"linear_regions", f"{B}figure_1", "count_crossings"} <= found
        assert not found & {"attack", "evaluate_post_averaging", f"{B}theory", f"{B}defense_rates"}
    else:
        assert found == rules


STORE = "bandlimit/files/store.py"
"""A module that every job reaches."""

MEANS_THE_SAME = {
    "a comment": lambda text: text.replace("import os\n", "import os  # why\n", 1),
    "a docstring": lambda text: text.replace('"""', '"""Otherwise said: ', 1),
    "the layout": lambda text: text.replace("\n\n\n", "\n\n\n\n\n"),
    "a type hint": lambda text: text.replace(
        "def sha256(path: str |", "def sha256(path: bytes | str |"
    ),
}


@pytest.mark.parametrize("change", MEANS_THE_SAME)
def test_code_that_means_the_same_runs_nothing(tiny_run, change):
    """Not even in a module that every job reaches; the audit has nothing to say either."""
    with tiny_run.edited(STORE, MEANS_THE_SAME[change]):
        assert reruns(tiny_run) == {}


def test_snakemake_runs_nothing_for_a_docstring_and_a_script_with_a_comment(tiny_run):
    with (
        tiny_run.edited(STORE, MEANS_THE_SAME["a docstring"]),
        tiny_run.edited("scripts/attack.py", lambda text: f"{text}# a comment\n"),
    ):
        assert tiny_run.plan() == {}


def test_a_defence_runs_its_evaluations_again_and_attacks_nothing(tiny_run):
    with tiny_run.edited("bandlimit/defenses/sweep.py", twist):
        found = reruns(tiny_run)
    assert list(found.values()).count("evaluate_post_averaging") == 6
    assert set(found.values()) >= RATES
    untouched = {"attack", "convert_model", "make_dataset", f"{B}theory", "linear_regions"}
    assert not untouched & set(found.values())


def test_an_attack_module_runs_all_attacks_again_but_makes_no_model(tiny_run):
    with tiny_run.edited("bandlimit/attacks/fixed.py", twist):
        found = reruns(tiny_run)
    assert list(found.values()).count("attack") == 4
    assert set(found.values()) >= RATES
    assert not {"convert_model", "make_dataset", f"{B}theory"} & set(found.values())


def test_a_new_colour_is_drawn_and_nothing_else(tiny_run):
    with tiny_run.edited(
        "bandlimit/plots/style.py", lambda text: text.replace("#5a5a5a", "#F5a5a5a")
    ):
        found = reruns(tiny_run)
    assert {path.rpartition("/")[0] for path in found} - {"results/site/lineage"} >= {
        "results/figures/bandlimiting",
        "results/figures/robustness",
        "results/claims",
    }
    assert not [path for path in found if path.startswith(("results/tables", "results/eval"))]


def test_a_test_of_a_claim_is_asked_anew_of_the_same_tables(tiny_run):
    """The edit of a bound, not only of a comment."""
    name = "workflow/claims/robustness.yaml"
    with tiny_run.edited(name, lambda text: text.replace("slack: 0.02", "slack: 0.025")):
        plan = reruns(tiny_run)
    assert set(plan.values()) == LEDGER
    assert {path for path in plan if path.startswith("results/claims/")} == {
        f"results/claims/claims.{form}" for form in ("parquet", "md", "html")
    }


def test_what_an_experiment_stands_for_decides_claims_and_measures_nothing(tiny_run):
    assert set(reruns(tiny_run, changed(tiny_run.config, stand_in=False)).values()) == LEDGER


# The lists of an evaluation ---------------------------------------------------------------------


def test_radii_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = reruns(tiny_run, changed(tiny_run.config, radii=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES, *LEDGER}
    assert sets(plan, "evaluations") == {
        # The radius is swept on the minimising attacks and on clean images, of this model.
        "model_a/clean/post_averaging",
        "model_a/fgsm_minimal/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_directions_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = reruns(tiny_run, changed(tiny_run.config, directions_sweep=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES, *LEDGER}
    assert sets(plan, "evaluations") == {
        "model_a/clean/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_epsilons_are_counted_anew_and_evaluate_nothing(tiny_run):
    plan = reruns(tiny_run, changed(tiny_run.config, epsilons=["2/255", "8/255"]))
    assert set(plan.values()) == RATES | LEDGER


def test_the_epsilon_of_the_tables_is_counted_anew_and_attacks_nothing(tiny_run):
    plan = reruns(tiny_run, changed(tiny_run.config, epsilon="4/255"))
    assert set(plan.values()) == {
        # Rates are compared with those at this epsilon.
        f"{B}defense_rates",
        f"{B}figure_3",
        f"{B}table_1",
        f"{B}table_2",
        f"{B}figure_2",
        f"{B}table_samplers",
        f"{B}table_crossings",
        f"{B}figure_crossings",
        # Controls are tried on the adversarial images within it.
        "evaluate_controls",
        *STUDY,
        *LEDGER,
    }


def test_the_order_of_keys_changes_nothing(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    for experiment in config["experiments"].values():
        for attack, parameters in experiment["attacks"].items():
            experiment["attacks"][attack] = dict(reversed(parameters.items()))
    for section in (config["defenses"], config["robustness"]["attacks"]):
        for name, parameters in section.items():
            section[name] = dict(reversed(parameters.items()))
    config["robustness"]["attacks"] = dict(reversed(config["robustness"]["attacks"].items()))
    config["defenses"] = dict(reversed(config["defenses"].items()))
    assert reruns(tiny_run, config) == {}


# Attacks, models, images ------------------------------------------------------------------------


CONTROLS = {"evaluate_controls", *RATES, *STUDY, *LEDGER}
"""What depends on all attacks of an experiment."""


def attacks_with(config, **changes):
    attacks = config["experiments"]["model_a"]["attacks"]
    return changed(config, attacks={**attacks, **changes})


def test_a_parameter_of_an_attack_runs_that_attack_and_what_depends_on_it(tiny_run):
    config = attacks_with(tiny_run.config, pgd_minimal={"steps": 6, "binary_search_steps": 4})
    plan = reruns(tiny_run, config)
    assert sets(plan, "adversarial") == {"model_a/pgd_minimal"}
    assert sets(plan, "crossings") == {"model_a/pgd_minimal"}
    assert sets(plan, "evaluations") == {
        "model_a/pgd_minimal/post_averaging",
        "model_a/pgd_minimal/samplers",
    }
    assert set(plan.values()) == {
        "attack",
        "evaluate_post_averaging",
        "evaluate_samplers",
        "count_crossings",
        f"{B}table_samplers",
        f"{B}table_crossings",
        f"{B}figure_crossings",
        # What the study of robustness does to these images.
        "evaluate_controls",
        "scale_perturbations",
        *STUDY,
        *RATES,
        *LEDGER,
    }


def test_epsilons_of_a_fixed_attack_are_its_parameters(tiny_run):
    config = attacks_with(tiny_run.config, pgd={"steps": 3, "epsilons": ["4/255", "8/255"]})
    plan = reruns(tiny_run, config)
    assert sets(plan, "adversarial") == {"model_a/pgd"}
    assert sets(plan, "evaluations") == {"model_a/pgd/post_averaging"}
    assert set(plan.values()) == {"attack", "evaluate_post_averaging", *CONTROLS}


def test_a_new_attack_runs_itself_and_no_other(tiny_run):
    plan = tiny_run.plan(attacks_with(tiny_run.config, deepfool_linf={"steps": 2}))
    assert sets(plan, "adversarial") == {"model_a/deepfool_linf"}
    assert sets(plan, "evaluations") == {"model_a/deepfool_linf/post_averaging"}
    assert set(plan.values()) == {"attack", "evaluate_post_averaging", *CONTROLS}


def test_an_attack_that_is_left_out_runs_nothing_but_controls_and_tables(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    del config["experiments"]["model_a"]["attacks"]["pgd"]
    assert set(tiny_run.plan(config).values()) == CONTROLS


def test_a_weights_file_runs_everything_of_its_model_and_nothing_of_another(tiny_run):
    with tiny_run.edited("weights/b.th", lambda text: f"{text}\0"):
        plan = reruns(tiny_run)
    assert "results/models/model_b.safetensors" in plan
    assert MODEL_A not in plan
    assert sets(plan, "adversarial") == {"model_b/fgsm_minimal"}
    assert sets(plan, "evaluations") == {
        "model_b/clean/undefended",
        "model_b/clean/post_averaging",
        "model_b/fgsm_minimal/post_averaging",
    }
    # It is the other model of the study of robustness: an attack on it is tried on each defence.
    assert sets(plan, "defense_attacks") == {"model_a/other_model/many_steps"}
    assert sets(plan, "judgements") == {f"model_a/{name}" for name in DEFENSES}
    assert set(plan.values()) == {
        "attack_defense",
        "judge_defense",
        "evaluate_controls",
        *STUDY,
        *LEDGER,
        "convert_model",
        "attack",
        "evaluate_undefended",
        "evaluate_post_averaging",
        f"{B}table_2_time",
        *RATES,
    }


def test_a_normalisation_is_part_of_its_model(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    config["models"]["model_b"]["mean"] = [0.3]
    plan = reruns(tiny_run, config)
    assert "results/models/model_b.safetensors" in plan
    assert sets(plan, "adversarial") == {"model_b/fgsm_minimal"}


def test_a_size_of_the_subset_runs_everything_of_its_dataset(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    config["datasets"]["tiny"]["images"] = 10
    plan = reruns(tiny_run, config)
    assert "results/datasets/tiny.parquet" in plan
    assert len(sets(plan, "adversarial")) == 4
    assert "convert_model" not in plan.values()
    assert f"{B}theory" not in plan.values()


def test_a_changed_image_of_a_folder_runs_everything_of_its_dataset(tiny_run):
    path = sorted((tiny_run.folder / "own images").glob("*/*.png"))[0]
    name = str(path.relative_to(tiny_run.folder))
    with tiny_run.edited(name, lambda text: f"{text}\0"):
        assert "results/datasets/tiny.parquet" in reruns(tiny_run)


def test_a_change_in_place_of_the_same_size_and_time_is_one_truth(tiny_run):
    """The audit calls it stale, and the workflow has work for it."""
    dataset = "results/datasets/tiny.parquet"
    path = sorted((tiny_run.folder / "own images").glob("*/*.png"))[0]
    name, times = str(path.relative_to(tiny_run.folder)), path.stat()
    with tiny_run.edited(name, lambda text: text[:-1] + chr(ord(text[-1]) ^ 1)):
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
        assert dataset in reruns(tiny_run)
        assert dataset in tiny_run.plan_of(dataset)
    assert dataset not in reruns(tiny_run)
    assert dataset not in tiny_run.plan_of(dataset)


def test_the_seed_of_figure_1_cuts_its_plane_anew(tiny_run):
    config = changed(tiny_run.config, theory={"segments": 4, "figure_1_seed": 2})
    assert set(reruns(tiny_run, config).values()) == {"linear_regions", f"{B}figure_1", *PROOF}


def test_other_numbers_of_directions_are_timed_alone(tiny_run):
    config = changed(tiny_run.config, timing={"seconds": 0.3, "directions": [1, 2]})
    assert set(reruns(tiny_run, config).values()) == {f"{B}table_2_time"} | LEDGER


def test_a_picture_that_is_gone_is_drawn_again(tiny_run, suffix="svg"):
    path = tiny_run.folder / f"results/figures/bandlimiting/figure_2.{suffix}"
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        assert set(tiny_run.plan().values()) == {f"{B}figure_2"} | LEDGER
    finally:
        aside.rename(path)


# Attacks on defences, judges, controls ----------------------------------------------------------

JUDGED = {"judge_defense", *STUDY, *LEDGER}
"""What depends on the judgement of a defence."""


@pytest.mark.parametrize(
    ("attack", "changes", "against", "judges"),
    [
        ("averaged", {"steps": 3}, {"post_averaging"}, {"post_averaging"}),
        ("black_box", {"images": 3}, {"post_averaging_fixed"}, {"post_averaging_fixed"}),
        ("in_band", {"band": False}, {"low_pass"}, {"low_pass"}),
        # What fools a network without defence is tried on each defence.
        ("many_steps", {"steps": 2}, {"undefended", "other_model"}, DEFENSES),
        ("confident", {"confidences": [0, 2]}, {"undefended"}, DEFENSES),
    ],
)
def test_a_parameter_of_an_attack_on_defences(tiny_run, attack, changes, against, judges):
    """It runs that attack and its judges again, and no other attack."""
    plan = reruns(tiny_run, attacked(tiny_run.config, **{attack: changes}))
    larger = {} if attack == "confident" else against - {"other_model"}
    assert sets(plan, "defense_attacks") == {
        *(f"model_a/{name}/{attack}" for name in against),
        # Its repetition with twice the budget.
        *(f"model_a/{name}/{attack}_larger" for name in larger),
    }
    assert sets(plan, "judgements") == {f"model_a/{name}" for name in judges}
    assert set(plan.values()) == {"attack_defense", *JUDGED}


def test_an_attack_that_nobody_runs_may_change(tiny_run):
    attacks = tiny_run.config["robustness"]["attacks"]
    idle = {"kind": "pgd", "against": ["low_pass"]}
    config = robustly(tiny_run.config, attacks={**attacks, "idle": idle})
    assert reruns(tiny_run, config) == {}


def test_bounds_are_those_of_the_attacks_that_name_none(tiny_run):
    plan = reruns(tiny_run, robustly(tiny_run.config, epsilons=["8/255"]))
    named = {"black_box", "suite", "confident"}
    found = {name.split("/")[-1] for name in sets(plan, "defense_attacks")}
    assert found == set(tiny_run.config["robustness"]["attacks"]) - named
    assert set(plan.values()) == {"attack_defense", *JUDGED}


def test_draws_are_judged_anew_and_attack_nothing(tiny_run):
    plan = reruns(tiny_run, robustly(tiny_run.config, draws=3))
    assert sets(plan, "judgements") == {f"model_a/{name}" for name in DEFENSES}
    assert set(plan.values()) == JUDGED


def test_draws_of_controls_run_controls_and_stretched_perturbations(tiny_run):
    plan = reruns(tiny_run, robustly(tiny_run.config, control_draws=3))
    assert set(plan.values()) == {"evaluate_controls", "scale_perturbations", *STUDY, *LEDGER}


def test_a_control_more_runs_controls_only(tiny_run):
    controls = ["undefended", "post_averaging", "flip", "noise_1", "other_model", "jpeg"]
    plan = reruns(tiny_run, examined(tiny_run.config, controls=controls))
    assert set(plan.values()) == {"evaluate_controls", *STUDY, *LEDGER}


def test_factors_stretch_anew(tiny_run):
    plan = reruns(tiny_run, robustly(tiny_run.config, factors=[1, 2, 3]))
    assert set(plan.values()) == {"scale_perturbations", *STUDY, *LEDGER}


def test_a_parameter_of_a_defence_runs_what_attacks_judges_and_stretches_for_it(tiny_run):
    plan = reruns(tiny_run, defended(tiny_run.config, low_pass={"cutoff": 5}))
    assert {name.split("/")[1] for name in sets(plan, "defense_attacks")} == {"low_pass"}
    assert sets(plan, "judgements") == {"model_a/low_pass"}
    assert set(plan.values()) == {"attack_defense", "scale_perturbations", *JUDGED}


def test_a_parameter_of_a_control_attacks_and_judges_nothing(tiny_run):
    plan = reruns(tiny_run, defended(tiny_run.config, noise_1={"radius": 0.5}))
    assert set(plan.values()) == {"evaluate_controls", *STUDY, *LEDGER}


def test_the_radius_is_that_of_the_defences_that_name_none(tiny_run):
    plan = reruns(tiny_run, changed(tiny_run.config, radius=1))
    found = {name.split("/")[1] for name in sets(plan, "defense_attacks")}
    assert found == {"post_averaging", "post_averaging_fixed"}
    assert sets(plan, "judgements") == {"model_a/post_averaging", "model_a/post_averaging_fixed"}
    assert sets(plan, "adversarial") == set()


def test_a_judge_runs_again_and_attacks_nothing(tiny_run):
    with tiny_run.edited("scripts/judge_defense.py", twist):
        found = reruns(tiny_run)
    assert list(found.values()).count("judge_defense") == 2 * len(DEFENSES)
    assert set(found.values()) == JUDGED


def test_a_study_that_is_left_out_takes_its_claims_along(tiny_run):
    """Snakemake plans the ledger anew; the audit has no say in what is no longer made."""
    config = {**tiny_run.config, "robustness": None}
    assert set(tiny_run.plan(config).values()) == LEDGER


# One truth --------------------------------------------------------------------------------------


def weights_of_b(project):
    return project.edited("weights/b.th", lambda text: f"{text}\0")


def lock(project):
    return project.edited("requirements.lock", lambda text: f"{text}# another\n")


def same(project):
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("edit", "config"),
    [
        (lambda p: p.edited("bandlimit/plots/style.py", twist), dict),
        (lambda p: p.edited("workflow/report/bandlimiting/figure_2.rst", twist), dict),
        (lambda p: p.edited("bandlimit/attacks/fixed.py", twist), dict),
        (weights_of_b, dict),
        (lock, dict),
        (same, lambda config: changed(config, radii=[1, 2, 3], epsilons=["2/255", "8/255"])),
        (same, lambda config: attacked(config, averaged={"steps": 3})),
        (same, lambda config: defended(config, low_pass={"cutoff": 5})),
    ],
    ids=["colour", "caption", "attacks", "weights", "lock", "lists", "attack", "defence"],
)
def test_snakemake_has_work_for_all_that_the_audit_calls_stale_and_for_nothing_else(
    tiny_run, edit, config
):
    config = config(tiny_run.config)
    with edit(tiny_run):
        expected, found = reruns(tiny_run, config), planned(tiny_run, config)
    # Records that no certificate can carry, and folders, are known to Snakemake only.
    known = {str(path) for path in tiny_run.results()}
    own = {path: rule for path, rule in expected.items() if not path.startswith("results/site/")}
    assert {path: rule for path, rule in found.items() if path in known | own.keys()} == own


@pytest.fixture(scope="module")
def place(tiny_run, tmp_path_factory):
    """Return a copy of the finished run, which the tests below change and run again."""
    folder = tmp_path_factory.mktemp("again") / tiny_run.folder.name
    shutil.copytree(tiny_run.folder, folder, symlinks=True)
    copied = Project(folder)
    copied.config = copy.deepcopy(tiny_run.config)
    return copied


FIGURE_2 = "results/figures/bandlimiting/figure_2.png"
RESPONSE = "results/figures/bandlimiting/figure_response.png"
CLEAN_B = "results/evaluations/tiny/model_b/clean/undefended/1of1.parquet"
SCALINGS = "results/scalings/tiny/model_a/1of1.parquet"


def edit_text(name, change):
    def edit(project):
        path = project.folder / name
        path.write_bytes(change(path.read_bytes().decode("latin-1")).encode("latin-1"))

    return edit


def set_factors(project):
    project.config["robustness"]["factors"] = [1, 3]


def set_epsilons(project):
    project.config["bandlimiting"]["epsilons"] = ["8/255", "16/255"]


@pytest.mark.parametrize(
    ("edit", "target", "jobs"),
    [
        (edit_text("bandlimit/plots/style.py", twist), FIGURE_2, {f"{B}figure_2"}),
        (
            edit_text("bandlimit/studies/bandlimiting/theory.py", twist),
            RESPONSE,
            {f"{B}theory", f"{B}figure_response"},
        ),
        (set_epsilons, FIGURE_2, {f"{B}defense_rates", f"{B}figure_2"}),
        (set_factors, SCALINGS, {"scale_perturbations"}),
        (
            edit_text("weights/b.th", lambda text: f"{text}\0"),
            CLEAN_B,
            {"convert_model", "evaluate_undefended"},
        ),
        (
            edit_text("requirements.lock", lambda text: f"{text}# another\n"),
            RESPONSE,
            {f"{B}theory", f"{B}figure_response"},
        ),
    ],
    ids=["colour", "module", "epsilons", "factors", "weights", "lock"],
)
def test_what_was_stale_is_made_again_and_then_the_audit_is_content(place, edit, target, jobs):
    def verdict():
        command = [sys.executable, "-m", "bandlimit", "audit", target, "--level", "hash"]
        command += ["--configfile", "overlay.yaml"]
        environment = {**place.environment(), "PYTHONPATH": str(place.folder)}
        done = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True)
        return done.returncode

    place.complete(target)
    assert verdict() == 0
    edit(place)
    place.command()  # writes the configuration
    assert verdict() == 1
    assert set(place.plan_of(target).values()) == jobs
    place.complete(target)
    assert verdict() == 0
