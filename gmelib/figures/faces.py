"""Figures of the data: class balance, example faces, and degraded faces (paper, Figure 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gmelib.config import InputError
from gmelib.figures.style import (
    WIDTH,
    as_array,
    blank,
    label_rows,
    mosaic,
    new_figure,
    picture,
    run_colours,
    show,
    styled,
    tighten,
)


def _grouped_bars(axes: Axes, table: pd.DataFrame, form: str, *, colours: dict[str, Any]) -> None:
    width = 0.8 / table.shape[1]
    for i, split in enumerate(table.columns):
        places = np.arange(len(table)) + (i - (table.shape[1] - 1) / 2) * width
        bars = axes.bar(places, table[split], width * 0.92, label=split, color=colours[split])
        axes.bar_label(bars, fmt=form, fontsize=7, padding=2, rotation=90)
    axes.set_xticks(range(len(table)), table.index, rotation=30, ha="right", rotation_mode="anchor")
    axes.margins(y=0.18)


@styled
def class_balance(counts: pd.DataFrame) -> Figure:
    """Faces of each class, as counts and as shares of each split.

    Args:
        counts: classes (rows) by splits (columns), as ``FaceSet.counts()`` gives.
    """
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    colours = run_colours([str(c) for c in counts.columns])
    _grouped_bars(left, counts, "{:,.0f}", colours=colours)
    left.set(title="faces", ylabel="number")
    left.yaxis.set_major_formatter("{x:,.0f}")
    _grouped_bars(right, counts / counts.sum().replace(0, 1), "{:.1%}", colours=colours)
    right.set(title="share of the split")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    handles, labels = left.get_legend_handles_labels()
    totals = [f"{s} ({t:,.0f} faces)" for s, t in zip(labels, counts.sum(), strict=True)]
    figure.legend(handles, totals, loc="outside upper center", ncols=len(labels))
    return figure


@styled
def faces_grid(images: Any, labels: Any, classes: Sequence[str], *, per_class: int = 8) -> Figure:
    """The first faces of every class, a class a row.

    Args:
        images: (N, C, H, W), uint8 or see :func:`gmelib.figures.style.picture`.
        labels: class numbers (N,).
        classes: their names.
        per_class: faces in a row, at most.
    """
    labels = as_array(labels)
    present = [k for k in range(len(classes)) if (labels == k).any()]
    chosen = [np.flatnonzero(labels == k)[:per_class] for k in present]
    rows = [[picture(images[int(i)]) for i in row] for row in chosen]
    everything = mosaic(rows)
    height, width = everything.shape[:2]
    figure = new_figure((WIDTH - 0.8) * height / max(width, height * 0.8))
    axes = figure.subplots()
    axes.imshow(np.nan_to_num(everything, nan=1))
    blank(axes)
    label_rows(axes, [classes[k] for k in present], height)
    figure.get_layout_engine().set(w_pad=0.1)  # the longest name would touch the border
    return figure


@styled
def resolution_grid(original: Any, low: Mapping[int, Any], restored: Mapping[int, Any]) -> Figure:
    """High-resolution faces beside low resolution at several sizes (paper, Figure 2).

    Every face has two rows: its pixels at each size, and what the network sees of them, restored
    to the input size and blurred.

    Args:
        original: (N, C, H, W).
        low: size in pixels -> faces (N, C, size, size).
        restored: size in pixels -> faces (N, C, S, S); the same sizes.
    """
    titles = {size: f"{size} x {size}" for size in low}
    return _degraded(original, low, restored, titles)


@styled
def kernel_grid(original: Any, low: Mapping[str, Any], restored: Mapping[str, Any]) -> Figure:
    """Like :func:`resolution_grid`, with resampling kernels instead of sizes."""
    return _degraded(original, low, restored, {kernel: kernel for kernel in low})


def _degraded(
    original: Any, low: Mapping[Any, Any], restored: Mapping[Any, Any], titles: Mapping[Any, str]
) -> Figure:
    if list(low) != list(restored):
        raise InputError(f"low has {list(low)}, restored has {list(restored)}: expected the same")
    count, columns = len(original), len(low)
    unit = (WIDTH - 1) / (columns + 2)
    figure = new_figure(2 * count * unit + 0.4)
    grid = figure.add_gridspec(2 * count, columns + 2)
    for i in range(count):
        face = figure.add_subplot(grid[2 * i : 2 * i + 2, :2])
        show(face, original[i])
        if i == 0:
            height, width = original[i].shape[-2:]
            face.set_title(f"high resolution, {height} x {width}")
        for offset, (name, images) in enumerate((("pixels", low), ("restored", restored))):
            for j, key in enumerate(low):
                axes = figure.add_subplot(grid[2 * i + offset, 2 + j])
                show(axes, images[key][i])
                if i == offset == 0:
                    axes.set_title(titles[key])
                if j == 0:
                    axes.set_ylabel(name, fontsize=9)
    tighten(figure)
    return figure
