"""How long a plan takes, by what jobs of a run in this folder took."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from bandlimit.config import overlays, paths
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.plan import cost, load, rates

HOME = Path(__file__).parents[2]
MODEL = "fashion_mnist_resnet8"


def planned(*, only=None, **more):
    """Return the run of config.yaml, with other values, of some experiments."""
    config = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
    config["experiments"]["fashion_mnist"].update(more)
    return load.load(config | ({"only": [only]} if only else {}), HOME)


def attacked(results, attack, images, seconds, *, model=MODEL, epsilons=()):
    """Leave what a job that attacked some images in so many seconds leaves."""
    parameters = {"steps": 40, **({"epsilons": list(epsilons)} if epsilons else {})}
    parameters |= {"binary_search_steps": 12} if attack == "pgd_minimal" else {}
    names = [str(i) for i in range(images) for _ in range(len(epsilons) or 1)]
    place = f"fashion_mnist/{model}/{attack}/1of1"
    certificate = {"format": 1, "params": {"parameters": parameters}, "device": "a card"}
    table = pa.table({"image_id": names})
    store.write(results / "adversarial" / f"{place}.parquet", table, certificate)
    benchmark = results / "benchmarks/attack" / f"{place}.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text(f"s\th:m:s\n{seconds}\t-\n", encoding="utf-8")


def test_a_rate_is_seconds_by_the_passes_that_were_made(tmp_path):
    attacked(tmp_path, "pgd_minimal", 10, 20.0)
    attacked(tmp_path, "pgd", 10, 4.0, epsilons=[0.01, 0.02])
    (rate,) = rates.measured(tmp_path).values()
    assert rate.forwards == 10 * 3 * 40 * 13 + 10 * 3 * 40 * 2
    assert (rate.seconds, rate.jobs, rate.devices) == (24.0, 2, {"a card"})
    assert rate.hours(rate.forwards * 3600) == pytest.approx(24.0)


def test_what_was_not_measured_or_is_gone_gives_no_rate(tmp_path):
    assert rates.measured(tmp_path) == {}
    attacked(tmp_path, "pgd_minimal", 10, 1.0)
    next((tmp_path / "adversarial").rglob("*.parquet")).unlink()
    assert rates.measured(tmp_path) == {}


def test_a_damaged_benchmark_is_named(tmp_path):
    attacked(tmp_path, "pgd_minimal", 10, "soon")
    with pytest.raises(UserError, match=r"1of1\.tsv' is no benchmark"):
        rates.measured(tmp_path)


def test_hours_follow_from_the_passes_of_the_plan(tmp_path):
    attacked(tmp_path, "pgd_minimal", 10, 3600.0)
    run = planned()
    told = rates.report(run, rates.measured(tmp_path))
    passes = sum(
        row.attack_forwards + row.defense_forwards + row.training_forwards
        for row in cost.costs(run)
        if row.model == MODEL
    )
    hours = passes / (10 * 3 * 40 * 13)
    assert f"| {MODEL} | {hours:,.2f} | 1 |" in told
    assert "on a card." in told
    (left,) = [line for line in told.splitlines() if line.startswith("Not attacked here yet")]
    assert "imagenet_efficientnet_lite0" in left and f" {MODEL}," not in left


def test_shards_are_proposed_for_a_length_of_jobs(tmp_path):
    # A second for each image: 240 images take 4 minutes.
    attacked(tmp_path, "pgd_minimal", 10, 10.0)
    run, measured = planned(only="fashion_mnist"), rates.measured(tmp_path)
    longest = max(row.attack_forwards for row in cost.costs(run) if row.model == MODEL)
    minutes = measured[MODEL].hours(longest) * 60
    (line,) = [
        line
        for line in rates.report(run, measured, minutes / 3.5).splitlines()
        if line.startswith("experiments.")
    ]
    assert line.startswith("experiments.fashion_mnist.shards: 4  # ")
    assert "experiments." not in rates.report(run, measured, minutes + 1)


def test_all_that_a_run_needs_of_the_network_is_named():
    assert paths.fetched_files(planned()) == []
    given = overlays.read([HOME / "config.yaml", HOME / "config/paper.yaml"])
    found = paths.fetched_files(load.load(given, HOME))
    archives = [name for name in found if name.startswith("results/datasets/downloads/")]
    assert archives == [f"results/datasets/downloads/{source}" for source in ("cifar10", "mnist")]
    weights = set(found) - set(archives)
    assert "results/models/downloads/imagenet_resnet152.weights" in weights
    assert all(name.startswith("results/models/downloads/") for name in weights)
