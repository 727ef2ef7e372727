"""Random erasing of a rectangle in every face (Zhong et al. 2020), by torchvision's rule."""

import math

import torch
from torch import Tensor

from gmelib.peers import normalize

RATIO = (0.3, 3.3)  # of the rectangle's height to its width
TRIES = 10  # rectangles drawn for a face before it is left as it is
# EAC, POSTER and Heidari et al. erase with 0 after normalisation: the mean colour, in [-1, 1]
IMAGENET_MEAN = tuple(2 * mean - 1 for mean in normalize.IMAGENET_MEAN)


def erase(x: Tensor, probability: float, scale: tuple[float, float]) -> Tensor:
    """Fills one rectangle a face with ImageNet's mean colour; every face has its own rectangle.

    Area, shape and place are drawn as ``torchvision.transforms.RandomErasing`` draws them: area
    uniform in ``scale``, ratio log-uniform in 0.3-3.3, the first of ten that is smaller than the
    face. Random numbers come from torch's global generator of the tensor's device.

    Args:
        x: (N, 3, H, W) in [-1, 1]; not changed.
        probability: that a face is erased at all, 0-1.
        scale: smallest and largest area, as shares of H x W.

    Returns:
        (N, 3, H, W) in [-1, 1].
    """
    mask = rectangles(x, scale) & (torch.rand(len(x), 1, 1, device=x.device) < probability)
    return torch.where(mask[:, None], x.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1), x)


def rectangles(x: Tensor, scale: tuple[float, float]) -> Tensor:
    """(N, C, H, W) -> (N, H, W) bool, one rectangle a face; none where no try was small enough."""
    height, width = x.shape[-2:]
    shape, device = (len(x), TRIES), x.device
    area = height * width * torch.empty(shape, device=device).uniform_(*scale)
    ratio = torch.empty(shape, device=device).uniform_(*map(math.log, RATIO)).exp()
    h, w = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (h < height) & (w < width)
    first = fits.int().argmax(1, keepdim=True)  # 0 where none fits
    h, w = (t.gather(1, first) for t in (h * fits, w * fits))  # (N, 1)
    return _interval(h, height)[:, :, None] & _interval(w, width)[:, None, :]


def _interval(length: Tensor, side: int) -> Tensor:
    """(N, 1) lengths in pixels -> (N, side) bool: a run of so many, at a uniform place."""
    places = side - length + 1
    start = (torch.rand_like(length) * places).floor().minimum(places - 1)  # rounding may reach it
    position = torch.arange(side, device=length.device)
    return (position >= start) & (position < start + length)
