"""Parquet files of encoded pictures, as Hugging Face lays them out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bandlimit.data import stream
from bandlimit.data.make import make_dataset
from bandlimit.data.source import Source
from bandlimit.errors import UserError
from bandlimit.files import store

PIXELS = np.random.default_rng(1).integers(0, 256, (600, 4, 5, 3), np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write(path: Path, count: int, *, named: str = "image", **columns: Any) -> Path:
    rows = {
        named: [
            {"bytes": encoded(pixels), "path": f"{row}.png"}
            for row, pixels in enumerate(PIXELS[:count])
        ],
        "label": [row % 10 for row in range(count)],
        **columns,
    }
    pq.write_table(pa.table({k: v for k, v in rows.items() if v is not None}), path)
    return path


def made(path: Path, **given: Any) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    split, images = given.pop("split", None), given.pop("images", None)
    source = Source("own", "parquet", path=path, **given)
    make_dataset(source, path.with_name("out.parquet"), split=split, images=images)
    return stream.load(path.with_name("out.parquet"))


@pytest.mark.parametrize("column", ["image", "img"])
def test_bytes_and_label_are_all_that_is_needed(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "in.parquet", 12, named=column)
    ids, labels, images = made(path, classes=10, shape=(3, 4, 5))
    assert ids == [f"{row}.png" for row in range(12)]
    assert labels.tolist() == [row % 10 for row in range(12)]
    assert torch.equal(images, torch.from_numpy(PIXELS[:12]).permute(0, 3, 1, 2).float() / 255)
    assert set(store.read(path.with_name("out.parquet"))["split"].to_pylist()) == {""}


def test_a_subset_reads_its_own_rows_across_batches(tmp_path: Path) -> None:
    ids, _, images = made(write(tmp_path / "in.parquet", 600), images=9)
    for name, image in zip(ids, images, strict=True):
        expected = PIXELS[int(name.removesuffix(".png"))].transpose(2, 0, 1)
        assert np.array_equal((image * 255).round().numpy(), expected)


@pytest.mark.parametrize("paths", [[None, None], ["a.png", "a.png"], ["", "b.png"]])
def test_images_without_names_of_their_own_are_named_by_row(
    tmp_path: Path, paths: list[str | None]
) -> None:
    cells = [{"bytes": encoded(PIXELS[row]), "path": path} for row, path in enumerate(paths)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write(tmp_path / "in.parquet", 2, image=pa.array(cells, kind))
    assert made(path)[0] == ["00000", "00001"]


def test_bytes_alone_and_columns_of_our_own_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "in.parquet",
        3,
        image=[encoded(pixels, "JPEG") for pixels in PIXELS[:3]],
        image_id=["x", "y", "z"],
        split=["train", "test", "test"],
    )
    assert made(path, split="test")[0] == ["y", "z"]
    assert made(path)[0] == ["x", "y", "z"]


def test_a_split_names_images_that_have_none(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", 2)
    made(path, split="validation")
    assert set(store.read(path.with_name("out.parquet"))["split"].to_pylist()) == {"validation"}


def test_gray_and_colour_mixed_are_read_in_colour(tmp_path: Path) -> None:
    images = [encoded(PIXELS[0, :, :, 0]), encoded(PIXELS[1])]
    assert made(write(tmp_path / "in.parquet", 2, image=images))[2].shape == (2, 3, 4, 5)
    gray = [encoded(pixels[:, :, 0]) for pixels in PIXELS[:2]]
    assert made(write(tmp_path / "in.parquet", 2, image=gray))[2].shape == (2, 1, 4, 5)


def test_sizes_that_differ_are_brought_to_one(tmp_path: Path) -> None:
    images = [encoded(PIXELS[0]), encoded(PIXELS[0].repeat(2, axis=0))]
    path = write(tmp_path / "in.parquet", 2, image=images)
    with pytest.raises(UserError, match=r"shape 3 x 8 x 5, where 3 x 4 x 5.*resize and crop"):
        made(path)
    assert made(path, resize=4, crop=4)[2].shape == (2, 3, 4, 4)


def test_a_picture_that_is_elsewhere_or_damaged_is_told_by_its_row(tmp_path: Path) -> None:
    whole = {"bytes": encoded(PIXELS[0]), "path": "a.png"}
    elsewhere = write(tmp_path / "a.parquet", 2, image=[whole, {"bytes": None, "path": "b.png"}])
    with pytest.raises(UserError, match=r"'row 1 of .*a\.parquet' has no bytes"):
        made(elsewhere)
    cut = {"bytes": whole["bytes"][:40], "path": "b.png"}
    damaged = write(tmp_path / "b.parquet", 2, image=[whole, cut])
    with pytest.raises(UserError, match=r"image 'row 1 of .*b\.parquet' can't be read"):
        made(damaged)


def test_all_missing_columns_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"pixels": [1], "fine_label": [2]}), path)
    with pytest.raises(UserError, match="no column 'image_id', 'label', 'split', 'image'; it has"):
        made(path)
    write(path, 2, label=None)
    with pytest.raises(UserError, match="no column 'label'; it has image, where"):
        made(path)


def test_text_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    names = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xfc")]
    )
    path = write(tmp_path / "in.parquet", 2, image_id=names)
    with pytest.raises(UserError, match="'image_id' of the file .* has text that is not UTF-8"):
        made(path)


def test_a_cut_file_is_told_without_advice_to_delete_it(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"in\.parquet' can't be read as Parquet") as caught:
        made(path)
    assert "delete" not in str(caught.value) and "anew" not in str(caught.value)
