"""iResNet-50 without its last stage: the image stream of POSTER (from ArcFace's recognition net).

Widths, strides and block order are those of POSTER's repository (zczcwh/POSTER at ba2e3e9).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gmelib.blocks import conv3x3


class IResNetBlock(nn.Module):
    """BN, 3x3, PReLU, 3x3 (carries the stride), BN, plus the shortcut; no activation after it.

    Unlike A-SKD's block there is no BatchNorm between the convolutions, and a shortcut that keeps
    its channels has no weights: with a stride it takes every second pixel.

    Args:
        in_channels, out_channels: channels of the input and output.
        stride: 1 or 2; with 2 the map shrinks from H to ceil(H / 2).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.convs = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            conv3x3(in_channels, out_channels),
            nn.PReLU(out_channels),
            conv3x3(out_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        elif stride != 1:
            self.shortcut = nn.MaxPool2d(1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        return self.convs(x) + self.shortcut(x)


class IResNet(nn.Module):
    """Stem and three stages of widths w, 2w and 4w, each stage's first block with stride 2.

    ``output_layer``, the 512-d face embedding after a fourth stage that is not there, is never
    called: the authors build it to hold pretrained weights, and their parameter count has its
    12.8 M. It takes no gradient.

    Args:
        width: channels of the stem and of stage 1 (the authors' 64).
        blocks: blocks in each of the three stages (the authors' 3, 4, 14).
        input_size: side S of the input in pixels, a multiple of 16.
    """

    def __init__(
        self, *, width: int = 64, blocks: Sequence[int] = (3, 4, 14), input_size: int = 112
    ):
        super().__init__()
        self.stem = nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.PReLU(width))
        layers = []
        channels = width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            for number in range(count):
                layers.append(IResNetBlock(channels, out, 2 if number == 0 else 1))
                channels = out
        self.body = nn.Sequential(*layers)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(8 * width),
            nn.Dropout(0.0),
            nn.Flatten(),
            nn.Linear(8 * width * (input_size // 16) ** 2, 8 * width),
            nn.BatchNorm1d(8 * width),
        ).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 4 w, S / 8, S / 8)."""
        return self.body(self.stem(x))
