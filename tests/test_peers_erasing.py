"""Random erasing: what it leaves alone, and its draws against torchvision's."""

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomErasing

from gmelib.peers.erasing import IMAGENET_MEAN, TRIES, erase, rectangles
from gmelib.peers.normalize import Normalize

FACES = 3000
HEIGHT, WIDTH = 48, 64
NOTHING = (0, 0, 0, 0)


def faces(count: int = 8, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def bounds(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is marked in (H, W), which must be a rectangle."""
    rows, columns = mask.any(1), mask.any(0)
    assert torch.equal(mask, rows[:, None] & columns[None])
    ys, xs = rows.nonzero()[:, 0].tolist(), columns.nonzero()[:, 0].tolist()
    if not ys:
        return NOTHING
    assert ys == list(range(ys[0], ys[-1] + 1)) and xs == list(range(xs[0], xs[-1] + 1))  # no gap
    return ys[0], xs[0], len(ys), len(xs)


def drawn(count: int, height: int, width: int, scale: tuple[float, float]) -> torch.Tensor:
    """The bounds of so many rectangles, (count, 4)."""
    masks = rectangles(torch.zeros(count, 3, height, width), scale)
    return torch.tensor([bounds(mask) for mask in masks])


def test_a_rectangle_of_each_face_gets_the_colour_and_all_else_stays():
    torch.manual_seed(0)
    x = faces()
    before = x.clone()
    erased = erase(x, 1.0, (0.05, 0.25))
    assert torch.equal(x, before)
    colour = torch.tensor(IMAGENET_MEAN)[:, None, None]
    found = set()
    for face, original in zip(erased, x, strict=True):
        changed = (face != original).any(0)
        found.add(bounds(changed))
        assert torch.equal(face, torch.where(changed, colour, original))
    assert len(found) == len(x) and NOTHING not in found  # each face has one of its own


def test_the_colour_is_what_imagenets_normalization_makes_zero():
    x = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    assert Normalize("imagenet")(x).abs().max() < 1e-6


# in the second range most rectangles drawn stick out, and another is drawn, ten times at most
@pytest.mark.parametrize("scale", [(0.02, 0.25), (0.5, 0.9)])
def test_rectangles_are_distributed_as_torchvisions(scale):
    torch.manual_seed(0)
    ours = drawn(FACES, HEIGHT, WIDTH, scale)
    face = torch.zeros(3, HEIGHT, WIDTH)
    theirs = []
    for _ in range(FACES):
        found = RandomErasing.get_params(face, scale, (0.3, 3.3), [0.0])[:4]
        # where nothing fits torchvision returns the whole face, unchanged
        theirs.append(NOTHING if found == (0, 0, HEIGHT, WIDTH) else found)
    figures = [
        {
            "top": top,
            "left": left,
            "height": height,
            "width": width,
            "area": height * width,
            "below": HEIGHT - top - height,
            "right": WIDTH - left - width,
            "nothing": (height == 0).int(),
        }
        for top, left, height, width in (ours.T, torch.tensor(theirs).T)
    ]
    for name in figures[0]:
        assert ks_2samp(*(f[name].numpy() for f in figures)).pvalue > 1e-3, name


def test_rectangles_touch_all_edges_and_never_fill_a_side():
    torch.manual_seed(0)
    top, left, height, width = drawn(FACES, 20, 30, (0.1, 0.9)).T
    assert top.min() == left.min() == 0
    assert (top + height).max() == 20 and (left + width).max() == 30
    assert height.max() == 19 and width.max() == 29


def test_the_first_rectangle_that_fits_is_taken(monkeypatch):
    """Tries of 1.5, 0.25 and 0.0625 of a 16 x 16 face, all of them square."""
    areas = torch.tensor([1.5, 0.25, 0.0625] + [1.5] * (TRIES - 3)).expand(5, TRIES)
    draws = iter([areas, torch.zeros(5, TRIES)])  # the ratio's logarithm comes second
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: next(draws))
    assert (drawn(5, 16, 16, (0.02, 0.25))[:, 2:] == 8).all()


def test_a_face_stays_where_no_rectangle_fits():
    x = faces()
    # an area of all pixels never fits into less than both sides
    assert torch.equal(erase(x, 1.0, (1.0, 1.0)), x)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_the_probability_is_a_faces_own(probability):
    torch.manual_seed(0)
    x = faces(2000, 8, 8)
    share = float((erase(x, probability, (0.1, 0.3)) != x).flatten(1).any(1).double().mean())
    tolerance = 4 * (probability * (1 - probability) / len(x)) ** 0.5  # four standard deviations
    assert abs(share - probability) <= tolerance


def test_a_seed_gives_the_same_rectangles_again():
    x = faces()
    torch.manual_seed(3)
    first, other = (erase(x, 0.5, (0.02, 0.25)) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(erase(x, 0.5, (0.02, 0.25)), first)
    assert not torch.equal(first, other)
