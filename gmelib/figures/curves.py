"""Curves: what a low resolution keeps, and how alike the maps of teacher and student are."""

import pandas as pd
from matplotlib.figure import Figure

from gmelib.figures.style import COLOURS, new_figure, styled


@styled
def fidelity(table: pd.DataFrame, lr_size: int) -> Figure:
    """PSNR of restored faces over the low resolution, a line a kernel.

    Args:
        table: in dB, as :func:`gmelib.gallery.fidelity` gives; resolutions in rows.
        lr_size: the run's own resolution, marked.
    """
    figure = new_figure(3.4, width=7)
    axes = figure.subplots()
    for colour, kernel in zip(COLOURS, table.columns, strict=False):
        axes.plot(table.index, table[kernel], "o-", color=colour, label=kernel, markersize=4)
    axes.axvline(lr_size, color="0.6", linestyle=":")
    axes.annotate(f"{lr_size} px", (lr_size, 1), xycoords=("data", "axes fraction"), color="0.4",
                  xytext=(4, -10), textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set(xlabel="low resolution, px", ylabel="PSNR, dB", xticks=list(table.index))
    figure.legend(loc="outside right center", title="kernel")
    return figure


@styled
def map_agreement(tables: dict[str, pd.DataFrame]) -> Figure:
    """Cosine similarity of teacher's and student's maps, block by block.

    Args:
        tables: student's name -> table of :func:`gmelib.attribution.agreement`.
    """
    figure = new_figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("channel", "spatial"), strict=True):
        for colour, (name, table) in zip(COLOURS, tables.items(), strict=False):
            axes.plot(table["block"], table[kind], "o-", color=colour, label=name, markersize=4)
        stages = next(iter(tables.values())).groupby("stage")["block"].agg(["min", "max"])
        for stage, (first, last) in stages.iterrows():
            axes.axvspan(first - 0.5, last + 0.5, color="0.96" if stage % 2 else "1", zorder=0)
            axes.annotate(f"stage {stage}", ((first + last) / 2, 0.02), ha="center", fontsize=8,
                          xycoords=("data", "axes fraction"), color="0.4")  # fmt: skip
        ticks = list(table["block"])[:: max(1, len(table) // 12)]
        axes.set(title=f"{kind} maps", xlabel="block", xticks=ticks)
        axes.margins(x=0.02)
    panels[0].set_ylabel("cosine similarity")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure
