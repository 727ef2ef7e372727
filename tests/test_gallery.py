"""Faces in figures: which are shown, stand-ins for photographs, and what degradation loses."""

import numpy as np
import pytest
import tiny
import torch

from gmelib import figures, gallery
from gmelib.config import Config
from gmelib.data.faceset import make_faces

NAMES = ("anger", "happiness", "neutral")


@pytest.fixture
def photographs():
    """Grey test faces that must not be published: a constant one first, then two of each class."""
    images = np.random.default_rng(3).integers(0, 256, (7, 1, 48, 48), dtype=np.uint8)
    images[0] = 90
    return make_faces(
        name="photographs",
        images=images,
        expressions=np.array(["anger", *NAMES, *NAMES]),
        split=np.array(["test"] * 7),
        ids=np.arange(7),
    )


def test_the_first_faces_of_every_class_are_shown_but_no_constant_one(photographs):
    shown = gallery.pick_faces(Config(), photographs, per_class=2)
    assert shown.names == ["anger", "anger", "happiness", "happiness", "neutral", "neutral"]
    assert torch.equal(shown.images, photographs.images[[1, 4, 2, 5, 3, 6]])
    one = gallery.pick_faces(Config(), photographs, only=("happiness",))
    assert one.names == ["happiness"] and not one.drawn


def test_where_none_of_the_wanted_classes_is_there_all_are_shown(photographs):
    shown = gallery.pick_faces(Config(), photographs, only=("surprise",))
    assert shown.names == ["anger", "happiness", "neutral"]


def test_some_faces_are_of_all_places_in_their_order_and_the_same_again():
    index = torch.arange(3000) * 2
    some = gallery.some_of(index)
    assert len(some) == 1000 and torch.equal(some, some.sort().values)
    assert set(some.tolist()) <= set(index.tolist()) and torch.equal(some, gallery.some_of(index))
    thirds = torch.bincount(some // 2000, minlength=3)
    assert (thirds > 270).all()
    assert torch.equal(gallery.some_of(index[:50]), index[:50])


def test_drawn_stand_ins_hold_no_photograph(photographs):
    shown = gallery.pick_faces(Config(faces_shown="drawn"), photographs, per_class=2)
    assert shown.drawn and shown.names.count("anger") == 2
    assert shown.images.shape[1:] == photographs.images.shape[1:]
    assert shown.images.dtype == torch.uint8
    distance = shown.images.float()[:, None] - photographs.images.float()[None]
    assert distance.abs().mean((2, 3, 4)).min() > 10  # noise against a drawn face


def test_restored_faces_are_closer_at_higher_resolution():
    cfg = Config.load("params/cpu.yaml")
    faces = tiny.faces()
    images = faces.images[:8]
    table = gallery.fidelity(images, cfg, [8, 16, 24], ["bicubic", "nearest"])
    assert (table.diff().dropna() > 0).all(axis=None)
    assert table.loc[16, "bicubic"] > table.loc[16, "nearest"]
    figure = figures.fidelity(table, 16)
    assert len(figure.axes[0].get_lines()) == 3  # two kernels and the run's own resolution
