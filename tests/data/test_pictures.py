"""Pictures come as people see them: turned, on white where transparent, gray or in colour."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bandlimit.data import pictures, stream
from bandlimit.data.make import make_dataset
from bandlimit.data.source import Source
from bandlimit.errors import UserError

PIXELS = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1)


# The first row and column of what is stored, as the EXIF standard names the eight values: what
# makes of the stored pixels the seen ones.
TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_is_turned_as_its_flag_says(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", exif=tag, quality=95, subsampling=0)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        stored = np.asarray(image)
    seen = pictures.picture(tmp_path / f"a.{suffix}", 3)
    assert np.array_equal(seen, planes(TURNS[orientation](stored)))
    assert pictures.size(tmp_path / f"a.{suffix}") == seen.shape[:0:-1]


def test_transparent_pixels_are_white_whatever_lies_below(tmp_path: Path) -> None:
    rgba = np.dstack([PIXELS, np.full((4, 6), 255, np.uint8)])
    rgba[:2, :, 3] = 0
    rgba[2, 0] = (200, 100, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    seen = pictures.picture(tmp_path / "a.png", 3)
    assert (seen[:, :2] == 255).all()
    assert np.array_equal(seen[:, 3], planes(PIXELS)[:, 3])
    # Half of the colour, half white.
    assert np.abs(seen[:, 2, 0].astype(int) - [228, 177, 127]).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "L"])
def test_transparency_of_any_kind_is_seen(tmp_path: Path, mode: str) -> None:
    gray = np.arange(24, dtype=np.uint8).reshape(4, 6)
    if mode == "LA":
        alpha = np.where(gray == 7, 0, 255).astype(np.uint8)
        Image.fromarray(np.dstack([gray, alpha]), "LA").save(tmp_path / "a.png")
    else:
        image = Image.fromarray(gray)
        if mode == "P":
            image.putpalette([value for value in range(256) for _ in range(3)])
        elif mode == "RGB":
            image = image.convert("RGB")
        hidden: object = (7, 7, 7) if mode == "RGB" else 7
        image.save(tmp_path / "a.png", transparency=hidden)
    expected = np.where(gray == 7, 255, gray)
    assert np.array_equal(pictures.picture(tmp_path / "a.png", 1)[0], expected)


def test_bytes_are_read_as_a_file_is(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(pictures.picture(content, 3), planes(PIXELS))
    with pytest.raises(UserError, match=r"'row 3' can't be read"):
        pictures.picture(content[:50], 3, name="row 3")


@pytest.mark.parametrize("grays", [["a/0.png"], ["a/1.png"], ["b/2.png"]])
def test_gray_and_colour_mixed_are_read_in_colour(tmp_path: Path, grays: list[str]) -> None:
    """One file does not decide for all, whether it is the first or the last."""
    names = ["a/0.png", "a/1.png", "b/2.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(PIXELS)
        (image.convert("L") if name in grays else image).save(tmp_path / "in" / name)
    source = Source("own", "imagefolder", path=tmp_path / "in")
    make_dataset(source, tmp_path / "out.parquet")
    ids, _, images = stream.load(tmp_path / "out.parquet")
    assert images.shape == (3, 3, 4, 6)
    for name, image in zip(ids, images, strict=True):
        assert (image[0] == image[1]).all() == (name in grays)
    # A subset is read as the whole is.
    make_dataset(source, tmp_path / "one.parquet", images=1)
    assert stream.load(tmp_path / "one.parquet")[2].shape == (1, 3, 4, 6)


@pytest.mark.parametrize(("shape", "gray"), [((1, 4, 6), None), (None, True), ((3, 4, 6), None)])
def test_channels_are_those_that_are_asked_for(
    tmp_path: Path, shape: tuple[int, int, int] | None, gray: bool | None
) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    Image.fromarray(PIXELS).save(tmp_path / "in/a/0.png")
    source = Source("own", "imagefolder", path=tmp_path / "in", shape=shape, gray=gray)
    make_dataset(source, tmp_path / "out.parquet")
    assert stream.load(tmp_path / "out.parquet")[2].shape == (1, *(shape or (1, 4, 6)))


@pytest.mark.parametrize(("given", "stored"), [(None, ""), ("val", "val")])
def test_the_split_is_as_configured_or_empty(
    tmp_path: Path, given: str | None, stored: str
) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    Image.fromarray(PIXELS).save(tmp_path / "in/a/0.png")
    out = tmp_path / "out.parquet"
    make_dataset(Source("own", "imagefolder", path=tmp_path / "in"), out, split=given)
    from bandlimit.files import store

    assert store.read(out)["split"].to_pylist() == [stored]


def test_a_header_that_is_none_is_told() -> None:
    with pytest.raises(UserError, match="can't be read"):
        pictures.is_gray(io.BytesIO(b"no picture").getvalue(), name="x")
