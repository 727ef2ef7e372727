"""Convolutions as matrix products: equal to torch's own, in values and gradients."""

import pytest
import torch
from torch import nn

from gmelib.small_maps import FEW_PIXELS, SmallMapConv2d, is_wide, quicken_small_maps


@pytest.mark.parametrize(
    "kernel, stride, padding", [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 1, 0), (5, 1, 2), (5, 3, 4)]
)
@pytest.mark.parametrize("side", [1, 2, 3, (2, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_it_equals_torchs_convolution(kernel, stride, padding, side, bias):
    if side == 1 and not padding:
        side = kernel
    height, width = side if isinstance(side, tuple) else (side, side)
    torch.manual_seed(0)
    plain = nn.Conv2d(256, 257, kernel, stride, padding, bias=bias).double()
    x = torch.randn(2, 256, height, width, dtype=torch.float64, requires_grad=True)
    quick = SmallMapConv2d(256, 257, kernel, stride, padding, bias=bias).double()
    quick.load_state_dict(plain.state_dict())
    results = []
    for conv in (plain, quick):
        y = conv(x)
        assert y.shape[-2] * y.shape[-1] <= FEW_PIXELS
        gradients = torch.autograd.grad((y**2).sum(), [x, *conv.parameters()])
        results.append([y, *gradients])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_it_takes_the_short_way_for_small_maps_alone(monkeypatch):
    conv = SmallMapConv2d(256, 256, 3, padding=1)
    calls = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: calls.append(x.shape[-1]))
    for side in (2, 3, 4):
        conv(torch.zeros(1, 256, side, side))
    assert calls == [4]


@pytest.mark.parametrize(
    "conv, wide",
    [
        (nn.Conv2d(256, 256, 3, padding=1), True),
        (nn.Conv2d(512, 128, 1), True),
        (nn.Conv2d(128, 256, 3), False),
        (nn.Conv2d(512, 512, 3, groups=512), False),
        (nn.Conv2d(512, 512, 3, dilation=2), False),
        (nn.Conv2d(512, 512, 3, padding="same"), False),
        (nn.Conv2d(512, 512, 3, padding_mode="reflect", padding=1), False),
        (nn.Conv2d(512, 512, (1, 3)), False),
    ],
)
def test_only_wide_and_plain_convolutions_are_quickened(conv, wide):
    assert is_wide(conv) == wide
    model = nn.Sequential(conv)
    names = list(model.state_dict())
    quicken_small_maps(model)
    assert isinstance(model[0], SmallMapConv2d) == wide
    assert list(model.state_dict()) == names


def test_memory_stays_channels_last():
    conv = SmallMapConv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 256, 2, 2).contiguous(memory_format=torch.channels_last)
    y = conv(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert conv.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_under_autocast_it_computes_in_that_precision():
    torch.manual_seed(0)
    conv = SmallMapConv2d(256, 256, 3, padding=1)
    x = torch.randn(2, 256, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
        expected = nn.Conv2d.forward(conv, x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, atol=0.02, rtol=0.02)
    y.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
