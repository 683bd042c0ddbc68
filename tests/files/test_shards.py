"""Gathered shards hold each image once, all of one cut and one origin."""

import pyarrow as pa
import pytest

from bandlimit.errors import UserError
from bandlimit.files import shards, store

IMAGES = [f"{i:02d}" for i in range(11)]


def certificate(shard, radius=6, dataset="d" * 64):
    return {
        "format": 1,
        "params": {"radius": radius, "wildcards": {"model": "m", "shard": shard}},
        "reads": {"dataset": "results/datasets/d.parquet"},
        "inputs": {"results/datasets/d.parquet": {"content": dataset}},
    }


def write(folder, shard, *, images=None, **origin):
    """Write the records of a shard, two rows for each image, as the workflow cuts a dataset."""
    k, n = map(int, shard.split("of"))
    images = IMAGES[k - 1 :: n] if images is None else images
    path = folder / f"{shard}.parquet"
    store.write(path, pa.table({"image_id": images * 2}), certificate(shard, **origin))
    return path


@pytest.mark.parametrize("n", [2, 4, 7])
def test_all_shards_of_a_cut_are_gathered(tmp_path, n):
    files = [write(tmp_path, f"{k}of{n}") for k in range(1, n + 1)]
    shards.check([*files, tmp_path / "model.safetensors"])
    shards.check(reversed(files))


def test_a_job_of_one_shard_takes_one_of_each_set(tmp_path):
    shards.check([write(tmp_path / name, "2of3") for name in ("a", "b")])


def test_another_cut_is_not_mixed_in(tmp_path):
    # As where a run in four shards is followed by one in seven, and the old ones lie there.
    files = [write(tmp_path, f"{k}of4") for k in range(1, 5)]
    files += [write(tmp_path, f"{k}of7") for k in range(1, 8)]
    with pytest.raises(UserError, match="are of 2 cuts, of 4 and 7 shards"):
        shards.check(files)
    shards.check(files[4:])


@pytest.mark.parametrize(
    ("given", "told"), [([1, 3], "'2of3.parquet' is missing"), ([1, 2, 2, 3], "given 2 times")]
)
def test_each_shard_is_needed_once(tmp_path, given, told):
    with pytest.raises(UserError, match=told):
        shards.check([write(tmp_path, f"{k}of3") for k in given])


def test_an_image_in_two_shards_would_count_twice(tmp_path):
    files = [write(tmp_path, "1of2"), write(tmp_path, "2of2", images=["01", "03", "04"])]
    with pytest.raises(UserError, match="The image '04' is in two shards of .*1of2.*2of2"):
        shards.check(files)


@pytest.mark.parametrize(
    ("other", "told"), [({"radius": 7}, "parameters"), ({"dataset": "e" * 64}, "datasets")]
)
def test_shards_of_unlike_origin_are_not_gathered(tmp_path, other, told):
    files = [write(tmp_path, "1of2"), write(tmp_path, "2of2", **other)]
    with pytest.raises(UserError, match=f"were made with unlike {told}"):
        shards.check(files)


def test_a_shard_under_another_name_is_refused(tmp_path):
    files = [write(tmp_path, "1of3"), write(tmp_path, "2of3")]
    files.append(files[1].with_name("3of3.parquet"))
    files[2].write_bytes(files[1].read_bytes())
    with pytest.raises(UserError, match="3of3.parquet' holds the shard '2of3'"):
        shards.check(files)
