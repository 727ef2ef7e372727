"""Attention of the mixed-attention blocks: DCAM, DSAM and DBAM (paper 3.2, eqs 2-3), and CBAM.

Every module returns ``(gated features, channel map, spatial map)`` so that a block can hold any of
them. The maps are M_c and M_s *before* the sigmoid: eqs 9-10 compare M, and so does A-SKD, from
which the paper's distillation descends.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attended(NamedTuple):
    """What an attention module gives back."""

    features: Tensor  # (N, C, H, W), gated
    channel_map: Tensor | None  # (N, C), before the sigmoid
    spatial_map: Tensor | None  # (N, 1, H, W), before the sigmoid


def depthwise_separable(channels: int, kernel_size: int) -> nn.Sequential:
    """DWConv: depthwise conv, BN, 1x1 conv, BN, PReLU; keeps (N, channels, H, W)."""
    return nn.Sequential(
        nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False
        ),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
    )


def channel_mlp(channels: int, reduction: int, *, bias: bool) -> nn.Sequential:
    """The MLP of eq. 2, shared by both poolings; its hidden layer never has fewer than 4 units."""
    hidden = max(channels // reduction, 4)
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=bias),
        nn.ReLU(),
        nn.Linear(hidden, channels, bias=bias),
    )


class DepthwiseFeatures(nn.Module):
    """F_m of eqs 2 and 3: DWConv, downsampling by 2, DWConv, upsampling to the size of F.

    The size is passed on explicitly because maps can be odd (7x7 at 112 px, 3x3 at 48 px), and
    nearest because its backward pass is deterministic on every device.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.first = depthwise_separable(channels, kernel_size)
        self.pool = nn.MaxPool2d(2)
        self.second = depthwise_separable(channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, C, H, W)
        small = self.second(self.pool(self.first(x)))  # (N, C, H // 2, W // 2)
        return F.interpolate(small, size=x.shape[-2:], mode="nearest")


class DCAM(nn.Module):
    """Depthwise-Channel Attention Module (eq. 2).

    Args:
        channels: C of the input (N, C, H, W), H and W at least 2.
        reduction: the MLP's reduction ratio r.
        kernel_size: kernel of the depthwise convolutions (``dbam_kernel``; 3.2's prose says 1).
    """

    def __init__(self, channels: int, *, reduction: int = 16, kernel_size: int = 1):
        super().__init__()
        self.depthwise = DepthwiseFeatures(channels, kernel_size)
        self.mlp = channel_mlp(channels, reduction, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns O_c (N, C, H, W) and M_c (N, C)."""
        f_m = self.depthwise(x)
        m_c = self.mlp(f_m.mean((2, 3))) + self.mlp(f_m.amax((2, 3)))
        return torch.sigmoid(m_c)[:, :, None, None] * x, m_c


class DSAM(nn.Module):
    """Depthwise-Spatial Attention Module (eq. 3).

    Args:
        channels: C of the input (N, C, H, W), H and W at least 2.
        kernel_size: kernel of the depthwise convolutions (``dbam_kernel``).
    """

    def __init__(self, channels: int, *, kernel_size: int = 1):
        super().__init__()
        self.depthwise = DepthwiseFeatures(channels, kernel_size)
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns O_s (N, C, H, W) and M_s (N, 1, H, W)."""
        f_m = self.depthwise(x)
        m_s = self.conv(torch.cat([f_m.mean(1, keepdim=True), f_m.amax(1, keepdim=True)], 1))
        return torch.sigmoid(m_s) * x, m_s


class DBAM(nn.Module):
    """Depthwise Block Attention Mechanism: DSAM(DCAM(x)) (eq. 1)."""

    def __init__(self, channels: int, *, reduction: int = 16, kernel_size: int = 1):
        super().__init__()
        self.channel = DCAM(channels, reduction=reduction, kernel_size=kernel_size)
        self.spatial = DSAM(channels, kernel_size=kernel_size)

    def forward(self, x: Tensor) -> Attended:
        x, m_c = self.channel(x)
        x, m_s = self.spatial(x)
        return Attended(x, m_c, m_s)


class CBAM(nn.Module):
    """Convolutional Block Attention Module as published (Woo et al. 2018), for the ablation row.

    Pools the features themselves, MLP with bias, and a 7x7 spatial convolution with BatchNorm over
    (max, mean). That norm starts at weight 1, where the published code starts at 0: its map is
    distilled here, and at 0 it would say nothing. ``kernel_size`` is accepted for DBAM's sake and
    not used.
    """

    def __init__(self, channels: int, *, reduction: int = 16, kernel_size: int = 1):
        super().__init__()
        self.mlp = channel_mlp(channels, reduction, bias=True)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Attended:
        m_c = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        x = torch.sigmoid(m_c)[:, :, None, None] * x
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        m_s = self.norm(self.conv(pooled))
        return Attended(torch.sigmoid(m_s) * x, m_c, m_s)


class NoAttention(nn.Module):
    """The baseline's block: features pass through, and there are no maps to distil."""

    def __init__(self, channels: int, *, reduction: int = 16, kernel_size: int = 1):
        super().__init__()

    def forward(self, x: Tensor) -> Attended:
        return Attended(x, None, None)


ATTENTION: dict[str, type[nn.Module]] = {"dbam": DBAM, "cbam": CBAM, "none": NoAttention}
