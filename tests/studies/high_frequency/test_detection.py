"""Detection of objects in components of images, on generated pictures in COCO's format."""

from __future__ import annotations

import json
import math
import runpy
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn

from bandlimit.errors import UserError
from bandlimit.files import parts, store, tables
from bandlimit.plots import files
from bandlimit.provenance import job as jobs
from bandlimit.studies.high_frequency import (
    coco,
    detection,
    detection_figures,
    detection_rates,
    settings,
)

SCRIPTS = Path(__file__).parents[3] / "scripts"
RED, BLUE = 3, 17
"""Ids of the two categories, which have gaps as those of COCO do."""

SIDES = {11: (96, 128), 2: (128, 96), 30: (90, 121), 4: (96, 128), 25: (97, 120), 6: (96, 96)}
"""Height and width of the pictures by id, out of order."""

BOXES = {
    11: {RED: (10, 12, 40, 30), BLUE: (70, 50, 32, 40)},
    2: {RED: (20, 40, 50, 50)},
    30: {BLUE: (60, 20, 24, 48)},
    4: {RED: (70, 10, 30, 60), BLUE: (8, 60, 50, 24)},
    25: {RED: (30, 30, 40, 40)},
    6: {BLUE: (12, 12, 64, 64)},
}
"""x, y, width, height of the object of a category in a picture."""


def annotations():
    things = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for number, (image_id, category_id, box) in enumerate(
            (image_id, category_id, box)
            for image_id, boxes in BOXES.items()
            for category_id, box in boxes.items()
        )
    ]
    return {
        "images": [
            {"id": image_id, "file_name": f"{image_id:012}.png", "height": h, "width": w}
            for image_id, (h, w) in SIDES.items()
        ],
        "annotations": things,
        "categories": [{"id": RED, "name": "red thing"}, {"id": BLUE, "name": "blue thing"}],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of pictures: plain rectangles on noise."""
    home = tmp_path_factory.mktemp("coco")
    (home / "annotations").mkdir()
    (home / "val2017").mkdir()
    rng = np.random.default_rng(5)
    for image_id, sides in SIDES.items():
        pixels = rng.integers(60, 140, (*sides, 1)).repeat(3, axis=2).astype(np.uint8)
        for category_id, (x, y, width, height) in BOXES[image_id].items():
            color = (255, 0, 0) if category_id == RED else (0, 0, 255)
            pixels[y : y + height, x : x + width] = color
        Image.fromarray(pixels).save(home / "val2017" / f"{image_id:012}.png")
    write(home, annotations())
    return home


def write(home, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (home / "annotations/instances_val2017.json").write_text(text, encoding="utf-8")


def read(home):
    return coco.read(home / "annotations/instances_val2017.json", home / "val2017")


@pytest.fixture(scope="module")
def data(folder):
    return read(folder)


def frame(rows, component="full"):
    """Return detections from rows of image, category, score and box."""
    return pd.DataFrame(
        [(i, component, c, score, *map(float, box)) for i, c, score, box in rows],
        columns=detection.SCHEMA.names,
    ).astype({"image_id": int, "category_id": int, "score": float})


def true_rows(score=0.9):
    return [(i, c, score, box) for i, boxes in BOXES.items() for c, box in boxes.items()]


def scene(things, images=(1, 2)):
    """Return pictures without files; things are image, category, box, and whether a crowd."""
    return coco.Coco(
        tuple(coco.Picture(i, Path(f"{i}.png"), 100, 100) for i in images),
        tuple(
            coco.Thing(n, i, c, box, box[2] * box[3], crowd)
            # From 0, which pycocotools takes for no object.
            for n, (i, c, box, crowd) in enumerate(things)
        ),
        {RED: "red", BLUE: "blue"},
    )


# Reading -----------------------------------------------------------------------------------------


def test_pictures_are_in_the_order_of_their_ids_with_all_that_is_in_them(data):
    assert [picture.id for picture in data.pictures] == sorted(SIDES)
    assert {(t.image_id, t.category_id): t.box for t in data.things} == {
        (i, c): tuple(map(float, box)) for i, boxes in BOXES.items() for c, box in boxes.items()
    }
    for picture in data.pictures:
        x = coco.pixels(picture)
        assert x.shape == (3, *SIDES[picture.id]) and x.dtype == torch.float32
        for category_id, (left, top, width, height) in BOXES[picture.id].items():
            inside = x[:, top : top + height, left : left + width]
            color = [1, 0, 0] if category_id == RED else [0, 0, 1]
            assert inside.amin((1, 2)).tolist() == inside.amax((1, 2)).tolist() == color


def test_a_choice_is_seeded_and_a_larger_one_contains_it(data):
    few, more = data.chosen(2, seed=1), data.chosen(4, seed=1)
    ids = {picture.id for picture in few.pictures}
    assert len(ids) == 2 and ids < {picture.id for picture in more.pictures}
    assert {thing.image_id for thing in few.things} == ids
    assert few == data.chosen(2, seed=1)
    choices = {frozenset(p.id for p in data.chosen(2, seed=s).pictures) for s in range(8)}
    assert len(choices) > 1
    assert data.chosen(None, seed=1) == data
    with pytest.raises(UserError, match="subset of 7 images .* allowed is 1 to 6"):
        data.chosen(7, seed=1)


def changed(change):
    content = annotations()
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2", "is no JSON"),
        ([1, 2], "no list 'images', so it holds no annotations of COCO"),
        ({"images": [], "annotations": []}, "no list 'categories'"),
        (changed(lambda c: c["images"][1].pop("width")), "entry 1 of 'images' has no 'width'"),
        (changed(lambda c: c["images"][0].update(file_name="gone.png")), "lacks 1 of the 6"),
        (
            changed(lambda c: c["images"][0].update(id=2)),
            "'images' has the id 2, which is there tw",
        ),
        (changed(lambda c: c["categories"][0].update(id="3")), "'3', which is no whole number"),
        (changed(lambda c: c["annotations"][0].update(image_id=9)), "has the image_id 9, which is"),
        (changed(lambda c: c["annotations"][0].update(category_id=1)), "has the category_id 1, "),
        (changed(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), r"has the box \[1, 2, 3\]"),
        (changed(lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 1])), "not below 0"),
        (changed(lambda c: c["annotations"][0].update(bbox=[math.nan, 2, 3, 1])), "has the box"),
    ],
)
def test_bad_annotations_are_refused_in_one_sentence(content, words, folder, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(folder / "val2017")
    write(tmp_path, content)
    with pytest.raises(UserError, match=words) as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="file of annotations .* can't be read: No such file"):
        coco.read(tmp_path / "none.json", folder / "val2017")
    with pytest.raises(UserError, match="folder of pictures .* does not exist"):
        coco.read(folder / "annotations/instances_val2017.json", tmp_path / "none")


def test_a_picture_of_another_size_or_damaged_is_refused(folder, data, tmp_path):
    picture = data.pictures[0]
    other = coco.Picture(picture.id, picture.path, picture.width, picture.height + 1)
    with pytest.raises(UserError, match=r"has 128 x 96 pixels, where its annotations have 129 x"):
        coco.pixels(other)
    (tmp_path / "damaged.png").write_bytes(picture.path.read_bytes()[:200])
    with pytest.raises(UserError, match="can't be read"):
        coco.pixels(coco.Picture(1, tmp_path / "damaged.png", 96, 128))


# Components --------------------------------------------------------------------------------------


def wave(sides, down, right, size=0.2):
    """Return a cosine of so many periods per side, 3 x H x W, without a mean."""
    rows, columns = (torch.arange(n, dtype=torch.float64) / n for n in sides)
    angle = 2 * math.pi * (down * rows[:, None] + right * columns[None, :])
    return (size * torch.cos(angle)).expand(3, *sides)


@pytest.mark.parametrize("sides", [(64, 96), (45, 70), (51, 33)])
def test_waves_within_the_radius_are_low_and_those_beyond_it_high(sides):
    slow, fast = wave(sides, 3, 4), wave(sides, -6, 9)
    x = (0.5 + slow + fast).float()
    low = detection.component(x, "low", 8.0)
    assert low.dtype == torch.float32 and low.shape == x.shape
    torch.testing.assert_close(low, (0.5 + slow).float(), rtol=0, atol=1e-6)
    high = detection.component(x, "high", 8.0)
    torch.testing.assert_close(high, fast.clamp(0, 1).float(), rtol=0, atol=1e-6)
    by_maximum = detection.component(x, "high", 8.0, scale="maximum")
    torch.testing.assert_close(by_maximum, (fast / fast.max()).float(), rtol=0, atol=1e-5)
    assert by_maximum.min() < -0.9 and by_maximum.max() == 1
    assert torch.equal(detection.component(x, "full", None, scale="maximum"), x)


def test_low_and_high_frequencies_add_up_to_the_image(data):
    for picture in data.pictures:
        x = coco.pixels(picture)
        parts = [
            detection.component(x, name, 10.0, scale="maximum").double().flatten()
            for name in ("low", "high")
        ]
        # Each was divided by its maximum, so that some multiples of them add up.
        factors = torch.linalg.lstsq(torch.stack(parts, 1), x.double().flatten()[:, None])
        left = torch.stack(parts, 1) @ factors.solution - x.double().flatten()[:, None]
        assert left.abs().max() < 1e-5
        assert (factors.solution > 0.1).all()


def test_the_border_of_the_disk_is_high_unless_it_is_asked_in():
    x = (0.5 + wave((40, 60), 0, 8)).float()
    grey = torch.full_like(x, 0.5)
    torch.testing.assert_close(detection.component(x, "low", 8.0), grey, rtol=0, atol=1e-6)
    within = detection.component(x, "low", 8.0, strict=False)
    torch.testing.assert_close(within, x, rtol=0, atol=1e-6)


def test_a_small_image_is_all_low():
    x = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(detection.component(x, "low", 128.0), x, rtol=0, atol=1e-6)
    assert detection.component(x, "high", 128.0).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "radius", "scale"),
    [("middle", 1.0, "none"), ("low", 1.0, "std"), ("low", None, "none")],
)
def test_unknown_components_are_refused(name, radius, scale):
    with pytest.raises(ValueError, match="known are|needs a radius"):
        detection.component(torch.zeros(3, 4, 4), name, radius, scale=scale)


# The detector ------------------------------------------------------------------------------------


def eased(detector):
    """Let a detector look at small images, and keep boxes of any score: random weights are shy."""
    detector.transform.min_size = (64,)
    detector.score_thresh = 0.0
    detector.topk_candidates = 100
    return detector


@pytest.fixture(scope="module")
def detector():
    return eased(detection.build(seed=3))


def looked(detector, data, name="low", **more):
    images = ((picture.id, coco.pixels(picture)) for picture in data.pictures)
    return list(detection.detections(detector, images, name, radius=8.0, **more))


def test_random_weights_are_seeded_and_leave_the_generator_alone(detector):
    before = torch.random.get_rng_state()
    again, other = detection.build(seed=3), detection.build(seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    name = "head.classification_head.cls_logits.weight"
    state = detector.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert not torch.equal(other.state_dict()[name], state[name])
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def test_rows_are_valid_and_equal_each_time(detector, data):
    few = data.only([2, 30])
    found = looked(detector, few)
    assert [table.schema for table in found] == [detection.SCHEMA] * 2
    for picture, table in zip(few.pictures, found, strict=True):
        rows = table.to_pandas()
        assert len(rows) > 50
        assert set(rows["image_id"]) == {picture.id} and set(rows["component"]) == {"low"}
        assert rows["category_id"].between(0, 90).all() and rows["score"].between(0, 1).all()
        assert (rows[["x", "y", "width", "height"]] >= 0).all(axis=None)
        assert (rows["x"] + rows["width"] <= picture.width).all()
        assert (rows["y"] + rows["height"] <= picture.height).all()
        assert (rows["width"] > 5).any() and rows["score"].nunique() > 5
    assert looked(detector, few) == found
    # No image depends on those before it.
    assert looked(detector, data.only([30])) == found[1:]
    assert looked(detector, data.only([30]), "high") != found[1:]


def test_an_image_without_detections_gives_no_rows(data):
    few = data.only([2])
    shy = eased(detection.build(seed=3))
    shy.score_thresh = 1.0
    (table,) = looked(shy, few)
    assert len(table) == 0 and table.schema == detection.SCHEMA


@pytest.fixture(scope="module")
def weights(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(detector.state_dict(), path)
    return path


def test_the_detector_is_the_one_that_torchvision_builds_for_its_weights(
    detector, weights, data, monkeypatch
):
    published = RetinaNet_ResNet50_FPN_Weights.COCO_V1
    assert published.url == settings.DETECTOR_URL and settings.DETECTOR_SHA256 in published.url
    assert len(published.meta["categories"]) == detection.CLASSES
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(type(published), "get_state_dict", lambda *args, **more: state)
    reference = eased(retinanet_resnet50_fpn(weights=published).eval())
    few = data.only([4])
    assert looked(reference, few) == looked(detector, few)


def test_weights_are_read_after_their_checksum_also_by_their_older_names(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    digest = store.sha256(weights)
    for sha256 in (digest, digest[:8]):
        found = detection.build(weights, sha256=sha256).state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(value, found[name]) for name, value in state.items())
    older = OrderedDict()
    for name, value in state.items():
        part, _, rest = name.partition(".conv.")
        if part.startswith("head.") and rest:
            number, _, kind = rest.split(".")
            name = f"{part}.conv.{2 * int(number)}.{kind}"
        older[name] = value
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "older.pth")
    path = tmp_path / "older.pth"
    found = detection.build(path, sha256=store.sha256(path)).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in state.items())


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_weights_of_another_checksum_are_never_opened(tmp_path):
    path = tmp_path / "trap.pth"
    torch.save({"a": Trap()}, path)
    with pytest.raises(UserError, match="is not the one that was expected"):
        detection.build(path)
    with pytest.raises(UserError, match="would run code"):
        detection.build(path, sha256=store.sha256(path))
    with pytest.raises(UserError, match="does not exist"):
        detection.build(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="either a file of weights or a seed"):
        detection.build()


def test_weights_of_another_detector_are_refused(weights):
    with pytest.raises(UserError, match="another detector than RetinaNet .* of 5 classes"):
        detection.build(weights, sha256=store.sha256(weights), classes=5)


# Average precision -------------------------------------------------------------------------------

BOX = (20.0, 20.0, 40.0, 40.0)


def test_the_true_boxes_have_a_precision_of_1(data):
    assert detection_rates.average_precision(data, frame(true_rows())) == {"ap": 1, "ap50": 1}


@pytest.mark.parametrize(
    ("rows", "ap", "ap50"),
    [
        # 35 of 45 columns are shared, an IoU of .78: six of the ten levels, .50 to .75, match.
        ([(1, RED, 0.9, (25, 20, 40, 40)), (2, RED, 0.9, BOX)], None, 1),
        # Half are found: the 51 levels of recall up to .5 of 101 have a precision of 1.
        ([(1, RED, 0.9, BOX)], 51 / 101, 51 / 101),
        # A wrong box before them: a precision of 1/2 and then 2/3, which counts for both.
        (
            [(1, RED, 0.99, (70, 70, 9, 9)), (1, RED, 0.9, BOX), (2, RED, 0.8, BOX)],
            2 / 3,
            2 / 3,
        ),
        # A wrong box behind them changes nothing, nor does one of a category that is not there.
        (
            [(1, RED, 0.9, BOX), (2, RED, 0.8, BOX), (1, RED, 0.1, (70, 70, 9, 9))],
            1,
            1,
        ),
        ([(1, RED, 0.9, BOX), (2, RED, 0.8, BOX), (2, BLUE, 0.9, BOX)], 1, 1),
        ([(1, BLUE, 0.9, BOX), (2, BLUE, 0.8, BOX)], 0, 0),
        ([], 0, 0),
    ],
)
def test_average_precision_by_hand(rows, ap, ap50):
    there = scene([(1, RED, BOX, False), (2, RED, BOX, False)])
    if ap is None:
        # At the other four levels: the shifted box comes first, of equal score, and is wrong, so
        # that the second of them has a precision of 1/2 up to a recall of 1/2.
        ap = (6 * 1 + 4 * (51 / 101) * 0.5) / 10
    found = detection_rates.average_precision(there, frame(rows))
    assert found == pytest.approx({"ap": ap, "ap50": ap50}, abs=1e-9)


def test_the_precision_of_an_image_is_that_of_its_objects_alone():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 60, (12, 2)).round()
    things = [
        (1 + n % 3, (RED, BLUE)[n % 2], (x, y, 30.0, 30.0), n == 5)
        for n, (x, y) in enumerate(corners)
    ]
    rows = frame(
        [
            (i, c, score, (box[0] + dx, box[1] + dy, 30, 30))
            for i, c, box, _ in things * 3
            for score, dx, dy in [rng.uniform([0, -9, -9], [1, 9, 9])]
        ]
    )
    cells, _ = detection_rates.compare(scene(things, images=(1, 2, 3)), {"full": rows})
    assert len(cells) == 6 and cells["full"].nunique() > 3
    for cell in cells.itertuples():
        alone = scene([t for t in things if t[:2] == (cell.image_id, cell.category_id)], (1, 2, 3))
        own = rows[rows["image_id"] == cell.image_id]
        expected = detection_rates.average_precision(alone, own)["ap"]
        assert cell.full == pytest.approx(expected, abs=1e-12)


def test_crowds_count_neither_as_found_nor_as_missed():
    there = scene([(1, RED, BOX, False), (2, RED, BOX, True)])
    own = [(1, RED, 0.8, BOX)]
    for rows in (own, [*own, (2, RED, 0.9, (22, 22, 10, 10))]):
        assert detection_rates.average_precision(there, frame(rows))["ap"] == pytest.approx(1)
    _, objects = detection_rates.compare(there, {"full": frame(own)})
    assert objects["annotation_id"].tolist() == [0]


def test_without_objects_there_is_no_precision():
    found = detection_rates.average_precision(scene([]), frame([(1, RED, 0.9, BOX)]))
    assert math.isnan(found["ap"]) and math.isnan(found["ap50"])
    cells, objects = detection_rates.compare(scene([]), {"full": frame([]), "low": frame([])})
    assert len(cells) == len(objects) == 0
    assert not any(detection_rates.better(cells, objects, "low", "full").values())


def test_detections_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"images \[3\] that were not looked at"):
        detection_rates.average_precision(scene([(1, RED, BOX, False)]), frame([(3, RED, 1, BOX)]))


def test_nothing_is_printed(capfd):
    there = scene([(1, RED, BOX, False)])
    detection_rates.average_precision(there, frame([(1, RED, 0.9, BOX)]))
    detection_rates.compare(there, {"full": frame([])})
    assert capfd.readouterr() == ("", "")


# Better in low frequencies -----------------------------------------------------------------------

NEAR, FAR = (23.0, 20.0, 40.0, 40.0), (70.0, 70.0, 20.0, 20.0)


def found_better(full, low, things=((1, RED, BOX, False),)):
    there = scene(things)
    cells, objects = detection_rates.compare(there, {"full": frame(full), "low": frame(low)})
    return (
        detection_rates.better(cells, objects, "low", "full"),
        detection_rates.better(cells, objects, "full", "low"),
    )


@pytest.mark.parametrize(
    ("full", "low", "better"),
    [
        # The same in both.
        ([(1, RED, 0.9, BOX)], [(1, RED, 0.9, BOX)], ""),
        # A greater score of the same box, with nothing else there: no other precision.
        ([(1, RED, 0.8, BOX)], [(1, RED, 0.9, BOX)], "score"),
        # Found there, and before with too low a score, at a wrong place, or as something else.
        ([(1, RED, 0.4, BOX)], [(1, RED, 0.9, BOX)], "score found"),
        ([(1, RED, 0.9, FAR)], [(1, RED, 0.9, BOX)], "precision score found"),
        ([(1, BLUE, 0.9, BOX)], [(1, RED, 0.9, BOX)], "precision score found"),
        ([], [(1, RED, 0.9, BOX)], "precision score found"),
        # Not found there either.
        ([(1, RED, 0.2, BOX)], [(1, RED, 0.3, BOX)], ""),
        # A box that fits better, of equal score.
        ([(1, RED, 0.9, NEAR)], [(1, RED, 0.9, BOX)], "precision"),
        # A wrong box before it is gone.
        ([(1, RED, 0.95, FAR), (1, RED, 0.9, BOX)], [(1, RED, 0.9, BOX)], "precision"),
    ],
)
def test_an_image_is_better_by_the_measures_that_it_is(full, low, better):
    expected = {name: [1] if name in better.split() else [] for name in detection_rates.MEASURES}
    nothing = {name: [] for name in detection_rates.MEASURES}
    assert found_better(full, low) == (expected, nothing)
    assert found_better(low, full) == (nothing, expected)


def test_an_image_may_be_better_and_worse():
    things = ((1, RED, BOX, False), (1, BLUE, FAR, False), (2, RED, BOX, False))
    same = [(2, RED, 0.9, BOX)]
    more, less = found_better([*same, (1, RED, 0.9, BOX)], [*same, (1, BLUE, 0.9, FAR)], things)
    assert more == less == {name: [1] for name in detection_rates.MEASURES}


def test_each_object_has_the_box_of_its_own():
    # Both boxes meet the first object by more than half; the better score takes the better fit.
    things = [
        (1, RED, BOX, False),
        (1, RED, (24.0, 20.0, 40.0, 40.0), False),
        (2, BLUE, FAR, False),
    ]
    rows = [(1, RED, 0.6, (24, 20, 40, 40)), (1, RED, 0.9, BOX), (1, BLUE, 0.9, FAR)]
    cells, objects = detection_rates.compare(scene(things), {"full": frame(rows)})
    assert objects["full"].tolist() == [0.9, 0.6, 0]
    assert objects["full_row"].tolist() == [1, 0, -1]
    assert cells.to_dict("list") == {
        "image_id": [1, 2],
        "category_id": [RED, BLUE],
        "objects": [2, 1],
        "full": pytest.approx([1, 0]),
    }


# Tables, figures, scripts ------------------------------------------------------------------------


class ByColor(torch.nn.Module):
    """A detector of one plain rectangle of each colour, as torchvision's detectors answer."""

    def forward(self, images):
        (x,) = images
        boxes, scores, labels = [], [], []
        for label, channel in ((RED, 0), (BLUE, 2)):
            contrast = x[channel] - x[1]
            there = contrast > 0.5
            if there.any():
                rows, columns = (there.any(dim).nonzero().flatten() for dim in (1, 0))
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                scores.append(contrast[there].mean().clamp(max=1))
                labels.append(label)
        return [
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "scores": torch.tensor(scores, dtype=torch.float32),
                "labels": torch.tensor(labels, dtype=torch.int64),
            }
        ]


@pytest.fixture(scope="module")
def claims(tmp_path_factory):
    path = tmp_path_factory.mktemp("claims") / "claims.yaml"
    reported = {
        "detection": [{"component": "full", "ap": 0.35}, {"component": "low", "ap": 0.27}],
        "detection_gains": [{"measure": "precision", "images": 5000, "better": 1684}],
    }
    path.write_text(yaml.safe_dump({"reported": reported}))
    return path


class Inputs(SimpleNamespace):
    """The files of a job, by attribute or by key."""

    def __getitem__(self, name):
        return getattr(self, name)


PARAMS = {"images": None, "seed": 0}
PART = {"radius": 4.0, "strict": True, "scale": "none"}


@pytest.fixture(scope="module")
def made(folder, claims, tmp_path_factory):
    """Run the scripts with a detector by colour; return what they read and wrote."""
    home = tmp_path_factory.mktemp("results")
    inputs = {
        "annotations": str(folder / "annotations/instances_val2017.json"),
        "pictures": str(folder / "val2017"),
    }
    kept = SimpleNamespace(home=home, tables=[], figures=[], asked=[])

    def run(script, job):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "run", lambda main, snakemake: main(job))
            patch.setattr(tables, "save", lambda table, **more: kept.tables.append(table))
            patch.setattr(files, "save", lambda figure, **more: kept.figures.append(figure))
            patch.setattr(
                detection,
                "build",
                lambda *args, **more: kept.asked.append((args, more)) or ByColor(),
            )
            runpy.run_path(str(SCRIPTS / f"{script}.py"), init_globals={"snakemake": None})

    def job(params, reads, **more):
        return SimpleNamespace(
            input=Inputs(**inputs, **reads),
            params=SimpleNamespace(**PARAMS, **params),
            certificate=lambda device="cpu": {},
            parts=lambda outputs, device: parts.Parts(outputs, dict),
            **more,
        )

    for name in detection.COMPONENTS:
        of_component = job(
            {"device": "cpu", "sha256": "ab" * 32, "part": {} if name == "full" else PART},
            {"weights": "weights.pth"},
            wildcards={"component": name},
            output=SimpleNamespace(detections=str(home / f"{name}.parquet")),
        )
        run("detect_objects", of_component)
    read = {name: str(home / f"{name}.parquet") for name in detection.COMPONENTS}
    names = ["table_detection", "table_detection_gains"]
    reads = {**read, "claims": str(claims)}
    run(
        "high_frequency/table_detection",
        job({"tables": names}, reads, forms=lambda number: {"number": number}),
    )
    run("high_frequency/figure_detection", job({"part": PART}, read, pictures=dict))
    return kept


def test_scripts_find_all_in_the_images_and_less_in_their_parts(made):
    assert made.asked == [(("weights.pth",), {"sha256": "ab" * 32})] * 3
    full = store.read(made.home / "full.parquet").to_pandas()
    found = {(i, c): tuple(box) for i, c, *box in full[["image_id", "category_id", *BOXED]].values}
    assert found == {
        (i, c): tuple(map(float, box)) for i, boxes in BOXES.items() for c, box in boxes.items()
    }
    table = made.tables[0]
    assert table.frame["component"].tolist() == list(detection.COMPONENTS)
    assert set(table.frame["images"]) == {6} and set(table.frame["objects"]) == {8}
    ap = table.frame.set_index("component")["ap"]
    assert ap["full"] == pytest.approx(1)
    assert ap["high"] < ap["low"] < 1 and ap["low"] > 0.5
    reported = table.frame.set_index("component")["reported_ap"]
    assert reported[["full", "low"]].tolist() == [0.35, 0.27] and math.isnan(reported["high"])


BOXED = ["x", "y", "width", "height"]


def test_gains_stand_beside_the_count_of_the_document(made, data):
    table = made.tables[1].frame.set_index("measure")
    assert table.index.tolist() == list(detection_rates.MEASURES)
    assert table.loc["precision", ["reported_images", "reported_better"]].tolist() == [5000, 1684]
    assert table["reported_better"].isna().tolist() == [False, True, True]
    # The detector by colour is perfect on whole images: nothing is better without their edges.
    assert table.loc["precision", "better"] == 0 and table.loc["precision", "worse"] > 0
    rows = {name: store.read(made.home / f"{name}.parquet").to_pandas() for name in ("full", "low")}
    cells, objects = detection_rates.compare(data, rows)
    by_hand = objects[(objects["full"] >= 0.5) & (objects["full"] > objects["low"])]
    assert table.loc["score", "worse"] == by_hand["image_id"].nunique()
    assert all(set(t.columns) <= set(t.frame.columns) for t in made.tables)


def words(figure):
    return [axes.get_title() for axes in figure.axes] + [a.get_ylabel() for a in figure.axes]


def test_examples_are_the_greatest_changes_in_images_of_their_own(data):
    full = [(11, RED, 0.9, BOXES[11][RED]), (11, BLUE, 0.2, BOXES[11][BLUE])]
    full += [
        (2, RED, 0.6, BOXES[2][RED]),
        (4, RED, 0.9, BOXES[4][RED]),
        (4, BLUE, 0.7, (1, 1, 9, 9)),
    ]
    low = [(11, RED, 0.8, BOXES[11][RED]), (11, BLUE, 0.8, BOXES[11][BLUE])]
    low += [(2, RED, 0.7, BOXES[2][RED]), (25, RED, 0.55, BOXES[25][RED])]
    rows = {"full": frame(full), "low": frame(low), "high": frame([])}
    found = detection_figures.examples(data, rows, radius=12.0, shown=2)
    assert [(e.image_id, e.name) for e in found] == [
        (11, "blue thing"),
        (25, "red thing"),
        (4, "red thing"),
        (11, "red thing"),
    ]
    assert found[0].box == BOXES[11][BLUE]
    assert {n: (s.score, s.box) for n, s in found[0].seen.items()} == {
        "full": (0.2, BOXES[11][BLUE]),
        "low": (0.8, BOXES[11][BLUE]),
        "high": (0.0, None),
    }
    assert found[0].seen["full"].others == [BOXES[11][RED]]
    # Of its own category and score, at another place.
    assert found[2].seen["full"].others == [(1, 1, 9, 9)]
    x = coco.pixels({p.id: p for p in data.pictures}[25])
    assert np.array_equal(found[1].seen["full"].pixels, x.double().numpy())
    expected = detection.component(x, "low", 12.0).double().numpy()
    assert np.array_equal(found[1].seen["low"].pixels, expected)

    figure = detection_figures.draw_examples(found, "some heading")
    said = words(figure)
    assert "image: blue thing 0.20" in said and "low frequencies: blue thing 0.80" in said
    assert "high frequencies: blue thing missed" in said and "image 25" in said
    # In each panel: other boxes, the object, and its box where it is found.
    assert [len(axes.patches) for axes in figure.axes[:3]] == [3, 3, 1]
    corners = [patch.get_xy() for patch in figure.axes[0].patches]
    assert corners[1] == (BOXES[11][BLUE][0] - 0.5, BOXES[11][BLUE][1] - 0.5)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(detection_figures.LINES)


def test_the_script_draws_what_it_reads(made):
    (figure,) = made.figures
    assert len(figure.axes) >= 3 and "no data" not in str(words(figure))
    assert figure.get_suptitle() == "RetinaNet on COCO, r = 4"


def test_without_examples_the_figure_says_so(data):
    rows = {name: frame([]) for name in detection.COMPONENTS}
    figure = detection_figures.draw_examples(
        detection_figures.examples(data, rows, radius=12.0), "heading"
    )
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["no data"]
