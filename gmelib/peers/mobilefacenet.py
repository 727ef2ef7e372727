"""MobileFaceNet with a head for 68 facial landmarks: the landmark stream of POSTER.

Chen et al. 2018 (arXiv 1804.07573), Table 1; expansions and repeats as in POSTER's repository
(zczcwh/POSTER at ba2e3e9).
"""

from collections.abc import Sequence

from torch import Tensor, nn

LANDMARKS = 136  # x and y of 68 points


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Convolution padded to keep the size, BN, and PReLU where there is an ``activation``."""
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
    ]  # fmt: skip
    return nn.Sequential(*layers, nn.PReLU(out_channels)) if activation else nn.Sequential(*layers)


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise 3x3 (carries the stride), linear 1x1 projection.

    Args:
        in_channels, expanded, out_channels: channels before, within and after.
        stride: 1 or 2; 2 shrinks the map from H to ceil(H / 2).
        residual: add the input; needs stride 1 and equal channels.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        *,
        stride: int = 1,
        residual: bool = True,
    ):
        super().__init__()
        self.residual = residual
        self.convs = nn.Sequential(
            conv_norm(in_channels, expanded),
            conv_norm(expanded, expanded, 3, stride, groups=expanded),
            conv_norm(expanded, out_channels, activation=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        return self.convs(x) + x if self.residual else self.convs(x)


class MobileFaceNet(nn.Module):
    """From a face to the map before its landmarks.

    The landmarks themselves are computed, as in POSTER, and dropped: nothing in POSTER reads them,
    so the head takes no gradient. It is called because it belongs to the published cost.

    Args:
        width: channels of the stem (the authors' 64); the others are multiples of it.
        blocks: residual bottlenecks at 1/4, 1/8 and 1/16 of the side (the authors' 4, 6, 2).
        input_size: side S of the input in pixels, a multiple of 16.
    """

    def __init__(
        self, *, width: int = 64, blocks: Sequence[int] = (4, 6, 2), input_size: int = 112
    ):
        super().__init__()
        w = width
        first, second, third = blocks
        self.features = nn.Sequential(
            conv_norm(3, w, 3, 2),
            conv_norm(w, w, 3, groups=w),
            InvertedBottleneck(w, 2 * w, w, stride=2, residual=False),
            *(InvertedBottleneck(w, 2 * w, w) for _ in range(first)),
            InvertedBottleneck(w, 4 * w, 2 * w, stride=2, residual=False),
            *(InvertedBottleneck(2 * w, 4 * w, 2 * w) for _ in range(second)),
            InvertedBottleneck(2 * w, 8 * w, 2 * w, stride=2, residual=False),
            *(InvertedBottleneck(2 * w, 4 * w, 2 * w) for _ in range(third)),
            conv_norm(2 * w, 8 * w),
        )
        self.landmarks = nn.Sequential(
            nn.Conv2d(8 * w, 8 * w, input_size // 16, groups=8 * w, bias=False),
            nn.BatchNorm2d(8 * w),
            nn.Flatten(),
            nn.Linear(8 * w, LANDMARKS, bias=False),
            nn.BatchNorm1d(LANDMARKS),
        ).requires_grad_(False)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 8 w, S / 16, S / 16)."""
        features = self.features(x)
        self.landmarks(features.detach())
        return features


def initialize(module: nn.Module) -> None:
    """Kaiming-normal by fan-out, as the authors start a network without pretrained weights."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
