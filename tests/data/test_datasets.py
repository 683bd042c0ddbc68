"""Datasets: loaders, subsets, streaming and what is refused."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import pickle
import runpy
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bandlimit.config import datasets, registry
from bandlimit.data import downloads, make, pictures, stream
from bandlimit.data.make import download_files, make_dataset
from bandlimit.data.source import COLUMNS, IDX_FILES, Source
from bandlimit.errors import UserError
from bandlimit.files import store

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


REGISTRY = registry.read(ROOT / "workflow/registry/datasets.csv")


def registered(name: str) -> Source:
    """Return a source of the registry, as the workflow hands it to a job."""
    entry = {"source": name, "path": "elsewhere"} if name == "imagenet_val" else {"source": name}
    known = datasets.resolve(name, entry, REGISTRY)
    return Source(
        name=known.source,
        loader=known.loader,
        sha256=known.sha256,
        classes=known.classes,
        shape=known.shape,
        images=known.counts,
        path=known.path,
    )


def random_images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def write_parquet(path: Path, images: np.ndarray, **columns: object) -> Path:
    count = len(images)
    rows = {
        "image_id": [f"image {row}" for row in range(count)],
        "label": [row % 10 for row in range(count)],
        "split": ["test"] * count,
        "image": store.image_column(images),
        **columns,
    }
    pq.write_table(pa.table({name: rows[name] for name in rows if rows[name] is not None}), path)
    return path


def write_tree(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(folder / f"{prefix}-{kind}-ubyte.gz", "wb") as file:
                file.write(head + array.tobytes())
    return folder


def python2_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """Return a pickle as Python 2's cPickle wrote CIFAR-10's: byte strings, numpy's old names."""
    data = images.reshape(len(images), -1)

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + (b"(cnumpy\nndarray\n" + b"(" + number(0) + b"t" + text(b"b") + b"tR")
        + (b"(" + number(1) + b"(" + number(data.shape[0]) + number(data.shape[1]) + b"t")
        + (b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR")
        + (b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb")
        + (b"\x89" + b"T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb")
    )
    return (
        b"\x80\x02}("
        + (text(b"data") + array)
        + (text(b"labels") + b"](" + b"".join(map(number, labels)) + b"e")
        + (text(b"batch_label") + text(b"a batch") + b"u.")
    )


def write_cifar10(path: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["HARM"],)


# Loaders


def test_parquet_round_trip(tmp_path: Path) -> None:
    images = random_images(30, 3, 5, 7)
    path = write_parquet(tmp_path / "in.parquet", images)
    out = tmp_path / "out.parquet"
    count = make_dataset(Source("own", "parquet", path=path), out, certificate={"rule": "x"})
    image_ids, labels, tensor = stream.load(out)
    assert count == 30
    assert image_ids == [f"image {row}" for row in range(30)]
    assert labels.dtype == torch.int64 and labels.tolist() == [row % 10 for row in range(30)]
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, torch.from_numpy(images).float() / 255)
    assert store.certificate(out)["rule"] == "x"
    schema = pq.read_schema(out)
    assert tuple(schema.names) == COLUMNS
    assert schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (3, 5, 7))


def test_a_view_with_a_channel_axis_is_read_back(tmp_path: Path) -> None:
    images = random_images(5, 4, 3)[1:, None]
    store.write(tmp_path / "x.parquet", make.table(list("abcd"), [0] * 4, ["x"] * 4, images))
    assert torch.equal(
        stream.load(tmp_path / "x.parquet")[2], torch.from_numpy(images).float() / 255
    )


def test_parquet_split_and_subset_read_the_right_rows(tmp_path: Path) -> None:
    images = random_images(700, 1, 2, 2)
    # Large strings are what pandas writes.
    splits = pa.array(["train" if row % 3 else "test" for row in range(700)], pa.large_string())
    path = write_parquet(tmp_path / "in.parquet", images, split=splits)
    out = tmp_path / "out.parquet"
    assert make_dataset(Source("own", "parquet", path=path), out, split="test", images=50) == 50
    image_ids, _, tensor = stream.load(out)
    rows = [int(image_id.split()[1]) for image_id in image_ids]
    assert rows == sorted(rows) and all(row % 3 == 0 for row in rows)
    assert torch.equal(tensor, torch.from_numpy(images[rows]).float() / 255)


def test_shipped_fashion_mnist(tmp_path: Path) -> None:
    source = registered("fashion_mnist")
    path = ROOT / str(source.path)
    sizes = map(int, REGISTRY["fashion_mnist"]["bytes"].split())
    for split, sha256, size in zip(("train", "test"), source.sha256, sizes, strict=True):
        file = ROOT / "data/fashion_mnist" / f"{split}.parquet"
        assert store.sha256(file) == sha256
        assert file.stat().st_size == size
    out = tmp_path / "out.parquet"
    assert make_dataset(source, out, split="test", path=path) == 10_000
    image_ids, labels, images = stream.load(out)
    assert image_ids[42] == "test/00042"
    assert images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(labels).tolist() == [1000] * 10
    # The mean over all pixels of the test set, as published: 0.2868.
    assert images.mean().item() == pytest.approx(0.2868, abs=1e-4)
    assert make_dataset(source, out, images=30, path=path) == 30
    assert set(store.read(out).column("split").to_pylist()) == {"train", "test"}


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is absent")
def test_the_packaging_script_makes_the_shipped_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = str(ROOT / "scripts/package_fashion_mnist.py")
    arguments = ["--source", str(DEBIAN), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(script, run_name="__main__")
    for name in ("train.parquet", "test.parquet"):
        # Bytes depend on the version of the Parquet writer, so rows are compared.
        assert store.read(tmp_path / name).equals(store.read(ROOT / "data/fashion_mnist" / name))


def test_the_packaging_script_refuses_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path, random_images(3, 28, 28), np.zeros(3, np.uint8))
    script = str(ROOT / "scripts/package_fashion_mnist.py")
    monkeypatch.setattr(
        sys, "argv", [script, "--source", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit, match="has the sha256 .*; allowed: "):
        runpy.run_path(script, run_name="__main__")
    assert not (tmp_path / "out").exists()


def test_idx(tmp_path: Path) -> None:
    images, labels = random_images(6, 4, 5), np.array([3, 1, 4, 1, 5, 9], np.uint8)
    folder = write_idx(tmp_path / "idx", images, labels)
    out = tmp_path / "out.parquet"
    assert make_dataset(Source("mnist", "idx", path=folder), out) == 12
    make_dataset(Source("mnist", "idx", path=folder), out, split="test")
    image_ids, got, tensor = stream.load(out)
    assert image_ids[5] == "test/00005"
    assert got.tolist() == labels.tolist()
    assert torch.equal(tensor, torch.from_numpy(images[:, None]).float() / 255)


def test_downloads_ask_each_mirror_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = write_idx(tmp_path / "there", random_images(2, 3, 3), np.zeros(2, np.uint8))
    asked = {}

    def fetch(urls: list[str], sha256: str, path: Path) -> None:
        asked[Path(path).name] = (list(urls), sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((there / path.name).read_bytes())

    monkeypatch.setattr(downloads, "fetch", fetch)
    download_files("idx", ("https://a/x/", "https://b/"), tuple("1234"), tmp_path / "cache")
    name = "t10k-images-idx3-ubyte.gz"
    assert asked[name] == ([f"https://a/x/{name}", f"https://b/{name}"], "3")


def test_downloaded_files_are_verified_before_they_are_read(tmp_path: Path) -> None:
    cache = write_idx(tmp_path / "cache", random_images(2, 3, 3), np.zeros(2, np.uint8))
    right = tuple(store.sha256(cache / name) for name in IDX_FILES)
    source = Source("mnist", "idx", urls=("https://a/",), sha256=right)
    assert make_dataset(source, tmp_path / "out.parquet", cache=cache) == 4
    wrong = Source("mnist", "idx", urls=("https://a/",), sha256=(*right[:3], "0" * 64))
    with pytest.raises(UserError, match="0" * 64):
        make_dataset(wrong, tmp_path / "out.parquet", cache=cache)


@pytest.mark.parametrize("images", [None, 40])
def test_labels_are_shuffled_once_among_the_images(tmp_path: Path, images: int | None) -> None:
    pixels = random_images(60, 1, 4, 4)
    source = Source("own", "parquet", path=write_parquet(tmp_path / "own.parquet", pixels))
    plain, out, again, other = (tmp_path / f"{n}.parquet" for n in range(4))
    make_dataset(source, plain, images=images, seed=3)
    for path, name in ((out, "a"), (again, "a"), (other, "b")):
        make_dataset(source, path, images=images, seed=3, shuffled=name)
    before, after = store.read(plain), store.read(out)
    assert after.column_names == ["image_id", "label", "original_label", "split", "image"]
    # Nothing else has changed, and no label is lost.
    kept = after.drop_columns("label").rename_columns(["image_id", "label", "split", "image"])
    assert kept.equals(before.select(kept.column_names))
    was, now = before["label"].to_pylist(), after["label"].to_pylist()
    assert sorted(was) == sorted(now)
    assert sum(a == b for a, b in zip(was, now, strict=True)) < len(was) / 3
    assert out.read_bytes() == again.read_bytes()
    assert store.read(other)["label"].to_pylist() not in (was, now)
    # It can be read as any dataset.
    assert stream.load(out)[1].tolist() == now


def test_cifar10(tmp_path: Path) -> None:
    images = random_images(12, 3, 32, 32)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    batches = {
        name: python2_batch(images[2 * place : 2 * place + 2], [place, 9])
        for place, name in enumerate(names)
    }
    # The real archive is not in order either.
    archive = write_cifar10(tmp_path / "cifar.tar.gz", dict(reversed(batches.items())))
    out = tmp_path / "out.parquet"
    assert make_dataset(Source("cifar10", "cifar10", path=archive), out) == 12
    image_ids, labels, tensor = stream.load(out)
    assert image_ids[9:] == ["train/00009", "test/00000", "test/00001"]
    assert labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert torch.equal(tensor, torch.from_numpy(images).float() / 255)


@pytest.mark.filterwarnings("ignore")
def test_the_batch_of_the_test_is_one_that_numpy_reads() -> None:
    images = random_images(2, 3, 32, 32)
    batch = pickle.loads(python2_batch(images, [7, 8]), encoding="bytes")
    assert batch[b"labels"] == [7, 8]
    assert np.array_equal(batch[b"data"], images.reshape(2, -1))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_batch_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    content = pickle.dumps({"data": Harmful(), "labels": [1]}, protocol)
    archive = write_cifar10(tmp_path / "cifar.tar.gz", {"test_batch": content})
    with pytest.raises(UserError, match=r"asks for (posix|nt)\.mkdir.*was refused"):
        make_dataset(
            Source("cifar10", "cifar10", path=archive), tmp_path / "out.parquet", split="test"
        )
    assert not (tmp_path / "harm").exists()
    pickle.loads(content)
    assert (tmp_path / "harm").exists(), "the batch of this test does no harm"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2], 2),
        pickle.dumps({b"labels": [1]}, 3),
        python2_batch(random_images(2, 3, 32, 32), [1]),
        python2_batch(random_images(2, 3, 32, 31), [1, 2]),
        python2_batch(random_images(2, 3, 32, 32), [1, 2]).replace(b"u1", b"O8"),
        b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb.",
    ],
)
def test_a_malformed_batch_is_refused(tmp_path: Path, content: bytes) -> None:
    archive = write_cifar10(tmp_path / "cifar.tar.gz", {"test_batch": content})
    with pytest.raises(UserError, match="is not a CIFAR-10 batch"):
        make_dataset(
            Source("cifar10", "cifar10", path=archive), tmp_path / "out.parquet", split="test"
        )


def test_a_cifar10_archive_that_lacks_a_batch_or_is_none(tmp_path: Path) -> None:
    batch = python2_batch(random_images(1, 3, 32, 32), [0])
    archive = write_cifar10(tmp_path / "cifar.tar.gz", {"test_batch": batch})
    source = Source("cifar10", "cifar10", path=archive)
    with pytest.raises(UserError, match="missing: data_batch_1, data_batch_2"):
        make_dataset(source, tmp_path / "out.parquet")
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"can't be read as \.tar\.gz"):
        make_dataset(source, tmp_path / "out.parquet", split="test")


def test_image_folder_with_spaces_and_unicode(tmp_path: Path) -> None:
    images = random_images(3, 6, 5, 3)
    names = ["Äpfel und Birnen/ein Bild.png", "zèbre/деталь/1.PNG", "zèbre/図.png"]
    folder = write_tree(tmp_path / "ein Ordner ü", dict(zip(names, images, strict=True)))
    (folder / ".hidden").mkdir()
    (folder / "zèbre" / ".DS_Store").touch()
    out = tmp_path / "aus gabe" / "düt.parquet"
    assert make_dataset(Source("own", "imagefolder", path=folder), out, split="mine") == 3
    image_ids, labels, tensor = stream.load(out)
    order = [names.index(image_id) for image_id in image_ids]
    # Folders in the order of their code points, as torchvision's ImageFolder labels them.
    assert [image_id.split("/")[0] for image_id in image_ids] == ["zèbre", "zèbre", names[0][:16]]
    assert labels.tolist() == [0, 0, 1]
    assert torch.equal(tensor, torch.from_numpy(images[order]).permute(0, 3, 1, 2).float() / 255)
    assert store.read(out).column("split").to_pylist() == ["mine"] * 3


def test_classes_csv_gives_labels(tmp_path: Path) -> None:
    images = random_images(2, 2, 2)
    folder = write_tree(tmp_path / "f", {"a/1.png": images[0], "b/1.png": images[1]})
    (folder / "classes.csv").write_text("wnid,label,name\nb,7,x\na,90,y\nc,3,z\n")
    out = tmp_path / "out.parquet"
    make_dataset(Source("own", "imagefolder", path=folder, classes=100), out)
    _, labels, tensor = stream.load(out)
    assert labels.tolist() == [90, 7]
    assert tensor.shape == (2, 1, 2, 2)


@pytest.mark.parametrize(
    ("size", "resized", "left", "top"),
    [
        # As torchvision 0.29 resizes to 256 and crops 224 from the centre; width x height.
        ((300, 260), (295, 256), 36, 16),
        ((511, 257), (509, 256), 142, 16),
        ((256, 256), (256, 256), 16, 16),
        ((40, 90), (256, 576), 16, 176),
        ((225, 301), (256, 342), 16, 59),
        ((500, 375), (341, 256), 58, 16),
        ((640, 481), (340, 256), 58, 16),
    ],
)
def test_resize_and_crop_are_those_of_torchvision(
    tmp_path: Path, size: tuple[int, int], resized: tuple[int, int], left: int, top: int
) -> None:
    image = Image.fromarray(random_images(1, size[1], size[0], 3)[0])
    image.save(tmp_path / "x.png")
    theirs = np.asarray(image.resize(resized, Image.Resampling.BILINEAR))
    ours = pictures.picture(tmp_path / "x.png", 3, 256, 224)
    assert np.array_equal(ours, theirs[top : top + 224, left : left + 224].transpose(2, 0, 1))


def test_imagenet_val_labels_are_the_order_of_wnids(tmp_path: Path) -> None:
    images = random_images(3, 260, 300, 3)
    names = ("n01440764/a.JPEG", "n01443537/b.JPEG", "n01440764/c.JPEG")
    folder = write_tree(tmp_path / "val", dict(zip(names, images, strict=True)))
    out = tmp_path / "out.parquet"
    source = Source("imagenet_val", "imagenet_val", classes=2, shape=(3, 224, 224), path=folder)
    make_dataset(source, out)
    image_ids, labels, tensor = stream.load(out)
    assert image_ids == ["n01440764/a.JPEG", "n01440764/c.JPEG", "n01443537/b.JPEG"]
    assert labels.tolist() == [0, 0, 1]
    assert tensor.shape == (3, 3, 224, 224)


@pytest.mark.skipif(importlib.util.find_spec("foolbox") is None, reason="foolbox is absent")
def test_foolbox_samples_without_importing_foolbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "foolbox", raising=False)
    out = tmp_path / "out.parquet"
    assert make_dataset(registered("cifar10_samples"), out) == 20
    image_ids, labels, tensor = stream.load(out)
    # The labels of the first twenty test images of CIFAR-10.
    assert labels.tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6]
    assert image_ids[:2] == ["cifar10_00_3.png", "cifar10_01_8.png"]
    assert tensor.shape == (20, 3, 32, 32)
    assert make_dataset(registered("imagenet_samples"), out, images=3) == 3
    assert stream.load(out)[2].shape == (3, 3, 224, 224)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        make_dataset(Source("cifar1_samples", "foolbox_samples"), out)
    assert "foolbox" not in sys.modules


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images beside the repository are absent")
def test_real_folders(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    cifar10 = Source("c", "imagefolder", classes=10, shape=(3, 32, 32), path=SHARED / "cifar10")
    assert make_dataset(cifar10, out, images=200) == 200
    assert set(stream.load(out)[1].tolist()) == set(range(10))
    imagenet = Source(
        "i",
        "imagefolder",
        classes=1000,
        shape=(3, 224, 224),
        path=SHARED / "imagenet",
        resize=256,
        crop=224,
    )
    assert make_dataset(imagenet, out, images=40) == 40
    image_ids, labels, _ = stream.load(out)
    lines = (SHARED / "imagenet" / "classes.csv").read_text().splitlines()[1:]
    stated = {line.split(",")[0]: int(line.split(",")[1]) for line in lines}
    assert labels.tolist() == [stated[image_id.split("/")[0]] for image_id in image_ids]
    with pytest.raises(UserError, match="'val'.*has 100 images, where 50000 are stated"):
        make_dataset(
            registered("imagenet_val"),
            out,
            path=SHARED / "imagenet",
        )


# Subsets, streaming, memory


def test_subsets_are_nested_ordered_and_keyed(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", random_images(100, 1, 2, 2))

    def subset(count: int, seed: int = 0, name: str = "own") -> list[str]:
        out = tmp_path / "out.parquet"
        make_dataset(Source(name, "parquet", path=path), out, images=count, seed=seed)
        return stream.load(out)[0]

    order = [f"image {row}" for row in range(100)]
    small, large = subset(10), subset(40)
    assert len(small) == 10 and set(small) < set(large)
    assert large == sorted(large, key=order.index)
    assert small != order[:10]
    assert subset(10) == small
    assert subset(10, seed=1) != small
    assert subset(10, name="other") != small
    assert subset(100) == order


def test_a_subset_does_not_depend_on_the_rows_around(tmp_path: Path) -> None:
    images = random_images(50, 1, 2, 2)
    path = write_parquet(tmp_path / "in.parquet", images)
    ids = [f"image {row}" for row in range(49, -1, -1)]
    turned = write_parquet(tmp_path / "turned.parquet", images, image_id=ids)
    found = []
    for place in (path, turned):
        make_dataset(Source("own", "parquet", path=place), tmp_path / "out.parquet", images=9)
        found.append(set(stream.load(tmp_path / "out.parquet")[0]))
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [1, 3, 7, 64])
@pytest.mark.parametrize("shards", [1, 3, 25])
def test_shards_hold_each_row_once(tmp_path: Path, size: int, shards: int) -> None:
    path = write_parquet(tmp_path / "in.parquet", random_images(20, 1, 2, 2))
    image_ids, labels, images = stream.load(path)
    for shard in range(shards):
        triples = list(stream.batches(path, size, f"{shard + 1}of{shards}"))
        assert all(len(triple[0]) == size for triple in triples[:-1])
        assert [i for triple in triples for i in triple[0]] == image_ids[shard::shards]
        if triples:
            assert torch.equal(torch.cat([triple[1] for triple in triples]), labels[shard::shards])
            assert torch.equal(torch.cat([triple[2] for triple in triples]), images[shard::shards])


def test_chosen_images_are_yielded_and_no_others(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", random_images(20, 1, 2, 2))
    image_ids, labels, _ = stream.load(path)
    few, more = (stream.chosen(path, count, name="own", seed=0) for count in (5, 9))
    assert few is not None and more is not None and (len(few), len(more)) == (5, 9)
    assert few < more and stream.chosen(path, None, name="own", seed=0) is None
    assert few != stream.chosen(path, 5, name="own", seed=1)
    assert few != stream.chosen(path, 5, name="other", seed=0)
    for shard in (0, 1):
        wanted = [row for row in range(shard, 20, 2) if image_ids[row] in more]
        triples = list(stream.batches(path, 2, f"{shard + 1}of2", more))
        assert [i for ids, _, _ in triples for i in ids] == [image_ids[row] for row in wanted]
        assert torch.equal(torch.cat([found for _, found, _ in triples]), labels[wanted])


def test_images_are_decoded_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(20, 4, 4, 3)
    folder = write_tree(
        tmp_path / "f", {f"a/{row:02d}.png": image for row, image in enumerate(images)}
    )
    decoded: list[int] = []
    written: list[int] = []
    picture, write = pictures.picture, store.TableWriter.write

    def counting_picture(*arguments: object) -> np.ndarray:
        decoded.append(1)
        return picture(*arguments)  # type: ignore[arg-type]

    def counting_write(writer: store.TableWriter, rows: pa.Table) -> None:
        written.append(len(decoded))
        write(writer, rows)

    monkeypatch.setattr(make, "_CHUNK_BYTES", 3 * 48)
    monkeypatch.setattr(pictures, "picture", counting_picture)
    monkeypatch.setattr(store.TableWriter, "write", counting_write)
    out = tmp_path / "out.parquet"
    make_dataset(Source("own", "imagefolder", path=folder), out, images=10)
    assert written == [3, 6, 9, 10]
    monkeypatch.undo()
    again = tmp_path / "again.parquet"
    make_dataset(Source("own", "imagefolder", path=folder), again, images=10)
    assert out.read_bytes() == again.read_bytes()


# What is refused


@pytest.mark.parametrize("images", [0, -3, 101])
def test_a_subset_of_another_size_is_refused(tmp_path: Path, images: int) -> None:
    path = write_parquet(tmp_path / "in.parquet", random_images(100, 1, 2, 2))
    with pytest.raises(UserError, match=f"subset of {images} images.*it has 100"):
        make_dataset(Source("own", "parquet", path=path), tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()


IMAGES = random_images(3, 1, 2, 2)
LAST = random_images(3, 4, 5, 3)
BAD_PARQUET: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "float image": ({"image": store.image_column(IMAGES / np.float32(255))}, {}, "'image'.*uint8"),
    "no channel axis": ({"image": store.image_column(IMAGES[:, 0])}, {}, "'image'.*C x H x W"),
    "channels last": (
        {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(LAST.transpose(0, 3, 1, 2))},
        {},
        "'image'.*in this order in memory",
    ),
    "image as list": ({"image": [[1], [2], [3]]}, {}, "'image'.*uint8"),
    "other shape": ({}, {"shape": (1, 2, 3)}, "shape 1 x 2 x 2, where 1 x 2 x 3 is needed"),
    "missing column": ({"label": None}, {}, "no column 'label'"),
    "missing image": ({"image": None}, {}, "no column 'image'"),
    "float label": ({"label": [0.0, 1.0, 2.0]}, {}, "'label'.*integer is needed"),
    "empty label": ({"label": [0, None, 2]}, {}, "'label'.*empty cells"),
    "label too large": ({"label": [0, 10, 2]}, {"classes": 10}, r"'image 1'.* is 10; .*0\.\.9"),
    "negative label": ({"label": [0, 1, -1]}, {}, "'image 2'.* is -1; allowed: 0 or more"),
    "repeated id": ({"image_id": ["a", "b", "a"]}, {}, "'a' occurs 2 times"),
    "other count": ({}, {"images": {"test": 4}}, "'test'.* has 3 images, where 4 are stated"),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_bad_parquet_is_refused(tmp_path: Path, case: str) -> None:
    columns, stated, message = BAD_PARQUET[case]
    path = write_parquet(tmp_path / "in.parquet", IMAGES, **columns)
    with pytest.raises(UserError, match=message):
        make_dataset(Source("own", "parquet", path=path, **stated), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    def message(folder: Path, **stated: object) -> str:
        with pytest.raises(UserError) as caught:
            make_dataset(
                Source("own", "imagefolder", path=folder, **stated),  # type: ignore[arg-type]
                tmp_path / "out",
            )
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    small, large = random_images(1, 6, 6, 3)[0], random_images(1, 9, 6, 3)[0]
    folder = tmp_path / "a folder"
    assert "a folder' of the dataset 'own' does not exist" in message(folder)
    folder.mkdir()
    assert "has no class folder" in message(folder)
    write_tree(folder, {"a/1.png": small, "b/1.png": large})
    assert "'b/1.png' of the dataset 'own' has the shape 3 x 9 x 6, where 3 x 6 x 6" in message(
        folder
    )
    assert "9 x 9" in message(folder, crop=9) and "'" + str(folder / "a" / "1.png") in message(
        folder, crop=9
    )
    assert "crop of the dataset 'own' is 0" in message(folder, crop=0)
    assert "has 2 class folders, where 3 are needed" in message(folder, classes=3)
    (folder / "c").mkdir()
    assert f"class folder {str(folder / 'c')!r} of the dataset 'own' has no image" in message(
        folder
    )
    (folder / "c" / "notes.txt").touch()
    assert "notes.txt' of the dataset 'own' is no image" in message(folder)
    (folder / "c" / "notes.txt").rename(folder / "c" / "1.jpg")
    assert f"The image {str(folder / 'c' / '1.jpg')!r} can't be read" in message(folder, crop=6)
    content = (folder / "a" / "1.png").read_bytes()
    (folder / "c" / "1.jpg").write_bytes(content[: len(content) // 2])
    assert "1.jpg' can't be read" in message(folder, crop=6)
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(folder / "c" / "2.png")
    (folder / "c" / "1.jpg").unlink()
    assert "2.png' has pixels of the type 'I;16'" in message(folder, crop=6)
    (folder / "classes.csv").write_text("wnid,label\na,0\nb,1\n")
    assert "c' has no row in" in message(folder)
    (folder / "classes.csv").write_text("wnid,label\na,0\nb,1\nc,7\n")
    assert "is 7; allowed: 0..2" in message(folder, classes=3)
    (folder / "classes.csv").write_text("wnid,label\na,zero\n")
    assert "classes.csv' can't be read" in message(folder)
    assert "is a file, where a folder" in message(folder / "classes.csv")


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        (Source("x", "imagefoldr"), None, "did you mean 'imagefolder'"),
        (Source("x", "parquet", images={"test": 1}), "tset", "did you mean 'test'"),
        (Source("x", "imagenet_val"), None, "a path is needed"),
        (Source("x", "parquet", path="there is none"), None, "'there is none'.* does not exist"),
        (Source("x", "idx", path="/"), None, "has no file 'train-images-idx3-ubyte.gz'"),
    ],
)
def test_bad_sources_are_refused(
    tmp_path: Path, source: Source, split: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_dataset(source, tmp_path / "out", split=split)


def test_idx_files_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, random_images(2, 3, 3), np.zeros(2, np.uint8))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    source = Source("x", "idx", path=folder)
    for content, message in [
        (b"<html>", "can't be read as gzip"),
        (gzip.compress(b"<html>"), "not a whole IDX file"),
        (gzip.compress(b""), "not a whole IDX file"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03ab"), "not a whole IDX file"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc"), "N x H x W images and N labels"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc")[:-12], "can't be read as gzip"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            make_dataset(source, tmp_path / "out", split="test")


@pytest.mark.parametrize("shard", ["", "0of2", "3of2", "1of0", "1/2", "a1of2", "1of2x"])
def test_malformed_shards_are_refused(tmp_path: Path, shard: str) -> None:
    path = write_parquet(tmp_path / "in.parquet", IMAGES)
    with pytest.raises(UserError, match="shard"):
        list(stream.batches(path, 2, shard))


# The registry


def test_the_registry_names_what_loaders_need() -> None:
    assert set(REGISTRY) >= {
        "fashion_mnist",
        "mnist",
        "cifar10",
        "imagenet_val",
        "imagenet_samples",
    }
    assert len(REGISTRY["cifar10"]["urls"].split()) >= 2
    for row in REGISTRY.values():
        files = {"idx": 4, "cifar10": 1, "parquet": 2}.get(row["loader"], 0)
        assert len(row["sha256"].split()) == len(row["bytes"].split()) == files
        assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in row["sha256"].split())
        assert ("://" in row["urls"]) == (row["loader"] in ("idx", "cifar10"))
        assert row["licence"] and row["reference"]
        assert row["loader"] in make.LOADERS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name,", "nam,", "'name'"),
        (",idx,", ",idxx,", "idxx"),
        ("1 28 28", "28 28", "28 28"),
        ("train:10000", "train", "train"),
        ("cifar10_samples", "mnist", "two rows named 'mnist'"),
    ],
)
def test_a_malformed_registry_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (ROOT / "workflow/registry/datasets.csv").read_text()
    assert old in text
    (tmp_path / "x.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        registry.read(tmp_path / "x.csv", ROOT / "workflow/schemas/datasets.schema.yaml")
