"""Resampling and blur as small matrices, equal to Pillow's filters (paper 4.1: bicubic by PIL).

Resizing one axis of an image is a product with a (target, source) matrix of filter weights; so is
a Gaussian pass with reflect padding. The matrices are made once per size, kernel and device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

BLUR_TAPS = 5  # px, width of the Gaussian window at the input size
FIXED_POINT = 1 << 22  # Pillow rounds its 8-bit filter weights to multiples of 1 / this


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _keys_cubic(x: float) -> float:
    """Keys' cubic with a = -0.5, as Pillow (OpenCV and torch use -0.75)."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(math.pi * x) / (math.pi * x)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {  # filter, half width in px
    "bicubic": (_keys_cubic, 2.0),
    "bilinear": (_triangle, 1.0),
    "lanczos": (_lanczos, 3.0),
    "box": (_box, 0.5),
}
KERNELS = (*_FILTERS, "nearest")


def _filter_rows(source: int, target: int, kernel: str) -> list[list[float]]:
    """Weights of every source pixel in every target pixel; each row sums to one (nearly).

    When shrinking, the filter is stretched by source/target, which is what prevents aliasing.
    Nearest adds up its steps, as Pillow does: at ties the rounding of that sum decides.
    """
    if kernel == "nearest":
        steps = accumulate([source / target] * (target - 1), initial=0.5 * source / target)
        return [[float(column == int(step)) for column in range(source)] for step in steps]
    function, half_width = _FILTERS[kernel]
    scale = source / target
    stretch = max(scale, 1.0)
    rows = []
    for x in range(target):
        centre = (x + 0.5) * scale
        first = max(int(centre - half_width * stretch + 0.5), 0)
        last = min(int(centre + half_width * stretch + 0.5), source)
        row = [0.0] * source
        for column in range(first, last):
            row[column] = function((column - centre + 0.5) * (1.0 / stretch))
        total = sum(row)
        rows.append([round(weight / total * FIXED_POINT) / FIXED_POINT for weight in row])
    return rows


def _blur_rows(size: int, sigma: float) -> list[list[float]]:
    """One pass of the Gaussian over `size` pixels, reflect padding folded in, as a matrix."""
    reach = BLUR_TAPS // 2
    taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-reach, reach + 1)]
    rows = []
    for x in range(size):
        row = [0.0] * size
        for offset, tap in zip(range(-reach, reach + 1), taps, strict=True):
            column = abs(x + offset)
            row[min(column, 2 * (size - 1) - column)] += tap / sum(taps)
        rows.append(row)
    return rows


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, in which fixed-point sums are exact, where the device has it (Apple's has not)."""
    return torch.float32 if device.type == "mps" else torch.float64


def fast_dtype(device: torch.device) -> torch.dtype:
    """float32, but float64 on CUDA, where a float32 product may run as TF32 (10 bits)."""
    return torch.float64 if device.type == "cuda" else torch.float32


def _matrix(rows: list[list[float]], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # the cached matrix must also serve a pass with gradients
        return torch.tensor(rows, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def resize_matrix(
    source: int, target: int, kernel: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(target, source) weights that resize one axis; rows sum to one."""
    return _matrix(_filter_rows(source, target, kernel), dtype, device)


@lru_cache(maxsize=64)
def blur_matrix(size: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size) weights that blur one axis; sigma in px, above 0; size at least 3."""
    return _matrix(_blur_rows(size, sigma), dtype, device)
