"""Convolutions over maps of a few pixels as matrix products: the same sums, several times faster.

oneDNN's convolutions are made for large maps. Where a map is 2x2 and has 512 channels, as at the
end of a ResNet that reads 48 or 64 px, they reach a fraction of what the processor can do
(benchmarks/small_maps.py measures it).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_PIXELS = 9  # of an output map
MANY_WEIGHTS = 256 * 256  # input times output channels; below it, copying the patches costs more


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d with other arithmetic for small maps on a CPU; weights and results are the same.

    Results agree up to the rounding of the sums' order.
    """

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _), (padding, _) = self.kernel_size, self.stride, self.padding
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in x.shape[-2:]]
        if x.device.type != "cpu" or sides[0] * sides[1] > FEW_PIXELS:
            return super().forward(x)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        below, right = (stride * (side - 1) + 1 for side in sides)
        patches = torch.cat(
            [
                padded[:, row : row + below : stride, column : column + right : stride]
                for row in range(kernel)
                for column in range(kernel)
            ],
            dim=-1,
        )  # (N, H, W, kernel^2 C)
        # in channels_last memory these weights already lie in that order
        weights = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)
        return F.linear(patches, weights, self.bias).permute(0, 3, 1, 2)


def quicken_small_maps(model: nn.Module) -> None:
    """Lets a network's wide convolutions take the short way where their maps are small.

    In place; parameters, their names and all hooks stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and is_wide(module):
            module.__class__ = SmallMapConv2d


def is_wide(conv: nn.Conv2d) -> bool:
    """Whether the patches are worth copying, and the convolution is of the plain kind."""
    return (
        conv.in_channels * conv.out_channels >= MANY_WEIGHTS
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.padding))
    )
