"""From the workbook's network input to what a method's authors normalise their faces to."""

from typing import Literal

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Kind = Literal["none", "unit", "imagenet"]


class Normalize(nn.Module):
    """From [-1, 1] to itself (``none``), to [0, 1] (``unit``), or by ImageNet's statistics.

    (N, 3, H, W) -> (N, 3, H, W), RGB. Has no parameters and no buffers in the state.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Kind):
        super().__init__()
        means = {"none": (0.5,) * 3, "unit": (0.0,) * 3, "imagenet": IMAGENET_MEAN}[kind]
        stds = {"none": (0.5,) * 3, "unit": (1.0,) * 3, "imagenet": IMAGENET_STD}[kind]
        self.register_buffer("mean", torch.tensor(means).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(stds).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 - self.mean) / self.std
