"""What defences said of images becomes records, and adversarial records become batches."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.studies.robustness import judging, rates
from bandlimit.studies.robustness.judging import NOT_DRAWN


def test_rows_go_image_by_image_and_draw_by_draw():
    said = np.array([[1, 2], [3, 3], [0, 2]])
    table = judging.rows(
        judging.CONTROLS,
        said,
        torch.tensor([1, 3, 2]),
        image_id=["a", "b", "c"],
        inputs="clean",
        epsilon=[None, 0.5, 1.0],
        control="flip",
    )
    assert table.schema == judging.CONTROLS
    assert table.to_pydict() == {
        "image_id": ["a", "a", "b", "b", "c", "c"],
        "inputs": ["clean"] * 6,
        "epsilon": [None, None, 0.5, 0.5, 1.0, 1.0],
        "control": ["flip"] * 6,
        "label": [1, 1, 3, 3, 2, 2],
        "draws": [2] * 6,
        "draw": [0, 1, 0, 1, 0, 1],
        "prediction": [1, 2, 3, 3, 0, 2],
        "correct": [True, False, True, True, False, True],
    }


def test_draws_that_were_not_taken_are_no_records():
    table = judging.rows(
        judging.CONTROLS,
        np.array([[1, 1, NOT_DRAWN], [0, 1, 0]]),
        torch.tensor([1, 1]),
        image_id=["a", "b"],
        inputs="clean",
        epsilon=[0.5, 1.0],
        control="flip",
    )
    assert table["image_id"].to_pylist() == list("aabbb")
    assert table["draw"].to_pylist() == [0, 1, 0, 1, 2]
    assert table["draws"].to_pylist() == [3] * 5
    assert table["epsilon"].to_pylist() == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert table["correct"].to_pylist() == [True, True, False, True, False]


class Spy:
    """A defence that draws for an image what its name and the number of the draw say."""

    def __init__(self, shares, random=True):
        self.shares, self.random = shares, random
        self.asked = []

    def predict(self, x, image_ids, draws, *, stop, error):
        assert len(x) == len(image_ids) and (stop, error) == ("exact", 0.25)
        # The picture of an image goes with its name.
        assert [f"i{round(float(value))}" for value in x.flatten()] == list(image_ids)
        self.asked += [(name, draw) for name in image_ids for draw in draws]
        return np.array([[self.says(name, draw) for draw in draws] for name in image_ids])

    def says(self, name, draw):
        generator = keys.generator(0, "spy", name, draw if self.random else 0)
        return int(torch.rand((), generator=generator).item() < self.shares[name])


def spied(shares, count, *, random=True, names=None):
    """Return what is drawn of images i0, i1 and so on, the label being 1, and the spy."""
    names = [f"i{k}" for k in range(len(shares))] if names is None else names
    spy = Spy({f"i{k}": share for k, share in enumerate(shares)}, random)
    images = torch.tensor([float(name[1:]) for name in names]).reshape(-1, 1, 1, 1)
    labels = torch.ones(len(names), dtype=torch.int64)
    judge = {"draws": count, "stop": "exact", "error": 0.25}
    return judging.drawn(spy, images, names, labels, **judge), spy


SHARES = [0, 1, *np.linspace(0.2, 0.8, 14)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10])
def test_only_images_that_are_open_are_asked(count):
    found, spy = spied(SHARES, count)
    assert found.shape == (len(SHARES), count)
    wanted = {}
    for k in range(len(SHARES)):
        hits = 0
        for draw in range(count):
            left = count - draw
            if count > 2 and (2 * hits > count or 2 * (hits + left) <= count):
                break
            wanted[f"i{k}", draw] = spy.says(f"i{k}", draw)
            hits += wanted[f"i{k}", draw]
    # Each once, in the order of draws.
    assert sorted(spy.asked) == sorted(wanted)
    assert [draw for name, draw in spy.asked if name == "i9"] == sorted(
        draw for name, draw in wanted if name == "i9"
    )
    for (k, draw), said in np.ndenumerate(found):
        assert said == wanted.get((f"i{k}", draw), NOT_DRAWN)
    # All wrong ends one draw before all right where a tie is wrong.
    least = {1: (1, 1), 2: (2, 2), 3: (2, 2), 4: (2, 3), 5: (3, 3), 10: (5, 6)}[count]
    assert tuple((found[:2] != NOT_DRAWN).sum(axis=1)) == least


def test_what_is_drawn_of_an_image_does_not_depend_on_its_companions():
    together, _ = spied(SHARES, 10)
    order = [9, 3, 0, 12]
    some, _ = spied(SHARES, 10, names=[f"i{k}" for k in order])
    assert np.array_equal(some, together[order])
    for k in (2, 8, 15):
        alone, _ = spied(SHARES, 10, names=[f"i{k}"])
        assert np.array_equal(alone, together[[k]])
    assert spied(SHARES, 10, names=[])[0].shape == (0, 10)


def test_a_defence_that_does_not_draw_takes_one():
    found, spy = spied([0, 1, 1], 10, random=False)
    assert found.tolist() == [[0], [1], [1]]
    assert spy.asked == [("i0", 0), ("i1", 0), ("i2", 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("random", [True, False])
def test_what_was_drawn_is_what_the_rates_take(count, random):
    found, _ = spied(SHARES, count, random=random)
    names = [f"i{k}" for k in range(len(SHARES))]
    labels = torch.ones(len(SHARES), dtype=torch.int64)
    table = judging.rows(
        judging.CONTROLS,
        found,
        labels,
        image_id=names,
        inputs="clean",
        epsilon=None,
        control="spy",
    )
    ids, cube = rates.cube_of(table.to_pandas())
    order = [int(name[1:]) for name in ids]
    assert np.array_equal(cube.taken[:, 0], found[order] != NOT_DRAWN)
    assert np.array_equal(cube.right[:, 0], found[order] == 1)
    assert cube.planned == (count if random else 1)
    empty = judging.rows(
        judging.CONTROLS,
        found[:0],
        labels[:0],
        image_id=[],
        inputs="clean",
        epsilon=None,
        control="spy",
    )
    assert empty.schema == judging.CONTROLS and len(empty) == 0


def test_batches_hold_what_is_kept_and_no_other(tmp_path):
    images = np.random.default_rng(0).random((5, 1, 2, 2), dtype=np.float32)
    table = pa.table(
        {
            "image_id": list("aabcd"),
            "label": pa.array([1, 1, 2, 3, 4], pa.int64()),
            "epsilon": [0.1, 0.2, 0.1, 0.1, 0.1],
            "image": store.image_column(images),
        }
    )
    path = tmp_path / "records.parquet"
    store.write(path, table)
    for keep, places in ((frozenset("ad"), [0, 1, 4]), (None, [0, 1, 2, 3, 4])):
        found = list(judging.batches(str(path), 2, keep, ["epsilon"]))
        ids = [name for columns, _, _ in found for name in columns["image_id"]]
        assert ids == [list("aabcd")[place] for place in places]
        bounds = [value for columns, _, _ in found for value in columns["epsilon"]]
        assert bounds == [[0.1, 0.2, 0.1, 0.1, 0.1][place] for place in places]
        assert torch.equal(torch.cat([part for _, _, part in found]), torch.tensor(images[places]))
        labels = torch.cat([part for _, part, _ in found])
        assert labels.tolist() == [[1, 1, 2, 3, 4][place] for place in places]


def written(folder, shard, wins):
    """Write a dataset of 20 images, and adversarial records of a shard; return files and images."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2)).astype(np.uint8)
    names = [f"i{k}" for k in range(20)]
    columns = {"image_id": names, "label": range(20), "split": ["test"] * 20}
    dataset, path = folder / "dataset.parquet", folder / "records.parquet"
    store.write(dataset, pa.table({**columns, "image": store.image_column(pixels)}))
    part, parts = map(int, shard.split("of"))
    rows = np.arange(part - 1, 20, parts)
    attacked = (1 - pixels[rows] / 255).astype(np.float32)
    columns = {"image_id": [names[row] for row in rows], "label": rows, "success": wins[rows]}
    store.write(path, pa.table({**columns, "image": store.image_column(attacked)}))
    return path, dataset, torch.from_numpy(pixels).float() / 255


@pytest.mark.parametrize("keep", [None, frozenset(f"i{k}" for k in (1, 3, 4, 7, 8, 17, 19))])
@pytest.mark.parametrize("shard", ["1of1", "2of2", "3of3"])
def test_successes_come_beside_their_clean_images(tmp_path, monkeypatch, shard, keep):
    wins = np.arange(20) % 5 != 0
    path, dataset, images = written(tmp_path, shard, wins)
    # What would hold a dataset as a whole.
    monkeypatch.setattr(store, "read", None)
    found = list(judging.successes(path, dataset, 4, shard=shard, keep=keep))
    part, parts = map(int, shard.split("of"))
    expected = [k for k in range(part - 1, 20, parts) if wins[k] and (not keep or f"i{k}" in keep)]
    assert [name for ids, *_ in found for name in ids] == [f"i{k}" for k in expected]
    labels, clean, attacked = (torch.cat([batch[i] for batch in found]) for i in (1, 2, 3))
    assert labels.tolist() == expected
    assert torch.equal(clean, images[expected])
    assert torch.allclose(attacked, 1 - images[expected])
    assert all(len(ids) <= 4 for ids, *_ in found)


def test_a_success_must_be_of_an_image_of_the_dataset(tmp_path):
    path, dataset, _ = written(tmp_path, "1of2", np.ones(20, dtype=bool))
    with pytest.raises(UserError, match="a record of image 'i0', which its dataset does not have"):
        next(judging.successes(path, dataset, 4, shard="2of2"))
