"""A batch that does not fit into memory is halved, and the results are the same."""

import logging

import pyarrow as pa
import pytest
import torch

from bandlimit.errors import MachineError
from bandlimit.models.memory import Halving, is_out_of_memory

OOM = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


def batch(count):
    ids = [f"i{row}" for row in range(count)]
    images = torch.arange(count * 4.0).reshape(count, 1, 2, 2)
    return {"image_id": ids}, torch.arange(count), images


def by_image(given):
    """Give an image as many rows as its label says, and one more."""
    columns, labels, images = given
    rows = [
        (name, value, float(image.sum()))
        for name, label, image in zip(columns["image_id"], labels.tolist(), images, strict=True)
        for value in range(label + 1)
    ]
    return pa.table({key: [row[i] for row in rows] for i, key in enumerate("abc")})


def by_group(given):
    """Give all images a row of each of three groups."""
    columns, _, images = given
    return pa.concat_tables(
        pa.table({"a": columns["image_id"], "group": [group] * len(images)}) for group in range(3)
    )


def two_tables(given):
    """Give each of two ways its images, of one table with a row and one with two rows each."""
    columns, _, _ = given
    one = [(way, name) for way in "xy" for name in columns["image_id"]]
    two = [(way, name, k) for way in "xy" for name in columns["image_id"] for k in range(2)]
    return tuple(
        pa.table({str(i): [row[i] for row in rows] for i in range(len(rows[0]))})
        for rows in (one, two)
    )


class Card:
    """A device with memory for some images at a time."""

    def __init__(self, work, room, error=OOM[0]):
        self.work, self.room, self.error, self.sizes = work, room, error, []

    def __call__(self, given):
        self.sizes.append(len(given[-1]))
        if len(given[-1]) > self.room:
            raise self.error
        return self.work(given)


@pytest.mark.parametrize("room", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("work", "groups"), [(by_image, 1), (by_group, None), (by_group, 3), (two_tables, 2)]
)
def test_halves_give_the_rows_of_the_whole_in_its_order(work, groups, room):
    card = Card(work, room)
    halving = Halving(card, groups=groups)
    for count in (7, 1, 6, 11):
        assert _plain(halving(batch(count))) == _plain(work(batch(count)))
    # What was too much once is not tried again.
    assert [size for size in card.sizes if size > room] == [size for size in (7, 3) if size > room]


def _plain(made):
    return [table.to_pydict() for table in (made if isinstance(made, tuple) else (made,))]


@pytest.mark.parametrize("error", OOM, ids=lambda error: str(error)[:20] or "MemoryError")
def test_each_way_to_say_it_is_understood_and_told(error, caplog):
    assert is_out_of_memory(error)
    with caplog.at_level(logging.WARNING):
        Halving(Card(by_image, 4, error))(batch(7))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "not suffice for 7 images at a time: going on with 3, to the same results" in said


def test_one_image_that_does_not_fit_is_one_sentence():
    with pytest.raises(MachineError, match=r"^The memory of the device does not suffice for one"):
        Halving(Card(by_image, 0))(batch(5))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError("image")]
)
def test_another_error_passes_at_once(error):
    card = Card(by_image, 0, error)
    with pytest.raises(type(error)):
        Halving(card)(batch(5))
    assert card.sizes == [5]
