"""Faces with what a network answered to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmelib.config import InputError
from gmelib.figures.style import COLOURS, RIGHT, WRONG, blank, new_figure, styled

ACROSS = 4  # faces in a row
FACE = 1.25  # inches, the side of a face
BAR = 0.2  # inches
LONGEST = 28  # characters of a name


@styled
def predicted_faces(faces: Sequence[np.ndarray], table: pd.DataFrame, *, top: int = 3) -> Figure:
    """Every face with its measured size and its likeliest classes; doubtful sizes are marked.

    Without any face the figure says so.

    Args:
        faces: squares (S, S) or (S, S, 3) uint8, each of its own size, drawn equally large.
        table: a row a face, as :func:`gmelib.predict.predict_images` gives.
        top: classes shown, likeliest first.
    """
    if len(faces) != len(table):
        raise InputError(f"{len(faces)} faces, {len(table)} rows: expected one row a face")
    if not len(faces):
        figure = new_figure(1)
        figure.text(0.5, 0.5, "no face was answered", ha="center", va="center", color="0.5")
        return figure
    names = [c for c in table.columns if c.startswith("p_")]
    top = min(top, len(names))
    rows = -(-len(faces) // ACROSS)
    figure = new_figure(rows * (FACE + BAR * top + 0.55))
    heights = [FACE, BAR * top] * rows
    grid = figure.subplots(2 * rows, ACROSS, height_ratios=heights, squeeze=False)
    for cell in range(rows * ACROSS):
        upper, lower = (grid[2 * (cell // ACROSS) + part, cell % ACROSS] for part in (0, 1))
        if cell < len(faces):
            row = table.iloc[cell]
            _face(upper, faces[cell], row)
            _bars(lower, row[names].astype(float).nlargest(top))
        else:
            upper.set_axis_off()
            lower.set_axis_off()
    return figure


def _face(axes: Axes, face: np.ndarray, row: Any) -> None:
    axes.imshow(face, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    blank(axes)
    is_doubtful = bool(row["warning"])
    name = Path(row["path"]).name
    name = name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"
    size = f"{row['size']:.3g} px" + (", too small" if is_doubtful else "")
    look = {"color": WRONG if is_doubtful else RIGHT, "fontsize": 9, "pad": 4}
    axes.set_title(f"{name}\n{size}", parse_math=False, **look)  # a name may hold dollars


def _bars(axes: Axes, shares: pd.Series) -> None:
    places = range(len(shares))
    axes.barh(places, shares, height=0.82, color=[COLOURS[0], *["0.8"] * (len(shares) - 1)])
    for place, (name, share) in enumerate(shares.items()):
        axes.text(1.03, place, name.removeprefix("p_"), va="center", fontsize=9,
                  fontweight="bold" if place == 0 else "normal")  # fmt: skip
        axes.text(-0.04, place, f"{share:.0%}", va="center", ha="right", fontsize=9)
    axes.set(xlim=(-0.35, 2.2), ylim=(len(shares) - 0.5, -0.5))
    axes.plot([1, 1], [-0.5, len(shares) - 0.5], color="0.85", linewidth=0.8)
    blank(axes)
