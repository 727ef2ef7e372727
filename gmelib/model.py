"""GME-Net: local branch of MABs, global branch of MCBs, fused by addition (paper 3.1, Figure 3).

Teacher and student are the same class. The trunk is A-SKD's iResNet-50 at half its width (widths
32, 64, 128, 256); the global branch forks after stage 2, where MA-Net's does.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, nn

from gmelib.attention import ATTENTION
from gmelib.blocks import McbOrder, MixedAttentionBlock, MixedChannelBlock, conv3x3

FORK_STAGE = 2  # the global branch starts from this stage's output


class Output(NamedTuple):
    """What a network returns; its maps are M_c and M_s of every MAB, before the sigmoid."""

    logits: Tensor  # (N, classes)
    channel_maps: tuple[Tensor, ...] = ()  # each (N, C_i)
    spatial_maps: tuple[Tensor, ...] = ()  # each (N, 1, H_i, W_i)
    extras: dict[str, Tensor] = {}  # what a compared method's own losses need; never changed


def flatten_head(channels: int, side: int, classes: int, dropout: float) -> nn.Sequential:
    """BN, dropout, flatten, FC-512, BN, FC: A-SKD's head; most of the network's parameters."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(channels * side * side, 512),
        nn.BatchNorm1d(512),
        nn.Linear(512, classes),
    )


def gap_head(channels: int, side: int, classes: int, dropout: float) -> nn.Sequential:
    """BN, global average pooling, dropout, FC: the light head."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.AvgPool2d(side),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels, classes),
    )


HEADS = {"flatten": flatten_head, "gap": gap_head}


class GMENet(nn.Module):
    """Global Multiple Extraction Network.

    Args:
        classes: number of expressions.
        input_size: side S of the square input in pixels, a multiple of 16, at least 32.
        width: channels of the stem and stage 1 (the paper's "initial channels 32").
        blocks: MABs in each of the four stages; each stage's first one has stride 2.
        global_blocks: MCBs of 4 x width channels, then MCBs of 8 x width channels.
        attention: ``"dbam"``, ``"cbam"`` or ``"none"`` (no maps, so nothing to distil).
        global_branch: False leaves branch 2 out (ablation).
        head: ``"flatten"`` or ``"gap"``.
        reduction, dbam_kernel, mcb_order, dropout: see the modules.
    """

    def __init__(
        self,
        *,
        classes: int,
        input_size: int = 112,
        width: int = 32,
        blocks: Sequence[int] = (3, 4, 14, 3),
        global_blocks: Sequence[int] = (6, 3),
        attention: Literal["dbam", "cbam", "none"] = "dbam",
        global_branch: bool = True,
        head: Literal["flatten", "gap"] = "flatten",
        reduction: int = 16,
        dbam_kernel: int = 1,
        mcb_order: McbOrder = "equation",
        dropout: float = 0.4,
    ):
        super().__init__()
        if input_size % 16 or input_size < 32:
            raise ValueError(f"input_size must be a multiple of 16, at least 32, got {input_size}")
        make_attention = partial(ATTENTION[attention], reduction=reduction, kernel_size=dbam_kernel)
        self.stem = nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.PReLU(width))
        self.stages = nn.ModuleList()
        channels = width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            self.stages.append(
                nn.ModuleList(
                    MixedAttentionBlock(
                        channels if i == 0 else out, out, 2 if i == 0 else 1, make_attention
                    )
                    for i in range(count)
                )
            )
            channels = out
        # the stage (1-4) that each returned map comes from
        self.stage_of_block = tuple(s + 1 for s, count in enumerate(blocks) for _ in range(count))
        self.global_branch = (
            build_global_branch(width, global_blocks, mcb_order) if global_branch else None
        )
        self.head = HEADS[head](channels, input_size // 16, classes, dropout)
        self.apply(initialize)

    @property
    def gradcam_layer(self) -> nn.Module:
        """The layer whose output Grad-CAM reads: the fused map enters the head through it."""
        return self.head[0]

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output."""
        x = self.stem(x)  # (N, width, S, S)
        maps, fork = [], x
        for number, stage in enumerate(self.stages, 1):
            for block in stage:
                x, channel_map, spatial_map = block(x)
                maps.append((channel_map, spatial_map))
            if number == FORK_STAGE:
                fork = x  # (N, 2 width, S / 4, S / 4)
        if self.global_branch is not None:
            x = x + self.global_branch(fork)  # point-wise addition (3.1), (N, 8 width, S/16, S/16)
        return Output(
            self.head(x),
            tuple(c for c, _ in maps if c is not None),
            tuple(s for _, s in maps if s is not None),
        )


def build_global_branch(width: int, counts: Sequence[int], order: McbOrder) -> nn.Sequential:
    """MCBs of 4 x width, max-pool 2, MCBs of 8 x width, max-pool 2: from S / 4 to S / 16."""
    layers: list[nn.Module] = []
    channels = 2 * width
    for factor, count in zip((4, 8), counts, strict=True):
        for _ in range(count):
            layers.append(MixedChannelBlock(channels, factor * width, order=order))
            channels = factor * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def initialize(module: nn.Module) -> None:
    """Xavier-uniform weights, as A-SKD starts from; nothing here is pretrained (paper 4.2)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
