"""Ada-CM's views of a face: weak ones, mirrored and shifted, and a strong one.

The strong one is three random operations of random strength, then a cut-out square: RandAugment
(Cubuk et al. 2020) in the form semi-supervised methods use, where every face draws its own
operations and strengths. The operations and their ranges are those of Ada-CM's repository; each is
Pillow's, computed for a batch at once, and what comes from outside the face is black as in Pillow.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gmelib.batches import augment

WEAK_SHIFT = 8 / 224  # of the side, in the authors' RandomCrop
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's
CUTOUT_COLOUR = (125.0, 123.0, 114.0)


def random_shift(x: Tensor, *, flip: bool) -> Tensor:
    """A weak view of (N, 3, S, S): half of the faces moved by at most 8/224 of the side.

    Args:
        flip: mirror half of the faces, too.
    """
    reach = round(WEAK_SHIFT * x.shape[-1])
    shifts = torch.randint(-reach, reach + 1, (len(x), 2))
    shifts = shifts * (torch.rand(len(x), 1) < 0.5)
    flips = torch.rand(len(x)) < (0.5 if flip else 0.0)
    return augment(x, flips.to(x.device), shifts.to(x.device))


def _factor(strength: Tensor) -> Tensor:
    return strength.view(-1, 1, 1, 1)


def grey(faces: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W)."""
    weights = torch.tensor(GREY_WEIGHTS, device=faces.device, dtype=faces.dtype)
    return (faces * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def identity(faces: Tensor, strength: Tensor) -> Tensor:
    return faces


def auto_contrast(faces: Tensor, strength: Tensor) -> Tensor:
    """Every channel stretched to [0, 255]; a channel of one value stays."""
    low, high = faces.amin((2, 3), keepdim=True), faces.amax((2, 3), keepdim=True)
    stretched = (faces - low) * 255 / (high - low).clamp_min(1e-3)
    return torch.where(high - low < 1e-3, faces, stretched)


def brightness(faces: Tensor, strength: Tensor) -> Tensor:
    """0 is black, 1 the face."""
    return faces * _factor(strength)


def colour(faces: Tensor, strength: Tensor) -> Tensor:
    """0 is grey, 1 the face."""
    return torch.lerp(grey(faces).expand_as(faces), faces, _factor(strength))


def contrast(faces: Tensor, strength: Tensor) -> Tensor:
    """0 is the face's mean grey, 1 the face."""
    mean = grey(faces).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(faces), faces, _factor(strength))


def equalize(faces: Tensor, strength: Tensor) -> Tensor:
    """Every channel's histogram made flat, on grey levels rounded to 8 bit."""
    rows = faces.flatten(0, 1).flatten(1).round().long()  # (N * 3, H * W)
    offsets = 256 * torch.arange(len(rows), device=faces.device)[:, None]
    counts = torch.bincount((rows + offsets).flatten(), minlength=256 * len(rows)).view(-1, 256)
    last = counts.gather(1, rows.amax(1, keepdim=True))  # the brightest level's count
    step = (rows.shape[1] - last) // 255
    below = counts.cumsum(1) - counts  # pixels that are darker than a level
    level = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    level = torch.where(step == 0, torch.arange(256, device=faces.device), level)
    return level.gather(1, rows).view(faces.shape).to(faces.dtype)


def posterize(faces: Tensor, strength: Tensor) -> Tensor:
    """Keeps the upper bits of every grey level: as many as the whole part of the strength."""
    width = torch.exp2(8 - _factor(strength).floor())
    return (faces.round() / width).floor() * width


def sharpness(faces: Tensor, strength: Tensor) -> Tensor:
    """0 is smoothed by a 3x3 kernel, 1 the face; the outermost pixels stay."""
    kernel = torch.ones(3, 1, 3, 3, device=faces.device, dtype=faces.dtype)
    kernel[:, :, 1, 1] = 5
    smooth = faces.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(faces, kernel / 13, groups=3)
    return torch.lerp(smooth, faces, _factor(strength))


def solarize(faces: Tensor, strength: Tensor) -> Tensor:
    """Inverts the grey levels that are at least the strength."""
    return torch.where(faces < _factor(strength), faces, 255 - faces)


def warp(faces: Tensor, matrix: Tensor) -> Tensor:
    """Takes each pixel from where a matrix sends it; nearest pixel, black outside.

    Args:
        faces: (N, 3, S, S).
        matrix: (N, 2, 3), from the place (x, y) in the result to the place in the face, both in
            sides of the image, counted right and down from its upper left corner.
    """
    # affine_grid counts from the centre, in halves of the side
    shift = matrix[:, :, :2].sum(2) - 1 + 2 * matrix[:, :, 2]
    matrix = torch.cat([matrix[:, :, :2], shift[:, :, None]], 2)
    grid = F.affine_grid(matrix, list(faces.shape), align_corners=False)
    return F.grid_sample(faces, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _matrix(strength: Tensor, row: int, column: int) -> Tensor:
    """The identity with the strength in one more place."""
    matrix = torch.eye(2, 3, device=strength.device).repeat(len(strength), 1, 1)
    matrix[:, row, column] = strength
    return matrix


def rotate(faces: Tensor, strength: Tensor) -> Tensor:
    """Counter-clockwise about the centre, degrees."""
    angle = strength * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    return warp(faces, torch.cat([turn, 0.5 - turn.sum(2, keepdim=True) / 2], 2))


def shear_x(faces: Tensor, strength: Tensor) -> Tensor:
    """Row y moves left by strength x y: about the upper left corner, as the authors do."""
    return warp(faces, _matrix(strength, 0, 1))


def shear_y(faces: Tensor, strength: Tensor) -> Tensor:
    """Column x moves up by strength x x."""
    return warp(faces, _matrix(strength, 1, 0))


def translate_x(faces: Tensor, strength: Tensor) -> Tensor:
    """To the left, in sides of the image."""
    return warp(faces, _matrix(strength, 0, 2))


def translate_y(faces: Tensor, strength: Tensor) -> Tensor:
    """Upwards, in sides of the image."""
    return warp(faces, _matrix(strength, 1, 2))


class Operation(NamedTuple):
    """What may happen to a face, with the range its strength is drawn from."""

    apply: Callable[[Tensor, Tensor], Tensor]  # (n, 3, S, S) in [0, 255], (n,) strengths
    low: float = 0.0
    high: float = 1.0


OPERATIONS = (
    Operation(auto_contrast),
    Operation(brightness, 0.05, 0.95),
    Operation(colour, 0.05, 0.95),
    Operation(contrast, 0.05, 0.95),
    Operation(equalize),
    Operation(identity),
    Operation(posterize, 4, 8),
    Operation(rotate, -30, 30),
    Operation(sharpness, 0.05, 0.95),
    Operation(shear_x, -0.3, 0.3),
    Operation(shear_y, -0.3, 0.3),
    Operation(solarize, 0, 256),
    Operation(translate_x, -0.3, 0.3),
    Operation(translate_y, -0.3, 0.3),
)


def cut_out(faces: Tensor, side: Tensor, place: Tensor) -> Tensor:
    """Paints a square of each face in one colour.

    Args:
        faces: (N, 3, S, S) in [0, 255].
        side: (N,) of the square, in sides of the image.
        place: (N, 2) of its centre, right and down, likewise; a square that would stick out to the
            left or above is pushed inside, to the right or below it is cut off (as the authors do).
    """
    size = faces.shape[-1]
    start = ((place - side[:, None] / 2).clamp_min(0) * size).floor()
    end = start + side[:, None] * size
    pixels = torch.arange(size, device=faces.device)
    inside = (pixels >= start[:, :, None]) & (pixels < end[:, :, None])  # (N, 2, S)
    square = inside[:, 1, :, None] & inside[:, 0, None, :]  # (N, S, S)
    colours = torch.tensor(CUTOUT_COLOUR, device=faces.device, dtype=faces.dtype)
    return torch.where(square[:, None], colours.view(1, 3, 1, 1), faces)


def strong_view(x: Tensor, *, operations: int = 3, cutout: float = 0.5) -> Tensor:
    """Every face by its own draw of operations, with replacement, then a cut-out square.

    Args:
        x: (N, 3, S, S) in [-1, 1], float32.
        operations: how many are applied in turn.
        cutout: largest side of the square, in sides of the image; the smallest is 0.

    Returns:
        (N, 3, S, S) in [-1, 1]; draws from torch's global generator on the CPU.
    """
    faces = (x + 1) * 127.5
    for _ in range(operations):
        drawn = torch.randint(len(OPERATIONS), (len(x),))
        strength = torch.rand(len(x))
        changed = faces.clone()
        for number, (apply, low, high) in enumerate(OPERATIONS):
            rows = (drawn == number).nonzero()[:, 0]
            if len(rows):
                own = (low + (high - low) * strength[rows]).to(x.device)
                rows = rows.to(x.device)
                changed[rows] = apply(faces[rows], own)
        faces = changed.clamp(0, 255)
    draws = torch.rand(len(x), 3).to(x.device)
    return cut_out(faces, cutout * draws[:, 0], draws[:, 1:]) / 127.5 - 1
