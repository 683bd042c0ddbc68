"""Figures of networks on corrupted images, under noise of a band, and behind filters.

Image frequency. Source: "A Fourier Perspective on Model Robustness in Computer Vision", Figures 1,
5 and 6; bandwidths are in frequencies of a spectrum, all of it being as wide as the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    label_left,
    looks_of,
    make_panels,
    points_of,
    span,
    style,
)

METHODS: Mapping[str, Look] = {
    "natural": Look("natural", BLUE, "o", "-"),
    "gaussian": Look("Gaussian noise", GREEN, "s", (0, (5, 1.5))),
    "adversarial": Look("adversarial", VERMILLION, "^", (0, (6, 1.5, 1, 1.5))),
    "autoaugment": Look("AutoAugment", SKY, "*", (0, (2, 1, 1, 1))),
    "low-pass": Look("low-pass filter", ORANGE, "D", (0, (1, 1))),
    "high-pass": Look("high-pass filter", PINK, "v", (0, (3, 1, 1, 1, 1, 1))),
}
"""Looks of networks by what sets them apart from the natural one."""


def _facts(rows: pd.DataFrame) -> str:
    seeds = span(rows["seeds"])
    return f"N = {span(rows['images'])}" + (f", {seeds} networks" if seeds != "1" else "")


def _kind(batchnorm: bool) -> str:
    return "BatchNorm" if batchnorm else "no BatchNorm"


def draw_band_noise(table: pd.DataFrame) -> Figure:
    """Draw accuracy against the bandwidth of noise, low and high frequencies side by side.

    Args:
        table: `band_noise`.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        table,
        ("dataset", "batchnorm", "method", "network", "seeds", "images", "band", "bandwidth")
        + ("accuracy", "accuracy_low", "accuracy_high"),
    )
    headings, panels = [], []
    for (dataset, batchnorm), own in table.groupby(["dataset", "batchnorm"]):
        for band, what in (("low", "in the square"), ("high", "beyond the square")):
            rows = own[own["band"] == band]
            headings.append((str(dataset), _kind(bool(batchnorm)), f"noise {what}, {_facts(rows)}"))
            panels.append(rows)
    with style():
        figure, grid = make_panels(headings, 2.5, sharey=True)
        entries: dict[str, Any] = {}
        for axes, rows in zip(grid, panels, strict=False):
            for name, look in looks_of(rows["method"], METHODS).items():
                for _, line in rows[rows["method"] == name].groupby("network"):
                    columns = ("accuracy", "accuracy_low", "accuracy_high")
                    x, value, low, high = points_of(line, "bandwidth", columns)
                    axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
                    entries[look.label] = axes.plot(x, value, **look.line())[0]
            axes.set_xlabel("bandwidth, frequencies")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(0, 1)
        label_left(grid, "accuracy")
        add_legend(figure, entries)
        return finish(figure)


def draw_corruptions(rates: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw the change of accuracy against the share of high frequencies, a panel per method.

    Args:
        rates: `corruption_rates`.
        slopes: `corruption_slopes`.

    Raises:
        ValueError: a column is missing.
    """
    names = ("dataset", "network", "method", "batchnorm", "size", "natural", "seeds", "images")
    check_columns(
        rates, (*names, "corruption", "high_fraction", "change", "change_low", "change_high")
    )
    check_columns(slopes, (*names, "slope", "start", "residual"))
    rates = rates[rates["high_fraction"].notna() & rates["natural"].notna()]
    known = list(METHODS)
    groups = sorted(
        slopes.groupby(["dataset", "method"]),
        key=lambda own: (own[0][0], known.index(str(own[0][1]))),
    )
    corruptions = sorted(rates["corruption"].unique())
    letters = {name: chr(ord("a") + place) for place, name in enumerate(corruptions)}
    with style():
        figure, grid = make_panels(
            [(str(d), METHODS[str(m)].label, _facts(own)) for (d, m), own in groups],
            2.9,
            sharey=True,
        )
        shades = (BLUE, VERMILLION, GREEN, PINK, ORANGE, DARK_GREY)
        dashes = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), "-")
        for axes, (_, own) in zip(grid, groups, strict=False):
            for place, line in enumerate(own.itertuples()):
                points = rates[
                    (rates["network"] == line.network) & (rates["dataset"] == line.dataset)
                ]
                color, x = shades[place % 6], points["high_fraction"].to_numpy(dtype=float)
                axes.vlines(
                    x, points["change_low"], points["change_high"], color=color, linewidth=0.6
                )
                axes.plot(x, points["change"], ".", color=color, markersize=3)
                ends = np.array([x.min(), x.max()])
                told = _told(line)
                axes.plot(
                    ends,
                    line.start + line.slope * ends,
                    color=color,
                    linestyle=dashes[place % 6],
                    label=f"{told}k {line.slope:+.2f}, r {line.residual:.2f}",
                )
            top = rates.groupby("corruption")["high_fraction"].mean()
            last = -1.0
            for name, share in top.sort_values().items():
                # Letters that would lie on each other are moved to the right.
                place_x = max(float(share), last + 0.015)
                axes.text(
                    place_x,
                    0.01,
                    letters[str(name)],
                    transform=axes.get_xaxis_transform(),
                    horizontalalignment="center",
                )
                last = place_x
            axes.axhline(0, color=DARK_GREY, linewidth=0.8)
            axes.set_xlabel("share of high frequencies")
            axes.legend(loc="upper center", fontsize=6, bbox_to_anchor=(0.5, -0.22))
        label_left(grid, "change of accuracy")
        entries = {
            f"{letter}: {name.replace('_', ' ')}": Line2D([], [], linestyle="none")
            for name, letter in letters.items()
        }
        add_legend(figure, entries)
        return finish(figure)


def _told(line: Any) -> str:
    """Return what sets a network apart from others of its method."""
    size = "" if pd.isna(line.size) else f"{line.shape} {line.size:g}, "
    return size if line.method.endswith("pass") else f"{_kind(bool(line.batchnorm))}, "


def draw_band_pass(table: pd.DataFrame) -> Figure:
    """Draw accuracy of networks trained and tested behind filters, by the size of the filter.

    Args:
        table: `band_pass`.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        table,
        ("dataset", "part", "size", "shape", "chance", "seeds", "images", "batchnorm")
        + ("accuracy", "accuracy_low", "accuracy_high"),
    )
    groups = list(table.groupby(["dataset", "shape", "batchnorm"]))
    with style():
        figure, grid = make_panels(
            [(str(d), _kind(bool(b)), _facts(own)) for (d, _, b), own in groups], 2.5
        )
        entries: dict[str, Any] = {}
        for axes, ((_, shape, _), own) in zip(grid, groups, strict=False):
            for part in ("low", "high"):
                look = METHODS[f"{part}-pass"]
                rows = own[own["part"] == part]
                columns = ("accuracy", "accuracy_low", "accuracy_high")
                x, value, low, high = points_of(rows, "size", columns)
                axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
                entries[look.label] = axes.plot(x, value, **look.line())[0]
            entries["chance"] = axes.axhline(
                own["chance"].iloc[0], color=DARK_GREY, linewidth=0.9, linestyle=(0, (1, 1.5))
            )
            unit = "cycles per image" if shape == "radius" else "frequencies"
            axes.set_xlabel(f"{shape} of the filter, {unit}")
            axes.set_ylim(0, 1)
        label_left(grid, "accuracy")
        add_legend(figure, entries)
        return finish(figure)
