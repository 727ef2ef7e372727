"""POSTER (Zheng, Mendieta, Chen: ICCV-W 2023, arXiv 2204.04083), from random weights.

Source: zczcwh/POSTER at ba2e3e9, its network for RAF-DB. Two things differ from the authors' use:

* They load a face-recognition iResNet-50 and a landmark detector, and freeze the latter. Nothing
  here is pretrained, and a frozen random network knows no landmarks, so both streams are trained;
  ``freeze_landmarks`` freezes the second all the same.
* They feed OpenCV's BGR with ImageNet's RGB statistics, as their pretrained weights want it. Random
  weights want nothing, so channels and statistics are RGB here.
"""

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
from gmelib.peers.erasing import erase
from gmelib.peers.iresnet import IResNet
from gmelib.peers.mobilefacenet import MobileFaceNet
from gmelib.peers.normalize import Normalize
from gmelib.peers.pyramid import FusionPyramid

DEPTHS = {"small": 4, "base": 6, "large": 8}  # pyramid blocks
AUTHORS_SIDE, AUTHORS_WIDTH = 112, 64
AUTHORS_TRUNK, AUTHORS_LANDMARKS = (3, 4, 14), (4, 6, 2)
ERASED_AREA = (0.02, 0.1)  # share of the face; the probability is torchvision's default, 1/2
FLIPPED, NOISY = 0.25, 0.25  # shares of the faces: half of them get one of the two
NOISE = 30**0.5 / 127.5  # standard deviation in [-1, 1]; the authors' variance is 30 levels of 255


class POSTEROptions(Options):
    """``method_options`` of POSTER; the defaults are the authors' settings, as in Table 1."""

    size: Literal["small", "base", "large"] = Field(
        "large", description="pyramid blocks: small 4, base 6, large 8"
    )
    levels: int = Field(3, ge=1, le=3, description="pyramid levels")
    width: int = Field(
        AUTHORS_WIDTH, ge=8, multiple_of=4,
        description="channels of both stems; tokens of the widest level have 8 x width features",
    )  # fmt: skip
    trunk_blocks: tuple[int, int, int] = Field(
        AUTHORS_TRUNK, description="iResNet: blocks in each of its three stages, 1 or more"
    )
    landmark_blocks: tuple[int, int, int] = Field(
        AUTHORS_LANDMARKS, description="MobileFaceNet: residual bottlenecks a stage, 0 or more"
    )
    resize: int = Field(
        AUTHORS_SIDE, ge=0, description="side that inputs are resized to, px; 0: as they are"
    )
    freeze_landmarks: bool = Field(
        False, description="no gradient for the landmark stream; its statistics still adapt"
    )
    smoothing: float = Field(0.2, ge=0, lt=1, description="of the smoothed cross-entropy")
    smoothing_weight: float = Field(2.0, ge=0, description="of the smoothed cross-entropy")
    augmentation: Literal["authors", "plain"] = Field(
        "authors", description="authors: noise and erasing too; plain: none beside flip and shift"
    )

    @property
    def is_reduced(self) -> bool:
        """Whether the network is smaller than Table 1's, or is given faces as they are."""
        return (
            self.size != "large"
            or self.levels < 3
            or self.width < AUTHORS_WIDTH
            or any(n < m for n, m in zip(self.trunk_blocks, AUTHORS_TRUNK, strict=True))
            or any(n < m for n, m in zip(self.landmark_blocks, AUTHORS_LANDMARKS, strict=True))
            or self.resize < AUTHORS_SIDE
        )


class ChannelGate(nn.Module):
    """Squeeze-and-excitation of a vector: x times the sigmoid of two linear layers; (N, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class POSTER(nn.Module):
    """Image and landmark streams, fused by a pyramid of cross-attention.

    Faces of another side than ``input_size`` are resized to it, nearest. Both streams give
    (S / 16)^2 tokens of 8 x width features, 49 of 512 at the authors' setting. As in the authors'
    code the image's tokens are slices of its flattened map, not places of the face.

    Args:
        classes: number of expressions.
        input_size: side S that the streams work at, a multiple of 16, at least 32.
        depth: number of pyramid blocks.
        levels: of the pyramid, 1-3.
        width: channels of both stems, a multiple of 4.
        trunk_blocks, landmark_blocks: see IResNet and MobileFaceNet.
        freeze_landmarks: the landmark stream takes no gradient. It still is in train mode when the
            network is, so its BatchNorm statistics adapt, as in the authors' code.

    Raises:
        InputError: for an ``input_size`` or blocks that no network can have.
    """

    def __init__(
        self,
        *,
        classes: int,
        input_size: int = AUTHORS_SIDE,
        depth: int = DEPTHS["large"],
        levels: int = 3,
        width: int = AUTHORS_WIDTH,
        trunk_blocks: Sequence[int] = AUTHORS_TRUNK,
        landmark_blocks: Sequence[int] = AUTHORS_LANDMARKS,
        freeze_landmarks: bool = False,
    ):
        super().__init__()
        _require(input_size, trunk_blocks, landmark_blocks)
        self.input_size, self.tokens = input_size, (input_size // 16) ** 2
        features = 8 * width
        self.normalize = Normalize("imagenet")
        self.image = IResNet(width=width, blocks=trunk_blocks, input_size=input_size)
        self.landmarks = MobileFaceNet(width=width, blocks=landmark_blocks, input_size=input_size)
        if freeze_landmarks:
            self.landmarks.requires_grad_(False)
        self.embed = nn.Linear(2 * features, features)
        self.pyramid = FusionPyramid(tokens=self.tokens, width=features, depth=depth, levels=levels)
        self.gate = ChannelGate(features)
        self.head = nn.Linear(features, classes)

    @property
    def gradcam_layer(self) -> nn.Module:
        """The layer whose output Grad-CAM reads: the image stream's last map, S / 8 a side."""
        return self.image.body

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output."""
        if x.shape[-1] != self.input_size:
            x = F.interpolate(x, size=self.input_size, mode="nearest")
        x = self.normalize(x)
        # of a flattened map each token is 16 x width values, which run over several channels
        image = self.embed(self.image(x).reshape(x.shape[0], self.tokens, -1))
        landmarks = self.landmarks(x).flatten(2).transpose(1, 2)  # a token is a place
        return Output(self.head(self.gate(self.pyramid(image, landmarks))))


def _require(input_size: int, trunk_blocks: Sequence[int], landmark_blocks: Sequence[int]) -> None:
    if input_size % 16 or input_size < 32:
        raise InputError(
            f"parameter input_size = {input_size}: POSTER works at a multiple of 16 px, at least "
            "32; choose another, or set resize in method_options to such a side"
        )
    if min(trunk_blocks) < 1 or min(landmark_blocks) < 0:
        raise InputError(
            f"method_options: trunk_blocks = {tuple(trunk_blocks)} and landmark_blocks = "
            f"{tuple(landmark_blocks)}; expected at least 1 and 0 a stage, raise them"
        )


def build_poster(cfg: Config, options: POSTEROptions, classes: int) -> POSTER:
    """The network that ``options`` describe, at ``resize`` or else at ``cfg.input_size``."""
    return POSTER(
        classes=classes,
        input_size=options.resize or cfg.input_size,
        depth=DEPTHS[options.size],
        levels=options.levels,
        width=options.width,
        trunk_blocks=options.trunk_blocks,
        landmark_blocks=options.landmark_blocks,
        freeze_landmarks=options.freeze_landmarks,
    )


def noise_or_flip(x: Tensor) -> Tensor:
    """A quarter of the faces mirrored, another quarter with Gaussian noise, drawn at random.

    The authors do this before they resize and flip. The mirroring changes nothing where
    ``flip`` already mirrors half of the faces; the noise here is of the network's pixels.

    Args:
        x: (N, 3, H, W) in [-1, 1]; not changed.

    Returns:
        (N, 3, H, W) in [-1, 1].
    """
    drawn = torch.rand(len(x), 1, 1, 1, device=x.device)
    noisy = (x + NOISE * torch.randn_like(x)).clamp(-1, 1)
    noisy = torch.where(drawn >= 1 - NOISY, noisy, x)
    return torch.where(drawn < FLIPPED, x.flip(-1), noisy)


class POSTERObjective(Objective):
    """Cross-entropy plus twice a label-smoothing cross-entropy; the Config's smoothing is not used.

    Both passes of a sharpness-aware step see the same augmented faces, as the authors' do.
    """

    distils = False
    options: POSTEROptions
    _kept: tuple[Tensor, Tensor] | None = None  # native faces, and what became of them

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        options, expected = self.options, batch.expected
        logits = forward(self.faces(batch)).logits.float()
        ce = F.cross_entropy(logits, expected)
        smooth = F.cross_entropy(logits, expected, label_smoothing=options.smoothing)
        loss = ce + options.smoothing_weight * smooth
        return Terms(loss, logits, batch.labels, {"ce": ce, "smooth_ce": smooth})

    def faces(self, batch: Batch) -> Tensor:
        """Augmented network input; for a step's second pass that of the first."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] is batch.images:
            return kept[1]
        x = self.see(batch.images, batch.high)
        if self.options.augmentation == "authors":
            x = erase(noise_or_flip(x), 0.5, ERASED_AREA)
        if self.cfg.sam_rho:
            self._kept = batch.images, x
        return x
