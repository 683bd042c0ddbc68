"""What changes, and what runs again: a finished run, one change, and what a new run would do."""

import copy
import os
import shutil

import pytest
from conftest import Project

MODEL_A = "results/models/model_a.safetensors"
RATES = {"defense_rates", "table_1", "table_2", "figure_2", "figure_3"}
"""The table of all rates, and what is made from it."""

FIGURES = {"figure_1", "figure_2", "figure_3", "figure_crossings", "figure_response"}


def changed(config, **changes):
    """Return a configuration in which the first experiment, or the study, has other values."""
    config = copy.deepcopy(config)
    study = config["bandlimiting"]
    for key, value in changes.items():
        place = study if key in ("epsilon", "epsilons", "theory") else study["experiments"][0]
        place[key] = value
    return config


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
    names = ["Snakefile", "config.yaml", "requirements.lock", "workflow/claims/bandlimiting.yaml"]
    folders = [tiny_run.folder / name for name in ("bandlimit", "workflow/rules")]
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
        ("bandlimit/plots/style.py", FIGURES),
        ("bandlimit/curves.py", {"figure_2", "figure_3"}),
        ("scripts/figure_3.py", {"figure_3"}),
        ("workflow/report/figure_2.rst", set()),
        # A module: the scripts that reach it, and what hangs on what they make.
        ("bandlimit/theory.py", {"theory", "figure_response"}),
        ("bandlimit/regions.py", None),
        ("bandlimit/timing.py", {"table_2_time"}),
        ("bandlimit/training.py", set()),
        ("scripts/table_1.py", {"table_1"}),
        ("scripts/package_fashion_mnist.py", set()),
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
    assert set(plan.values()) == FIGURES
    assert {path.rpartition("/")[0] for path in plan} == {"results/figures/bandlimiting"}


# The lists of an evaluation ---------------------------------------------------------------------


def test_radii_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, radii=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES}
    assert sets(plan, "evaluations") == {
        # The radius is swept on the minimising attacks and on clean images, of this model.
        "model_a/clean/post_averaging",
        "model_a/fgsm_minimal/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_directions_are_evaluated_anew_and_attack_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, directions_sweep=[1, 2, 3]))
    assert set(plan.values()) == {"evaluate_post_averaging", *RATES}
    assert sets(plan, "evaluations") == {
        "model_a/clean/post_averaging",
        "model_a/pgd_minimal/post_averaging",
    }


def test_epsilons_are_counted_anew_and_evaluate_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, epsilons=["2/255", "8/255"]))
    assert set(plan.values()) == RATES


def test_the_epsilon_of_the_tables_is_counted_anew_and_evaluates_nothing(tiny_run):
    plan = tiny_run.plan(changed(tiny_run.config, epsilon="4/255"))
    # All rates of this epsilon are there, since Figure 3 shows it too.
    assert set(plan.values()) == {
        "table_1",
        "table_2",
        "figure_2",
        "table_samplers",
        "table_crossings",
        "figure_crossings",
    }


def test_the_order_of_keys_changes_nothing(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    for experiment in config["bandlimiting"]["experiments"]:
        for attack, parameters in experiment["attacks"].items():
            experiment["attacks"][attack] = dict(reversed(parameters.items()))
    assert tiny_run.plan(config) == {}


# Attacks, models, images ------------------------------------------------------------------------


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
        *RATES,
    }


def test_epsilons_of_a_fixed_attack_are_its_parameters(tiny_run):
    config = attacks_with(tiny_run.config, pgd={"steps": 3, "epsilons": ["4/255", "8/255"]})
    plan = tiny_run.plan(config)
    assert sets(plan, "adversarial") == {"model_a/pgd"}
    assert sets(plan, "evaluations") == {"model_a/pgd/post_averaging"}
    assert set(plan.values()) == {"attack", "evaluate_post_averaging", *RATES}


def test_a_new_attack_runs_itself_and_no_other(tiny_run):
    plan = tiny_run.plan(attacks_with(tiny_run.config, deepfool_linf={"steps": 2}))
    assert sets(plan, "adversarial") == {"model_a/deepfool_linf"}
    assert sets(plan, "evaluations") == {"model_a/deepfool_linf/post_averaging"}
    assert set(plan.values()) == {"attack", "evaluate_post_averaging", *RATES}


def test_an_attack_that_is_left_out_runs_nothing_but_tables(tiny_run):
    config = copy.deepcopy(tiny_run.config)
    del config["bandlimiting"]["experiments"][0]["attacks"]["pgd"]
    assert set(tiny_run.plan(config).values()) == RATES


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
    assert set(plan.values()) == {
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
    assert set(tiny_run.plan(config).values()) == {"linear_regions", "figure_1"}


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_picture_that_is_gone_is_drawn_again(tiny_run, suffix):
    path = tiny_run.folder / f"results/figures/bandlimiting/figure_2.{suffix}"
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        assert set(tiny_run.plan().values()) == {"figure_2"}
    finally:
        aside.rename(path)
