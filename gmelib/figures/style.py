"""One look for all figures, made for the width of a notebook and for colour-blind readers."""

from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from gmelib.config import InputError

WIDTH = 9.5  # inches
LOOK = {
    **sns.axes_style("ticks"),
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=sns.color_palette("colorblind")),
}
COLOURS = sns.color_palette("colorblind")
HEAT = mpl.colormaps["viridis"]  # maps of amounts
SIGNED = mpl.colormaps["RdBu_r"]  # maps around zero: red for, blue against
POSITIVE = ListedColormap(SIGNED(np.linspace(0.5, 1, 128)))  # its upper half
RIGHT, WRONG = "0.15", COLOURS[3]  # titles of faces classified so
P = ParamSpec("P")


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook and leaves no trace in pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in the workbook's look, whatever the notebook has set."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(LOOK):
            return draw(*args, **kwargs)

    return wrapped


def new_figure(height: float, *, width: float = WIDTH) -> NotebookFigure:
    """An empty figure, sizes in inches."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


def as_array(values: Any) -> np.ndarray:
    """A tensor or anything array-like as numpy, float64 where it is no integer."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    values = np.asarray(values)
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def picture(image: Any) -> np.ndarray:
    """An image (C, H, W) as matplotlib draws it: (H, W, 3), in [0, 1].

    C is 1 or 3. Integers and floats beyond 2 are grey levels from 0 to 255; other floats are a
    network's input, in [-1, 1] but for rounding.
    """
    pixels = as_array(image)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise InputError(f"image of shape {pixels.shape}: expected (1 or 3, height, width)")
    if pixels.dtype.kind == "f" and pixels.max() <= 2:
        pixels = (pixels + 1) / 2
    else:
        pixels = pixels / 255
    return np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0).clip(0, 1)


def show(axes: Axes, image: Any) -> None:
    """Draws one image, pixels as squares, without axes."""
    axes.imshow(picture(image), interpolation="nearest")
    blank(axes)


def show_over(
    axes: Axes, image: Any, heat: np.ndarray, *, alpha: float | np.ndarray = 0.6, **colours: Any
) -> Any:
    """Draws a map (S, S) over the image in pale grey; returns what a colour bar needs."""
    side = heat.shape[-1]
    extent = (0, side, side, 0)
    pale = 0.3 + 0.7 * picture(image).mean(2)  # or dark skin would swallow the colours
    axes.imshow(pale, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="bilinear")
    drawn = axes.imshow(heat, extent=extent, interpolation="bilinear", alpha=alpha, **colours)
    blank(axes)
    return drawn


def mosaic(rows: Sequence[Sequence[np.ndarray]], *, gap: float = 0.04) -> np.ndarray:
    """Equal images (H, W, ...) as one, with gaps of NaN; far quicker to draw than axes for each.

    Shorter rows are filled up. ``gap`` is a share of the side.
    """
    height, width, *rest = rows[0][0].shape
    space = max(1, round(gap * height))
    columns = max(map(len, rows))
    canvas = np.full(
        (len(rows) * (height + space) - space, columns * (width + space) - space, *rest), np.nan
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + space), j * (width + space)
            canvas[top : top + height, left : left + width] = image
    return canvas


def label_rows(axes: Axes, names: Sequence[str], height: int) -> None:
    """Names at the left of the rows of a :func:`mosaic` of ``height`` pixels."""
    step = height / len(names)  # the gaps shift the centres by less than a pixel or two
    axes.set_yticks([(i + 0.5) * step - 0.5 for i in range(len(names))], names)
    axes.tick_params(axis="y", length=0, labelsize=10)


def blank(axes: Axes) -> None:
    """Leaves the axes without ticks, frame and grid; their labels stay."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def row_label(axes: Axes, text: str) -> None:
    """Horizontal text at the left of a row of pictures."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6)


def tighten(figure: Figure) -> None:
    """Little room between the pictures of a grid."""
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.01)


def run_colours(names: Sequence[str]) -> dict[str, Any]:
    """The same colour for the same position, in every figure that compares runs."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
