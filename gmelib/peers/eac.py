"""Erasing Attention Consistency (Zhang et al., ECCV 2022, arXiv 2207.10299), from random weights.

Source of the details: zyh-uaiaaaa/Erasing-Attention-Consistency at 61efdfd, its setting for clean
labels. The authors start from weights trained on VGGFace2; here nothing is pretrained.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gmelib.batches import Batch
from gmelib.blocks import conv3x3
from gmelib.config import Config
from gmelib.model import Output
from gmelib.objective import Forward, Objective, Options, Terms
from gmelib.peers.erasing import erase
from gmelib.peers.ma_blocks import BasicBlock, shortcut
from gmelib.peers.normalize import Normalize
from gmelib.peers.plain import require_input_size

AUTHORS_DEPTH = 50
ERASING_SHARE, ERASED_AREA = 0.5, (0.02, 0.25)
NOISY_SHARE, NOISE = 0.5, math.sqrt(30) / 127.5  # variance 30 of 0-255 levels, in [-1, 1]


class EACOptions(Options):
    """``method_options`` of EAC; defaults are the authors' settings."""

    depth: Literal[50, 18] = Field(50, description="of the ResNet")
    consistency_weight: float = Field(
        5.0, ge=0, description="of the class maps' squared distance from the mirrored face's"
    )
    augmentation: Literal["authors", "plain"] = Field(
        "authors", description="authors: Gaussian noise and erasing; plain: erasing alone"
    )

    @property
    def is_reduced(self) -> bool:
        return self.depth != AUTHORS_DEPTH


class CaffeBottleneck(nn.Module):
    """ResNet's bottleneck with the stride in its first convolution, as Caffe and VGGFace2 have it.

    (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride)), ``out`` a multiple of 4.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        inner = out_channels // 4
        self.convs = nn.Sequential(
            nn.Conv2d(in_channels, inner, 1, stride, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            conv3x3(inner, inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.convs(x) + self.shortcut(x))


# depth: block, its blocks in each of the four stages, channels after the first
RESNETS: dict[int, tuple[type[nn.Module], tuple[int, ...], int]] = {
    18: (BasicBlock, (2, 2, 2, 2), 64),
    50: (CaffeBottleneck, (3, 4, 6, 3), 256),
}


class EACNet(nn.Module):
    """ResNet in Caffe's layout that also returns its class activation maps.

    The pooling before the classifier is global; the authors' fixed 7x7 is the same at 224.

    Args:
        classes: number of expressions.
        input_size: side S of the square input in pixels, a multiple of 16, at least 32. At 32 the
            maps are of one pixel, and mirroring them changes nothing.
        depth: 50 (the authors'), or 18 with the same stem.

    Raises:
        InputError: if ``input_size`` does not suit.
    """

    def __init__(self, *, classes: int, input_size: int = 224, depth: Literal[50, 18] = 50):
        super().__init__()
        require_input_size(input_size)
        block, counts, width = RESNETS[depth]
        self.normalize = Normalize("imagenet")
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.stages = nn.Sequential()
        channels = 64
        for stage, count in enumerate(counts):
            out = width * 2**stage
            first = block(channels, out, 1 if stage == 0 else 2)
            self.stages.append(nn.Sequential(first, *(block(out, out) for _ in range(count - 1))))
            channels = out
        self.fc = nn.Linear(channels, classes)
        self.apply(initialize)

    @property
    def gradcam_layer(self) -> nn.Module:
        """Stage 4, whose output is weighted to class maps and pooled for the classifier."""
        return self.stages[-1]

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output.

        ``extras["class_maps"]``: (N, classes, ceil(S / 32), ceil(S / 32)), the feature maps
        weighted by the classifier, without its bias. The weights are detached there: through the
        maps the features learn, not the classifier.
        """
        features = self.stages(self.stem(self.normalize(x)))
        maps = F.conv2d(features, self.fc.weight.detach()[:, :, None, None])
        return Output(self.fc(features.mean((2, 3))), extras={"class_maps": maps})


def initialize(module: nn.Module) -> None:
    """Kaiming-normal convolutions by their outputs, as the authors' before they load weights."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build_eac(cfg: Config, options: EACOptions, classes: int) -> EACNet:
    """The network of ``cfg.input_size``; :class:`InputError` where that does not suit."""
    return EACNet(classes=classes, input_size=cfg.input_size, depth=options.depth)


def add_noise(x: Tensor) -> Tensor:
    """Gaussian noise of variance 30 (of 0-255 levels) on half of the faces, drawn at random.

    The authors add it to the native face, before they resize it; here it is of the network's
    pixels, so that low resolution does not smooth it away.

    Args:
        x: (N, 3, H, W) in [-1, 1]; not changed.

    Returns:
        (N, 3, H, W) in [-1, 1].
    """
    noisy = (x + NOISE * torch.randn_like(x)).clamp(-1, 1)
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < NOISY_SHARE, noisy, x)


class EACObjective(Objective):
    """Cross-entropy of the erased face, and consistency of its class maps with its mirror image's.

    The mirror image has no part in the cross-entropy, which is the method's imbalance. Both go
    through the network together, so BatchNorm takes their joint statistics; the authors' two
    passes have one each. Without label noise the face is erased before it is mirrored, so the
    same region lacks in both.
    """

    views = 2
    distils = False
    options: EACOptions

    def faces(self, batch: Batch) -> Tensor:
        """Noisy (``augmentation = "authors"``) and erased faces, (N, 3, S, S) in [-1, 1]."""
        x = self.see(batch.images, batch.high)
        if self.options.augmentation == "authors":
            x = add_noise(x)
        return erase(x, ERASING_SHARE, ERASED_AREA)

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        x = self.faces(batch)
        output = forward(torch.cat([x, x.flip(-1)]))
        logits = output.logits[: len(x)]
        maps, mirrored = output.extras["class_maps"].float().chunk(2)
        smoothing = self.cfg.label_smoothing
        ce = F.cross_entropy(logits.float(), batch.expected, label_smoothing=smoothing)
        consistency = F.mse_loss(maps, mirrored.flip(-1))
        loss = ce + self.options.consistency_weight * consistency
        return Terms(loss, logits, batch.labels, {"ce": ce, "consistency": consistency})
