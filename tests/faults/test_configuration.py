"""Mistakes in the configuration, end to end: one sentence, before any job starts.

All kinds of them are cases of tests/config/test_settings.py; here they meet Snakemake.
"""

import copy
import os
import subprocess

import pytest
import torch
from conftest import build

from bandlimit.config import overlays
from bandlimit.errors import UserError
from bandlimit.plan import load


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, tiny_data):
    """Return a project that never gets to run a job."""
    return build(tmp_path_factory.mktemp("fresh"), tiny_data)


def sentence(project, *arguments, config=None):
    """Run what must fail at once, and return the one sentence that says why."""
    done = project.run(*arguments, config=config)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.stdout
    assert "Job stats" not in done.stdout or "steps (" not in done.stdout
    assert project.results() == []
    assert not (project.folder / "logs").exists()
    return errors[0]


def missing_images(config):
    config["datasets"]["tiny"]["path"] = "own imgaes"


def more_images_than_a_folder_has(config):
    config["datasets"]["tiny"].pop("images", None)
    config["robustness"]["experiments"]["model_a"]["images"] = 21


def a_larger_subset_than_a_folder_has(config):
    config["datasets"]["tiny"]["images"] = 21


def more_shards_than_images(config):
    config["datasets"]["tiny"].pop("images", None)
    experiment(config)["shards"] = 21


def experiment(config):
    return config["experiments"]["model_a"]


def averaging(config):
    return config["bandlimiting"]["experiments"]["model_a"]


def examination(config):
    return config["robustness"]["experiments"]["model_a"]


def misspelt_key(config):
    config["bandlimiting"]["epsilonss"] = ["8/255"]


def unknown_attack(config):
    experiment(config)["attacks"]["pgd_minmal"] = None


def unknown_model(config):
    experiment(config)["model"] = "modela"


def unknown_dataset(config):
    experiment(config)["dataset"] = "tinny"


def epsilon_8(config):
    experiment(config)["epsilon"] = 8


def negative_radius(config):
    averaging(config)["radius"] = -2


def no_directions(config):
    averaging(config)["directions"] = 0


def subset_too_large(config):
    config["datasets"]["tiny"] = {"source": "fashion_mnist", "split": "test", "images": 10_001}


def missing_weights(config):
    config["models"]["model_a"]["path"] = "weights/gone.th"


def unknown_defence(config):
    examination(config)["defenses"].append("lowpass")


def unknown_kind_of_defence(config):
    config["defenses"]["mirror"] = {"kind": "flipp"}


def parameter_of_another_kind(config):
    config["defenses"]["noise_1"] = {"kind": "noise", "quality": 90}


def unknown_attacked_defence(config):
    config["robustness"]["attacks"]["many_steps"]["against"] = ["undefendet"]


def unknown_other_model(config):
    config["defenses"]["other_model"]["model"] = "modelb"


def epsilon_8_on_defences(config):
    config["robustness"]["attacks"]["black_box"]["epsilons"] = [8]


def low_pass_without_cutoff(config):
    config["defenses"]["soft"] = {"kind": "low_pass"}


def attack_on_no_listed_defence(config):
    examination(config)["defenses"].remove("post_averaging")


def band_of_no_filter(config):
    config["robustness"]["attacks"]["in_band"]["against"] = ["post_averaging"]


def identity_of_no_transform(config):
    config["robustness"]["attacks"]["averaged"]["gradient"] = "identity"


def deterministic_suite_on_fresh_draws(config):
    config["robustness"]["attacks"]["suite"]["against"] = ["post_averaging"]


def reserved_name(config):
    config["robustness"]["attacks"]["strongest"] = {"kind": "fgsm", "against": ["undefended"]}


def more_images_of_an_attack(config):
    del config["robustness"]["experiments"]["model_a"]["images"]
    config["robustness"]["attacks"]["black_box"]["images"] = 11
    config["datasets"]["tiny"]["images"] = 10


def trained_on_its_test_images(config):
    name = "fashion_mnist_resnet8"
    config["datasets"]["test_set"] = {"source": "fashion_mnist", "split": "test"}
    config["training"] = {name: {"dataset": "test_set"}}
    config["experiments"]["model_b"]["model"] = name


def name_that_is_a_number(config):
    config["datasets"][5] = {"source": "mnist"}


def low_pass_that_passes_all(config):
    config["defenses"]["low_pass"] = {"cutoff": 20}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            more_images_than_a_folder_has,
            ["robustness.experiments.model_a.images", "from 1 to 20", "got 21"],
        ),
        (a_larger_subset_than_a_folder_has, ["datasets.tiny.images", "from 1 to 20", "got 21"]),
        (more_shards_than_images, ["experiments.model_a.shards", "from 1 to 20", "got 21"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_look_at_the_images_tells_is_told_before_any_job(fresh, monkeypatch, change, words):
    config = copy.deepcopy(fresh.config)
    change(config)
    monkeypatch.chdir(fresh.folder)
    with pytest.raises(UserError) as caught:
        load.load(overlays.read(["config.yaml"], config), fresh.folder, look=True)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (misspelt_key, ["'epsilonss'", "did you mean 'epsilons'?"]),
        (unknown_attack, ["'pgd_minmal'", "did you mean 'pgd_minimal'?"]),
        (unknown_model, ["'modela'", "did you mean 'model_a'?"]),
        (unknown_dataset, ["'tinny'", "did you mean 'tiny'?"]),
        (epsilon_8, ["experiments.model_a.epsilon", "[0, 1]", "did you mean '8/255'?"]),
        (negative_radius, ["radius", "greater than 0", "-2"]),
        (no_directions, ["directions", "at least 1", "got 0"]),
        (subset_too_large, ["datasets.tiny.images", "1 to 10000", "10001"]),
        (missing_weights, ["models.model_a.path", "'weights/gone.th'"]),
        (unknown_defence, ["'lowpass'", "did you mean 'low_pass'?"]),
        (unknown_kind_of_defence, ["defenses.mirror.kind", "'flipp'", "did you mean 'flip'?"]),
        (parameter_of_another_kind, ["defenses.noise_1", "'noise'", "'quality'", "'radius'"]),
        (unknown_attacked_defence, ["attacks.many_steps.against", "did you mean 'undefended'?"]),
        (unknown_other_model, ["defenses.other_model.model", "'modelb'", "mean 'model_b'?"]),
        (epsilon_8_on_defences, ["attacks.black_box.epsilons", "[0, 1]", "did you mean '8/255'?"]),
        (low_pass_without_cutoff, ["defenses.soft", "'low_pass'", "needs 'cutoff'"]),
        (
            attack_on_no_listed_defence,
            ["robustness.experiments.model_a", "'averaged'", "'post_averaging'", "'low_pass'"],
        ),
        (band_of_no_filter, ["attacks.in_band.against", "'post_averaging'", "'low_pass'"]),
        (identity_of_no_transform, ["attacks.averaged.against", "'post_averaging'", "'identity'"]),
        (deterministic_suite_on_fresh_draws, ["attacks.suite.against", "'standard'", "'rand'"]),
        (reserved_name, ["robustness.attacks", "'strongest'", "'clean'"]),
        (trained_on_its_test_images, ["training.fashion_mnist_resnet8.dataset", "'test_set'"]),
        (name_that_is_a_number, ["'datasets'", "must be text", "got 5"]),
        (
            low_pass_that_passes_all,
            ["defenses.low_pass.cutoff", "28 x 28", "below 19.79", "got 20"],
        ),
        (more_images_of_an_attack, ["attacks.black_box.images", "1 to 10", "'tiny'", "got 11"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_is_told_in_the_words_of_the_user(fresh, monkeypatch, change, words):
    """By what the workflow itself calls at its start; some of them through Snakemake below."""
    config = copy.deepcopy(fresh.config)
    change(config)
    monkeypatch.chdir(fresh.folder)
    with pytest.raises(UserError) as caught:
        load.load(overlays.read(["config.yaml"], config), fresh.folder)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (misspelt_key, ["'epsilonss'", "did you mean 'epsilons'?"]),
        (missing_weights, ["models.model_a.path", "'weights/gone.th'"]),
        (missing_images, ["datasets.tiny.path", "'own imgaes'", "does not exist"]),
        (a_larger_subset_than_a_folder_has, ["datasets.tiny.images", "from 1 to 20", "got 21"]),
        (trained_on_its_test_images, ["training.fashion_mnist_resnet8.dataset", "'test_set'"]),
        (name_that_is_a_number, ["'datasets'", "must be text", "got 5"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_ends_the_run_before_any_job(fresh, change, words):
    config = copy.deepcopy(fresh.config)
    change(config)
    text = sentence(fresh, "--dry-run", config=config)
    assert [word for word in words if word not in text] == []


def test_a_key_that_is_written_twice_ends_the_run_before_any_job(fresh):
    """Snakemake itself would take the last of them."""
    command = fresh.command("--dry-run")
    path = fresh.folder / "overlay.yaml"
    path.write_text(f"{path.read_text()}\ndevice: cpu\n", encoding="utf-8")
    done = subprocess.run(
        command, cwd=fresh.folder, env=fresh.environment(), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "overlay.yaml' the key 'device' is written in line" in done.stdout + done.stderr


def test_an_old_configuration_is_told_what_moved_where(fresh):
    config = copy.deepcopy(fresh.config)
    config["bandlimiting"]["experiments"] = [{"dataset": "tiny", "model": "model_a", "radius": 2}]
    text = sentence(fresh, "--dry-run", config=config)
    assert "have moved to experiments.NAME" in text and "robustness.experiments.NAME" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_cuda_without_a_card_ends_the_run_before_any_job(fresh):
    text = sentence(fresh, config={**fresh.config, "device": "cuda"})
    assert "'cuda'" in text
    assert "no card" in text


def test_a_folder_of_images_that_is_not_there_ends_the_run_before_any_job(fresh):
    config = copy.deepcopy(fresh.config)
    config["datasets"]["tiny"]["path"] = "images of mine"
    text = sentence(fresh, config=config)
    assert "datasets.tiny.path" in text
    assert "'images of mine'" in text


def test_a_results_folder_that_is_a_file_ends_the_run_before_any_job(project):
    (project.folder / "results").write_text("")
    text = sentence(project)
    assert "'results' can't be written" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_results_folder_without_permission_ends_the_run_before_any_job(project):
    (project.folder / "results").mkdir(mode=0o500)
    try:
        assert "'results' can't be written" in sentence(project)
    finally:
        (project.folder / "results").chmod(0o700)
