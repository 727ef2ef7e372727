"""What surrounds the features: wall, hair, ears, neck, head, beard, glasses, occlusion, light."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from gmelib.synthetic.canvas import Canvas, spot


def smooth_noise(
    rng: np.random.Generator, count: int, rows: int, columns: int, size: int
) -> Tensor:
    """Uniform noise in [-1, 1] on a rows x columns grid, interpolated linearly to (N, S, S)."""
    grid = torch.from_numpy(rng.random((count, rows, columns), np.float32) * 2 - 1)

    def weights(cells: int) -> Tensor:  # (S, cells)
        at = torch.linspace(0, cells - 1, size)
        return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)

    return weights(rows) @ grid @ weights(columns).T


def _full_edge(canvas: Canvas, distance: Tensor) -> Tensor:
    return distance.mul_(canvas.scale).add_(0.5).clamp_(0, 1)


def _lay(pixels: Tensor, colour: Tensor, cover: Tensor) -> None:
    pixels.lerp_(colour, cover[:, None])


class Head:
    """The fields of the head that several layers share, all (N, S, S).

    inside: coverage of the face's outline; round: 0 in the middle, 1 at the outline.
    """

    def __init__(self, canvas: Canvas, au: SimpleNamespace):
        face, v = canvas.face, canvas.v
        chin = face.chin + 0.11 * au.AU26
        low, high = v.clamp(min=0).div_(chin), v.clamp(max=0).div_(face.head_top)
        # The chin stands out less than the nose but more than the temples: yaw carries it along.
        u = canvas.u - 0.22 * canvas.sin_yaw * low
        squared = low.square()
        narrow = 1 - face.jaw_narrow * squared
        low.mul_(squared)  # a cube squares the jaw
        self.round = (
            u.div_(narrow.mul_(face.head_width)).square_().add_(low).add_(high.square_())
        )
        self.inside = _full_edge(canvas, (1 - self.round.sqrt()) * 0.72)


def draw_behind(canvas: Canvas, blotches: Tensor) -> None:
    """Wall, clothes, neck, back hair and ears; overwrites the whole picture."""
    face, u, v, colour = canvas.face, canvas.u, canvas.v, canvas.face.colour
    wall = _full_edge(canvas, u - face.wall_edge).mul_(0.25).add_(blotches, alpha=0.22).add_(0.4)
    torch.lerp(colour["wall"], colour["far"], wall[:, None], out=canvas.image)

    wide = face.head_width + face.hair_volume
    # Above the ears an ellipse, below them straight sides down to a rounded hem.
    up = (v + 0.1).clamp_(max=0).mul_(wide / (face.head_top + face.hair_volume - 0.1))
    down = (v - face.hair_length + 0.45).clamp_(min=0).mul_(wide / 0.5)
    reach = up.square_().add_(down.square_()).add_(u.square()).sqrt_()
    _lay(canvas.image, colour["hair"] * 0.72, _full_edge(canvas, wide * 1.02 - reach) * face.grown)

    start = int(canvas.size * 0.7)
    u, v, pixels = u[:, start:], v[:, start:], canvas.image[:, :, start:]
    neck = _full_edge(canvas, 0.40 - u.abs()) * _full_edge(canvas, v - 0.5)
    _lay(pixels, colour["skin"] * 0.66, neck)
    cloth = _full_edge(canvas, v - 1.12 - 0.1 * u.abs() + 0.35 * (0.42 - u.abs()).clamp_(min=0))
    _lay(pixels, colour["cloth"], cloth)
    for side in (-1.0, 1.0):
        w = canvas.window(side * (face.head_width - 0.01), 0.04, 0.16, 0.24, side=side, raised=-0.3)
        ear = (w.x / 0.105).square() + (w.y / 0.19).square()
        w.paint(colour["skin"] * 0.88, w.edge((1 - ear.sqrt()) * 0.12))
        w.paint(colour["fold"], spot(w.x - 0.02, w.y, 0.055, 0.12) * 0.5)
        w.close()


def draw_skin(canvas: Canvas, head: Head, mottle: Tensor) -> None:
    """The bare head with its soft shading; features are painted on it."""
    skin = canvas.face.colour["skin"]
    tone = mottle.mul(0.035).add_(1).sub_(head.round.clamp(max=1.2), alpha=0.10)
    _lay(canvas.image, skin * tone[:, None], head.inside)


def draw_beard(canvas: Canvas, head: Head, strands: Tensor) -> None:
    """Full beard and moustache, under the mouth that is painted later."""
    face = canvas.face
    start = int(canvas.size * 0.45)
    u, v, strands = canvas.u[:, start:], canvas.v[:, start:], strands[:, start:]
    # Down the cheeks beside the mouth, below the mouth across the chin.
    line = face.beard_line - (u.square() - 0.10) * 1.6
    low = v - line.clamp(min=-0.05, max=0.78) + strands * 0.03
    cover = _full_edge(canvas, low.mul_(0.2)) * (face.beard * (strands * 0.2 + 0.78))
    cover *= head.inside[:, start:]
    _lay(canvas.image[:, :, start:], face.colour["hair"] * 0.9, cover)

    w = canvas.window(0.0, face.mouth_height - 0.12, 0.34, 0.12)
    shape = 0.055 - (w.y - 0.35 * w.x.square()).abs() - 0.10 * w.x.square()
    w.paint(face.colour["hair"], w.edge(shape * 0.5) * face.moustache * 0.9)
    w.close()


def draw_fringe(canvas: Canvas, head: Head, strands: Tensor) -> None:
    """Hair over the forehead and temples, with strands."""
    face = canvas.face
    stop = int(canvas.size * 0.66)
    u, v, strands = canvas.u[:, :stop], canvas.v[:, :stop], strands[:, :stop]
    across = (u / face.head_width).square()
    line = face.hair_part * u - face.hair_line + face.hair_drop * across.square_()
    top = face.head_top + face.hair_volume
    cap = 1 - ((u / (face.head_width + 0.6 * face.hair_volume)).square() + (v / top).square_())
    cover = _full_edge(canvas, line + strands * 0.035 - v)
    cover *= _full_edge(canvas, cap.mul_(0.6)) * face.grown
    tone = strands.mul(0.22).add_(0.92).sub_(across, alpha=0.12)
    _lay(canvas.image[:, :, :stop], face.colour["hair"] * tone[:, None], cover)


def draw_glasses(canvas: Canvas) -> None:
    """Frames around both eyes and the bridge between them, with a faint tint."""
    face = canvas.face
    for side in (-1.0, 1.0):
        w = canvas.window(side * face.eye_gap, face.eye_height + 0.03, 0.30, 0.22, side=side)
        rim = ((w.x / 0.245).square().square() + (w.y / 0.185).square().square()).sqrt().sqrt()
        w.paint(face.colour["white"], (rim < 1).float() * face.glasses * 0.07)
        w.paint(face.colour["frame"], w.line((rim - 1) * 0.2, 0.017) * face.glasses)
        w.close()
    w = canvas.window(0.0, face.eye_height, 0.10, 0.06, raised=0.1)
    bridge = w.line(w.y + 0.02 - w.x.square() * 3, 0.014) * w.edge(0.08 - w.x.abs())
    w.paint(face.colour["frame"], bridge * face.glasses)
    w.close()


def draw_occlusion(canvas: Canvas) -> None:
    """Something held before the face: a hand, or a box such as a phone."""
    face = canvas.face
    w = canvas.window(face.occlusion_x, face.occlusion_y, 0.45, 0.45)
    x, y = w.x + face.occlusion_turn * w.y, w.y - face.occlusion_turn * w.x
    box = (face.occlusion_tone > 0.5).float()
    across = x / face.occlusion_width
    # Four fingers end in an arch; the gaps between them are dark lines.
    tip = -0.36 + box * 0.06 + (1 - box) * 0.20 * across.square()
    shape = torch.minimum(y - tip, 0.40 - y)
    shape = torch.minimum(shape, (1 - across.abs()) * face.occlusion_width)
    w.paint(face.colour["cover"], w.edge(shape) * face.occlusion)
    gaps = w.line(((across * 2 + 0.5).frac().abs() - 0.5) * face.occlusion_width * 0.5, 0.010)
    gaps = gaps * w.edge(0.10 - y) * w.edge(shape - 0.01) * (1 - box)
    w.paint(face.colour["fold"], gaps * 0.8 * face.occlusion)
    w.close()


def develop(canvas: Canvas, head: Head, rng: np.random.Generator) -> Tensor:
    """Lights the picture, adds sensor noise (alike in all channels), rounds to uint8 (N, 3, S, S).

    Light falls from one direction on a rounded head, everything in the picture included.
    """
    face, size = canvas.face, canvas.size
    slope = (canvas.u * face.light_x).add_(canvas.v * face.light_y)
    tone = slope.add_(1.0).sub_(head.round.clamp(max=1.3), alpha=0.16).mul_(face.gain * 255)
    grain = rng.integers(0, 256, (2, len(tone), size, size), np.uint8)
    # The sum of two uniform bytes: triangular, with a standard deviation of 104 grey levels.
    grain = torch.from_numpy(grain[0]).float().add_(torch.from_numpy(grain[1])).sub_(255)
    grain.mul_(face.noise * (255 / 104)).add_(face.lift * 255 + 0.5)  # + 0.5: rounds, not floors
    lit = canvas.image.mul_(tone[:, None]).add_(grain[:, None])
    return lit.clamp_(0, 255.5).to(torch.uint8)
