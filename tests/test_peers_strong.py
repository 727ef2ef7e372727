"""Ada-CM's views: every operation against Pillow, the cut-out square against plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from gmelib.peers import strong

SIZE = 40
STRENGTHS = (0.07, 0.5, 0.93)  # of every operation's range


def faces(count=3, size=SIZE, seed=0):
    """Smooth colour pictures (count, 3, size, size), whole grey levels from 9 to 240."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.uniform(0, 255, (count, 3, 6, 6))).float()
    large = torch.nn.functional.interpolate(small, size=size, mode="bicubic")
    return large.clamp(9, 240).round()


def image(face):
    return Image.fromarray(face.permute(1, 2, 0).numpy().astype(np.uint8))


def affine(face, *six):
    return face.transform(face.size, Image.Transform.AFFINE, six)


PILLOW = {
    "auto_contrast": lambda face, v: ImageOps.autocontrast(face),
    "brightness": lambda face, v: ImageEnhance.Brightness(face).enhance(v),
    "colour": lambda face, v: ImageEnhance.Color(face).enhance(v),
    "contrast": lambda face, v: ImageEnhance.Contrast(face).enhance(v),
    "equalize": lambda face, v: ImageOps.equalize(face),
    "identity": lambda face, v: face,
    "posterize": lambda face, v: ImageOps.posterize(face, int(v)),
    "rotate": lambda face, v: face.rotate(v),
    "sharpness": lambda face, v: ImageEnhance.Sharpness(face).enhance(v),
    "shear_x": lambda face, v: affine(face, 1, v, 0, 0, 1, 0),
    "shear_y": lambda face, v: affine(face, 1, 0, 0, v, 1, 0),
    "solarize": lambda face, v: ImageOps.solarize(face, v),
    "translate_x": lambda face, v: affine(face, 1, 0, v * face.size[0], 0, 1, 0),
    "translate_y": lambda face, v: affine(face, 1, 0, 0, 0, 1, v * face.size[1]),
}


@pytest.mark.parametrize("operation", strong.OPERATIONS, ids=lambda o: o.apply.__name__)
def test_an_operation_does_what_pillow_does(operation):
    apply, low, high = operation
    given = faces(len(STRENGTHS))
    strengths = torch.tensor([low + (high - low) * part for part in STRENGTHS])
    got = apply(given, strengths)
    for face, strength, result in zip(given, strengths, got, strict=True):
        expected = np.asarray(PILLOW[apply.__name__](image(face), float(strength)))
        gap = (result - torch.tensor(expected).permute(2, 0, 1)).abs()
        # Pillow rounds its greys and cuts off what it mixes: up to 1.5 levels; and where two pixels
        # meet its fixed point may choose the other
        assert (gap <= 1.51).float().mean() > 0.99


def test_the_operations_and_ranges_are_the_authors():
    ranges = {o.apply.__name__: (o.low, o.high) for o in strong.OPERATIONS}
    assert ranges.keys() == PILLOW.keys() and len(strong.OPERATIONS) == 14
    assert {n for n, r in ranges.items() if r == (0.05, 0.95)} == {
        "brightness", "colour", "contrast", "sharpness",
    }  # fmt: skip
    assert ranges["posterize"] == (4, 8) and ranges["solarize"] == (0, 256)
    assert ranges["rotate"] == (-30, 30)
    assert {ranges[n] for n in ("shear_x", "shear_y", "translate_x", "translate_y")} == {
        (-0.3, 0.3)
    }


def test_a_face_of_one_grey_level_survives_every_operation():
    flat = torch.full((2, 3, 16, 16), 77.0)
    for apply, low, high in strong.OPERATIONS:
        assert apply(flat, torch.tensor([low, high])).isfinite().all(), apply.__name__
    none = torch.zeros(2)
    assert torch.equal(strong.auto_contrast(flat, none), flat)
    assert torch.equal(strong.equalize(flat, none), flat)


@pytest.mark.parametrize("side, place", [(0.3, (0.5, 0.4)), (0.5, (0.02, 0.9)), (0.0, (0.5, 0.5))])
def test_the_square_is_where_plain_loops_paint_it(side, place):
    given = faces(1)
    got = strong.cut_out(given, torch.tensor([side]), torch.tensor([place]))
    expected = given.clone()
    left, top = (int(max(0.0, p - side / 2) * SIZE) for p in place)
    for y in range(SIZE):
        for x in range(SIZE):
            if left <= x < left + side * SIZE and top <= y < top + side * SIZE:
                expected[0, :, y, x] = torch.tensor([125.0, 123.0, 114.0])
    assert torch.equal(got, expected)
    assert torch.equal(got, given) == (side == 0)


def test_every_face_draws_for_itself():
    one = faces(1) / 127.5 - 1
    torch.manual_seed(0)
    views = strong.strong_view(one.repeat(24, 1, 1, 1))
    assert len({view.numpy().tobytes() for view in views}) == 24
    assert views.shape == (24, 3, SIZE, SIZE)
    assert views.min() >= -1 and views.max() <= 1 and views.isfinite().all()


def test_the_seed_decides_the_strong_view():
    x = faces(6) / 127.5 - 1
    before = x.clone()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(strong.strong_view(x))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert torch.equal(x, before)


def test_without_operations_and_square_nothing_changes():
    x = faces(4) / 127.5 - 1
    assert torch.allclose(strong.strong_view(x, operations=0, cutout=0), x, atol=1e-6)


def test_the_square_is_half_the_side_at_most():
    torch.manual_seed(0)
    views = strong.strong_view(torch.full((200, 3, SIZE, SIZE), -1.0), operations=0)
    painted = (views > -0.9).all(1)
    widths = painted.any(1).sum(1)
    assert widths.max() <= SIZE // 2 + 1 and widths.max() > 0.4 * SIZE and widths.min() < 0.1 * SIZE


@pytest.mark.parametrize("flip", [True, False])
def test_a_weak_view_is_the_face_mirrored_or_shifted(flip):
    size, count, reach = 56, 200, 2  # 8 / 224 of 56
    column = torch.linspace(-1, 1, size).expand(count, 3, size, size)
    torch.manual_seed(0)
    views = strong.random_shift(column, flip=flip)[:, 0, 0]  # (count, size)
    mirrored = views[:, 0] > views[:, -1]
    assert mirrored.float().mean() == pytest.approx(0.5 if flip else 0, abs=0.12 * flip)
    upright = torch.where(mirrored[:, None], -views, views)  # the ramp is odd about its middle
    moved = (upright[:, size // 2] - column[0, 0, 0, size // 2]) / (2 / (size - 1))
    assert set(moved.round().int().tolist()) == set(range(-reach, reach + 1))
    # half of them try, and a fifth of those draw no shift across
    assert (moved.round() != 0).float().mean() == pytest.approx(0.4, abs=0.12)
