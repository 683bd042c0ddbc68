"""Pictures of objects that are found better, or worse, without high frequencies.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", Figures 8 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bandlimit.plots.style import DPI, ORANGE, PAGE, POINTS, SKY, Floats, add_legend, finish, style
from bandlimit.studies.high_frequency import coco, detection
from bandlimit.studies.high_frequency.detection_rates import BOX, FOUND, compare

TITLES: Mapping[str, str] = {
    "full": "image",
    "low": "low frequencies",
    "high": "high frequencies",
}

OBJECT, MATCHED, OTHER = "the object", "its box, as detected", "other boxes, as detected"
LINES: Mapping[str, tuple[str, float, Any]] = {
    OBJECT: ("white", 1.1, "--"),
    MATCHED: (ORANGE, 1.6, "-"),
    OTHER: (SKY, 0.7, "-"),
}
"""Colour, width and dashes of boxes."""

UPRIGHT = 0.85
"""Height of a row, in widths of a panel, at most."""

SHOWN = 2
"""Images with an object that is better, and as many with one that is worse."""


@dataclass(frozen=True)
class Seen:
    """An image, or a component of it, with what is found there.

    Attributes:
        pixels: C x H x W, as the detector sees it.
        score: of the object's box; 0 without one.
        box: of the object, as it is found; None if it is not.
        others: further boxes that are found, of all categories.
    """

    pixels: Floats
    score: float
    box: coco.Box | None
    others: Sequence[coco.Box]


@dataclass(frozen=True)
class Example:
    """An object that is found better or worse in the low frequencies of its image.

    Attributes:
        image_id: of its image.
        name: of its category.
        box: of the object.
        seen: by component.
    """

    image_id: int
    name: str
    box: coco.Box
    seen: Mapping[str, Seen]


def examples(
    data: coco.Coco,
    rows: Mapping[str, pd.DataFrame],
    *,
    radius: float,
    strict: bool = True,
    scale: str = "none",
    shown: int = SHOWN,
    found: float = FOUND,
) -> list[Example]:
    """Return the objects whose score changes most, in images of their own.

    First come those that are found in the low frequencies and score more there than in the image,
    the greatest difference first, then those that are found in the image and score less in the low
    frequencies.

    Args:
        data: the images that were looked at, and what is in them.
        rows: of `detection.SCHEMA`, by component: 'full', 'low' and, to be shown too, 'high'.
        radius: of the components, as they were looked at; this and the next two as in
            `detection.component`.
        strict: as in `detection.component`.
        scale: as in `detection.component`.
        shown: how many of each kind.
        found: score from which on an object counts as found.

    Raises:
        UserError: an image can't be read.
    """
    _, objects = compare(data, rows)
    chosen: list[int] = []
    for over, under in (("low", "full"), ("full", "low")):
        gain = objects[over] - objects[under]
        ranked = objects.assign(gain=gain)[(objects[over] >= found) & (gain > 0)]
        ranked = ranked.sort_values(["gain", "image_id", "annotation_id"], ascending=[False, 1, 1])
        chosen += ranked.drop_duplicates("image_id").index[:shown].tolist()
    things = {thing.id: thing for thing in data.things}
    pictures = {picture.id: picture for picture in data.pictures}
    made = []
    for place in chosen:
        own = objects.loc[place]
        thing = things[int(own["annotation_id"])]
        x = coco.pixels(pictures[thing.image_id])
        seen = {}
        for name, of_component in rows.items():
            part = detection.component(x, name, radius, strict=strict, scale=scale)
            match = int(own[f"{name}_row"])
            here = of_component["image_id"] == thing.image_id
            here &= of_component["score"] >= found
            others = [i for i in np.flatnonzero(here).tolist() if i != match]
            seen[name] = Seen(
                pixels=part.double().numpy(),
                score=float(own[name]),
                box=_box(of_component, match) if match >= 0 else None,
                others=[_box(of_component, i) for i in others],
            )
        made.append(Example(thing.image_id, data.categories[thing.category_id], thing.box, seen))
    return made


def _box(rows: pd.DataFrame, place: int) -> coco.Box:
    x, y, width, height = map(float, rows[BOX].iloc[place])
    return x, y, width, height


def draw_examples(found: Sequence[Example], heading: str) -> Figure:
    """Draw images and their components, a row each, with the boxes that are found there.

    Args:
        found: of `examples`, of equal components.
        heading: what stands above all.
    """
    with style():
        columns = len(found[0].seen) if found else 1
        width = PAGE / columns
        # A row is as high as its image, up to a limit, with a line for its title.
        heights = [_ratio(example) * (width - 0.15) + 0.25 for example in found] or [1.5]
        figure = Figure(figsize=(PAGE, sum(heights) + 0.35), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
        if not found:
            grid[0, 0].set_xticks([])
            grid[0, 0].set_yticks([])
        for panels, example in zip(grid, found, strict=False):
            for axes, (name, seen) in zip(panels, example.seen.items(), strict=True):
                _show(axes, example, seen)
                axes.set_title(f"{TITLES[name]}: {example.name} {_told(seen)}")
            panels[0].set_ylabel(f"image {example.image_id}")
        figure.suptitle(heading, fontsize=POINTS)
        if found:
            add_legend(
                figure,
                {
                    name: Line2D(
                        [],
                        [],
                        color=color,
                        linewidth=wide,
                        linestyle=dashes,
                        path_effects=_edge(name),
                    )
                    for name, (color, wide, dashes) in LINES.items()
                },
            )
        return finish(figure)


def _ratio(example: Example) -> float:
    """Return the height of a row of panels in widths of one; upright images are drawn smaller."""
    _, height, width = next(iter(example.seen.values())).pixels.shape
    return min(height / width, UPRIGHT)


def _told(seen: Seen) -> str:
    return f"{seen.score:.2f}" if seen.box is not None else "missed"


def _edge(name: str) -> list[patheffects.AbstractPathEffect]:
    """Return the dark edge of a line, by which it is seen on any ground; other boxes have none."""
    return [] if name == OTHER else [patheffects.withStroke(linewidth=2.6, foreground="black")]


def _show(axes: Axes, example: Example, seen: Seen) -> None:
    shown = np.clip(np.moveaxis(seen.pixels, 0, -1), 0, 1)
    axes.imshow(shown, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    boxes = [*((OTHER, box) for box in seen.others), (OBJECT, example.box)]
    boxes += [(MATCHED, seen.box)] if seen.box is not None else []
    for name, (x, y, width, height) in boxes:
        color, wide, dashes = LINES[name]
        axes.add_patch(
            # Edges of boxes are counted from the border of the image, pixels from their middle.
            Rectangle(
                (x - 0.5, y - 0.5),
                width,
                height,
                fill=False,
                edgecolor=color,
                linewidth=wide,
                linestyle=dashes,
                path_effects=_edge(name),
            )
        )
