"""The two building blocks: mixed-attention block (eq. 1) and mixed-channel block (eqs 4-8)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gmelib.attention import Attended, depthwise_separable

McbOrder = Literal["equation", "prose"]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class MixedAttentionBlock(nn.Module):
    """MAB (paper 3.2, Figure 4a): two 3x3 convolutions, attention, then the shortcut.

    The order inside is iResNet's, as in A-SKD: BN, conv, BN, PReLU, conv (carries the stride), BN.

    Args:
        in_channels, out_channels: channels of the input and output.
        stride: 1 or 2; with 2 the map shrinks from H to ceil(H / 2).
        attention: makes the attention module for a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        attention: Callable[[int], nn.Module],
    ):
        super().__init__()
        self.convs = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            conv3x3(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.PReLU(out_channels),
            conv3x3(out_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
        )
        self.attention = attention(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Attended:
        """(N, in, H, W) -> features (N, out, H / stride, W / stride) and the block's two maps."""
        attended: Attended = self.attention(self.convs(x))
        # eq. 1: O = DSAM(DCAM(Conv(Conv(F)))) + F
        return attended._replace(features=attended.features + self.shortcut(x))


class MixedChannelBlock(nn.Module):
    """MCB (paper 3.3, Figure 5): two cascades of four depthwise-separable convolutions.

    Branch 1 squeezes the channels to a quarter and feeds four copies; branch 2 splits the channels
    into four parts. A 3x3 convolution before them carries any change of channels and gives F.

    Args:
        in_channels, out_channels: ``out_channels`` must be a multiple of 4.
        order: ``"equation"`` adds after the convolution (eqs 5 and 7), ``"prose"`` before it, as
            the paper's text and Res2Net do; the paper contradicts itself.
    """

    def __init__(self, in_channels: int, out_channels: int, *, order: McbOrder = "equation"):
        super().__init__()
        if out_channels % 4:
            raise ValueError(f"an MCB needs a multiple of 4 channels, got {out_channels}")
        part = out_channels // 4
        self.order = order
        self.conv = nn.Sequential(
            conv3x3(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.PReLU(out_channels)
        )
        self.reduce = nn.Conv2d(out_channels, part, 1, bias=False)
        self.copy_convs = nn.ModuleList(depthwise_separable(part, 3) for _ in range(4))
        self.split_convs = nn.ModuleList(depthwise_separable(part, 3) for _ in range(4))

    def cascade(self, parts: Sequence[Tensor], convs: nn.ModuleList) -> Tensor:
        """Four (N, C / 4, H, W) parts -> Concat(F_1 .. F_4) (N, C, H, W)."""
        outputs = [convs[0](parts[0])]  # F_1 = DWConv(X_1)
        for part, conv in zip(parts[1:], convs[1:], strict=True):
            if self.order == "equation":  # F_i = DWConv(F_{i-1}) + X_i
                outputs.append(conv(outputs[-1]) + part)
            else:  # F_i = DWConv(F_{i-1} + X_i)
                outputs.append(conv(outputs[-1] + part))
        return torch.cat(outputs, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, in, H, W) -> (N, out, H, W)
        f = self.conv(x)
        o_1 = self.cascade([self.reduce(f)] * 4, self.copy_convs)  # eqs 4-5
        o_2 = self.cascade(f.chunk(4, 1), self.split_convs)  # eqs 6-7
        return o_1 + o_2 + f  # eq. 8
