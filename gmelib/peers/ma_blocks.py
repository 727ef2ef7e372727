"""Blocks of MA-Net: ResNet's basic block, the same with CBAM, and the multi-scale block.

Source: zengqunzhao/MA-Net at 923fa6c; negarhdr/Diversified-Facial-Expression-Recognition at 808a02a
for the multi-scale block whose chains both run forward. All blocks map (N, in, H, W) to
(N, out, ceil(H / stride), ceil(W / stride)).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gmelib.attention import CBAM
from gmelib.blocks import conv3x3

Direction = Literal["forward", "backward"]
SCALES = 4  # groups of channels in a multi-scale block


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity, or 1x1 convolution and BN where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BasicBlock(nn.Module):
    """ResNet-18's block: 3x3 convolution (carries the stride), BN, ReLU, 3x3 convolution, BN.

    Args:
        in_channels, out_channels: channels of the input and output.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.convs = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        return self.convs(x)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class AttentionBlock(BasicBlock):
    """Basic block with CBAM after its second BN and before the addition; reduction ratio 16."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, stride)
        self.attention = CBAM(out_channels, reduction=16)
        self.attention.norm.momentum = 0.01  # as published and as MA-Net takes it

    def residual(self, x: Tensor) -> Tensor:
        return self.attention(self.convs(x)).features


class MultiScaleBlock(nn.Module):
    """3x3 convolution, then two chains of dense 3x3 convolutions over four groups of channels.

    A chain goes through the groups in its direction. The input of a step is the current group plus
    ReLU of the step before; its output, taken before the ReLU, stands at its own group's place.
    The block is ReLU(chain A + chain B + shortcut).

    Args:
        in_channels, out_channels: ``out_channels`` must be a multiple of 4.
        stride: 1 or 2, of the first convolution.
        directions: of the two chains: MA-Net's second runs ``"backward"``, from group 4 to 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        directions: Sequence[Direction] = ("forward", "backward"),
    ):
        super().__init__()
        if out_channels % SCALES:
            raise ValueError(
                f"a multi-scale block needs a multiple of {SCALES} channels, got {out_channels}"
            )
        part = out_channels // SCALES
        self.directions = tuple(directions)
        self.conv = nn.Sequential(
            conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels), nn.ReLU()
        )
        self.chains = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(conv3x3(part, part), nn.BatchNorm2d(part)) for _ in range(SCALES)
            )
            for _ in self.directions
        )
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        groups = self.conv(x).chunk(SCALES, 1)
        total = self.shortcut(x)
        for convs, direction in zip(self.chains, self.directions, strict=True):
            total = total + run_chain(groups, convs, direction)
        return torch.relu(total)


def run_chain(groups: Sequence[Tensor], convs: nn.ModuleList, direction: Direction) -> Tensor:
    """Four groups (N, C / 4, H, W) -> (N, C, H, W), in channel order whatever the direction."""
    order = range(len(groups)) if direction == "forward" else range(len(groups) - 1, -1, -1)
    outputs: dict[int, Tensor] = {}
    carry = None
    for i in order:
        outputs[i] = convs[i](groups[i] if carry is None else groups[i] + carry)
        carry = torch.relu(outputs[i])
    return torch.cat([outputs[i] for i in range(len(groups))], 1)
