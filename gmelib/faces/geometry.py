"""From a photograph to an upright square face: similarity alignment by five landmarks, or a box.

Images are uint8 arrays (H, W) grey or (H, W, 3) RGB. Coordinates are pixels, x to the right and y
down, with the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from gmelib.config import InputError

# Where eyes, nose and mouth corners stand in an aligned face of 112 px (the template of ArcFace,
# Deng et al. 2019), in the order of `Face.landmarks`.
TEMPLATE_SIDE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
LARGEST = 3  # longer sides of an image: no face in it is larger


class Face(NamedTuple):
    """A face in a photograph.

    box: left, top, right, bottom, may leave the image; landmarks: (5, 2) of the eye, eye, nose,
    mouth corner and mouth corner, each pair from the image's left to its right, or None;
    confidence: of the detector or label file, in its own unit.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray | None = None
    confidence: float = 1.0

    @property
    def side(self) -> float:
        """The longer side of the box in px: how large the face was measured."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


def within(points: np.ndarray, image: np.ndarray) -> bool:
    """Whether the rectangle around points (n, 2) reaches into the image.

    And beyond it by one longer side at most: what is damaged could ask for any memory.
    """
    size = np.array(image.shape[1::-1])
    low, high = points.min(0), points.max(0)
    overlaps = (high > 0).all() and (low < size).all()
    return bool(overlaps and low.min() >= -size.max() and high.max() <= 2 * size.max())


def left_to_right(points: np.ndarray) -> np.ndarray:
    """Landmarks (5, 2) in the order of `Face`, whichever side of the face each pair begins with."""
    points = points.copy()
    down = points[3:].mean(0) - points[:2].mean(0)
    for pair in (slice(0, 2), slice(3, 5)):
        across = points[pair][1] - points[pair][0]
        if across[0] * down[1] < across[1] * down[0]:  # a mirrored face: no turn makes it upright
            points[pair] = points[pair][::-1].copy()
    return points


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Rotation, scale and shift that bring points nearest to others, by least squares.

    Points (n, 2) are read as complex numbers x + iy; the result (a, b) means a z + b. Raises
    InputError where all source points are one.
    """
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    spread = float((abs(centred) ** 2).sum())
    if not spread > 0:
        raise InputError("landmarks: all five are one point; expected eyes, nose and mouth corners")
    a = complex((centred.conj() * (w - w.mean())).sum() / spread)
    return a, complex(w.mean() - a * z.mean())


def align(image: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """The face turned upright, its landmarks as near to the template as a similarity brings them.

    landmarks: (5, 2) as in `Face`. Returns (size, size) or (size, size, 3) uint8, bicubic, without
    aliasing where the face is large; what lies outside the photograph repeats its edge. Raises
    InputError for landmarks that are no five finite points, all one, or of a face that is LARGEST
    times larger than the image, as points are that do not stand as a face's do.
    """
    landmarks = np.asarray(landmarks, dtype=float)
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
        raise InputError(f"landmarks: expected five finite points (x, y), got {landmarks.tolist()}")
    a, b = similarity(landmarks, TEMPLATE * (size / TEMPLATE_SIDE))
    height, width = image.shape[:2]
    if size > abs(a) * LARGEST * max(height, width):
        raise InputError(
            f"landmarks: no face of an image of {width} x {height} px has them ("
            f"{landmarks.round(2).tolist()}); expected eyes, nose and mouth corners"
        )
    corners = np.array([0, size, 1j * size, size + 1j * size])
    reached = (corners - b) / a
    # beyond this square nothing is read; enlarging needs the kernel's reach around it, too
    reach = 3 * max(1.0, 1 / abs(a))
    left, top = reached.real.min() - reach, reached.imag.min() - reach
    side = max(np.ptp(reached.real), np.ptp(reached.imag)) + 2 * reach
    # shrunk by an antialiased filter first, so that turning reads pixels of the face's own size
    inner = max(1, math.ceil(side * min(1.0, abs(a))))
    part = crop(image, (left, top, left + side, top + side), inner)
    scale = inner / side
    # from the aligned face back to the part: z = (w - b) / a, then shifted and scaled
    turn = scale / a
    shift = scale * (-b / a - (left + 1j * top))
    matrix = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    turned = Image.fromarray(part).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.asarray(turned)


def square(
    box: tuple[float, float, float, float], margin: float = 0.0
) -> tuple[float, float, float]:
    """Left, top and side, in px, of the square around a box that `crop` cuts."""
    left, top, right, bottom = map(float, box)
    side = max(right - left, bottom - top) * (1 + 2 * margin)
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def crop(
    image: np.ndarray,
    box: tuple[float, float, float, float],
    size: int = 0,
    *,
    margin: float = 0.0,
) -> np.ndarray:
    """The square around a box, resized.

    box: left, top, right, bottom in px; the square has its centre and longer side. size: of the
    result in px, bicubic and antialiased; 0 keeps the square's own, rounded. margin: added on every
    side, as a share of the longer side. What lies outside the photograph repeats its edge. Raises
    InputError for a box without area, or wholly outside.
    """
    left, top, right, bottom = map(float, box)
    height, width = image.shape[:2]
    told = f"box {left:g}, {top:g}, {right:g}, {bottom:g} (left, top, right, bottom)"
    if not (right > left and bottom > top and all(map(math.isfinite, box))):
        raise InputError(f"{told}: has no area; expected left < right and top < bottom")
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise InputError(f"{told}: lies outside the image of {width} x {height} px")
    left, top, side = square(box, margin)
    size = size or max(1, round(side))
    first = np.floor([top, left]).astype(int)
    last = np.ceil([top + side, left + side]).astype(int)
    before = np.maximum(-first, 0)
    after = np.maximum(last - [height, width], 0)
    inside = image[max(first[0], 0) : last[0], max(first[1], 0) : last[1]]
    around = [(before[0], after[0]), (before[1], after[1])] + [(0, 0)] * (image.ndim - 2)
    whole = Image.fromarray(np.pad(inside, around, mode="edge"))
    x, y = left - first[1], top - first[0]
    area = (x, y, min(x + side, whole.width), min(y + side, whole.height))
    return np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC, box=area))
