"""Figures of the ablation show what they are given: rows, seeds, gaps, and the paper's figures."""

import itertools

import numpy as np
import pandas as pd
import pytest
from test_figures import drawn_texts

from gmelib import figures
from gmelib.ablation import CONTRASTS
from gmelib.variants import ROWS, SWEEPS


def line(value, /, *, seeds=1, paper=None, **more):
    """As gmelib.ablation gives it; value None: not run."""
    if value is None:
        return {"n": 0, "over": "", "by_seed": {}, "paper": paper, "low": None, "high": None} | more
    by_seed = {s: value + s - (seeds - 1) / 2 for s in range(seeds)}
    over = "faces" if seeds == 1 else "seeds"
    return {"low": value - 2, "high": value + 2, "n": seeds, "over": over, "by_seed": by_seed,
            "paper": paper} | more  # fmt: skip


def rows(*values, **more):
    lines = [line(v, accuracy=v, paper=p, **more) for v, p in values]
    return pd.DataFrame(lines, index=list(ROWS)[: len(values)])


def contrasts(*values, **more):
    names = list(CONTRASTS)[: len(values)]
    lines = [line(v, value=v, paper=p, first=CONTRASTS[n][0], second=CONTRASTS[n][1], **more)
             for n, (v, p) in zip(names, values, strict=True)]  # fmt: skip
    return pd.DataFrame(lines, index=names)


def sweeps(parameters, value=48.0):
    lines = {
        (name, v): {"accuracy": value, "low": value and value - 1.5, "high": value and value + 1.5,
                    "default": v == SWEEPS[name][0]}
        for name in parameters for v in SWEEPS[name]
    }  # fmt: skip
    index = pd.MultiIndex.from_tuples(list(lines), names=["parameter", "value"])
    return pd.DataFrame(list(lines.values()), index=index)


ALL = [(50 + i, 50 + 1.5 * i if i != 2 else None) for i in range(7)]
MIXED = [(None, 50.1), (52.0, 52.5), (51.0, None), *ALL[3:]]
NONE = [(None, None)] * 7
DRAWN = {
    "rows": lambda: figures.ablation_rows(rows(*ALL, seeds=3)),
    "rows, some not run": lambda: figures.ablation_rows(rows(*MIXED)),
    "rows, none run": lambda: figures.ablation_rows(rows(*NONE)),
    "one row": lambda: figures.ablation_rows(rows((50.0, None))),
    "contrasts": lambda: figures.ablation_contrasts(contrasts(*[(v - 51, 1) for v, _ in ALL])),
    "contrasts, some not run": lambda: figures.ablation_contrasts(contrasts(*MIXED)),
    "all sweeps": lambda: figures.ablation_sweeps(sweeps(SWEEPS)),
    "one sweep": lambda: figures.ablation_sweeps(sweeps(["kd_weight"])),
    "five sweeps": lambda: figures.ablation_sweeps(sweeps(list(SWEEPS)[:5])),
    "no sweep run": lambda: figures.ablation_sweeps(sweeps(["kd_weight"], None)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_overlaps_another_or_leaves_the_figure(name, monkeypatch):
    figure = DRAWN[name]()
    found = drawn_texts(figure, monkeypatch)
    page = figure.bbox
    for (first, a), (second, b) in itertools.combinations(found.items(), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (first.get_text(), second.get_text())
    for text, box in found.items():
        inside = box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
        assert inside and box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text.get_text()


def drawn_of(axes):
    """Label in the legend -> (x, y) of the points drawn under it."""
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_every_row_shows_its_mean_its_seeds_and_the_papers_figure():
    table = rows(*ALL, seeds=3)
    (axes,) = figures.ablation_rows(table).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == list(ROWS)
    found = drawn_of(axes)
    assert found["ours"].tolist() == [[v, i] for i, (v, _) in enumerate(ALL)]
    assert np.allclose(found["paper"][:, 0], [p or np.nan for _, p in ALL], equal_nan=True)
    seeds = [v for by_seed in table["by_seed"] for v in by_seed.values()]
    assert found["one seed"][:, 0].tolist() == seeds
    (intervals,) = axes.collections
    ends = [segment[:, 0].tolist() for segment in intervals.get_segments()]
    assert ends == [[v - 2, v + 2] for v, _ in ALL]


def test_intervals_over_faces_do_not_look_like_those_over_seeds():
    table = pd.concat([rows((50.0, None), seeds=3), rows((51.0, None))])
    figure = figures.ablation_rows(table)
    over = {c.get_label(): c.get_linestyle()[0][1] for c in figure.axes[0].collections}
    assert set(over) == {"95 % over seeds", "95 % over faces"}
    assert over["95 % over seeds"] is None and over["95 % over faces"]
    assert "one seed" in drawn_of(figure.axes[0])


@pytest.mark.parametrize("draw, make", [(figures.ablation_rows, rows),
                                        (figures.ablation_contrasts, contrasts)])  # fmt: skip
def test_what_is_not_run_is_said_in_its_place(draw, make):
    (axes,) = draw(make((None, 50.0), (51.0, 52.0), (None, None))).axes
    assert [(t.get_text(), t.xy[1]) for t in axes.texts] == [("not run", 0), ("not run", 2)]
    assert np.isfinite(drawn_of(axes)["paper"][:, 0]).tolist() == [True, True, False]
    (axes,) = draw(make((None, None), (None, None))).axes
    assert len(axes.texts) == 2 and not {"ours", "paper"} & set(drawn_of(axes))


def test_a_contrast_names_its_rows_and_the_line_of_no_difference():
    (axes,) = figures.ablation_contrasts(contrasts((1.5, 1.87))).axes
    (label,) = [t.get_text() for t in axes.get_yticklabels()]
    assert label == "branch 2\nGME-Net − Baseline+DBAM"
    assert axes.get_lines()[0].get_xdata() == [0, 0]
    low, high = axes.get_xlim()
    assert low <= 0 and high >= 3.5


def test_without_two_rows_of_a_contrast_the_figure_says_so(recwarn):
    (axes,) = figures.ablation_contrasts(contrasts().reindex(columns=["value", "paper"])).axes
    assert [t.get_text() for t in axes.texts] == ["no two of the rows asked for differ in one part"]
    assert not recwarn


def test_a_sweep_has_a_panel_for_each_parameter_and_fills_the_presets_value():
    figure = figures.ablation_sweeps(sweeps(["kd_weight", "head"]))
    assert [axes.get_title() for axes in figure.axes] == ["kd_weight", "head"]
    for axes, name in zip(figure.axes, ("kd_weight", "head"), strict=True):
        filled = [line.get_markerfacecolor() != "white" for line in axes.get_lines()]
        assert filled == [True] + [False] * (len(SWEEPS[name]) - 1)
        labels = [t.get_text() for t in axes.get_xticklabels()]
        assert labels[0].endswith("\npreset") and not labels[1].endswith("preset")
