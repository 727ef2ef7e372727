"""Convolutions over maps of a few pixels as matrix products: the same sums, several times faster.

oneDNN's convolutions are made for large maps. Where a map is 2x2 and has 512 channels, as at the
end of a ResNet that reads 48 or 64 px, they reach a fraction of what the processor can do, and more
than half of what they multiply is padding (benchmarks/small_maps.py measures it).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FEW_PIXELS = 9  # of an output map
MANY_WEIGHTS = 256 * 256  # input times output channels; below it, many small products cost more


class Tap(NamedTuple):
    """One of a kernel's places: which outputs it reaches from inside the map, and from where."""

    row: int
    column: int
    outputs: tuple[slice, slice, slice]  # of (N, H', W', out channels)
    inputs: tuple[slice, slice, slice]  # of (N, H, W, in channels)


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    return (side + 2 * padding - kernel) // stride + 1


def spans(side: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """For every place along a side of the kernel: its outputs, and the inputs that it reads."""
    found = []
    last = output_side(side, kernel, stride, padding) - 1
    for place in range(kernel):
        offset = place - padding
        low, high = max(0, -(offset // stride)), min(last, (side - 1 - offset) // stride)
        start = low * stride + offset
        stop = start + (high - low) * stride + 1
        reads = (slice(low, high + 1), slice(start, stop, stride))
        nothing = (slice(0, 0), slice(0, 0))  # of a place that meets padding alone
        found.append(reads if low <= high else nothing)
    return found


def taps(height: int, width: int, kernel: int, stride: int, padding: int) -> list[Tap]:
    """A kernel's places that read pixels of a map, not padding alone."""
    rows, columns = (spans(side, kernel, stride, padding) for side in (height, width))
    every = slice(None)
    return [
        Tap(i, j, (every, out_rows, out_columns), (every, in_rows, in_columns))
        for i, (out_rows, in_rows) in enumerate(rows)
        for j, (out_columns, in_columns) in enumerate(columns)
        if out_rows.stop and out_columns.stop
    ]


class TapProducts(torch.autograd.Function):
    """Convolution without bias as one matrix product for each of the kernel's places.

    ``x`` (N, H, W, C) and ``weight`` (D, K, K, C) give (N, H', W', D); the weight's gradient is
    written where the products make it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        kernel = weight.shape[1]
        height, width = x.shape[1:3]
        ctx.save_for_backward(x, weight)
        ctx.taps = taps(height, width, kernel, stride, padding)
        sides = (output_side(side, kernel, stride, padding) for side in (height, width))
        y = x.new_zeros(len(x), *sides, len(weight))
        for tap in ctx.taps:
            y[tap.outputs] += x[tap.inputs] @ weight[:, tap.row, tap.column].T
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        # contiguous, whatever x and weight are: the next layer's memory is channels_last too
        grad_x = x.new_zeros(x.shape)
        # the products fill it, unless the map is so small that places met padding alone
        whole = len(ctx.taps) == weight.shape[1] ** 2
        grad_weight = (weight.new_empty if whole else weight.new_zeros)(weight.shape)
        for tap in ctx.taps:
            given = grad[tap.outputs].reshape(-1, len(weight))
            read = x[tap.inputs]
            grad_x[tap.inputs] += (given @ weight[:, tap.row, tap.column]).view(read.shape)
            torch.mm(
                given.T, read.reshape(-1, x.shape[-1]), out=grad_weight[:, tap.row, tap.column]
            )
        return grad_x, grad_weight, None, None


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d with other arithmetic for small maps on a CPU; weights and results are the same.

    Results agree up to the rounding of the sums' order.
    """

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _), (padding, _) = self.kernel_size, self.stride, self.padding
        height, width = (output_side(side, kernel, stride, padding) for side in x.shape[-2:])
        if x.device.type != "cpu" or height * width > FEW_PIXELS:
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        # free of cost in channels_last memory
        last, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        y = TapProducts.apply(last, weight, stride, padding)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y.permute(0, 3, 1, 2)


def quicken_small_maps(model: nn.Module) -> None:
    """Lets a network's wide convolutions take the short way where their maps are small.

    In place; parameters, their names and all hooks stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and is_wide(module):
            module.__class__ = SmallMapConv2d


def is_wide(conv: nn.Conv2d) -> bool:
    """Whether the short way pays, and the convolution is of the plain kind."""
    return (
        conv.in_channels * conv.out_channels >= MANY_WEIGHTS
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.padding))
    )
