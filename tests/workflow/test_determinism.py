"""Equal configurations give equal bytes; shards, batches and cores leave no trace in rows."""

import copy
import re
from pathlib import PurePosixPath

import pandas as pd
import pytest
from conftest import build

from bandlimit import store

ATTACK = "pgd_minimal"


def test_two_runs_give_equal_bytes(tiny_run, resumed_run):
    """Other folders, other times, one core and two, at once and with an interruption."""
    again = [path for path in resumed_run.results() if not path.name.startswith(".")]
    assert len(again) > 50
    assert {".parquet", ".safetensors", ".md", ".csv", ".tex", ".png", ".pdf", ".svg"} == {
        path.suffix for path in again
    }
    different = [
        path.as_posix()
        for path in again
        if (tiny_run.folder / path).read_bytes() != (resumed_run.folder / path).read_bytes()
    ]
    assert different == []


@pytest.fixture(scope="module")
def sharded_run(tmp_path_factory, tiny_data, tiny_run):
    """Return a run of one attack in three shards and other batches, and the names of the shards."""
    project = build(tmp_path_factory.mktemp("sharded_run"), tiny_data)
    changed = 0
    for path in project.folder.glob("scripts/*.py"):
        text = path.read_text(encoding="utf-8")
        text, count = re.subn(r"^BATCH = .*$", "BATCH = 3", text, flags=re.MULTILINE)
        text = text.replace("BATCH[max(model.shape[1:]) <= 64]", "BATCH")
        changed += count
        path.write_text(text, encoding="utf-8")
    assert changed >= 4
    project.config = copy.deepcopy(tiny_run.config)
    first = project.config["bandlimiting"]["experiments"][0]
    first["attacks"] = {ATTACK: first["attacks"][ATTACK]}
    first["shards"] = 3
    project.config["bandlimiting"]["experiments"] = [first]
    project.complete("results/tables/bandlimiting/defense_rates.parquet")
    return project


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
    keys = [
        name for name in ("image_id", "epsilon", "radius", "directions", "draw") if name in frame
    ]
    return frame.sort_values(keys).reset_index(drop=True)


SHARDS = ["1of3", "2of3", "3of3"]


@pytest.mark.parametrize(
    "start",
    [
        f"results/adversarial/tiny/model_a/{ATTACK}",
        f"results/evaluations/tiny/model_a/{ATTACK}/post_averaging",
        "results/evaluations/tiny/model_a/clean/post_averaging",
        "results/evaluations/tiny/model_a/clean/undefended",
    ],
    ids=lambda start: "-".join(PurePosixPath(start).parts[-2:]),
)
def test_records_do_not_depend_on_shards_and_batches(tiny_run, sharded_run, start):
    whole = rows(tiny_run, start, ["1of1"])
    assert len(whole) > 0
    assert all(len(rows(sharded_run, start, [shard])) > 0 for shard in SHARDS)
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
