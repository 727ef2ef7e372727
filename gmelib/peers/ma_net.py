"""MA-Net (Zhao, Liu, Wang: TIP 2021), from random weights: a local and a global branch.

Source: zengqunzhao/MA-Net at 923fa6c. The authors start from MS-Celeb-1M weights; nothing here is
pretrained. They cut a 28x28 map into quadrants, that of 224 px; here it is whatever map stands at
the fork, S / 8 a side.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gmelib.batches import Batch
from gmelib.config import Config, InputError
from gmelib.model import Output
from gmelib.objective import Forward, Objective, Options, Terms
from gmelib.peers.ma_blocks import AttentionBlock, BasicBlock, Direction, MultiScaleBlock
from gmelib.peers.normalize import Kind, Normalize

AUTHORS_WIDTH = 64
ATTEMPTS = 10  # torchvision's, of drawing a rectangle that fits
CROP_AREA = (0.08, 1.0)  # share of the face's area; torchvision's defaults, which the authors use
CROP_ASPECT = (3 / 4, 4 / 3)  # width over height


class MANetOptions(Options):
    """``method_options`` of MA-Net; the defaults are the authors' settings."""

    width: int = Field(
        AUTHORS_WIDTH, ge=4, description="channels of the stem; features have 8 x width"
    )
    local_weight: float = Field(
        0.6, ge=0, le=1, description="beta: the local branch's share in prediction and loss"
    )
    augmentation: Literal["authors", "plain"] = Field(
        "authors", description="authors: random resized crop; plain: none beside flip and shift"
    )

    @property
    def is_reduced(self) -> bool:
        """Whether the network is smaller than the authors'."""
        return self.width < AUTHORS_WIDTH


class MANet(nn.Module):
    """Trunk of basic blocks, then four quadrants of attention blocks beside multi-scale blocks.

    Args:
        classes: number of expressions.
        input_size: side S of the square input in pixels, a multiple of 16, at least 32, so that
            the map at the fork, S / 8 a side, has quadrants.
        width: channels of the stem.
        local_weight: of the local branch's logits in the prediction.
        normalize: what the authors' faces are normalised to; MA-Net's are in [0, 1].
        directions: of the multi-scale block's two chains.

    Raises:
        InputError: if ``input_size`` does not suit.
    """

    def __init__(
        self,
        *,
        classes: int,
        input_size: int = 224,
        width: int = AUTHORS_WIDTH,
        local_weight: float = 0.6,
        normalize: Kind = "unit",
        directions: Sequence[Direction] = ("forward", "backward"),
    ):
        super().__init__()
        require_quadrants(input_size)
        self.local_weight = local_weight
        self.normalize = Normalize(normalize)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.trunk = nn.Sequential(
            BasicBlock(width, width),
            BasicBlock(width, width),
            BasicBlock(width, 2 * width, 2),
            BasicBlock(2 * width, 2 * width),
        )
        self.quadrant_branches = nn.ModuleList(
            nn.Sequential(
                AttentionBlock(2 * width, 4 * width, 2),
                AttentionBlock(4 * width, 4 * width),
                AttentionBlock(4 * width, 8 * width),
                AttentionBlock(8 * width, 8 * width),
            )
            for _ in range(4)
        )
        self.global_branch = nn.Sequential(
            MultiScaleBlock(2 * width, 4 * width, 2, directions=directions),
            MultiScaleBlock(4 * width, 4 * width, directions=directions),
            MultiScaleBlock(4 * width, 8 * width, 2, directions=directions),
            MultiScaleBlock(8 * width, 8 * width, directions=directions),
        )
        self.both = nn.Identity()
        self.local_head = nn.Linear(8 * width, classes)
        self.global_head = nn.Linear(8 * width, classes)
        self.apply(initialize)

    @property
    def gradcam_layer(self) -> nn.Module:
        """The layer whose output Grad-CAM reads: the maps of both branches side by side.

        Their Grad-CAM is the class activation map of the weighted prediction.
        """
        return self.both

    def features(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """What the heads and losses start from.

        Returns:
            Four maps (N, 8 width, H, H), of the upper left, upper right, lower left and lower right
            quadrant, H = ceil(S / 32); then the pooled vectors (N, 8 width) of the local and of the
            global branch.
        """
        fork = self.trunk(self.stem(self.normalize(x)))  # (N, 2 width, S / 8, S / 8)
        maps = [
            branch(part)
            for branch, part in zip(self.quadrant_branches, quadrants(fork), strict=True)
        ]
        tiled = torch.cat([torch.cat(maps[:2], 3), torch.cat(maps[2:], 3)], 2)
        # half as large as the tiled map at any S; repeating every cell leaves its mean as it is
        enlarged = F.interpolate(self.global_branch(fork), size=tiled.shape[-2:], mode="nearest")
        pooled = self.both(torch.cat([tiled, enlarged], 1)).mean((2, 3))  # (N, 16 width)
        local_vector, global_vector = pooled.chunk(2, 1)
        return maps, local_vector, global_vector

    def classify(self, local_vector: Tensor, global_vector: Tensor) -> Output:
        """Weighted logits, with each branch's own as ``extras``: ``local`` and ``global``."""
        local_logits, global_logits = self.local_head(local_vector), self.global_head(global_vector)
        beta = self.local_weight
        return Output(
            logits=beta * local_logits + (1 - beta) * global_logits,
            extras={"local": local_logits, "global": global_logits},
        )

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output with ``extras`` local and global, (N, classes) each."""
        _, local_vector, global_vector = self.features(x)
        return self.classify(local_vector, global_vector)


def require_quadrants(input_size: int) -> None:
    if input_size % 16 or input_size < 32:
        raise InputError(
            f"parameter input_size = {input_size}: this method cuts a map of input_size / 8 into "
            "quadrants, so expected a multiple of 16, at least 32; the authors' is 224"
        )


def quadrants(x: Tensor) -> list[Tensor]:
    """(N, C, 2 H, 2 W) -> upper left, upper right, lower left, lower right, (N, C, H, W) each."""
    return [part for band in x.chunk(2, 2) for part in band.chunk(2, 3)]


def initialize(module: nn.Module) -> None:
    """Kaiming fan-out for convolutions, as the authors; all else keeps torch's initial values."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build_ma_net(cfg: Config, options: MANetOptions, classes: int) -> MANet:
    """MA-Net of ``cfg.input_size``; :class:`InputError` where that does not suit."""
    return MANet(
        classes=classes,
        input_size=cfg.input_size,
        width=options.width,
        local_weight=options.local_weight,
    )


class MANetObjective(Objective):
    """beta CE(local) + (1 - beta) CE(global).

    The authors' crop acts on what the network is given, so a low-resolution face is degraded first
    and cropped afterwards.
    """

    distils = False
    options: MANetOptions

    def augment(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] -> the same, augmented as the option says."""
        return random_resized_crop(x) if self.options.augmentation == "authors" else x

    def cross_entropy(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """``ce``, to be minimized, and its parts ``ce_local`` and ``ce_global``; scalars.

        Args:
            labels: (N,) class indices, or (N, classes) distributions.
        """
        ce_local, ce_global = (
            F.cross_entropy(
                output.extras[name].float(), labels, label_smoothing=self.cfg.label_smoothing
            )
            for name in ("local", "global")
        )
        beta = self.options.local_weight
        ce = beta * ce_local + (1 - beta) * ce_global
        return {"ce": ce, "ce_local": ce_local, "ce_global": ce_global}

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        output = forward(self.augment(self.see(batch.images, batch.high)))
        named = self.cross_entropy(output, batch.expected)
        return Terms(named["ce"], output.logits, batch.labels, named)


def random_resized_crop(x: Tensor) -> Tensor:
    """A random rectangle of every face, enlarged to the whole side, bilinear.

    The distribution is that of torchvision's ``RandomResizedCrop`` with its default area and
    aspect, but for corners that need not lie on whole pixels. Draws on the CPU.

    Args:
        x: (N, C, S, S).
    """
    height, width = crop_sides(len(x))
    down, right = ((1 - side) * (2 * torch.rand(len(x)) - 1) for side in (height, width))
    zero = torch.zeros(len(x))
    rows = torch.stack([width, zero, right]), torch.stack([zero, height, down])
    theta = torch.stack(rows).permute(2, 0, 1).to(x)  # (N, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def crop_sides(count: int) -> tuple[Tensor, Tensor]:
    """Heights and widths (count,) of crops as shares of the face's side, in (0, 1]."""
    area = torch.empty(count, ATTEMPTS).uniform_(*CROP_AREA)
    aspect = torch.empty(count, ATTEMPTS).uniform_(*map(math.log, CROP_ASPECT)).exp()
    height, width = (area / aspect).sqrt(), (area * aspect).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.int().argmax(1, keepdim=True)  # argmax gives the first of equal values
    return tuple(
        torch.where(fits.any(1), side.gather(1, first)[:, 0], 1.0) for side in (height, width)
    )
