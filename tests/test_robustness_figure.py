"""The figure of accuracy over the size of a face: all of it there, and nothing over another."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from test_figures import drawn_texts

from gmelib import figures
from gmelib.config import InputError
from gmelib.robustness import FER, SIZES


def curve(*values, sizes=SIZES, reach=1.6):
    table = pd.DataFrame({"size": sizes[: len(values)], "accuracy": np.array(values, float)})
    return table.assign(low=table["accuracy"] - reach, high=table["accuracy"] + reach)


def pictures(sizes=SIZES):
    return {s: torch.arange(s * s).reshape(1, s, s) % 256 for s in sizes}


REAL = {"GME-Net": curve(44, 52, 53, 53, 53, 40),
        FER: curve(65.7, 51.0, 31.8, 29.4, 26.8, 23.8)}  # fmt: skip
FLAT = {"DBAM+GM without KD": curve(*[30] * 6), FER: curve(*[30] * 6)}
EIGHT = (112, 48, 24, 16, 14, 13, 12, 8)
WIDE = {"MobileNetV3-small, lr+hr": curve(*range(20, 36, 2), sizes=EIGHT, reach=9)}
ALWAYS = ("always happiness", 24.5)
DRAWN = {
    "as measured": lambda: figures.robustness(
        REAL, trained_at=[12], reference=ALWAYS, faces=pictures()
    ),
    "without faces": lambda: figures.robustness(REAL, trained_at=[12], reference=ALWAYS),
    "equal": lambda: figures.robustness(
        FLAT, trained_at=[48, 8], reference=("always neutral", 30), faces=pictures()
    ),
    "nothing right": lambda: figures.robustness({"GME-Net": curve(*[0] * 6, reach=0)}),
    "one model": lambda: figures.robustness({"GME-Net": REAL["GME-Net"]}, faces=pictures()),
    "eight sizes": lambda: figures.robustness(
        WIDE, trained_at=[48, 13], reference=ALWAYS, faces=pictures(EIGHT)
    ),
    "next to each other": lambda: figures.robustness(
        {"GME-Net": curve(*[24.6] * 6), FER: curve(*[24.4] * 6)}, reference=ALWAYS
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_overlaps_another_or_leaves_the_figure(name, monkeypatch):
    figure = DRAWN[name]()
    found = drawn_texts(figure, monkeypatch)
    assert len(found) > 10
    page = figure.bbox
    for (first, a), (second, b) in itertools.combinations(found.items(), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (first.get_text(), second.get_text())
    for text, box in found.items():
        inside = box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
        assert inside and box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text.get_text()


@pytest.mark.parametrize("sizes", [SIZES, EIGHT])
def test_the_faces_stand_in_a_row_between_the_sizes_and_the_axis_title(sizes):
    values = {"GME-Net": curve(*range(len(sizes)), sizes=sizes)}
    figure = figures.robustness(values, faces=pictures(sizes))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [artist.get_window_extent() for artist in axes.artists]
    assert len(boxes) == len(sizes)
    assert all(b.x0 > a.x1 for a, b in itertools.pairwise(boxes))
    labels = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert max(b.y1 for b in boxes) <= min(label.y0 for label in labels)
    assert min(b.y0 for b in boxes) >= axes.xaxis.label.get_window_extent().y1
    assert boxes[-1].x1 < figure.bbox.x1 and boxes[0].x0 > 0


def test_the_figure_shows_every_size_largest_first_and_every_accuracy():
    shuffled = {name: table.sample(frac=1, random_state=0) for name, table in REAL.items()}
    (axes,) = figures.robustness(shuffled, trained_at=[12]).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == [f"{s} px" for s in SIZES]
    lines = [line.get_ydata().tolist() for line in axes.get_lines()]
    assert lines == [table["accuracy"].tolist() for table in REAL.values()]
    texts = [t.get_text() for t in axes.texts]
    for table in REAL.values():
        assert all(f"{value:.1f}" in texts for value in table["accuracy"])
    (mark,) = [t for t in axes.texts if t.get_text() == "trained here"]
    assert mark.xy[0] == SIZES.index(12)


def test_a_third_model_is_refused():
    with pytest.raises(InputError, match="expected one or two models, got 3"):
        figures.robustness(REAL | FLAT)
