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
PANEL = (240, 290)  # points, about: width and height of a panel
MARK, DIGIT = 5, (3.5, 5)  # points: half a marker, half a number's width and height
# Where a number may stand, seen from its point: right and left, then aslant, then further off.
AROUND = [(12, 0), (-12, 0), *((x, y) for y in (9, -9) for x in (10, -10)), (0, 12), (0, -12),
          (20, 0), (-20, 0), (20, 10), (-20, 10), (20, -10), (-20, -10)]  # fmt: skip


@styled
def accuracy_against_cost(table: pd.DataFrame) -> Figure:
    """Accuracy against the MACs of a face (left) and against parameters, with 95 % intervals.

    Rows without a finished run are left out. Numbers at the points are the methods' ranks by their
    best mode, and stand in the legend: colours alone do not tell nine methods apart.

    Args:
        table: as :func:`gmelib.comparison.comparison` gives, in per cent.
    """
    done = table.dropna(subset=["accuracy"])
    colours = run_colours(list(dict.fromkeys(table["title"])))
    best = done.groupby("title")["accuracy"].max().sort_values(ascending=False)
    ranks = {title: rank for rank, title in enumerate(best.index, 1)}
    figure = new_figure(4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column, unit, name in (
        (left, "macs", 1e9, "MACs of one face, billions"),
        (right, "parameters", 1e6, "parameters, millions"),
    ):
        _points(axes, done, done[column].astype(float) / unit, colours, ranks)
        axes.set_xlabel(name)
        axes.grid(True, axis="both")
    left.set_ylabel("accuracy on low-resolution test faces, %")
    if done.empty:
        left.text(0.5, 0.5, "no finished run", transform=left.transAxes, ha="center", color="0.5")
    figure.legend(
        handles=_keys(done, colours, ranks), loc="outside right upper",
        labelspacing=0.7, handletextpad=0.6,
    )  # fmt: skip
    return figure


def _points(
    axes: Axes, done: pd.DataFrame, costs: pd.Series, colours: dict, ranks: dict[str, int]
) -> None:
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
        _number(axes, done, costs, ranks)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _number(axes: Axes, done: pd.DataFrame, costs: pd.Series, ranks: dict[str, int]) -> None:
    """Writes its method's rank beside every point."""
    left, right = np.log10(axes.get_xlim())
    low, high = axes.get_ylim()
    x = (np.log10(costs.to_numpy()) - left) / (right - left) * PANEL[0]
    y = (done["accuracy"].to_numpy(dtype=float) - low) / (high - low) * PANEL[1]
    for row, cost, offset in zip(done.itertuples(), costs, _offsets(x, y), strict=True):
        axes.annotate(f"{ranks[row.title]}", (cost, row.accuracy), offset, fontsize=8,
                      textcoords="offset points", ha="center", va="center")  # fmt: skip


def _offsets(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Where the numbers stand beside their points: each in the first place that is still free.

    Args:
        x, y: (N,) of the points, in typographic points; so are the results.
    """
    taken = [(a, b, MARK, MARK) for a, b in zip(x, y, strict=True)]  # centre, half width and height
    found = []
    for a, b in zip(x, y, strict=True):
        boxes = [(a + across, b + up, *DIGIT) for across, up in AROUND]
        free = (k for k, box in enumerate(boxes) if not any(_overlap(box, one) for one in taken))
        k = next(free, 0)
        taken.append(boxes[k])
        found.append(AROUND[k])
    return found


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return abs(one[0] - other[0]) < one[2] + other[2] and abs(one[1] - other[1]) < one[3] + other[3]


def _keys(done: pd.DataFrame, colours: dict, ranks: dict[str, int]) -> list[Line2D]:
    """The legend: a method's colour and number, best method first, then a mode's marker."""
    methods = [
        Line2D([], [], color=colours[title], marker="s", markersize=8, linestyle="",
               label=f"{rank}  {title}")
        for title, rank in ranks.items()
    ]  # fmt: skip
    modes = [
        Line2D([], [], color="0.35", marker=marker, markersize=SIZES.get(marker, 8), linestyle="",
               label=NAMES[mode])
        for mode, marker in MARKERS.items()
        if mode in set(done["mode"])
    ]  # fmt: skip
    return [*methods, *modes]
