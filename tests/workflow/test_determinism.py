"""Equal configurations give equal bytes; shards, batches and cores leave no trace in rows."""

import copy
import re
from pathlib import PurePosixPath

import pandas as pd
import pytest
import yaml
from conftest import HOME, build

from bandlimit.data import stream
from bandlimit.files import store

ATTACK = "pgd_minimal"
ATTACKS = ["averaged", "black_box", "confident"]
DEFENSES = ["post_averaging", "post_averaging_fixed"]
SEED = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))["seed"]
TABLES = ["robust_accuracy", "loss_curves", "controls", "scaling", "confidence"]
PART = {
    "inputs": ["clean", ATTACK],
    "attack": ["clean", ATTACK, *ATTACKS, *(f"{attack}_larger" for attack in ATTACKS)],
    "defense": ["undefended", *DEFENSES],
}
"""Values of columns that both runs know."""


def test_two_runs_give_equal_bytes(tiny_run, resumed_run):
    """Other folders, other times, one core and two, at once and with an interruption."""
    again = [path for path in resumed_run.results() if not path.name.startswith(".")]
    assert len(again) > 80
    kinds = {".parquet", ".safetensors", ".md", ".html", ".csv", ".tex", ".png", ".pdf", ".svg"}
    assert kinds == {path.suffix for path in again}
    different = [
        path.as_posix()
        for path in again
        if (tiny_run.folder / path).read_bytes() != (resumed_run.folder / path).read_bytes()
    ]
    assert different == []


@pytest.fixture(scope="module")
def sharded_run(tmp_path_factory, tiny_data, tiny_run):
    """Return a run in three shards and other batches, with one attack of the first study."""
    project = build(tmp_path_factory.mktemp("sharded_run"), tiny_data)
    changed = 0
    for path in project.folder.glob("scripts/*.py"):
        text = path.read_text(encoding="utf-8")
        text, count = re.subn(r"^BATCH = .*$", "BATCH = 3", text, flags=re.MULTILINE)
        # Where a batch hangs on the size of images.
        text = text.replace("BATCH[max(model.shape[1:]) <= 64]", "BATCH")
        text = text.replace("BATCH[small]", "BATCH")
        changed += count
        path.write_text(text, encoding="utf-8")
    assert changed >= 7
    project.config = copy.deepcopy(tiny_run.config)
    project.config["only"] = ["model_a"]
    first = project.config["experiments"]["model_a"]
    first["attacks"] = {ATTACK: first["attacks"][ATTACK]}
    first["shards"] = 3
    project.config["robustness"]["experiments"]["model_a"] |= {
        "attacks": ATTACKS,
        "defenses": DEFENSES,
    }
    project.complete(
        "results/tables/bandlimiting/defense_rates.parquet",
        *(f"results/tables/robustness/{name}.parquet" for name in TABLES),
    )
    return project


KEYS = (
    *("image_id", "epsilon", "radius", "directions"),
    *("against", "attack", "inputs", "control", "defense", "factor", "confidence", "restart"),
    "draw",
)
"""What tells rows apart."""


def rows(project, start, shards):
    """Return the rows of a set in all its shards, by image, setting and draw."""
    frames = []
    for shard in shards:
        path = project.folder / start / f"{shard}.parquet"
        table = store.read(path)
        frame = table.drop_columns(
            [name for name in table.column_names if name == "image"]
        ).to_pandas()
        if "image" in table.column_names:
            images = store.images_of(table)
            frame["image"] = [image.tobytes() for image in images]
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    if "losses" in frame:
        frame["losses"] = [tuple(losses) for losses in frame["losses"]]
    return frame.sort_values([name for name in KEYS if name in frame]).reset_index(drop=True)


def part(frame):
    """Return the rows of a frame that a run with fewer attacks and defences has as well."""
    for name, values in PART.items():
        if name in frame:
            frame = frame[frame[name].isin(values)]
    # Checks compare all attacks that were run.
    return frame.drop(columns="checks_failed", errors="ignore").reset_index(drop=True)


SHARDS = ["1of3", "2of3", "3of3"]


@pytest.mark.parametrize(
    "start",
    [
        f"results/adversarial/tiny/model_a/{ATTACK}",
        f"results/evaluations/tiny/model_a/{ATTACK}/post_averaging",
        "results/evaluations/tiny/model_a/clean/post_averaging",
        "results/evaluations/tiny/model_a/clean/undefended",
        "results/defense_attacks/tiny/model_a/post_averaging/averaged",
        "results/defense_attacks/tiny/model_a/post_averaging_fixed/black_box",
        "results/defense_attacks/tiny/model_a/undefended/confident",
        "results/judgements/tiny/model_a/post_averaging",
        "results/judgements/tiny/model_a/post_averaging_fixed",
        "results/judgements/tiny/model_a/undefended",
        "results/scalings/tiny/model_a",
        "results/controls/tiny/model_a",
    ],
    ids=lambda start: "-".join(PurePosixPath(start).parts[-2:]),
)
def test_records_do_not_depend_on_shards_and_batches(tiny_run, sharded_run, start):
    whole = part(rows(tiny_run, start, ["1of1"]))
    assert len(whole) > 0
    found = [len(rows(sharded_run, start, [shard])) for shard in SHARDS]
    # An attack on two images leaves a shard without any.
    assert all(found) != start.endswith("black_box")
    pd.testing.assert_frame_equal(rows(sharded_run, start, SHARDS), whole, check_exact=True)


def test_rates_do_not_depend_on_shards_and_batches(tiny_run, sharded_run):
    path = "results/tables/bandlimiting/defense_rates.parquet"
    whole = store.read(tiny_run.folder / path).to_pandas()
    whole = whole[(whole["model"] == "model_a") & (whole["attack"] == ATTACK)]
    assert len(whole) > 0
    pd.testing.assert_frame_equal(
        store.read(sharded_run.folder / path).to_pandas(),
        whole.reset_index(drop=True),
        check_exact=True,
    )


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_robustness_do_not_depend_on_shards_and_batches(tiny_run, sharded_run, name):
    path = f"results/tables/robustness/{name}.parquet"
    found, whole = (
        part(store.read(project.folder / path).to_pandas()) for project in (sharded_run, tiny_run)
    )
    assert len(whole) > 0
    pd.testing.assert_frame_equal(found, whole, check_exact=True)


def test_a_shard_may_have_none_of_the_chosen_images(sharded_run):
    dataset = sharded_run.folder / "results/datasets/tiny.parquet"
    kept = stream.chosen(dataset, 8, name="tiny", seed=SEED)
    ids = store.read(dataset, ["image_id"])["image_id"].to_pylist()
    row = next(row for row, name in enumerate(ids) if name not in kept)
    config = copy.deepcopy(sharded_run.config)
    config["experiments"]["model_a"]["shards"] = len(ids)
    config["robustness"]["experiments"]["model_a"] |= {
        "attacks": ["blind"],
        "defenses": ["low_pass"],
    }
    place = f"tiny/model_a/low_pass/{row + 1}of{len(ids)}.parquet"
    paths = [f"results/{kind}/{place}" for kind in ("judgements", "symptoms")]
    sharded_run.complete(*paths, config=config)
    assert [len(store.read(sharded_run.folder / path)) for path in paths] == [0, 0]
