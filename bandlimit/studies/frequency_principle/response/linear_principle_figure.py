"""Figure of the linear frequency principle: its prediction beside what networks have learnt."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from bandlimit.plots.style import (
    BLUE,
    DPI,
    GREY,
    PAGE,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    points_of,
    style,
    values_of,
)
from bandlimit.studies.frequency_principle.response.linear_principle_model import line, xor

LOOKS = {
    ("xor", "relative_l2"): Look("XOR, L2", VERMILLION, "s", "-"),
    ("xor", "relative_l1"): Look("XOR, L1", VERMILLION, "x", (0, (4, 1.5))),
    ("line", "relative_l2"): Look("line, L2", BLUE, "o", "-"),
    ("line", "relative_l1"): Look("line, L1", BLUE, "+", (0, (4, 1.5))),
}
"""Look of the distances by problem and norm."""

LEAST = 0.01
"""Least distance that is drawn."""


def draw_linear_principle(distances: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Draw what wide networks learn and what the linear frequency principle predicts.

    On XOR the surfaces of network and model and one against the other, on the line both functions;
    and the distances by width, means with 95% intervals over networks.

    Source: Zhang et al. (arXiv 1905.10264), Figure 2; the line is beside it.

    Args:
        distances: 'linear_principle', as `linear_principle.simulate` returns it.
        points: 'linear_principle_points'.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(distances, ("problem", "neurons", *(name for _, name in LOOKS)))
    check_columns(points, ("problem", "neurons", "first", "second", "model", "network", "single"))
    with style():
        figure = Figure(figsize=(PAGE, 4.4), dpi=DPI, layout="constrained")
        panels = figure.subplot_mosaic(
            [["network", "model", "scatter"], ["line", "distance", "distance"]]
        )
        plane = points[points["problem"] == "xor"]
        width = int(points["neurons"].iloc[0])
        _draw_surfaces(figure, panels["network"], panels["model"], plane, width)
        _draw_scatter(panels["scatter"], plane)
        _draw_line(panels["line"], points[points["problem"] == "line"], width)
        _draw_distances(panels["distance"], distances)
        handles, labels = panels["distance"].get_legend_handles_labels()
        add_legend(figure, dict(zip(labels, handles, strict=True)))
        return finish(figure)


def _draw_surfaces(
    figure: Figure, network: Axes, model: Axes, rows: pd.DataFrame, width: int
) -> None:
    reach = float(np.abs(values_of(rows["model"])).max())
    samples = xor().inputs
    for axes, column, title in (
        (network, "single", f"XOR: a network, N = {width}"),
        (model, "model", "XOR: the model"),
    ):
        surface = rows.pivot(index="second", columns="first", values=column)
        drawn = axes.imshow(
            surface.to_numpy(float),
            origin="lower",
            extent=(-1, 1, -1, 1),
            cmap="RdBu_r",
            vmin=-reach,
            vmax=reach,
        )
        axes.plot(*samples.T, "*", color="white", markeredgecolor="black", markersize=7)
        axes.set_title(title)
        axes.set_xlabel("x$_1$")
        axes.set_ylabel("x$_2$")
        axes.grid(False)
        axes.xaxis.set_major_locator(FixedLocator([-1, 0, 1]))
        axes.yaxis.set_major_locator(FixedLocator([-1, 0, 1]))
    figure.colorbar(drawn, ax=[network, model], label="h − h$_0$", shrink=0.8, pad=0.02)


def _draw_scatter(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_title(f"XOR: {len(rows)} test points")
    axes.set_xlabel("network")
    axes.set_ylabel("model")
    network, model = values_of(rows["single"]), values_of(rows["model"])
    axes.plot(network, model, ".", color=BLUE, markersize=1.5, rasterized=True)
    reach = float(np.abs(np.concatenate([network, model])).max())
    axes.plot([-reach, reach], [-reach, reach], color="black", linewidth=0.8)
    axes.set_aspect("equal")


def _draw_line(axes: Axes, rows: pd.DataFrame, width: int) -> None:
    axes.set_title(f"Line: networks, N = {width}")
    axes.set_xlabel("x")
    axes.set_ylabel("h − h$_0$")
    x, model, low, high = points_of(rows, "first", ("model", "network_least", "network_greatest"))
    axes.fill_between(x, low, high, color=BLUE, alpha=0.4, linewidth=0, label="networks")
    axes.plot(x, model, color="black", linestyle=(0, (4, 1.5)), linewidth=0.9, label="model")
    problem = line()
    axes.plot(
        problem.inputs[:, 0],
        problem.labels,
        "*",
        color="white",
        markeredgecolor="black",
        markersize=7,
        label="samples",
    )
    axes.set_ylim(top=2.6)  # room for the legend
    axes.legend(loc="upper left", handlelength=1.6)


def _draw_distances(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_title("Distance by width")
    axes.set_xlabel("neurons N")
    axes.set_ylabel("distance / norm of the model")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for (problem, measure), look in LOOKS.items():
        part = rows[rows["problem"] == problem]
        neurons, mean, low, high = points_of(
            part, "neurons", (measure, f"{measure}_low", f"{measure}_high")
        )
        # An interval of few networks may reach below 0, which this axis does not have.
        axes.vlines(neurons, np.maximum(low, LEAST), high, color=look.color, linewidth=0.8)
        axes.plot(neurons, mean, **look.line())
    neurons = np.unique(values_of(rows["neurons"]))
    first = rows[(rows["problem"] == "xor") & (rows["neurons"] == neurons[0])]
    axes.plot(
        neurons,
        1.5 * float(values_of(first["relative_l2"])[0]) * (neurons / neurons[0]) ** -0.5,
        color=GREY,
        linestyle=(0, (1, 1)),
        label="slope −1/2",
    )
    axes.xaxis.set_major_locator(FixedLocator(neurons.tolist()))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=LEAST)
    axes.yaxis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
