"""A batch of pictures that is drawn on through small windows, in the coordinates of each face.

Pixels only ever go through + - * / sqrt, min and max, which round alike however the work is split,
so that a seed gives the same bytes with any number of threads.
"""

from types import SimpleNamespace

import torch
from torch import Tensor

from gmelib.synthetic.action_units import REGIONS
from gmelib.synthetic.identity import PARAMETERS

MAX_SCALE = PARAMETERS["scale"][1]
MAX_TURN = PARAMETERS["angle"][1]


def depth(u: Tensor | float, v: Tensor | float) -> Tensor | float:
    """How far the face stands out at (u, v), in face units: a paraboloid."""
    return 0.55 - 0.45 * u * u - 0.2 * v * v


class Canvas:
    """Pictures (N, 3, S, S) in [0, 1] with the pose of every face.

    u, v (N, S, S) are face coordinates of every pixel centre, turned back but not un-yawed:
    u to the right of the picture, v down, the origin between eyes and mouth.
    """

    def __init__(self, face: SimpleNamespace, size: int, masks: bool):
        count = len(face.scale)
        self.size = size
        self.face = face
        self.image = torch.empty(count, 3, size, size)
        self.masks = None
        if masks:
            self.masks = torch.zeros(count, len(REGIONS), size, size, dtype=torch.bool)
        self.scale = face.scale * size
        self.cos, self.sin = torch.cos(face.angle), torch.sin(face.angle)
        self.cos_yaw, self.sin_yaw = torch.cos(face.yaw), torch.sin(face.yaw)
        self.middle_x, self.middle_y = (0.5 + face.shift_x) * size, (0.5 + face.shift_y) * size
        self.u, self.v = self._turn_back(*self._grid(), 0.0, 0.0)

    def _grid(self) -> tuple[Tensor, Tensor]:
        steps = torch.arange(self.size) + 0.5
        return steps[None, None, :], steps[None, :, None]

    def _turn_back(
        self, x: Tensor, y: Tensor, u: Tensor | float, v: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Head-frame offsets from (u, v) of pixel positions x (N, 1, w) and y (N, h, 1)."""
        x, y = (x - self.middle_x) / self.scale, (y - self.middle_y) / self.scale
        return (self.cos * x - u) + self.sin * y, (self.cos * y - v) - self.sin * x

    def project(self, u: Tensor, v: Tensor, raised: float) -> tuple[Tensor, Tensor, Tensor]:
        """Where yaw and pitch put the point (u, v) of the face, and how narrow it looks there."""
        z = depth(u, v) + raised
        return (
            u * self.cos_yaw + z * self.sin_yaw,
            v - z * self.face.pitch,
            self.cos_yaw - 0.9 * u * self.sin_yaw,
        )

    def window(
        self, u: Tensor | float, v: Tensor | float, half_u: float, half_v: float, *,
        side: float = 1.0, raised: float = 0.0,
    ) -> "Window":  # fmt: skip
        """The part of every picture within half_u, half_v of the face point (u, v)."""
        u = torch.as_tensor(u, dtype=torch.float32).expand_as(self.scale)
        v = torch.as_tensor(v, dtype=torch.float32).expand_as(self.scale)
        u, v, narrow = self.project(u, v, raised)
        x = self.middle_x + self.scale * (self.cos * u - self.sin * v)
        y = self.middle_y + self.scale * (self.sin * u + self.cos * v)
        reach = self.size * MAX_SCALE
        width = min(self.size, int(2 * reach * (half_u + MAX_TURN * half_v)) + 2)
        height = min(self.size, int(2 * reach * (half_v + MAX_TURN * half_u)) + 2)
        left = (x - width / 2).round().clamp(0, self.size - width).long()
        top = (y - height / 2).round().clamp(0, self.size - height).long()
        columns, rows = left + torch.arange(width), top + torch.arange(height)[:, None]
        du, dv = self._turn_back(columns + 0.5, rows + 0.5, u, v)
        return Window(self, rows * self.size + columns, du * (side / narrow), dv)


class Window:
    """Pixels cut out of a canvas; `close` puts them back.

    x, y (N, h, w) are face coordinates around the window's point; with side = -1 x is mirrored, so
    that positive x points away from the nose on both sides.
    """

    def __init__(self, canvas: Canvas, index: Tensor, x: Tensor, y: Tensor):
        self.canvas, self.x, self.y = canvas, x, y
        self.index = index.flatten(1)[:, None, :]
        pixels = canvas.image.flatten(2).gather(2, self.index.expand(-1, 3, -1))
        self.pixels = pixels.view(-1, 3, *x.shape[1:])

    def edge(self, distance: Tensor) -> Tensor:
        """Coverage in [0, 1] of a shape, from the signed distance inside it in face units."""
        return (distance * self.canvas.scale + 0.5).clamp_(0, 1)

    def line(self, distance: Tensor, half_width: Tensor | float) -> Tensor:
        """Coverage of a line from the distance to its middle."""
        return self.edge(half_width - distance.abs())

    def paint(self, colour: Tensor, cover: Tensor) -> None:
        """Lays colour (N, 3, 1, 1) over the pixels where cover (N, h, w) is not 0."""
        self.pixels = torch.lerp(self.pixels, colour, cover[:, None])

    def crease(self, distance: Tensor, half_width: float, depth: Tensor) -> None:
        """A wrinkle: a dark line where the signed distance is 0 and a bright one just beside it.

        The two cancel in the mean, as the slopes of a real wrinkle nearly do: a picture too coarse
        to hold the lines shows nothing of them.
        """
        relief = self.line(distance, half_width)
        relief = relief - 0.75 * self.line(distance - 2.3 * half_width, 1.3 * half_width)
        self.pixels = self.pixels * (1 - 0.58 * depth * relief)[:, None]

    def close(self) -> None:
        """Writes the pixels back into the canvas."""
        self.canvas.image.flatten(2).scatter_(
            2, self.index.expand(-1, 3, -1), self.pixels.flatten(2)
        )


def spot(x: Tensor, y: Tensor, half_x: Tensor | float, half_y: Tensor | float) -> Tensor:
    """A soft elliptic spot of the given half sizes around x = y = 0."""
    return (1 - (x / half_x).square() - (y / half_y).square()).clamp_(min=0).square_()
