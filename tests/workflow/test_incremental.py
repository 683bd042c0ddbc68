"""What changes, and what runs again: a finished run, one change, and what a new run would do."""

import copy
import os
import shutil

import pytest
from conftest import Project

MODEL_A = "results/models/model_a.safetensors"
RATES = {"defense_rates", "table_1", "table_2", "figure_2", "figure_3"}
"""The table of all rates, and what is made from it."""

PROOF = {"static_site", "manifest", "ro_crate"}
"""What shows and lists all results: made after them all."""

LEDGER = {"evaluate_claims", *PROOF}
"""Verdicts are read off tables, and the page holds pictures: it is made after all of them."""

SHOWN = {"figure_2", "figure_3", "figure_crossings"}
"""Figures of the first study that the ledger shows."""

FIGURES = {"figure_1", "figure_response", *SHOWN}
CURVES = {
    "figure_robust_accuracy",
    "figure_scaling",
    "figure_controls",
    "figure_confidence",
    "figure_losses",
}
"""Figures of robustness, all of them shown by the ledger."""

STUDY = {"robustness_tables", *CURVES}
"""The tables of robustness, and what is made from them."""

DEFENSES = {"undefended", "post_averaging", "post_averaging_fixed", "low_pass"}
"""What is judged."""


def changed(config, **changes):
    """Return a configuration in which the first experiment, or the study, has other values."""
    config = copy.deepcopy(config)
    study = config["bandlimiting"]
    for key, value in changes.items():
        place = study if key in ("epsilon", "epsilons", "theory") else study["experiments"][0]
        place[key] = value
    return config


def examined(config, **changes):
    """Return a configuration in which the first experiment is examined otherwise."""
    entry = config["bandlimiting"]["experiments"][0]["robustness"]
    return changed(config, robustness={**entry, **changes})


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


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        # A colour, a caption.
        ("bandlimit/plots/style.py", FIGURES | CURVES | LEDGER),
        ("bandlimit/curves.py", {"figure_2", "figure_3"} | LEDGER),
        ("scripts/figure_1.py", {"figure_1"} | PROOF),
        ("scripts/figure_3.py", {"figure_3"} | LEDGER),
        ("scripts/figure_scaling.py", {"figure_scaling"} | LEDGER),
        ("bandlimit/plots/robustness.py", CURVES | LEDGER),
        ("workflow/report/figure_2.rst", PROOF),
        ("workflow/report/figure_controls.rst", PROOF),
        ("bandlimit/templates/site/style.css", PROOF),
        ("bandlimit/crate.py", {"ro_crate"}),
        # A module: the scripts that reach it, and what hangs on what they make.
        ("bandlimit/theory.py", {"theory", "figure_response"} | LEDGER),
        ("bandlimit/regions.py", None),
        ("bandlimit/timing.py", {"table_2_time"} | LEDGER),
        ("bandlimit/training.py", set()),
        ("bandlimit/masking.py", {"judge_defense"} | STUDY | LEDGER),
        ("bandlimit/sanity.py", STUDY | LEDGER),
        ("scripts/scale_perturbations.py", {"scale_perturbations"} | STUDY | LEDGER),
        ("scripts/table_1.py", {"table_1"} | LEDGER),
        ("scripts/package_fashion_mnist.py", set()),
        # The grammar of claims, and the page.
        ("bandlimit/verdicts.py", LEDGER),
        ("bandlimit/templates/ledger.html.j2", LEDGER),
        ("workflow/schemas/claims.schema.yaml", LEDGER),
        # It is only part of the research object.
        ("workflow/schemas/config.schema.yaml", {"ro_crate"}),
        # Nothing but the ledger reads what we claim ourselves.
        ("workflow/claims/robustness.yaml", LEDGER),
        # What the document reports stands beside what is measured.
        (
            "workflow/claims/bandlimiting.yaml",
            {
                "table_1",
                "table_2",
                "table_2_time",
                "table_crossings",
                "figure_crossings",
                "theory",
                "figure_response",
                *LEDGER,
            },
        ),
    ],
)
def test_code_runs_again_where_it_is_reached(tiny_run, name, rules):
    with tiny_run.edited(name, lambda text: f"{text}\n# a comment\n"):
        found = set(tiny_run.jobs())
    if rules is None:
        assert {"linear_regions", "figure_1", "count_crossings", "figure_crossings"} <= found
        assert not found & {"attack", "evaluate_post_averaging", "theory", "defense_rates"}
    else:
        assert found == rules


def test_a_defence_runs_its_evaluations_again_and_attacks_nothing(tiny_run):
    with tiny_run.edited("bandlimit/defenses/sweep.py", lambda text: f"{text}\n# a comment\n"):
        found = tiny_run.jobs()
    assert found["evaluate_post_averaging"] == 6
    assert set(found) >= RATES
    untouched = {"attack", "convert_model", "make_dataset", "theory", "linear_regions", "figure_1"}
    assert not untouched & set(found)


def test_an_attack_module_runs_all_attacks_again_but_makes_no_model(tiny_run):
    with tiny_run.edited("bandlimit/attacks/fixed.py", lambda text: f"{text}\n# a comment\n"):
        found = tiny_run.jobs()
    assert found["attack"] == 4
    assert set(found) >= RATES
    assert not {"convert_model", "make_dataset", "theory", "linear_regions"} & set(found)


def test_a_new_colour_is_drawn_and_nothing_else(tiny_run):
    """The edit of a line, not only of a comment, and only the pictures are older than it."""
    with tiny_run.edited("bandlimit/plots/style.py", lambda text: text.replace("#", "# ", 1)):
        plan = tiny_run.plan()
    assert set(plan.values()) == FIGURES | CURVES | LEDGER
    assert {path.rpartition("/")[0] for path in plan} == {
        "results/figures/bandlimiting",
        "results/figures/robustness",
        # The pages that show them, and what proves all.
        "results/claims",
        "results",
        "results/provenance",
    }


def test_a_test_of_a_claim_is_asked_anew_of_the_same_tables(tiny_run):
    """The edit of a bound, not only of a comment."""
    name = "workflow/claims/robustness.yaml"
    with tiny_run.edited(name, lambda text: text.replace("slack: 0.02", "slack: 0.03")):
        plan = tiny_run.plan()
    assert set(plan.values()) == LEDGER
    assert {path for path in plan if path.startswith("results/claims/")} == {
        f"results/claims/claims.{form}" for form in ("parquet", "md", "html")
    }


def test_what_an_experiment_stands_for_decides_claims_and_measures_nothing(tiny_run):
    assert set(tiny_run.plan(changed(tiny_run.config, stand_in=False)).values()) == LEDGER


# The lists of an evaluation ---------------------------------------------------------------------


def test_radii_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, radii=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES, *LEDGER}
    assert sets(plan, "evaluations") == {
        # The radius is swept on the minimising attacks and on clean images, of this model.
        "model_a/clean/post_averaging",
        "model_a/fgsm_minimal/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_directions_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, directions_sweep=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES, *LEDGER}
    assert sets(plan, "evaluations") == {
        "model_a/clean/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_epsilons_are_counted_anew_and_evaluate_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, epsilons=["2/255", "8/255"]))
    assert set(plan.values()) == RATES | LEDGER


def test_the_epsilon_of_the_tables_is_counted_anew_and_attacks_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, epsilon="4/255"))
    # All rates of this epsilon are there, since Figure 3 shows it too.
    assert set(plan.values()) == {
        "table_1",
        "table_2",
        "figure_2",
        "table_samplers",
        "table_crossings",
        "figure_crossings",
        # Controls are tried on the adversarial images within it.
        "evaluate_controls",
        *STUDY,
        *LEDGER,
    }


def test_the_order_of_keys_changes_nothing(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    for experiment in config["bandlimiting"]["experiments"]:
        for attack, parameters in experiment["attacks"].items():
            experiment["attacks"][attack] = dict(reversed(parameters.items()))
    for section in (config["defenses"], config["robustness"]["attacks"]):
        for name, parameters in section.items():
            section[name] = dict(reversed(parameters.items()))
    assert tiny_run.plan(config) == {}


# Attacks, models, images ------------------------------------------------------------------------


CONTROLS = {"evaluate_controls", *RATES, *STUDY, *LEDGER}
"""What hangs on all attacks of an experiment."""


def attacks_with(config, **changes):
    attacks = config["bandlimiting"]["experiments"][0]["attacks"]
    return changed(config, attacks={**attacks, **changes})


def test_a_parameter_of_an_attack_runs_that_attack_and_what_hangs_on_it(tiny_run):
    config = attacks_with(tiny_run.config, pgd_minimal={"steps": 6, "binary_search_steps": 4})
    plan = tiny_run.plan(config)
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
        "table_samplers",
        "table_crossings",
        "figure_crossings",
        # What the study of robustness does to these images.
        "evaluate_controls",
        "scale_perturbations",
        *STUDY,
        *RATES,
        *LEDGER,
    }


def test_epsilons_of_a_fixed_attack_are_its_parameters(tiny_run):
    config = attacks_with(tiny_run.config, pgd={"steps": 3, "epsilons": ["4/255", "8/255"]})
    plan = tiny_run.plan(config)
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
    del config["bandlimiting"]["experiments"][0]["attacks"]["pgd"]
    assert set(tiny_run.plan(config).values()) == CONTROLS


def test_a_weights_file_runs_everything_of_its_model_and_nothing_of_another(tiny_run):
    with tiny_run.edited("weights/b.th", lambda text: f"{text}\0"):
        plan = tiny_run.plan()
    assert "results/models/model_b.safetensors" in plan
    assert MODEL_A not in plan
    assert sets(plan, "adversarial") == {"model_b/fgsm_minimal"}
    assert sets(plan, "evaluations") == {
        "model_b/clean/undefended",
        "model_b/clean/post_averaging",
        "model_b/fgsm_minimal/post_averaging",
    }
    # It is the other model of the study of robustness: an attack on it is tried on each defence.
    assert sets(plan, "adaptive") == {"model_a/other_model/many_steps"}
    assert sets(plan, "judged") == {f"model_a/{name}" for name in DEFENSES}
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
        "table_2_time",
        *RATES,
    }


def test_a_normalisation_is_part_of_its_model(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    config["models"]["model_b"]["mean"] = [0.3]
    plan = tiny_run.plan(config)
    assert "results/models/model_b.safetensors" in plan
    assert sets(plan, "adversarial") == {"model_b/fgsm_minimal"}


def test_a_size_of_the_subset_runs_everything_of_its_dataset(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    config["datasets"]["tiny"]["images"] = 10
    plan = tiny_run.plan(config)
    assert "results/datasets/tiny.parquet" in plan
    assert len(sets(plan, "adversarial")) == 4
    assert "convert_model" not in plan.values()
    assert "theory" not in plan.values()


def test_a_changed_image_of_a_folder_runs_everything_of_its_dataset(tiny_run):
    path = sorted((tiny_run.folder / "own images").glob("*/*.png"))[0]
    name = str(path.relative_to(tiny_run.folder))
    with tiny_run.edited(name, lambda text: f"{text}\0"):
        assert "results/datasets/tiny.parquet" in tiny_run.plan()


def test_the_seed_of_figure_1_cuts_its_plane_anew(tiny_run):
    config = changed(tiny_run.config, theory={"segments": 4, "figure_1_seed": 2})
    assert set(tiny_run.plan(config).values()) == {"linear_regions", "figure_1", *PROOF}


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_picture_that_is_gone_is_drawn_again(tiny_run, suffix):
    path = tiny_run.folder / f"results/figures/bandlimiting/figure_2.{suffix}"
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        assert set(tiny_run.plan().values()) == {"figure_2"} | LEDGER
    finally:
        aside.rename(path)


# Attacks on defences, judges, controls ----------------------------------------------------------

JUDGED = {"judge_defense", *STUDY, *LEDGER}
"""What hangs on the judgement of a defence."""


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
    plan = tiny_run.plan(attacked(tiny_run.config, **{attack: changes}))
    assert sets(plan, "adaptive") == {f"model_a/{name}/{attack}" for name in against}
    assert sets(plan, "judged") == {f"model_a/{name}" for name in judges}
    assert set(plan.values()) == {"attack_defense", *JUDGED}


def test_an_attack_that_nobody_runs_may_change(tiny_run):
    attacks = tiny_run.config["robustness"]["attacks"]
    idle = {"kind": "pgd", "against": ["low_pass"]}
    config = robustly(tiny_run.config, attacks={**attacks, "idle": idle})
    assert tiny_run.plan(config) == {}


def test_bounds_are_those_of_the_attacks_that_name_none(tiny_run):
    plan = tiny_run.plan(robustly(tiny_run.config, epsilons=["8/255"]))
    named = {"black_box", "suite", "confident"}
    found = {name.split("/")[-1] for name in sets(plan, "adaptive")}
    assert found == set(tiny_run.config["robustness"]["attacks"]) - named
    assert set(plan.values()) == {"attack_defense", *JUDGED}


def test_draws_are_judged_anew_and_attack_nothing(tiny_run):
    plan = tiny_run.plan(robustly(tiny_run.config, draws=3))
    assert sets(plan, "judged") == {f"model_a/{name}" for name in DEFENSES}
    assert set(plan.values()) == JUDGED


def test_draws_of_controls_run_controls_and_stretched_perturbations(tiny_run):
    plan = tiny_run.plan(robustly(tiny_run.config, control_draws=3))
    assert set(plan.values()) == {"evaluate_controls", "scale_perturbations", *STUDY, *LEDGER}


def test_a_control_more_runs_controls_only(tiny_run):
    controls = ["undefended", "post_averaging", "flip", "noise_1", "other_model", "jpeg"]
    plan = tiny_run.plan(examined(tiny_run.config, controls=controls))
    assert set(plan.values()) == {"evaluate_controls", *STUDY, *LEDGER}


def test_factors_stretch_anew(tiny_run):
    plan = tiny_run.plan(robustly(tiny_run.config, factors=[1, 2, 3]))
    assert set(plan.values()) == {"scale_perturbations", *STUDY, *LEDGER}


def test_a_parameter_of_a_defence_runs_what_attacks_judges_and_stretches_for_it(tiny_run):
    plan = tiny_run.plan(defended(tiny_run.config, low_pass={"cutoff": 5}))
    assert {name.split("/")[1] for name in sets(plan, "adaptive")} == {"low_pass"}
    assert sets(plan, "judged") == {"model_a/low_pass"}
    assert set(plan.values()) == {"attack_defense", "scale_perturbations", *JUDGED}


def test_a_parameter_of_a_control_attacks_and_judges_nothing(tiny_run):
    plan = tiny_run.plan(defended(tiny_run.config, noise_1={"radius": 0.5}))
    assert set(plan.values()) == {"evaluate_controls", *STUDY, *LEDGER}


def test_the_radius_is_that_of_the_defences_that_name_none(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, radius=1))
    found = {name.split("/")[1] for name in sets(plan, "adaptive")}
    assert found == {"post_averaging", "post_averaging_fixed"}
    assert sets(plan, "judged") == {"model_a/post_averaging", "model_a/post_averaging_fixed"}
    assert sets(plan, "adversarial") == set()


def test_a_judge_runs_again_and_attacks_nothing(tiny_run):
    with tiny_run.edited("scripts/judge_defense.py", lambda text: f"{text}\n# a comment\n"):
        found = tiny_run.jobs()
    assert found["judge_defense"] == len(DEFENSES)
    assert set(found) == JUDGED


def test_a_study_that_is_left_out_takes_its_claims_along(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    del config["bandlimiting"]["experiments"][0]["robustness"]
    assert set(tiny_run.plan(config).values()) == LEDGER
