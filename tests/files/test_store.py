import errno
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandlimit.errors import MachineError, UserError
from bandlimit.files import contents, store
from bandlimit.models import architectures, weights


def rows(count, shape=(1, 28, 28), seed=0):
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "image_id": [f"test/{i:05d}" for i in range(count)],
            "label": pa.array(random.integers(0, 10, count), pa.int64()),
            "image": store.image_column(random.random((count, *shape), dtype=np.float32)),
        }
    )


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


# Reading ----------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    table = rows(7)
    path = tmp_path / "new/folder/a.parquet"
    store.write(path, table, {"rule": "x", "params": {"name": "läuft -- überall"}})
    assert store.read(path).cast(table.schema).equals(table)
    assert store.columns(path) == ["image_id", "label", "image"]
    assert store.read(path, ["label"]).column_names == ["label"]
    found = store.certificate(path)
    assert found["params"] == {"name": "läuft -- überall"}
    assert found["content"] == store.content(path)
    assert found["file"] == "a.parquet"
    assert os.listdir(path.parent) == ["a.parquet"]


def test_a_file_without_certificate_has_none(tmp_path):
    store.write(tmp_path / "a.parquet", rows(1))
    assert store.certificate(tmp_path / "a.parquet") is None


@pytest.mark.parametrize("column", ["image_id", "label", "image"])
def test_a_flipped_bit_in_any_column_is_noticed(tmp_path, column):
    path = tmp_path / "a.parquet"
    store.write(path, rows(50))
    chunk = pq.ParquetFile(path).metadata.row_group(0)
    names = [chunk.column(i).path_in_schema.split(".")[0] for i in range(chunk.num_columns)]
    place = chunk.column(names.index(column))
    start = place.dictionary_page_offset or place.data_page_offset
    # Beyond the header of the page, within what it holds.
    flip(path, start + place.total_compressed_size - 5)
    with pytest.raises(UserError, match="can't be read as Parquet"):
        list(store.batches(path, 10))


def test_no_flipped_bit_goes_by_as_other_rows(tmp_path):
    """The footer has no checksum: a flip there may rename a column, but changes no value."""
    path = tmp_path / "a.parquet"
    table = rows(3, shape=(1, 2, 2))
    store.write(path, table)
    whole = path.read_bytes()
    noticed = 0
    for offset in range(0, len(whole), 5):
        path.write_bytes(whole)
        flip(path, offset)
        try:
            found = store.read(path)
        except UserError:
            noticed += 1
            continue
        if found.schema.equals(table.schema):
            assert found.equals(table), offset
    assert noticed > 20


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<!DOCTYPE html><html></html>", b"\0" * 500])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    for read in (store.read, store.columns, store.certificate, lambda p: list(store.batches(p, 1))):
        with pytest.raises(UserError, match=r"a\.parquet' can't be read as Parquet"):
            read(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    store.write(path, rows(20))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="can't be read as Parquet"):
        store.read(path)


def test_deleting_is_advised_of_results_alone(tmp_path, monkeypatch):
    """Of the user's own data there may be no copy."""
    monkeypatch.chdir(tmp_path)
    told = {}
    for place in ("results/datasets", "own", str(tmp_path / "elsewhere"), "own/results"):
        store.write(f"{place}/a.parquet", rows(20))
        whole = Path(place, "a.parquet").read_bytes()
        Path(place, "a.parquet").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="can't be read as Parquet") as caught:
            store.read(f"{place}/a.parquet")
        told[place] = str(caught.value)
    assert told.pop("results/datasets").endswith("format: delete it, and it is made anew.")
    assert all(text.endswith("where a whole Parquet file is needed.") for text in told.values())


def test_a_missing_file_or_column_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(UserError, match=r"a\.parquet' does not exist"):
        store.read(path)
    store.write(path, rows(1))
    with pytest.raises(UserError, match="no column 'labels'; it has image_id, label, image"):
        store.read(path, ["labels"])


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_batches_give_all_rows_in_order(tmp_path, size):
    path = tmp_path / "a.parquet"
    table = rows(10)
    store.write(path, table)
    parts = list(store.batches(path, size))
    assert all(len(part) == size for part in parts[:-1])
    assert pa.concat_tables(parts).equals(table)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_rows_are_taken_in_the_order_asked_for(tmp_path, monkeypatch, size):
    monkeypatch.setattr(store, "TAKEN_AT_ONCE", size)
    path, table = tmp_path / "a.parquet", rows(10)
    store.write(path, table)
    name = table.column_names[0]
    for wanted in ([7, 0, 3, 7], [9], [], range(10)):
        found = store.take(path, list(wanted))
        assert found.equals(table.take(np.array(wanted, dtype=int)))
        assert store.take(path, wanted, [name]).equals(found.select([name]))
    for wrong in (10, -1):
        with pytest.raises(IndexError, match="are 0 to 9, got"):
            store.take(path, [2, wrong])


# Images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(4, 1, 5, 3), (1, 1, 28, 28), (3, 3, 4, 2), (2, 3, 1, 1)])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0)])
def test_images_of_any_strides_come_back(tmp_path, dtype, shape, axes):
    """An axis of length 1 has arbitrary strides, which Arrow could read as an order of axes."""
    random = np.random.default_rng(1)
    stored = [shape[axes.index(axis)] for axis in range(4)]
    images = (random.random(stored) * 255).astype(dtype).transpose(axes)
    assert images.shape == shape
    path = tmp_path / "a.parquet"
    store.write(path, pa.table({"image": store.image_column(images)}))
    found = store.images_of(store.read(path))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)


def test_a_view_that_repeats_or_skips_comes_back(tmp_path):
    base = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    for images in (base[:, None, ::2, ::-1], np.broadcast_to(base[:, None], (2, 3, 8, 8))):
        store.write(tmp_path / "a.parquet", pa.table({"image": store.image_column(images)}))
        found = store.images_of(store.read(tmp_path / "a.parquet"))
        np.testing.assert_array_equal(found, images)


def test_images_in_several_chunks_are_joined():
    table = pa.concat_tables([rows(2, seed=1), rows(3, seed=2)])
    found = store.images_of(table)
    assert found.shape == (5, 1, 28, 28)
    np.testing.assert_array_equal(found[2:], store.images_of(rows(3, seed=2)))


# Writing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [7, 0, 13, 30], [49, 1]])
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path, monkeypatch, sizes):
    # Groups of 10 rows, so that batches end within, at and beyond the end of a group.
    monkeypatch.setattr(store, "ROW_GROUP_BYTES", 10 * (32 + 4 * 28 * 28))
    table = rows(50)
    whole, path = (tmp_path / name / "a.parquet" for name in ("whole", "parts"))
    store.write(whole, table, {"rule": "x"})
    with store.TableWriter(path, table.schema, {"rule": "x"}) as writer:
        start = 0
        for size in sizes:
            writer.write(table.slice(start, size))
            start += size
    assert pq.ParquetFile(path).num_row_groups == 5
    assert path.read_bytes() == whole.read_bytes()


LISTS = {
    "of one length": pa.list_(pa.float64(), 100),
    "of any length": pa.list_(pa.float64()),
    "of any length, long offsets": pa.large_list(pa.float64()),
}


@pytest.mark.parametrize("kind", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("sizes", [[35], [1] * 35, [7, 28]])
def test_groups_are_bounded_by_the_values_of_lists(tmp_path, monkeypatch, kind, sizes):
    # Ten rows of 100 values fit, and an id.
    monkeypatch.setattr(store, "ROW_GROUP_BYTES", 10 * (32 + 8 * 100))
    lists = pa.array(np.arange(3500.0).reshape(35, 100).tolist(), kind)
    table = pa.table({"image_id": [str(i) for i in range(35)], "values": lists})
    path = tmp_path / "a.parquet"
    with store.TableWriter(path, table.schema) as writer:
        start = 0
        for size in sizes:
            writer.write(table.slice(start, size))
            start += size
    assert [len(group) for group in store.groups(path)] == [10, 10, 10, 5]
    assert store.read(path)["values"].to_pylist() == lists.to_pylist()


def test_a_row_beyond_all_bounds_has_a_group_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROW_GROUP_BYTES", 100)
    lengths = [1, 2, 500, 0, None, 3]
    rows = [None if n is None else [True] * n for n in lengths]
    table = pa.table({"correct": pa.array(rows, pa.list_(pa.bool_()))})
    store.write(tmp_path / "a.parquet", table)
    assert [len(group) for group in store.groups(tmp_path / "a.parquet")] == [2, 1, 3]
    assert store.read(tmp_path / "a.parquet")["correct"].to_pylist() == rows


def test_columns_may_come_in_any_order_but_not_be_missing(tmp_path):
    table = rows(2)
    path = tmp_path / "a.parquet"
    store.write(path, table)
    first = path.read_bytes()
    with store.TableWriter(path, table.schema) as writer:
        writer.write(table.select(["image", "label", "image_id"]))
    assert path.read_bytes() == first
    with (
        pytest.raises((ValueError, KeyError)),
        store.TableWriter(path, table.schema) as writer,
    ):
        writer.write(table.drop_columns(["label"]))
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["a.parquet"]


def test_no_rows_are_a_file_too(tmp_path):
    schema = rows(1).schema
    with store.TableWriter(tmp_path / "a.parquet", schema, {"rule": "x"}):
        pass
    assert len(store.read(tmp_path / "a.parquet")) == 0
    assert store.certificate(tmp_path / "a.parquet")["rule"] == "x"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.parquet"
    table = rows(5)
    with pytest.raises(error), store.TableWriter(path, table.schema) as writer:
        writer.write(table)
        raise error
    assert os.listdir(tmp_path) == []
    store.write(path, table)
    before = path.read_bytes()
    with pytest.raises(error), store.TableWriter(path, table.schema) as writer:
        writer.write(rows(5, seed=1))
        raise error
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.parquet"]


def test_atomic_keeps_the_suffix_and_shows_nothing_before_the_end(tmp_path):
    path = tmp_path / "figure.png"
    with store.atomic(path) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_atomic_flushes_what_was_written_before_it_takes_the_place(tmp_path, monkeypatch):
    """Else a power cut may leave an empty file of the right name."""
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (done.append(n), f(*a)))
    with store.atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("a", encoding="utf-8")
    assert done == ["fsync", "replace"]


def test_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    barrier = threading.Barrier(4)

    def write(text):
        with store.atomic(path) as temporary:
            barrier.wait()
            temporary.write_text(text)

    threads = [threading.Thread(target=write, args=(str(i) * 1000,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(path.read_text())) == 1
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="Can't write to the folder .*file'.*can be written is need"),
        store.atomic(tmp_path / "file" / "a.parquet"),
    ):
        pass


def test_long_and_strange_names_are_written(tmp_path):
    for name in ("ü" * 100 + ".parquet", "with space.parquet", ".hidden"):
        with store.atomic(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name
    assert len(os.listdir(tmp_path)) == 3


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.sha256(tmp_path / "a") == known


def test_a_list_of_fixed_length_has_one_digest_in_memory_and_in_a_file(tmp_path):
    values = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 1.0, 1.5, 2.0]), 2)
    table = pa.table({"values": values})
    store.write(tmp_path / "t.parquet", table, {"rule": "r", "writes": {}})
    digest = store.Content(table.schema)
    digest.update(table)
    assert store.content(tmp_path / "t.parquet") == digest.hexdigest()
    assert store.certificate(tmp_path / "t.parquet")["content"] == digest.hexdigest()


# A full disk


@pytest.fixture
def small(tmp_path):
    """Return a folder on a disk of its own, with room for 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        made = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("only root may mount a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


WRITERS = {
    "parquet": lambda path: store.write(path, rows(200), {}),
    "text": lambda path: contents.write_text(path, "{proof}" + "a" * 200_000, {}, "<!-- {} -->"),
    "safetensors": lambda path: weights.save(
        path,
        architectures.build("cifar_resnet20", classes=10, channels=1).state_dict(),
        architecture="cifar_resnet20",
        mean=[0.5],
        std=[0.25],
        shape=[1, 28, 28],
        classes=10,
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(small, writer):
    path = small / f"a.{writer}"
    path.write_bytes(b"as it was")
    with pytest.raises(MachineError, match=r"^The disk of '.*small' is full: make room") as error:
        WRITERS[writer](path)
    assert "\n" not in str(error.value)
    assert os.listdir(small) == [path.name] and path.read_bytes() == b"as it was"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_a_file_is_written_leaves_none(tmp_path, error):
    with pytest.raises(MachineError, match="is full"), store.atomic(tmp_path / "a.csv") as place:
        place.write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_another_failure_is_no_full_disk(tmp_path):
    with pytest.raises(OSError, match="Permission"), store.atomic(tmp_path / "a.csv"):
        raise PermissionError(errno.EACCES, "Permission denied")
