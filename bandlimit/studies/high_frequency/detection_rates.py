"""How well objects are found in images, and in their low and high frequencies.

Average precision is COCO's, by pycocotools: over boxes with an intersection over union (IoU) of
.50, .55, ..., .95 with the object, 101 levels of recall, all areas, at most 100 boxes per image and
category, mean over categories.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 7. It counts the images in which "some objects are recognized better (high MAP
scores)" in the low frequencies than in the image, and does not say what the score of an object is;
see `MEASURES`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bandlimit.claims import reported
from bandlimit.files.tables import Column, Table
from bandlimit.studies.high_frequency.coco import Coco

BOX = ["x", "y", "width", "height"]

FOUND = 0.5
"""An object counts as found from this score on."""

ROUNDING = 1e-9
"""Two precisions that differ by less are equal."""

MEASURES: Mapping[str, str] = {
    "precision": "average precision of a category",
    "score": "score of an object",
    "found": "whether an object is found",
}
"""What some object of an image may be better in.

* precision: the average precision of the objects of one category in this image alone. It is nearest
  to the document's words, and stands beside its count.
* score: that of the box that COCO's matching gives an object, of its category and with an IoU of at
  least .5; 0 without one. Only objects that are found, with a score of at least `FOUND`, count.
* found: in one and not in the other.
"""


def average_precision(coco: Coco, rows: pd.DataFrame) -> dict[str, float]:
    """Return the average precision of what was found in one component of images.

    Args:
        coco: the images that were looked at, and what is in them.
        rows: of `detection.SCHEMA`, of one component.

    Returns:
        'ap' over IoU from .50 to .95, and 'ap50' at .50, in [0, 1]; NaN where there is no object.

    Raises:
        ValueError: rows are of images that are not there.
    """
    with _silence():
        scored = COCOeval(_truth(coco), _found(coco, rows), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    # Without any object it says -1.
    ap, ap50 = (float(value) if value >= 0 else float("nan") for value in scored.stats[:2])
    return {"ap": ap, "ap50": ap50}


def compare(coco: Coco, rows: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how well objects are found in components of images, one by one.

    Crowds are not counted.

    Args:
        coco: the images that were looked at, and what is in them.
        rows: of `detection.SCHEMA`, by component.

    Returns:
        Of each image and each category in it: image_id, category_id, objects, and by the name of
        each component the average precision in this image alone. And of each object: image_id,
        annotation_id, category_id, by the name of each component the score of its box, 0 without
        one, and by this name and '_row' the place of that box in its rows, -1 without one.

    Raises:
        ValueError: rows are of images that are not there.
    """
    numbered = [(n, thing) for n, thing in enumerate(coco.things, start=1) if not thing.crowd]
    sizes = Counter((thing.image_id, thing.category_id) for _, thing in numbered)
    categories: dict[int, list[int]] = {}
    for image_id, category_id in sorted(sizes):
        categories.setdefault(image_id, []).append(category_id)
    cells = pd.DataFrame(
        [(*key, sizes[key]) for key in sorted(sizes)],
        columns=["image_id", "category_id", "objects"],
    )
    objects = pd.DataFrame(
        [(thing.image_id, thing.id, thing.category_id) for _, thing in numbered],
        columns=["image_id", "annotation_id", "category_id"],
    )
    with _silence():
        truth = _truth(coco)
        for name, of_component in rows.items():
            found = _found(coco, of_component)
            precisions: list[float] = []
            matches: dict[int, int] = {}
            for image_id, own in categories.items():
                scored = _of_image(truth, found, image_id, own)
                # Mean over levels of IoU and of recall, each of which has a precision.
                precisions += scored.eval["precision"].mean(axis=(0, 1))[:, 0, 0].tolist()
                for result in scored.evalImgs:
                    # The first level of IoU is .5.
                    matches |= zip(result["gtIds"], map(int, result["gtMatches"][0]), strict=True)
            places = [matches[n] - 1 for n, _ in numbered]
            scores = of_component["score"].tolist()
            cells[name] = precisions
            objects[name] = [scores[place] if place >= 0 else 0.0 for place in places]
            objects[f"{name}_row"] = places
    return cells, objects


def better(
    cells: pd.DataFrame, objects: pd.DataFrame, over: str, under: str, *, found: float = FOUND
) -> dict[str, list[int]]:
    """Return the images in which some object is better in one component than in another.

    Args:
        cells: of `compare`.
        objects: of `compare`.
        over: the component in which it is better.
        under: the component in which it is worse.
        found: score from which on an object counts as found.

    Returns:
        Ascending ids of images by the name of the measure, see `MEASURES`.
    """
    seen = objects[over] >= found
    rows = {
        "precision": cells[cells[over] - cells[under] > ROUNDING],
        "score": objects[seen & (objects[over] > objects[under])],
        "found": objects[seen & (objects[under] < found)],
    }
    return {name: sorted(map(int, rows[name]["image_id"].unique())) for name in MEASURES}


def precision_table(
    coco: Coco, rows: Mapping[str, pd.DataFrame], claims: str | os.PathLike[str]
) -> Table:
    """Return the average precision in images, and in their low and high frequencies.

    Args:
        coco: the images that were looked at, and what is in them.
        rows: of `detection.SCHEMA`, by component, in the order of the table.
        claims: the file with what the document reports, in its table 'detection' with the columns
            component and ap.
    """
    document = reported.reported(claims, "detection").set_index("component")["ap"]
    frame = pd.DataFrame(
        [
            {
                "component": name,
                "images": len(coco.pictures),
                "objects": sum(not thing.crowd for thing in coco.things),
                **average_precision(coco, found),
                "reported_ap": document.get(name, float("nan")),
            }
            for name, found in rows.items()
        ]
    )
    return Table(
        frame,
        {
            "component": Column("Component"),
            "images": Column("N"),
            "objects": Column("Objects"),
            "ap": Column("AP", 3),
            "ap50": Column("AP at IoU .50", 3),
            "reported_ap": Column("Reported AP", 3),
        },
        "Average precision of a detector in images and in their low and high frequencies",
        "COCO's average precision, mean over IoU of .50 to .95 and over categories. The detector "
        "was trained on whole images. The document trained one of its own, and reports 5000 "
        "images.",
    )


def gains_table(
    coco: Coco,
    rows: Mapping[str, pd.DataFrame],
    claims: str | os.PathLike[str],
    *,
    found: float = FOUND,
) -> Table:
    """Return in how many images some object is better in the low frequencies, or worse.

    Args:
        coco: the images that were looked at, and what is in them.
        rows: of `detection.SCHEMA`, by component, 'full' and 'low'.
        claims: the file with what the document reports, in its table 'detection_gains' with the
            columns measure, images and better.
        found: score from which on an object counts as found.
    """
    document = reported.reported(claims, "detection_gains").set_index("measure")
    cells, objects = compare(coco, {name: rows[name] for name in ("full", "low")})
    gains = better(cells, objects, "low", "full", found=found)
    losses = better(cells, objects, "full", "low", found=found)
    frame = pd.DataFrame(
        {
            "measure": list(MEASURES),
            "images": len(coco.pictures),
            "better": [len(gains[name]) for name in MEASURES],
            "worse": [len(losses[name]) for name in MEASURES],
        }
    )
    for name in ("images", "better"):
        frame[f"reported_{name}"] = [document[name].get(m, float("nan")) for m in MEASURES]
    frame["what"] = list(MEASURES.values())
    return Table(
        frame,
        {
            "what": Column("Measured by"),
            "images": Column("N"),
            "better": Column("Images with some object better in the low frequencies"),
            "worse": Column("Images with some object worse there"),
            "reported_images": Column("Reported N", 0),
            "reported_better": Column("Reported images, better", 0),
        },
        "Images with some object that is found better without high frequencies",
        "An image may count as better and as worse. The average precision is that of the objects "
        "of one category in the image alone, which is nearest to the document's words; it does not "
        "define its count. The score is that of the box which COCO's matching gives an object at "
        f"an IoU of at least .5, and an object is found from a score of {found:g} on.",
    )


# pycocotools -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep pycocotools from printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _indexed(coco: Coco, annotations: list[dict[str, object]]) -> COCO:
    """Return annotations as pycocotools takes them, numbered from 1: 0 stands for none there."""
    indexed = COCO()
    indexed.dataset = {
        "images": [{"id": picture.id} for picture in coco.pictures],
        "categories": [{"id": number} for number in coco.categories],
        "annotations": [{**entry, "id": n} for n, entry in enumerate(annotations, start=1)],
    }
    indexed.createIndex()
    return indexed


def _truth(coco: Coco) -> COCO:
    return _indexed(
        coco,
        [
            {
                "image_id": thing.image_id,
                "category_id": thing.category_id,
                "bbox": list(thing.box),
                "area": thing.area,
                "iscrowd": int(thing.crowd),
            }
            for thing in coco.things
        ],
    )


def _found(coco: Coco, rows: pd.DataFrame) -> COCO:
    """Return rows as pycocotools takes them; not by its `loadRes`, which fails without any."""
    unknown = set(rows["image_id"]) - {picture.id for picture in coco.pictures}
    if unknown:
        raise ValueError(f"detections are of images {sorted(unknown)[:3]} that were not looked at")
    return _indexed(
        coco,
        [
            {
                "image_id": row["image_id"],
                "category_id": row["category_id"],
                "score": row["score"],
                "bbox": [row[name] for name in BOX],
                "area": row["width"] * row["height"],
                "iscrowd": 0,
            }
            for row in rows.to_dict("records")
        ],
    )


def _of_image(truth: COCO, found: COCO, image_id: int, categories: Sequence[int]) -> COCOeval:
    """Return the evaluation of one image, over objects of all areas."""
    scored = COCOeval(truth, found, "bbox")
    p = scored.params
    p.imgIds, p.catIds = [image_id], list(categories)
    p.areaRng, p.areaRngLbl, p.maxDets = p.areaRng[:1], p.areaRngLbl[:1], p.maxDets[-1:]
    scored.evaluate()
    scored.accumulate()
    return scored
