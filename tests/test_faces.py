"""Alignment and cropping against what they must give on images whose content is known."""

import numpy as np
import pytest
from tiny import refusal

from gmelib.faces import TEMPLATE, Face, align, crop, geometry, left_to_right, similarity


def dots(points, height, width, sigma=2.0):
    """A dark image with a bright blob at every point."""
    y, x = np.mgrid[:height, :width] + 0.5
    image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def brightest(image, near, reach=6):
    """Centre of mass of the light around a point."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image * ((abs(x - near[0]) < reach) & (abs(y - near[1]) < reach))
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def moved(points, angle, scale, shift):
    turn = scale * np.exp(1j * np.deg2rad(angle))
    z = (points[:, 0] + 1j * points[:, 1]) * turn + complex(*shift)
    return np.stack([z.real, z.imag], 1)


@pytest.mark.parametrize("angle", [0, 25, -70])
@pytest.mark.parametrize("scale", [0.4, 1.0, 5.0])
def test_aligned_landmarks_lie_on_the_template(angle, scale):
    side = int(300 * max(scale, 1))
    centred = moved(TEMPLATE - 56, angle, scale, (side / 2, side / 2))
    image = dots(centred, side, side, sigma=2.5 * scale)
    face = align(image, centred)
    assert face.shape == (112, 112)
    for point in TEMPLATE:
        assert np.abs(brightest(face, point) - point).max() < 0.35


def test_alignment_finds_the_similarity_it_was_given():
    a, b = similarity(moved(TEMPLATE, 30, 2, (5, -3)), TEMPLATE)
    assert abs(1 / a - 2 * np.exp(1j * np.pi / 6)) < 1e-9
    assert abs(a * complex(5, -3) + b) < 1e-9


def test_a_shrunk_face_is_not_aliased():
    """A fine checkerboard becomes even grey, not a pattern."""
    board = np.indices((1120, 1120)).sum(0) % 2 * 255
    face = align(board.astype(np.uint8), TEMPLATE * 10)
    assert abs(face.astype(float) - 127.5).max() < 4


def test_alignment_keeps_colour_and_repeats_the_edge():
    image = np.zeros((112, 112, 3), np.uint8)
    image[..., 0] = 200
    face = align(image, TEMPLATE + 60, size=64)
    assert face.shape == (64, 64, 3) and (face == [200, 0, 0]).all()


@pytest.mark.parametrize(
    "landmarks, told",
    [(np.ones((5, 2)), "one point"), (np.ones((4, 2)), "five"), (TEMPLATE * np.nan, "finite")],
)
def test_landmarks_that_are_none_are_refused(landmarks, told):
    assert told in refusal(align, np.zeros((9, 9), np.uint8), landmarks)


@pytest.mark.parametrize("order", [(4, 1, 2, 3, 0), (0, 3, 2, 1, 4), (2, 4, 0, 3, 1)])
def test_points_that_do_not_stand_as_a_face_s_ask_for_no_giant_crop(order, monkeypatch):
    """In such an order the similarity nearly collapses: up to 33,000 px would be read."""
    monkeypatch.setattr(geometry, "crop", lambda *_: pytest.fail("cut out"))
    told = refusal(align, np.zeros((112, 112), np.uint8), TEMPLATE[list(order)])
    assert "no face of an image of 112 x 112 px" in told and "expected eyes" in told


def test_a_face_may_be_somewhat_larger_than_its_image():
    image = dots((TEMPLATE - 56) * 2.5 + 56, 112, 112, sigma=8)
    assert align(image, (TEMPLATE - 56) * 2.5 + 56).shape == (112, 112)


@pytest.mark.parametrize("angle", [0, 40, 100, 180, 250])
def test_landmarks_of_either_order_go_from_left_to_right(angle):
    points = moved(TEMPLATE, angle, 1, (0, 0))
    assert np.array_equal(left_to_right(points), points)
    assert np.array_equal(left_to_right(points[[1, 0, 2, 4, 3]]), points)


def test_a_crop_inside_is_the_pixels_themselves():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(crop(image, (4, 5, 14, 15)), image[5:15, 4:14])


def test_a_crop_is_the_square_around_its_box_with_its_margin():
    image = np.arange(40 * 40, dtype=np.uint32).reshape(40, 40).astype(np.uint8)
    assert np.array_equal(crop(image, (10, 15, 20, 19)), image[12:22, 10:20])
    assert np.array_equal(crop(image, (10, 10, 20, 20), margin=0.5), image[5:25, 5:25])


def test_what_lies_outside_repeats_the_edge():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    expected = np.pad(image, 3, mode="edge")
    assert np.array_equal(crop(image, (-3, -3, 13, 13)), expected)


@pytest.mark.parametrize(
    "box, told",
    [((5, 5, 5, 9), "no area"), ((20, 0, 25, 5), "outside"), ((0, 0, float("nan"), 1), "no area")],
)
def test_a_box_without_a_face_is_refused(box, told):
    assert told in refusal(crop, np.zeros((10, 10), np.uint8), box)


def test_a_faces_side_is_its_longer_one():
    assert Face((2, 3, 10, 33)).side == 30
