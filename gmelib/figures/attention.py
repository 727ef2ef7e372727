"""Figures of what the networks look at: attention maps and attributions over faces."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from gmelib.config import InputError
from gmelib.figures.style import (
    HEAT,
    POSITIVE,
    RIGHT,
    SIGNED,
    WIDTH,
    WRONG,
    as_array,
    blank,
    label_rows,
    mosaic,
    new_figure,
    row_label,
    show,
    show_over,
    styled,
    tighten,
)

NAMES = {"integrated_gradients": "integrated\ngradients", "grad_cam": "Grad-CAM"}


def _limits(*maps: np.ndarray, signed: bool) -> dict[str, Any]:
    """Colour scale of maps drawn together; the outermost per cent of values saturates."""
    values = np.concatenate([m[np.isfinite(m)].ravel() for m in maps])
    if signed:
        limit = max(float(np.percentile(np.abs(values), 99)), 1e-12)
        return {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    low, high = map(float, np.percentile(values, [0.5, 99.5]))
    return {"cmap": HEAT, "vmin": low, "vmax": max(high, low + 1e-12)}


def _bar_below(figure: Figure, axes: Axes, drawn: Any) -> None:
    """A small colour bar in axes of its own, its range written under the middle."""
    bar = figure.colorbar(drawn, cax=axes, orientation="horizontal")
    low, high = drawn.get_clim()
    text = f"\N{PLUS-MINUS SIGN}{high:.2g}" if low < 0 else f"{low:.2f} to {high:.2f}"
    bar.set_ticks([(low + high) / 2], labels=[text], fontsize=8)
    bar.ax.tick_params(length=0)


@styled
def attention_maps(
    teacher_face: Any,
    teacher_maps: Any,
    student_face: Any,
    student_maps: Any,
    *,
    title: str = "",
) -> Figure:
    """Spatial attention of every stage over the face: teacher's row above student's.

    Args:
        teacher_face, student_face: (C, H, W), what each network saw.
        teacher_maps, student_maps: (stages, S, S), as
            :func:`gmelib.attribution.attention_over_face` gives for the face. The two networks
            share a colour scale at each stage.
        title: above all.
    """
    rows = [
        ("teacher", teacher_face, as_array(teacher_maps)),
        ("student", student_face, as_array(student_maps)),
    ]
    stages = len(rows[0][2])
    unit = (WIDTH - 0.8) / (stages + 1)
    figure = new_figure(2 * unit + 0.8 + 0.3 * bool(title))
    grid = figure.subplots(3, stages + 1, height_ratios=[1, 1, 0.05])
    for axes, (name, face, _) in zip(grid, rows, strict=False):
        show(axes[0], face)
        row_label(axes[0], name)
    grid[0, 0].set_title("face")
    grid[2, 0].set_axis_off()
    grid[2, 0].text(1, 0.5, "mean gate", ha="right", va="center", fontsize=9)
    for j, column in enumerate(grid[:, 1:].T):
        limits = _limits(*(maps[j] for _, _, maps in rows), signed=False)
        for axes, (_, face, maps) in zip(column, rows, strict=False):
            drawn = show_over(axes, face, maps[j], **limits)
        column[0].set_title(f"stage {j + 1}")
        _bar_below(figure, column[2], drawn)
    if title:
        figure.suptitle(title)
    tighten(figure)
    return figure


@styled
def class_mean_maps(
    teacher_maps: Any, student_maps: Any, classes: Sequence[str], *, relative: bool = False
) -> Figure:
    """Mean spatial attention of every class (rows) and stage (columns), teacher beside student.

    Args:
        teacher_maps, student_maps: (K, stages, S, S), as
            :func:`gmelib.attribution.class_mean_maps` gives. The two networks share a colour scale
            at each stage.
        classes: K names; a class without faces (NaN) is left out.
        relative: draw each class minus the mean of the classes, so that what sets it apart shows.

    Raises:
        InputError: no class has faces.
    """
    both = [as_array(teacher_maps), as_array(student_maps)]
    present = [k for k in range(len(classes)) if all(np.isfinite(m[k]).all() for m in both)]
    if not present:
        raise InputError("class-mean maps: every class is NaN; expected faces of one class or more")
    both = [m[present] for m in both]
    if relative:
        both = [m - m.mean(0) for m in both]
    stages = both[0].shape[1]
    unit = (WIDTH - 1) / (2 * stages + 0.3)
    figure = new_figure(len(present) * unit + 1)
    grid = figure.subplots(
        2, 2 * stages + 1, height_ratios=[len(present), 0.1],
        width_ratios=[1] * stages + [0.05] + [1] * stages,
    )  # fmt: skip
    for axes in grid[:, stages]:
        axes.set_axis_off()  # the gap between the two
    for j in range(stages):
        limits = _limits(*(m[:, j] for m in both), signed=relative)
        for name, maps, first in zip(("teacher", "student"), both, (0, stages + 1), strict=True):
            column = grid[:, first + j]
            drawn = column[0].imshow(mosaic([[m] for m in maps[:, j]]), **limits)
            blank(column[0])
            column[0].set_title(f"{name}\nstage {j + 1}", fontsize=9)
            _bar_below(figure, column[1], drawn)
    label_rows(grid[0, 0], [classes[k] for k in present], drawn.get_array().shape[0])
    figure.supxlabel(
        "mean gate, minus the mean of the classes" if relative else "mean gate", fontsize=9
    )
    tighten(figure)
    return figure


def _face_title(axes: Axes, true: str, predicted: str, probability: float) -> None:
    colour = RIGHT if true == predicted else WRONG
    axes.set_title(f"{true}\n\N{RIGHTWARDS ARROW} {predicted} {probability:.0%}", fontsize=8,
                   color=colour)  # fmt: skip


@styled
def attribution_grid(
    faces: Any,
    maps: Mapping[str, Any],
    *,
    true: Sequence[str],
    predicted: Sequence[str],
    probability: Sequence[float],
) -> Figure:
    """Attributions (a row a method) over faces (columns), under the faces as the network saw them.

    Red speaks for the class explained and blue against it, the more opaque the more so; a row has
    one colour scale. Above a face stand its true class and, after the arrow, the predicted one with
    its probability (orange: wrong).

    Args:
        faces: (N, C, H, W).
        maps: method -> (N, S, S), as :func:`gmelib.attribution.attribute` gives.
        true, predicted: names of the classes, (N,).
        probability: of the predicted class, (N,).
    """
    count = len(faces)
    unit = min((WIDTH - 1.5) / count, 1.7)
    figure = new_figure((len(maps) + 1) * unit + 0.5, width=count * unit + 1.5)
    grid = figure.subplots(
        len(maps) + 1, count + 1, squeeze=False, width_ratios=[1] * count + [0.07]
    )
    for i, axes in enumerate(grid[0, :-1]):
        show(axes, faces[i])
        _face_title(axes, true[i], predicted[i], float(probability[i]))
    row_label(grid[0, 0], "face")
    grid[0, -1].set_axis_off()
    for row, (name, values) in zip(grid[1:], maps.items(), strict=True):
        values = as_array(values)
        limits = _limits(values, signed=True)
        if not (values < 0).any():
            limits |= {"cmap": POSITIVE, "vmin": 0}
        for i, axes in enumerate(row[:-1]):
            strength = np.clip(np.abs(values[i]) / limits["vmax"], 0, 1)
            drawn = show_over(axes, faces[i], values[i], alpha=0.8 * strength, **limits)
        row_label(row[0], NAMES.get(name, name.replace("_", "\n")))
        scale = ScalarMappable(drawn.norm, drawn.cmap)  # the bar itself is opaque
        bar = figure.colorbar(scale, cax=row[-1])
        bar.ax.tick_params(labelsize=7)
        bar.ax.locator_params(nbins=4)
    tighten(figure)
    return figure
