"""Accuracy against the size of a face, with the face itself below."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gmelib.config import InputError
from gmelib.figures.style import COLOURS, new_figure, picture, styled

HEIGHT = 5.1  # inches
PANEL = 170  # points: the plot is at least so high
WIDE = 560  # points: and so wide
LINE = 14  # points from one label at the right to the next
HALO = [withStroke(linewidth=2.5, foreground="white")]  # figures stay readable on lines and bands


@styled
def robustness(
    curves: Mapping[str, pd.DataFrame],
    *,
    trained_at: Sequence[int] = (),
    reference: tuple[str, float] | None = None,
    faces: Mapping[int, Any] | None = None,
) -> Figure:
    """Accuracy of one or two models as faces shrink, each with its 95 % interval as a band.

    The sizes stand at equal distances, largest first, whatever lies between them.

    Args:
        curves: name -> table with size (px), accuracy, low and high (per cent), the same sizes in
            each, as :attr:`gmelib.robustness.Measured.curve`; the student first.
        trained_at: the sizes that the student was trained at, marked.
        reference: name and per cent of an accuracy that needs no look at the face.
        faces: size -> one face (C, size, size) of it, drawn below.
    """
    if not 1 <= len(curves) <= 2:
        raise InputError(f"curves: expected one or two models, got {len(curves)}")
    sizes = sorted(next(iter(curves.values()))["size"], reverse=True)
    tables = {n: t.set_index("size").loc[sizes] for n, t in curves.items()}
    figure = new_figure(HEIGHT if faces else HEIGHT - 1)
    axes = figure.subplots()
    _limits(axes, tables, sizes, reference)
    colours = dict(zip(tables, COLOURS, strict=False))
    for name, table in tables.items():
        _curve(axes, table, colours[name])
        others = [other["accuracy"] for key, other in tables.items() if key != name]
        above = table["accuracy"] >= others[0] if others else table["accuracy"] == table["accuracy"]
        if others and name != next(iter(tables)):
            above &= table["accuracy"] != others[0]  # of two equals the first stands above
        _figures(axes, table, above, colours[name])
    ends = {name: (table["accuracy"].iloc[-1], colours[name]) for name, table in tables.items()}
    if reference:
        axes.axhline(reference[1], color="0.45", linestyle=":", linewidth=1.2, zorder=1.5)
        ends[f"{reference[0]}, {reference[1]:.1f}"] = (reference[1], "0.4")
    _names(axes, ends)
    _marks(axes, sizes, trained_at, next(iter(colours.values())))
    _faces(axes, sizes, faces or {})
    return figure


def _limits(
    axes: Axes, tables: Mapping[str, pd.DataFrame], sizes: Sequence[int],
    reference: tuple[str, float] | None,
) -> None:  # fmt: skip
    values = np.concatenate([t[["low", "high"]].to_numpy().ravel() for t in tables.values()])
    if reference:
        values = np.append(values, reference[1])
    low, high = values.min(), values.max()
    spare = max(0.16 * (high - low), 3)  # for the figures above and below the lines
    axes.set(xlim=(-0.4, len(sizes) - 0.6), ylim=(low - spare, high + spare))
    axes.set_xticks(range(len(sizes)), [f"{size} px" for size in sizes])
    axes.tick_params(axis="x", length=0, pad=6)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_ylabel("accuracy, %  (band: 95 % over the faces)")


def _curve(axes: Axes, table: pd.DataFrame, colour: Any) -> None:
    places = np.arange(len(table))
    axes.fill_between(places, table["low"], table["high"], color=colour, alpha=0.18, linewidth=0)
    axes.plot(places, table["accuracy"], "o-", color=colour, linewidth=2.2, markersize=6,
              markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip


def _figures(axes: Axes, table: pd.DataFrame, above: pd.Series, colour: Any) -> None:
    """The accuracies at the points, beyond the band and away from the other model's."""
    for place, (row, is_above) in enumerate(zip(table.itertuples(), above, strict=True)):
        axes.annotate(
            f"{row.accuracy:.1f}", (place, row.high if is_above else row.low),
            xytext=(0, 4 if is_above else -4), textcoords="offset points", ha="center",
            va="bottom" if is_above else "top", color=colour, fontsize=9, path_effects=HALO,
        )  # fmt: skip


def _names(axes: Axes, ends: Mapping[str, tuple[float, Any]]) -> None:
    """Names at the right ends of the lines, pushed apart where they would overlap."""
    bottom, top = axes.get_ylim()
    ordered = sorted(reversed(list(ends)), key=lambda name: ends[name][0])  # first above equals
    places = np.array([(ends[name][0] - bottom) / (top - bottom) for name in ordered])
    gap = LINE / PANEL
    for _ in range(100):  # each pair gives way by half
        close = np.diff(places) < gap - 1e-9
        if not close.any():
            break
        for i in np.flatnonzero(close):
            middle = (places[i] + places[i + 1]) / 2
            places[i], places[i + 1] = middle - gap / 2, middle + gap / 2
    for name, place in zip(ordered, places, strict=True):
        is_model = ends[name][1] != "0.4"
        axes.annotate(
            name, (1.01, place), xycoords="axes fraction", va="center", color=ends[name][1],
            fontsize=10 if is_model else 9, fontweight="bold" if is_model else "normal",
            annotation_clip=False,
        )  # fmt: skip


def _marks(axes: Axes, sizes: Sequence[int], trained_at: Sequence[int], colour: Any) -> None:
    for size in trained_at:
        place = sizes.index(size)
        axes.axvspan(place - 0.4, place + 0.4, color=colour, alpha=0.07, linewidth=0, zorder=0)
        axes.annotate("trained here", (place, 1.01), xycoords=("data", "axes fraction"),
                      ha="center", va="bottom", color=colour, fontsize=9)  # fmt: skip


def _faces(axes: Axes, sizes: Sequence[int], faces: Mapping[int, Any]) -> None:
    side = min(62, 0.8 * WIDE / len(sizes)) if faces else 0  # points
    for place, size in enumerate(sizes):
        if size in faces:
            image = picture(faces[size])
            drawn = OffsetImage(image, zoom=side / image.shape[0], interpolation="nearest")
            axes.add_artist(AnnotationBbox(
                drawn, (place, 0), xycoords=("data", "axes fraction"), xybox=(0, -24),
                boxcoords="offset points", box_alignment=(0.5, 1), frameon=False, pad=0,
                annotation_clip=False,
            ))  # fmt: skip
    axes.set_xlabel("side of the face", labelpad=side + 18 if faces else 4)
