"""Networks that the workflow trains, and what is measured of them: a small run of its own."""

from __future__ import annotations

import copy
import re
import shutil
from collections import Counter

import pytest
from conftest import TRAINED, Project, build
from runs import certificates, one, reruns, rewrite

from bandlimit.files import store
from bandlimit.plan import catalogue, jobs
from bandlimit.provenance import replay, samples

STUDY = "perturbation_spectra"
STUDIES = (STUDY, "high_frequency", "frequency_principle")
P, H, F = (f"{name}_" for name in STUDIES)
MAIN = "fashion_mnist_resnet8"
NETWORKS = (MAIN, f"{MAIN}_adversarial", f"{MAIN}_mse")
CHECKPOINTS = ("initial", "one_epoch")
TABLES = (
    *(f"{STUDY}/{name}" for name in ("lifts", "contradiction", "profiles", "comparisons")),
    f"{STUDY}/low_pass",
    *(f"high_frequency/{name}" for name in ("counts", "corollary_1", "svd", "table_2")),
    *(
        f"frequency_principle/{name}"
        for name in (
            *("heat_maps", "heat_map_comparisons", "heat_map_frequencies", "waves_as_attack"),
            *("corruption_rates", "corruption_slopes", "band_noise", "band_pass"),
        )
    ),
)
LEDGER = {"evaluate_claims", "static_site", "manifest", "ro_crate"}
ONE_IMAGE = {f"{P}figure_{number}" for number in (1, 3, 5, 7, 9)}
MEANS = {f"{P}figure_{number}" for number in (4, 8, 10)}
OF_TABLES = {
    f"{P}tables",
    *(f"{P}figure_{name}" for name in ("lifts", 2, 6)),
    # It tells where works disagree, of what tables say.
    f"{F}disagreements",
}
THEORY = {f"{P}theorems", f"{P}figure_theorems", f"{P}figure_training"}


LEARNT = (
    *(f"{H}{name}" for name in ("tables", "figure_3", "figure_components", "figure_4")),
    *(f"{H}{name}" for name in ("figure_5", "figure_6")),
)
"""What curves are drawn of."""

SMOOTHED = {"evaluate_smoothing", f"{H}table_2", f"{H}figure_smoothing"}
PARTS = {
    "evaluate_components",
    *(f"{H}{name}" for name in ("component_tables", "batch_statistics", "figure_2")),
    f"{H}figure_svd",
    f"{H}figure_corollary_1",
}

WAVES = {"map_sensitivity", f"{F}heat_maps"}
OF_WAVES = {f"{F}figure_heat_maps", f"{F}figure_heat_map_radii"}
CORRUPTED = {
    *("evaluate_corruptions", f"{F}corruptions", f"{F}disagreements"),
    *(f"{F}figure_{name}" for name in ("band_pass", "band_noise", "corruptions")),
}
FOLLOWED = {f"{F}{name}" for name in ("projection", "filtering")}
OF_FOLLOWED = {f"{F}figure_{name}" for name in ("projection", "filtering")}
TIMES = {f"{F}learning_times", f"{F}figure_learning_times"}
"""Of all works, when each response frequency is learnt."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_data):
    """Return the project after a complete run of the studies."""
    project = build(tmp_path_factory.mktemp("trained_run"), tiny_data)
    project.config = copy.deepcopy(TRAINED)
    project.complete()
    return project


@pytest.fixture(scope="module")
def told(run):
    """Return the certificate of each job of the run, by rule."""
    return certificates(run)


def test_nothing_changed_nothing_runs(run):
    assert run.jobs() == {} and reruns(run) == {}


def test_one_job_makes_a_network_with_its_checkpoints_and_its_trajectory(run, told):
    by_rule = {rule: proofs for rule, proofs in told.items() if rule.startswith("train_model")}
    assert sum(map(len, by_rule.values())) == len(NETWORKS) + 9
    for name in NETWORKS[:2]:
        for checkpoint in CHECKPOINTS:
            assert (run.folder / f"results/models/{name}_{checkpoint}.safetensors").is_file()
    path = run.folder / f"results/trajectories/{MAIN}.parquet"
    frame = store.read(path).to_pandas()
    # 5 steps in each of 2 epochs: the powers of two below 4, each fourth step and the end.
    assert sorted(set(frame["step"])) == [0, 1, 2, 4, 8, 10]
    assert set(frame["radius"]) == {4.0, 7.0} and set(frame["attack"]) == {"fgm_l2", "pgd_l2"}


def test_what_two_images_have_in_a_network_is_found_again(run):
    names = [name for name in run.results() if name.parts[1] == "spectra"]
    assert {name.parts[3] for name in names} == {
        *NETWORKS,
        *(f"{name}_{checkpoint}" for name in NETWORKS[:2] for checkpoint in CHECKPOINTS),
    }
    ids = {tuple(store.read(run.folder / name)["image_id"].to_pylist()) for name in names}
    # 12 images in three ways, the same for all networks.
    (same,) = ids
    assert Counter(same) == dict.fromkeys(same, 3) and len(set(same)) == 12


def test_every_result_holds_what_its_certificate_says(run):
    paths = [run.folder / name for name in run.results() if name.suffix == ".parquet"]
    wrong = [p.name for p in paths if store.content(p) != store.certificate(p)["content"]]
    assert wrong == [] and len(paths) > 40


# Made again -------------------------------------------------------------------------------------


ELSEWHERE = (
    *(f"{P}figure_{number}" for number in (11, 12)),
    *(f"{H}{kind}" for kind in ("table_detection", "figure_detection")),
    *(f"{H}figure_{kind}" for kind in ("architectures", "optimizers")),
)
"""What the small run has no networks, or no pictures, for."""


def rules(kind):
    """Return the rules of the studies that the audit makes again in one way."""
    names = [name for study in STUDIES for name in catalogue.module(study).RECORDS]
    names += [
        f"{study}_{artifact.name}"
        for study, artifact in catalogue.artifacts()
        if study in STUDIES and f"{study}_{artifact.name}" not in ELSEWHERE
    ]
    return sorted(name for name in names if jobs.replay_kind(name) == kind)


@pytest.mark.parametrize("rule", rules("redrawn"))
def test_tables_and_figures_are_made_again(run, told, rule):
    for proof in told[rule]:
        findings = replay.redraw(proof, results=run.folder / "results", home=run.folder)
        assert [f for f in findings if f.verdict != "OK"] == []


@pytest.mark.parametrize("rule", rules("sampled"))
def test_images_are_asked_again(run, told, rule):
    for proof in told[rule]:
        found = samples.sample(
            proof, results=run.folder / "results", home=run.folder, images=2, seed=1
        )
        assert {finding.verdict for finding in found} == {"OK"}, found[0].detail
        assert found[0].detail.startswith("equal, ") and "2 images" in found[0].detail


@pytest.mark.parametrize(
    ("rule", "which", "column", "value"),
    [
        ("measure_spectra", 0, "linf", 0.5),
        ("measure_spectra", 0, "image", 0.25),
        ("measure_spectra", 1, "zero", True),
        ("evaluate_low_pass", 0, "prediction", 77),
        ("evaluate_components", 0, "probability", 0.123),
        ("evaluate_smoothing", 0, "prediction", 77),
        ("map_sensitivity", 0, "label", 77),
        ("map_sensitivity", 0, "correct", [True]),
        ("evaluate_corruptions", 0, "l2", 0.5),
        ("evaluate_corruptions", 0, "correct", [True]),
    ],
)
def test_a_changed_value_is_named(run, told, tmp_path, rule, which, column, value):
    assert rule in rules("sampled")
    results = tmp_path / "results"
    shutil.copytree(run.folder / "results", results)
    proof = one(told, rule, model=MAIN if rule in catalogue.module(STUDY).RECORDS else "small")
    name = list(proof["writes"].values())[which]
    rewrite(results, name, column, 4, value)
    found = samples.sample(proof, results=results, home=run.folder, images=99, seed=0)
    wrong = [finding for finding in found if finding.verdict != "OK"]
    assert [(finding.file, finding.verdict) for finding in wrong] == [(name, "TAMPERED")]
    assert f"column {column!r}" in wrong[0].detail


# What changes, and what runs again --------------------------------------------------------------


def changed(change):
    """Return a configuration in which something was changed."""
    config = copy.deepcopy(TRAINED)
    change(config)
    return config


def of_experiment(**changes):
    return lambda config: config[STUDY]["experiments"]["trained"].update(changes)


def rerun(run, change):
    """Return what a change of the configuration makes anew: jobs by rule, and models."""
    found = reruns(run, changed(change))
    folders = ("results/models/", "results/spectra/")
    models = {
        path.split("/")[-1 if path.startswith(folders[0]) else -2].partition(".")[0]
        for path in found
        if path.startswith(folders) and "history" not in path
    }
    return set(found.values()), models


def test_a_recipe_trains_its_network_and_measures_it(run):
    made, models = rerun(run, lambda c: c["training"][f"{MAIN}_mse"].update(learning_rate=0.02))
    assert models == {f"{MAIN}_mse"}
    squared = {f"{P}figure_{number}" for number in (7, 8, 9, 10)}
    assert {name for name in made if not name.startswith("train_model")} == {
        *("measure_spectra", "average_spectra"),
        *squared,
        *OF_TABLES,
        *LEDGER,
    }


def test_a_perturbation_is_measured_anew_and_trains_nothing(run):
    made, models = rerun(run, lambda c: c[STUDY]["perturbations"]["pgd_l2"].update(steps=4))
    assert (
        len(models) == 7
        and not made & set(LEARNT)
        and not {name for name in made if name.startswith("train_model")}
    )
    assert {"measure_spectra", "average_spectra", *OF_TABLES, *MEANS, *ONE_IMAGE} <= made
    assert not made & THEORY


def test_radii_are_asked_of_stored_spectra(run):
    """No image is perturbed and nothing transformed for another radius."""
    made, models = rerun(run, of_experiment(radii=[3, 7]))
    assert made == OF_TABLES | LEDGER and not models
    made, models = rerun(run, of_experiment(radii=[3, 7], radius=3))
    assert made == {*OF_TABLES, f"{P}figure_13", *LEDGER} and not models


def test_cutoffs_are_evaluated_anew(run):
    made, models = rerun(run, of_experiment(cutoffs=[2, 7]))
    assert made == {"evaluate_low_pass", *OF_TABLES, *LEDGER} and not models


def test_what_is_measured_on_the_way_belongs_to_the_training(run):
    made, models = rerun(run, lambda c: c["training"][MAIN]["trajectory"].update(radii=[3]))
    assert models == {MAIN, *(f"{MAIN}_{checkpoint}" for checkpoint in CHECKPOINTS)}
    assert {"measure_spectra", "evaluate_low_pass"} <= made


@pytest.mark.parametrize(
    ("name", "runs", "left"),
    [
        ("bandlimit/training/loop.py", {"measure_spectra", *OF_TABLES, *MEANS}, THEORY),
        (
            f"bandlimit/studies/{STUDY}/filtering.py",
            {"evaluate_low_pass", *OF_TABLES},
            {"measure_spectra", *MEANS, *ONE_IMAGE, *THEORY},
        ),
        (
            "bandlimit/models/kernels.py",
            {*SMOOTHED, f"{H}kernels", f"{H}figure_7"},
            {"evaluate_components", "measure_spectra", *LEARNT},
        ),
        (
            f"bandlimit/studies/{STUDY}/theorems.py",
            {f"{P}theorems", f"{P}figure_theorems"},
            {"measure_spectra", *OF_TABLES, *MEANS},
        ),
        (f"bandlimit/studies/{STUDY}/figures.py", {f"{P}figure_lifts"}, {"measure_spectra"}),
        (
            "bandlimit/studies/frequency_principle/response/stacks.py",
            {*(f"{F}{name}" for name in ("one_dimension", "sinusoids", "manifolds")), *TIMES},
            {*WAVES, *OF_WAVES, *FOLLOWED, *CORRUPTED} - {f"{F}disagreements"},
        ),
        (
            "bandlimit/spectral/basis.py",
            WAVES | OF_WAVES,
            {*FOLLOWED, *CORRUPTED, *TIMES},
        ),
        (
            "bandlimit/data/corruptions.py",
            {*CORRUPTED, f"{F}figure_corruption_spectra"},
            {*WAVES, *FOLLOWED, *TIMES},
        ),
    ],
)
def test_code_runs_again_where_it_is_reached(run, name, runs, left):
    with run.edited(name, lambda text: f"{text}\nTWISTED = 1\n"):
        made = set(reruns(run).values())
    assert runs | LEDGER <= made and not made & left
    trains = {rule for rule in made if rule.startswith("train_model")}
    assert bool(trains) == name.startswith("bandlimit/training")


def test_a_network_of_curves_is_trained_for_them_alone(run):
    made, _ = rerun(run, lambda c: c["training"]["small_batch"].update(batch_size=10))
    assert {name for name in made if not name.startswith("train_model")} == {*LEARNT, *LEDGER}


def test_shuffled_labels_train_one_network(run):
    made, models = rerun(run, lambda c: c["datasets"]["tiny_shuffled"].update(images=20))
    assert models == {"small_shuffled", "small_shuffled_seed_2"} and "make_dataset" in made


def test_smoothing_trains_nothing(run):
    made, models = rerun(run, lambda c: c["high_frequency"]["smoothing"].update(steps=3))
    assert made == SMOOTHED | LEDGER and not models


def test_components_of_fewer_images_train_nothing(run):
    change = {"images": 6}
    made, models = rerun(run, lambda c: c["high_frequency"]["experiments"]["small"].update(change))
    assert made == PARTS | LEDGER and not models


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        (lambda own: own["experiments"]["small"].update(norms=[2]), WAVES | OF_WAVES),
        (lambda own: own["experiments"]["small"].update(high_pass=21), CORRUPTED),
        (
            lambda own: own["filtering"].update(widths=[6]),
            {f"{F}filtering", f"{F}figure_filtering"},
        ),
        (
            lambda own: own["projection"].update(highest=12),
            {f"{F}projection", f"{F}figure_projection", *TIMES},
        ),
        (
            lambda own: own["simulations"]["one_dimension"].update(steps=21),
            {f"{F}one_dimension", f"{F}figure_one_dimension", *TIMES},
        ),
        (
            lambda own: own["simulations"]["kernel"].update(noise=2),
            {*(f"{F}{name}" for name in ("kernel", "figure_kernel", "figure_eigenvectors"))},
        ),
    ],
    ids=["waves", "corruptions", "filtering", "projection", "simulation", "kernel"],
)
def test_what_is_asked_of_frequencies_trains_nothing(run, change, runs):
    made, models = rerun(run, lambda c: change(c["frequency_principle"]))
    assert made == runs | LEDGER and not models


def test_what_is_recorded_in_training_belongs_to_it(run):
    made, models = rerun(run, lambda c: c["training"]["small"]["responses"].update(images=30))
    assert models == {"small", "small_seed_2"}
    assert {*FOLLOWED, *OF_FOLLOWED, *TIMES, *WAVES, *CORRUPTED} <= made
    assert not made & {f"{F}figure_fooled_spectra", f"{F}kernel", "measure_spectra"}


def test_seeds_are_networks_of_their_own(run):
    weights = [
        (run.folder / f"results/models/{name}.safetensors").read_bytes()
        for name in ("small", "small_seed_2")
    ]
    assert weights[0] != weights[1]
    curves = store.read(run.folder / "results/curves/small.parquet").to_pandas()
    assert set(curves["seed"]) == {1, 2} and set(curves["images"]) == {"train", "test"}
    # What the file says of each image is what the table counts.
    assert [sum(row) / len(row) for row in curves["correct"]] == curves["accuracy"].tolist()


def test_shuffled_labels_are_stored_beside_the_right_ones(run):
    kept = store.read(run.folder / "results/datasets/tiny_train.parquet").to_pandas()
    mixed = store.read(run.folder / "results/datasets/tiny_shuffled.parquet").to_pandas()
    assert mixed["image_id"].tolist() == kept["image_id"].tolist()
    assert mixed["original_label"].tolist() == kept["label"].tolist()
    assert mixed["label"].tolist() != kept["label"].tolist()
    assert sorted(mixed["label"]) == sorted(kept["label"])


# Shards and batches -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(run, tmp_path_factory):
    """Return the tables of the same networks, measured in three shards and batches of three."""
    folder = tmp_path_factory.mktemp("sharded") / "project"
    shutil.copytree(run.folder, folder, symlinks=True)
    project = Project(folder)
    project.config = changed(
        lambda c: [c["experiments"][name].update(shards=3) for name in ("trained", "small")]
    )
    for name in (
        *(f"scripts/{name}.py" for name in ("measure_spectra", "evaluate_components")),
        *(f"scripts/{name}.py" for name in ("evaluate_smoothing", "map_sensitivity")),
        "scripts/evaluate_corruptions.py",
        f"bandlimit/studies/{STUDY}/filtering.py",
    ):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        text, count = re.subn(r"^BATCH = .*$", "BATCH = 3", text, flags=re.MULTILINE)
        assert count == 1
        path.write_text(re.sub(r"BATCH\[[^]]*\]", "BATCH", text), encoding="utf-8")
    project.complete(*(f"results/tables/{name}.parquet" for name in TABLES))
    return project


KEYS = (
    *("image_id", "perturbation", "inputs", "cutoff", "kind", "part", "radius", "convention"),
    *("rho", "normalized", "attack", "loss", "epsilon", "network", "norm", "name", "bandwidth"),
)
"""What tells rows apart."""


@pytest.mark.parametrize(
    ("start", "model"),
    [
        *((start, MAIN) for start in ("perturbations", "spectra", "low_pass")),
        *((start, "small") for start in ("components", "smoothed_kernels")),
        *((start, "small") for start in ("sensitivity", "corruptions")),
    ],
)
def test_records_do_not_depend_on_shards_and_batches(run, sharded, start, model):

    def rows(project, shards):
        found = {}
        for shard in shards:
            table = store.read(project.folder / f"results/{start}/tiny/{model}/{shard}.parquet")
            for row in table.to_pylist():
                place = tuple(row.get(k) for k in KEYS)
                assert place not in found
                found[place] = row
        return found

    whole = rows(run, ["1of1"])
    assert whole == rows(sharded, ["1of3", "2of3", "3of3"]) and len(whole) >= 36


@pytest.mark.parametrize("name", TABLES)
def test_tables_do_not_depend_on_shards_and_batches(run, sharded, name):
    one, two = (
        store.read(project.folder / f"results/tables/{name}.parquet").to_pandas()
        for project in (run, sharded)
    )
    # The sum of a mean goes by the order of images, which is that of shards.
    (columns,) = {tuple(one.columns), tuple(two.columns)}
    assert columns and len(one) == len(two) > 0
    for column in columns:
        if one[column].dtype == float:
            assert one[column].to_numpy() == pytest.approx(
                two[column].to_numpy(), rel=1e-12, nan_ok=True
            )
        else:
            assert one[column].tolist() == two[column].tolist()
