"""Figure 1: accuracy against what a network costs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gmelib.figures.style import new_figure, run_colours, styled

MARKERS = {"lr": "v", "hr": "^", "lr+hr": "o", "kd": "*"}  # by training mode
NAMES = {"lr": "trained on LR", "hr": "trained on HR", "lr+hr": "trained on LR and HR",
         "kd": "LR, distilled"}  # fmt: skip
SIZES = {"*": 13}  # a star looks smaller than it is


@styled
def accuracy_against_cost(table: pd.DataFrame) -> Figure:
    """Accuracy against the MACs of a face (left) and against parameters, with 95 % intervals.

    Rows without a finished run are left out.

    Args:
        table: as :func:`gmelib.comparison.comparison` gives, in per cent.
    """
    done = table.dropna(subset=["accuracy"])
    colours = run_colours(list(dict.fromkeys(table["title"])))
    figure = new_figure(4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column, unit, name in (
        (left, "macs", 1e9, "MACs of one face, billions"),
        (right, "parameters", 1e6, "parameters, millions"),
    ):
        _points(axes, done, done[column].astype(float) / unit, colours)
        axes.set_xlabel(name)
        axes.grid(True, axis="both")
    left.set_ylabel("accuracy on low-resolution test faces, %")
    if done.empty:
        left.text(0.5, 0.5, "no finished run", transform=left.transAxes, ha="center", color="0.5")
    figure.legend(
        handles=_keys(done, colours), loc="outside right upper", labelspacing=0.7, handletextpad=0.6
    )
    return figure


def _points(axes: Axes, done: pd.DataFrame, costs: pd.Series, colours: dict) -> None:
    axes.set_xscale("log")
    for row, cost in zip(done.itertuples(), costs, strict=True):
        marker, colour = MARKERS[row.mode], colours[row.title]
        axes.vlines(cost, row.low, row.high, color=colour, linewidth=1.5, alpha=0.5)
        axes.plot(cost, row.accuracy, marker, color=colour, markersize=SIZES.get(marker, 8),
                  markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip
    if len(costs):  # a whole decade about the points, or a log axis shows no number
        low, high = np.log10(costs.min()), np.log10(costs.max())
        spare = max(0.12 * (high - low), (1.1 - (high - low)) / 2)
        axes.set_xlim(10 ** (low - spare), 10 ** (high + spare))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _keys(done: pd.DataFrame, colours: dict) -> list[Line2D]:
    """The legend: a method's colour, best method first, then a mode's marker."""
    best = done.groupby("title")["accuracy"].max().sort_values(ascending=False)
    methods = [
        Line2D([], [], color=colours[title], marker="s", markersize=8, linestyle="", label=title)
        for title in best.index
    ]
    modes = [
        Line2D([], [], color="0.35", marker=marker, markersize=SIZES.get(marker, 8), linestyle="",
               label=NAMES[mode])
        for mode, marker in MARKERS.items()
        if mode in set(done["mode"])
    ]  # fmt: skip
    return [*methods, *modes]
