"""Figures of the ablation: rows, what each part brings, and free choices, all with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmelib.figures.style import COLOURS, blank, new_figure, styled

OURS, PAPER = COLOURS[0], "0.25"
INTERVALS = {"seeds": ("solid", 2.2), "faces": ((0, (2, 1)), 1.6)}  # line style and width
COLUMNS = 4  # panels beside each other


@styled
def ablation_rows(table: pd.DataFrame) -> Figure:
    """Accuracy of every row with its 95 % interval, seeds as small points, the paper's as a ring.

    Args:
        table: as :func:`gmelib.ablation.scores` gives, in per cent.
    """
    figure = new_figure(1.3 + 0.42 * len(table))
    axes = figure.subplots()
    _dots(axes, table["accuracy"], table)
    axes.set_xlabel("test accuracy, %")
    _finish(figure, axes, table.index)
    return figure


@styled
def ablation_contrasts(table: pd.DataFrame) -> Figure:
    """What each part adds in points, with its paired 95 % interval, beside the paper's difference.

    Args:
        table: as :func:`gmelib.ablation.contrasts` gives.
    """
    figure = new_figure(1.3 + 0.5 * len(table))
    axes = figure.subplots()
    if table.empty:
        axes.text(0.5, 0.5, "no two of the rows asked for differ in one part", ha="center")
        blank(axes)
        return figure
    axes.axvline(0, color="0.6", linewidth=1)
    _dots(axes, table["value"], table)
    names = [
        f"{name}\n{row.first} − {row.second}"
        for name, row in zip(table.index, table.itertuples(), strict=True)
    ]
    axes.set_xlabel("difference of test accuracy, points, paired")
    _finish(figure, axes, names)
    return figure


def _dots(axes: Axes, values: pd.Series, table: pd.DataFrame) -> None:
    """Dot, interval, seeds and the paper's ring of every row, from top to bottom."""
    places = np.arange(len(table))
    values, theirs = values.to_numpy(float), table["paper"].to_numpy(float)
    for kind, (style, width) in INTERVALS.items():
        rows = table["over"].to_numpy() == kind
        if rows.any():
            low, high = (table[end].to_numpy(float)[rows] for end in ("low", "high"))
            axes.hlines(places[rows], low, high, color=OURS, linewidth=width, linestyle=style,
                        alpha=0.6, label=f"95 % over {kind}")  # fmt: skip
    if np.isfinite(values).any():
        axes.plot(values, places, "o", color=OURS, markersize=6, label="ours")
    single = [
        (value, place + 0.22)
        for place, found in zip(places, table["by_seed"], strict=True)
        if isinstance(found, dict) and len(found) > 1
        for value in found.values()
    ]
    if single:
        axes.plot(*zip(*single, strict=True), ".", color=OURS, markersize=5, label="one seed")
    if np.isfinite(theirs).any():
        axes.plot(theirs, places, "D", color=PAPER, markerfacecolor="none", markersize=6,
                  label="paper")  # fmt: skip
    for place in places[np.isnan(values)]:
        axes.annotate(
            "not run", (1, place), xycoords=("axes fraction", "data"), color="0.5",
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip


def _finish(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    else:  # nothing is run and the paper has no such rows
        axes.set_xticks([])


@styled
def ablation_sweeps(table: pd.DataFrame) -> Figure:
    """Validation accuracy over the values of each parameter; the preset's own value is filled.

    Args:
        table: as :func:`gmelib.ablation.sweep_scores` gives, in per cent.
    """
    parameters = list(dict.fromkeys(table.index.get_level_values(0)))
    columns = min(COLUMNS, len(parameters))
    lines = -(-len(parameters) // columns)
    figure = new_figure(0.5 + 2.6 * lines, width=min(9.5, 1.2 + 2.6 * columns))
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, parameter in zip(grid, parameters, strict=False):
        _sweep(axes, table.loc[parameter])
        axes.set_title(parameter)
    for axes in grid[len(parameters) :]:
        axes.remove()
    if table["accuracy"].isna().all():
        grid[0].set_yticks([])
    figure.supylabel("validation accuracy, %", fontsize=10)
    return figure


def _sweep(axes: Axes, part: pd.DataFrame) -> None:
    places = np.arange(len(part))
    found = part[["accuracy", "low", "high"]].astype(float)
    axes.vlines(places, found["low"], found["high"], color=OURS, linewidth=2, alpha=0.6)
    for place, value, own in zip(places, found["accuracy"], part["default"], strict=True):
        axes.plot(place, value, "o", color=OURS, markersize=7,
                  markerfacecolor=OURS if own else "white")  # fmt: skip
        if np.isnan(value):
            axes.annotate("not run", (place, 0.5), xycoords=("data", "axes fraction"), fontsize=8,
                          color="0.5", rotation=90, ha="center", va="center")  # fmt: skip
    names = [
        (f"{value:g}" if isinstance(value, float) else str(value)) + ("\npreset" if own else "")
        for value, own in part["default"].items()
    ]
    axes.set_xticks(places, names)
    axes.set_xlim(-0.5, len(part) - 0.5)
