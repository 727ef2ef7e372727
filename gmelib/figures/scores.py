"""Figures of results: confusion matrices, metrics with intervals, probabilities of one face."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gmelib.figures.style import COLOURS, as_array, new_figure, run_colours, styled
from gmelib.metrics import row_normalized

Runs = Sequence[tuple[str, pd.DataFrame]]  # (name, table that gmelib.metrics.metrics gives)
SUMMARY = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "expected_calibration_error": "calibration error",
}


@styled
def confusion_matrix(counts: pd.DataFrame, *, title: str = "") -> Figure:
    """Faces by true class (rows) and predicted class (columns): counts, and shares of each row.

    Args:
        counts: as :func:`gmelib.metrics.confusion_counts` gives.
        title: above both.
    """
    shares = row_normalized(counts)
    figure = new_figure(4.8 if title else 4.5)
    left, right = figure.subplots(1, 2)
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1, "square": True, "cbar": False,
            "linewidths": 0.5, "annot_kws": {"fontsize": 8}}  # fmt: skip
    # both are coloured by the share, or a frequent class would hide the rows of the rare ones
    sns.heatmap(shares.fillna(0), annot=counts, fmt=",d", ax=left, **look)
    sns.heatmap(shares, annot=100 * shares, fmt=".0f", ax=right, **look)
    for axes, name in ((left, "faces"), (right, "per cent of the true class")):
        axes.set(title=name, xlabel="predicted", ylabel="true" if axes is left else "")
        axes.set_xticks(
            axes.get_xticks(), counts.columns, rotation=40, ha="right", rotation_mode="anchor"
        )
        axes.tick_params(length=0)
        axes.grid(False)
    right.set_yticklabels([])
    for i in np.flatnonzero(counts.sum(axis=1) == 0):
        right.text(len(counts) / 2, i + 0.5, "no faces", ha="center", va="center", fontsize=8)
    if title:
        figure.suptitle(title)
    return figure


def _intervals(axes: Axes, runs: Runs, metrics: Sequence[str]) -> None:
    """A dot and its interval for every metric (a group of rows) and run (a row in it)."""
    colours = run_colours([name for name, _ in runs])
    gap = min(0.8 / len(runs), 0.25)
    for i, (name, table) in enumerate(runs):
        rows = table.reindex(metrics)
        places = np.arange(len(metrics)) + (i - (len(runs) - 1) / 2) * gap
        axes.hlines(places, rows["low"], rows["high"], color=colours[name], linewidth=2, alpha=0.6)
        axes.plot(rows["value"], places, "o", color=colours[name], label=name, markersize=5)
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


@styled
def metric_intervals(runs: Runs, *, reference: tuple[str, float] | None = None) -> Figure:
    """Summary metrics of one or several runs, each with its 95 % interval.

    Args:
        runs: (name, table of :func:`gmelib.metrics.metrics`).
        reference: name and value of an accuracy to compare with, such as the paper's.
    """
    shown = [m for m in SUMMARY if any(m in table.index for _, table in runs)]
    figure = new_figure(0.5 + len(shown) * max(0.4, 0.22 * len(runs)) + 0.4)
    axes = figure.subplots()
    _intervals(axes, runs, shown)
    axes.set_yticks(range(len(shown)), [SUMMARY[m] for m in shown])
    if reference and "accuracy" in shown:
        name, value = reference
        axes.vlines(value, -0.45, 0.45, color="0.2", linestyle=":", label=f"{name} ({value:.1%})")
    axes.set_xlabel("95 % bootstrap interval over the faces")
    _legend(figure, axes)
    return figure


@styled
def recall_comparison(runs: Runs) -> Figure:
    """Recall of every class, each with its 95 % interval; the number of faces beside its name.

    Args:
        runs: (name, table of :func:`gmelib.metrics.metrics`), all of one data set.
    """
    table = runs[0][1]
    shown = [str(name) for name in table.index if str(name).startswith("recall_")]
    figure = new_figure(0.8 + len(shown) * max(0.32, 0.2 * len(runs)))
    axes = figure.subplots()
    _intervals(axes, runs, shown)
    names = [f"{m.removeprefix('recall_')} ({table.n[m]:,})" for m in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("recall, with 95 % interval (faces of the class in brackets)")
    axes.set_xlim(-0.02, 1.02)  # markers at the ends are whole
    _legend(figure, axes)
    return figure


@styled
def probability_bars(
    probabilities: Mapping[str, Any], classes: Sequence[str], *, true: str = ""
) -> Figure:
    """One face's class probabilities, network beside network.

    Args:
        probabilities: network's name -> (K,), such as the teacher's and the student's.
        classes: names of the K classes.
        true: the true class, set in bold.
    """
    figure = new_figure(0.9 + 0.3 * len(classes))
    grid = figure.subplots(1, len(probabilities), sharex=True, squeeze=False)[0]
    for column, (axes, (name, values)) in enumerate(zip(grid, probabilities.items(), strict=True)):
        values = as_array(values)
        top = int(values.argmax())
        colours = [COLOURS[0] if i == top else "0.75" for i in range(len(classes))]
        bars = axes.barh(range(len(classes)), values, color=colours)
        axes.bar_label(bars, fmt="{:.0%}", padding=3, fontsize=8)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_yticks(range(len(classes)), classes if column == 0 else [])
        axes.tick_params(axis="y", length=0)
        axes.set(title=f"{name}: {classes[top]}", xlim=(0, 1.1), xlabel="probability")
        axes.set_xticks(np.linspace(0, 1, 5))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
    for label in grid[0].get_yticklabels():
        if label.get_text() == true:
            label.set_fontweight("bold")
    return figure
