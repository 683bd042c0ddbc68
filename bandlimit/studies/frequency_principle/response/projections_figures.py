"""Figures of networks whose responses were recorded along their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    ScalarFormatter,
)

from bandlimit.plots.style import (
    BLUE,
    DPI,
    PAGE,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    style,
)

SHOWN = (0.05, 1.0)
"""Ends of the colours of errors, a logarithmic scale: below the first all are alike, as there."""

COLORS = "cividis_r"

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Numbers of a logarithmic axis as they are."""

PART_STYLE: Mapping[str, Look] = {
    "low": Look("smoothed, $e_{low}$", BLUE, "", "-"),
    "high": Look("what is left, $e_{high}$", VERMILLION, "", (0, (5, 1.5))),
}

NAMES = {
    "fully_connected": "fully connected",
    "small_cnn_no_batchnorm": "convolutional",
    "cifar_vgg11": "convolutional (VGG-11)",
}
"""Cases by what readers know them as."""


def draw_projection(spectrum: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw the labels' transform, and a map of errors for each network.

    A row per experiment's dataset; after Figure 1 of the document, labels and outputs less their
    means over the images.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        spectrum, ("dataset", "model", "class", "frequency", "amplitude", "noise", "marked")
    )
    check_columns(curves, ("dataset", "model", "case", "epoch", "frequency", "error"))
    with style():
        datasets = list(dict.fromkeys(spectrum["dataset"]))
        networks = {
            name: list(dict.fromkeys(curves.loc[curves["dataset"] == name, "model"]))
            for name in datasets
        }
        columns = 1 + max((len(own) for own in networks.values()), default=1)
        figure = Figure(figsize=(PAGE, 2.5 * max(1, len(datasets))), dpi=DPI, layout="constrained")
        grid = figure.subplots(max(1, len(datasets)), columns, squeeze=False)
        maps, drawn = [], None
        for row, name in zip(grid, datasets, strict=False):
            _draw_spectrum(row[0], spectrum[spectrum["model"] == networks[name][0]])
            for axes, model in zip(row[1:], networks[name], strict=False):
                drawn = _draw_map(axes, curves[curves["model"] == model])
                maps.append(axes)
            for axes in row[1 + len(networks[name]) :]:
                axes.remove()
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=maps, extend="both", pad=0.02)
            bar.set_label("relative error $\\Delta_F$")
            bar.ax.yaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.3, 1]))
            bar.ax.yaxis.set_major_formatter(ScalarFormatter())
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
        return finish(figure)


def _draw_spectrum(axes: Axes, rows: pd.DataFrame) -> None:
    # Less their mean, labels have nothing at 0.
    whole = rows[rows["class"].isna() & (rows["frequency"] > 0)]
    axes.plot(whole["frequency"], whole["amplitude"], color=BLUE, label="labels")
    marked = whole[whole["marked"]]
    axes.plot(
        marked["frequency"],
        marked["amplitude"],
        "o",
        color="black",
        markersize=3,
        label="followed",
    )
    axes.plot(
        whole["frequency"],
        whole["noise"],
        color=VERMILLION,
        linestyle=(0, (5, 1.5)),
        label="labels at random",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(whole["noise"].min() / 2, 2 * whole["amplitude"].max())
    axes.set_title("labels")
    axes.set_xlabel("frequency g")
    axes.set_ylabel("$|F_{PC}[y](g)|$")
    axes.legend(loc="upper right", handlelength=1.5, borderaxespad=0, labelspacing=0.2)


def _draw_map(axes: Axes, rows: pd.DataFrame) -> Any:
    """Draw the errors of a network by epoch and frequency; return what the colour bar is of."""
    errors = rows.pivot(index="frequency", columns="epoch", values="error")
    epochs = errors.columns.to_numpy(dtype=float)
    # The start has no place on a logarithmic axis; there all errors are near 1.
    later = epochs[epochs > 0]
    edges = np.append(later, later[-1] ** 2 / later[-2] if len(later) > 1 else 2 * later[-1])
    places = np.arange(len(errors) + 1)
    drawn = axes.pcolormesh(
        edges,
        places,
        np.clip(errors[later].to_numpy(), 1e-6, None),
        norm=LogNorm(*SHOWN),
        cmap=COLORS,
        rasterized=True,
    )
    axes.set_xscale("log")
    axes.grid(visible=False)
    # Half periods have no label of their own.
    named = [(place + 0.5, f"{g:g}") for place, g in enumerate(errors.index) if g == round(g)]
    axes.set_yticks([place for place, _ in named], [name for _, name in named])
    axes.xaxis.set_major_formatter(PLAIN)
    case = str(rows["case"].iloc[0])
    axes.set_title(NAMES.get(case, case))
    axes.set_xlabel("epoch")
    axes.set_ylabel("frequency g")
    return drawn


def draw_filtering(curves: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Draw e_low and e_high by epoch, a panel for each network and width of the filter.

    Bands reach from the least to the greatest of the networks.

    Raises:
        ValueError: a column is missing.
    """
    needed = ("model", "case", "width", "part", "epoch", "error", "error_low", "error_high")
    check_columns(curves, needed)
    check_columns(summary, ("model", "width", "variance_kept"))
    with style():
        models = list(dict.fromkeys(curves["model"]))
        widths = sorted(set(curves["width"]))
        kept = summary.set_index(["model", "width"])["variance_kept"]
        figure = Figure(figsize=(PAGE, 1.75 * len(models) + 0.2), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(models), len(widths), squeeze=False, sharex=True, sharey=True)
        entries: dict[str, Any] = {}
        for row, model in zip(grid, models, strict=True):
            for axes, width in zip(row, widths, strict=True):
                own = curves[(curves["model"] == model) & (curves["width"] == width)]
                for part, look in PART_STYLE.items():
                    line = own[(own["part"] == part) & (own["epoch"] > 0)].sort_values("epoch")
                    axes.fill_between(
                        line["epoch"],
                        line["error_low"],
                        line["error_high"],
                        color=look.color,
                        alpha=0.2,
                        linewidth=0,
                    )
                    entries[look.label] = axes.plot(line["epoch"], line["error"], **look.line())[0]
                axes.set_xscale("log")
                axes.set_ylim(bottom=0)
                axes.xaxis.set_major_locator(LogLocator(numticks=9))
                axes.xaxis.set_major_formatter(PLAIN)
                share = f"{100 * kept[(model, width)]:.0f}%"
                if model == models[0]:
                    axes.set_title(f"$\\delta$ = {width:g}\n{share} kept")
                if model == models[-1]:
                    axes.set_xlabel("epoch")
            case = str(curves.loc[curves["model"] == model, "case"].iloc[0])
            row[0].set_ylabel(f"{NAMES.get(case, case)}\nrelative error")
        add_legend(figure, entries)
        return finish(figure)
