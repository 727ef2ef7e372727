"""Figures show the data they are given, in full, with labels that do not overlap."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

from gmelib import figures
from gmelib.config import EXPRESSIONS, InputError
from gmelib.figures.style import mosaic, picture

CLASSES = EXPRESSIONS[:7]
SIZE = 24


def faces(count, side=SIZE, channels=3):
    generator = torch.Generator().manual_seed(side)
    shape = (count, channels, side, side)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def history(epochs, *, kd):
    epoch = np.arange(1, epochs + 1)
    columns = {"epoch": epoch, "ce": 2 / epoch, "loss": 2 / epoch, "learning_rate": 0.1 / epoch}
    columns |= {"train_accuracy": 1 - 0.8 / epoch, "validation_accuracy": 0.9 - 0.7 / epoch}
    if kd:
        columns |= {"kd": 9 / epoch, "loss": 47 / epoch}
        columns |= {"similarity_channel": 1 - 0.5 / epoch, "similarity_spatial": 1 - 0.9 / epoch}
    return pd.DataFrame(columns)


def scores(shift):
    names = ["accuracy", "balanced_accuracy", "macro_f1", "expected_calibration_error"]
    names += [f"recall_{name}" for name in CLASSES]
    value = np.linspace(0.3, 0.7, len(names)) + shift
    table = {"value": value, "low": value - 0.05, "high": value + 0.04, "n": 3589}
    return pd.DataFrame(table, index=pd.Index(names, name="metric"))


def counts():
    table = np.arange(49).reshape(7, 7) * 20
    table[6] = 0  # a class without faces
    return pd.DataFrame(table, index=CLASSES, columns=CLASSES)


def balance():
    return pd.DataFrame(
        {"train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
         "validation": [467, 56, 496, 895, 653, 415, 607],
         "test": [491, 55, 528, 879, 594, 416, 626]}, index=CLASSES,
    )  # fmt: skip


def answers(count):
    shares = np.random.default_rng(0).dirichlet(np.ones(7), count)
    table = pd.DataFrame(shares, columns=[f"p_{name}" for name in CLASSES])
    name = "a $photo$graph with a name that is far too lon$g.jpeg"
    return table.assign(path=name, size=8.0, warning=["", "face of 8 px"] * (count // 2))


def maps(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def degraded(keys):
    return {key: faces(2, 12) for key in keys}, {key: faces(2).float() for key in keys}


RUNS = [("teacher", scores(0.2)), ("student, KD", scores(0.1)), ("student, no KD", scores(0))]
METHODS = {
    "integrated_gradients": maps(7, SIZE, SIZE) - 0.5,
    "grad_cam": maps(7, SIZE, SIZE),
    "occlusion": maps(7, SIZE, SIZE) - 0.4,
}
TITLES = {"true": CLASSES, "predicted": ["happiness"] * 7, "probability": [1.0] * 7}
DRAWN = {
    "class_balance": lambda: figures.class_balance(balance()),
    "faces_grid": lambda: figures.faces_grid(faces(21), torch.arange(21) % 7, CLASSES),
    "resolution_grid": lambda: figures.resolution_grid(faces(2), *degraded((8, 12, 14, 24, 48))),
    "kernel_grid": lambda: figures.kernel_grid(faces(2), *degraded(("bicubic", "box", "nearest"))),
    "history": lambda: figures.training_history(history(8, kd=True)),
    "histories": lambda: figures.training_history(
        {"teacher": history(100, kd=False), "student": history(100, kd=True)}
    ),
    "one_epoch": lambda: figures.training_history(history(1, kd=False)),
    "confusion_matrix": lambda: figures.confusion_matrix(counts(), title="student at 12 x 12"),
    "metric_intervals": lambda: figures.metric_intervals(RUNS, reference=("paper", 0.6)),
    "recall_comparison": lambda: figures.recall_comparison(RUNS),
    "probability_bars": lambda: figures.probability_bars(
        {"teacher": maps(7) / 4, "student": maps(7) / 4}, CLASSES, true="fear"
    ),
    "attention_maps": lambda: figures.attention_maps(
        faces(1)[0], maps(4, SIZE, SIZE), faces(1)[0], maps(4, SIZE, SIZE), title="fear"
    ),
    "class_mean_maps": lambda: figures.class_mean_maps(
        maps(7, 4, SIZE, SIZE), maps(7, 4, SIZE, SIZE), CLASSES, relative=True
    ),
    "attribution_grid": lambda: figures.attribution_grid(faces(7), METHODS, **TITLES),
    "predicted_faces": lambda: figures.predicted_faces(list(faces(6)[:, 0].numpy()), answers(6)),
}


def drawn_texts(figure, monkeypatch):
    """Every word that is drawn, with its place in pixels."""
    drawn, draw = [], Text.draw

    def spy(self, renderer, *args, **kwargs):
        drawn.append(self)
        return draw(self, renderer, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", spy)
    figure.draw_without_rendering()
    words = [t for t in dict.fromkeys(drawn) if t.get_visible() and t.get_text().strip()]
    # the box of slanted text is larger than the text
    return {text: text.get_window_extent() for text in words if text.get_rotation() % 90 == 0}


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_overlaps_another_or_leaves_the_figure(name, monkeypatch):
    figure = DRAWN[name]()
    found = drawn_texts(figure, monkeypatch)
    assert len(found) > 3
    page = figure.bbox
    for (first, a), (second, b) in itertools.combinations(found.items(), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (first.get_text(), second.get_text())
    for text, box in found.items():
        inside = box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
        assert inside and box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text.get_text()
    assert figure.get_size_inches()[0] <= 10
    assert not plt.get_fignums()


def test_a_figure_shows_itself_and_leaves_the_settings_alone():
    before = dict(mpl.rcParams)
    figure = DRAWN["probability_bars"]()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before


def test_pictures_are_scaled_by_their_kind():
    grey = np.array([[[0, 51], [102, 255]]], np.uint8)
    expected = np.array([[0, 0.2], [0.4, 1]])
    for image in (grey, grey.astype(np.float32), torch.from_numpy(grey), grey / 127.5 - 1):
        shown = picture(image)
        assert shown.shape == (2, 2, 3)
        assert np.allclose(shown, expected[..., None], atol=1e-6)
    with pytest.raises(InputError, match="image of shape .24, 24, 3.: expected"):
        picture(np.zeros((24, 24, 3)))


def test_mosaic_puts_every_image_in_its_place():
    images = np.arange(6 * 25 * 25).reshape(6, 25, 25)
    canvas = mosaic([images[:4], images[4:]])
    assert canvas.shape == (51, 103)
    for i in range(6):
        row, column = divmod(i, 4)
        top, left = row * 26, column * 26
        assert (canvas[top : top + 25, left : left + 25] == images[i]).all()
    assert np.isnan(canvas).sum() == canvas.size - 6 * 25 * 25


def test_class_balance_shows_counts_and_shares():
    left, right = DRAWN["class_balance"]().axes
    heights = [[bar.get_height() for bar in group] for group in left.containers]
    assert heights == balance().to_numpy().T.tolist()
    for group in right.containers:
        assert sum(bar.get_height() for bar in group) == pytest.approx(1)


def test_faces_stand_in_the_row_of_their_class():
    labels = torch.tensor([2, 0, 2, 0, 0])  # no face of class 1
    images = torch.stack([torch.full((1, 5, 5), 50 * i, dtype=torch.uint8) for i in range(5)])
    (axes,) = figures.faces_grid(images, labels, ("a", "b", "c"), per_class=2).axes
    shown = axes.images[0].get_array()[..., 0] * 255
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "c"]
    assert shown[[0, 0, 6, 6], [0, 6, 0, 6]].tolist() == pytest.approx([50, 150, 0, 100])


def test_degraded_faces_stand_under_their_size():
    sizes = (8, 12)
    low = {s: torch.full((2, 1, s, s), s, dtype=torch.uint8) for s in sizes}
    restored = {s: torch.full((2, 1, 24, 24), 100.0 + s) for s in sizes}
    axes = figures.resolution_grid(faces(2), low, restored).axes
    shown = [round(float(a.images[0].get_array()[0, 0, 0]) * 255) for a in axes]
    assert len(axes) == 2 * (1 + 4)
    assert shown[1:5] == shown[6:] == [8, 12, 108, 112]
    assert [a.get_title() for a in axes[1:3]] == ["8 x 8", "12 x 12"]
    assert axes[1].images[0].get_array().shape == (8, 8, 3)  # enlarged by the drawing alone
    with pytest.raises(InputError, match="low has .8, 12., restored has .8."):
        figures.resolution_grid(faces(2), low, {8: restored[8]})


def test_history_has_a_panel_for_what_was_recorded_and_no_other():
    def titles(data):
        return [a.get_title() for a in figures.training_history(data).axes]

    assert titles(history(3, kd=False)) == [
        "cross-entropy", "accuracy", "learning rate at the epoch's end"
    ]  # fmt: skip
    with_kd = titles(history(3, kd=True))
    assert with_kd[3:] == [
        "distillation loss (eq. 11)", "total loss (eq. 13)", "similarity to the teacher",
    ]  # fmt: skip
    figure = figures.training_history({"t": history(5, kd=False), "s": history(5, kd=True)})
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert len(panels["accuracy"].lines) == 4 and len(panels["total loss (eq. 13)"].lines) == 1
    drawn = panels["distillation loss (eq. 11)"].lines[0].get_ydata()
    assert drawn.tolist() == (9 / np.arange(1, 6)).tolist()
    with pytest.raises(InputError, match="history without a known column"):
        figures.training_history(pd.DataFrame({"epoch": [1]}))


def test_confusion_matrix_writes_counts_and_row_shares():
    left, right = figures.confusion_matrix(counts()).axes
    assert [t.get_text() for t in left.texts] == [f"{n:,}" for n in counts().to_numpy().ravel()]
    written = [t.get_text() for t in right.texts]
    assert written[-1] == "no faces" and len(written) == 6 * 7 + 1
    shares = 100 * counts().to_numpy()[:6] / counts().to_numpy()[:6].sum(1, keepdims=True)
    assert written[:-1] == [f"{s:.0f}" for s in shares.ravel()]
    assert [t.get_text() for t in left.get_yticklabels()] == list(CLASSES)


def test_intervals_are_drawn_where_the_table_has_them():
    (axes,) = figures.metric_intervals(RUNS).axes
    for (name, table), line, bars in zip(RUNS, axes.lines, axes.collections, strict=True):
        assert line.get_label() == name
        assert line.get_xdata().tolist() == table.value.tolist()[:4]
        ends = [segment[:, 0].tolist() for segment in bars.get_segments()]
        assert ends == table[["low", "high"]].to_numpy()[:4].tolist()
    (axes,) = figures.recall_comparison(RUNS[:1]).axes
    assert axes.lines[0].get_xdata().tolist() == RUNS[0][1].value.tolist()[4:]
    assert axes.get_yticklabels()[2].get_text() == "fear (3,589)"


def test_attention_of_teacher_and_student_share_a_scale_at_each_stage():
    teacher = torch.stack([torch.full((4, 4), v) for v in (0.2, 0.4)])
    student = torch.stack([torch.full((4, 4), v) for v in (0.6, 0.5)])
    figure = figures.attention_maps(faces(1)[0], teacher, faces(1)[0], student)
    over = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert [float(m.get_array().mean()) for m in over] == pytest.approx([0.2, 0.4, 0.6, 0.5])
    assert [m.get_clim() for m in over] == [m.get_clim() for m in over[2:]] * 2
    assert over[0].get_clim() != over[1].get_clim()


def test_class_means_leave_out_a_class_without_faces():
    teacher, student = maps(3, 2, 5, 5), maps(3, 2, 5, 5) + 1
    teacher[1] = student[1] = float("nan")
    figure = figures.class_mean_maps(teacher, student, ("a", "b", "c"))
    columns = [axes for axes in figure.axes if axes.images]
    assert [t.get_text() for t in columns[0].get_yticklabels()] == ["a", "c"]
    shown = {axes.get_title(): axes.images[0].get_array() for axes in columns}
    assert sorted(shown) == [f"{who}\nstage {i}" for who in ("student", "teacher") for i in (1, 2)]
    assert np.allclose(shown["student\nstage 2"][6:], student[2, 1])
    assert np.allclose(shown["teacher\nstage 1"][:5], teacher[0, 0])
    with pytest.raises(InputError, match="every class is NaN"):
        figures.class_mean_maps(teacher[1:2], student[1:2], ("b",))


def test_attributions_have_a_symmetric_scale_and_marked_mistakes():
    figure = DRAWN["attribution_grid"]()
    over = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert len(over) == 3 * 7
    for name, row in zip(METHODS, (over[:7], over[7:14], over[14:]), strict=True):
        for face, drawn in zip(METHODS[name], row, strict=True):
            assert np.allclose(drawn.get_array(), face)
        low, high = row[0].get_clim()
        assert {m.get_clim() for m in row} == {(low, high)}
        assert low == (0 if name == "grad_cam" else -high)
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    assert titles[0].get_text() == "anger\n\N{RIGHTWARDS ARROW} happiness 100%"
    colours = [title.get_color() for title in titles]
    assert colours[3] not in colours[:3] + colours[4:]  # happiness alone is right
