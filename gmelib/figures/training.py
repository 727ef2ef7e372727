"""Figures of a training run: every term of the loss, accuracy, learning rate."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gmelib.config import InputError
from gmelib.figures.style import new_figure, run_colours, styled

# title -> column -> (its name, its line); panels without a column in the history are left out
PANELS = {
    # the training's holds what is minimized, such as smoothed labels
    "cross-entropy": {
        "ce": ("training, as minimized", "-"), "validation_loss": ("validation", "--"),
    },
    "accuracy": {
        "train_accuracy": ("training", "-"), "validation_accuracy": ("validation", "--"),
        "test_accuracy": ("test", ":"),
    },
    "learning rate at the epoch's end": {"learning_rate": ("", "-")},
    "distillation loss (eq. 11)": {"kd": ("", "-")},
    "total loss (eq. 13)": {"loss": ("", "-")},
    "similarity to the teacher": {
        "similarity_channel": ("channel maps", "-"), "similarity_spatial": ("spatial maps", "--"),
    },
}  # fmt: skip
DISTILLING = "total loss (eq. 13)"  # without distillation it is the cross-entropy
COLUMNS = 3


def _columns_of(panel: str, runs: Mapping[str, pd.DataFrame]) -> list[str]:
    if panel == DISTILLING:
        runs = {name: run for name, run in runs.items() if "kd" in run}
    return [
        column
        for column in PANELS[panel]
        if any(column in run and run[column].notna().any() for run in runs.values())
    ]


def _line(style: str, colour: Any, *, dots: bool) -> dict[str, Any]:
    fill = colour if style == "-" else "white"
    look = {"marker": "o", "markersize": 4, "markerfacecolor": fill} if dots else {}
    return {"linestyle": style, "color": colour} | look


def _panel(axes: Axes, title: str, columns: list[str], runs: Mapping[str, pd.DataFrame]) -> None:
    colours = run_colours(list(runs))
    dots = max(map(len, runs.values())) < 15  # one epoch alone has no line
    for name, run in runs.items():
        for column in columns:
            if column in run and (title != DISTILLING or "kd" in run):
                style = PANELS[title][column][1]
                axes.plot(run["epoch"], run[column], **_line(style, colours[name], dots=dots))
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if title == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    names = [PANELS[title][column] for column in columns if PANELS[title][column][0]]
    if names:
        lines = [Line2D([], [], **_line(style, "0.3", dots=dots)) for _, style in names]
        axes.legend(lines, [text for text, _ in names], loc="best")


@styled
def training_history(history: pd.DataFrame | Mapping[str, pd.DataFrame]) -> Figure:
    """Curves over the epochs: every term of the loss, similarity of maps, accuracy, schedule.

    Args:
        history: a run's history (a row an epoch), or several by name; a run's colour is the same
            in all panels. Panels are drawn for the columns that exist.
    """
    runs = {"run": history} if isinstance(history, pd.DataFrame) else dict(history)
    panels = {title: names for title in PANELS if (names := _columns_of(title, runs))}
    if not panels:
        raise InputError("history without a known column: expected epoch, loss, ...; train first")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(2.7 * rows + 0.3 * (len(runs) > 1))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, names) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, names, runs)
    for axes in grid[len(panels) :]:
        axes.remove()
    if len(runs) > 1:
        lines = [Line2D([], [], color=c) for c in run_colours(list(runs)).values()]
        figure.legend(lines, list(runs), loc="outside upper center", ncols=min(4, len(runs)))
    return figure
