"""POSTER's options, and its parts against torch, torchvision and plain loops."""

import pytest
import tiny
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F
from torchvision.models.mobilenetv2 import InvertedResidual

from gmelib.peers.iresnet import IResNet, IResNetBlock
from gmelib.peers.mobilefacenet import InvertedBottleneck, MobileFaceNet
from gmelib.peers.poster import POSTEROptions, noise_or_flip
from gmelib.peers.pyramid import (
    CrossAttention,
    CrossFusionBlock,
    DropPath,
    FusionPyramid,
    PyramidBlock,
)


def draw(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- attention ------------------------------------------------------------------------------------


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return tiny.shake(CrossAttention(32, 8))


def test_cross_attention_is_torchs_multi_head_attention_without_a_projection_of_queries(attention):
    theirs = nn.MultiheadAttention(32, 8, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([torch.eye(32), attention.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([torch.zeros(32), attention.key_value.bias]))
        theirs.out_proj.load_state_dict(attention.projection.state_dict())
        queries, tokens = draw(2, 5, 32), draw(2, 5, 32, seed=4)
        expected, _ = theirs(queries, tokens, tokens)
        torch.testing.assert_close(attention(queries, tokens), expected, rtol=1e-4, atol=1e-4)


def test_cross_attention_is_torchs_scaled_dot_product(attention):
    queries, tokens = draw(2, 5, 32), draw(2, 5, 32, seed=4)
    keys, values = attention.key_value(tokens).split(32, -1)
    heads = [t.reshape(2, 5, 8, 4).permute(0, 2, 1, 3) for t in (queries, keys, values)]
    mixed = F.scaled_dot_product_attention(*heads).permute(0, 2, 1, 3).reshape(2, 5, 32)
    torch.testing.assert_close(
        attention(queries, tokens), attention.projection(mixed), rtol=1e-4, atol=1e-4
    )


# -- the pyramid ----------------------------------------------------------------------------------


def test_a_fusion_block_updates_both_streams_from_their_old_states_and_mixes_all_tokens():
    block = tiny.shake(CrossFusionBlock(3, 16, 8, 0.5))
    x = draw(2, 6, 16)

    def norm(layer, t):
        centred = t - t.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * layer.weight + layer.bias

    def update(stream, own, other):
        own = own + stream.attention(norm(stream.norm, other), norm(stream.norm, own))
        hidden = F.gelu(stream.mlp[0](norm(stream.mlp_norm, own)))
        assert hidden.shape == (2, 3, 32)  # MLP ratio 2
        return own + stream.mlp[2](hidden)

    with torch.no_grad():
        image, landmarks = x[:, :3], x[:, 3:]
        both = torch.cat(
            [update(block.image, image, landmarks), update(block.landmarks, landmarks, image)], 1
        )
        weight, bias = block.mix.weight[:, :, 0], block.mix.bias
        expected = torch.stack(
            [sum(weight[t, s] * both[:, s] for s in range(6)) + bias[t] for t in range(6)], 1
        )
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def upsampled(layer, x):
    """out[t, 2 d + k] = b[t] + sum over s of w[s, t, k] x[s, d]."""
    out = torch.zeros(len(x), x.shape[1], 2 * x.shape[2])
    for t in range(x.shape[1]):
        for k in range(2):
            out[:, t, k::2] = layer.bias[t] + sum(
                layer.weight[s, t, k] * x[:, s] for s in range(x.shape[1])
            )
    return out


@torch.no_grad()
def test_levels_are_added_from_the_narrowest_to_the_widest():
    block = tiny.shake(PyramidBlock(2, [32, 16, 8], 8, 0.0))
    wide, middle, narrow = levels = [draw(2, 4, width) for width in (32, 16, 8)]
    narrow = block.fusions[2](narrow)
    middle = block.fusions[1](middle) + upsampled(block.upsamplings[1], narrow)
    wide = block.fusions[0](wide) + upsampled(block.upsamplings[0], middle)
    for ours, expected in zip(block(levels), (wide, middle, narrow), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_pyramid_gives_the_images_mean_token():
    pyramid = tiny.shake(FusionPyramid(tokens=2, width=32, depth=2))
    image, landmarks = draw(2, 2, 32), draw(2, 2, 32, seed=4)
    tokens = [image.mean(1), *image.unbind(1)]
    tokens = [t + pyramid.position[0, i] for i, t in enumerate(tokens)]
    tokens += [landmarks.mean(1), *landmarks.unbind(1)]
    x = torch.stack(tokens, 1)
    levels = [x]
    for layer, step in zip(pyramid.downsamplings, (2, 4), strict=True):
        parts = x.unfold(2, step, step)  # (N, 2 T, D / step, step)
        levels.append(torch.einsum("nsdk,tsk->ntd", parts, layer.weight) + layer.bias[:, None])
    for block in pyramid.blocks:
        levels = block(levels)
    expected = F.layer_norm(
        levels[0][:, 0], (32,), pyramid.norm.weight, pyramid.norm.bias, eps=1e-6
    )
    torch.testing.assert_close(pyramid(image, landmarks), expected, rtol=1e-4, atol=1e-4)


def test_drop_path_rises_to_a_tenth():
    pyramid = FusionPyramid(tokens=1, width=32, depth=5)
    rates = [block.fusions[2].image.drop_path.probability for block in pyramid.blocks]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


def test_drop_path_leaves_whole_faces_out_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(8000, 2, 3)
    dropped = DropPath(0.1).train()(x)
    per_face = dropped.flatten(1)
    assert (per_face == per_face[:, :1]).all()
    assert per_face.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(DropPath(0.1).eval()(x), x)


# -- iResNet --------------------------------------------------------------------------------------


def batch_norm(layer, x):
    mean, var, weight, bias = (
        t[:, None, None] for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / (var + layer.eps).sqrt() * weight + bias


@torch.no_grad()
@pytest.mark.parametrize("channels, out, stride", [(4, 4, 1), (4, 4, 2), (4, 8, 2)])
def test_an_iresnet_block_layer_by_layer(channels, out, stride):
    block = tiny.shake(IResNetBlock(channels, out, stride))
    x = draw(2, channels, 6, 6)
    before, first, prelu, second, after = block.convs
    y = F.conv2d(batch_norm(before, x), first.weight, padding=1)
    y = torch.where(y > 0, y, y * prelu.weight[:, None, None])
    y = batch_norm(after, F.conv2d(y, second.weight, padding=1)[:, :, ::stride, ::stride])
    shortcut = x[:, :, ::stride, ::stride]
    if channels != out:
        conv, norm = block.shortcut
        shortcut = batch_norm(norm, torch.einsum("nchw,oc->nohw", shortcut, conv.weight[..., 0, 0]))
    else:
        assert not list(block.shortcut.parameters())
    torch.testing.assert_close(block(x), y + shortcut, rtol=1e-4, atol=1e-4)


def test_the_trunk_has_three_stages_that_halve_the_side():
    trunk = IResNet(width=4, blocks=(1, 2, 3), input_size=32)
    shapes = []
    for block in trunk.body:
        block.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
    assert trunk(draw(2, 3, 32, 32)).shape == (2, 16, 4, 4)
    assert shapes == [(4, 16, 16), *[(8, 8, 8)] * 2, *[(16, 4, 4)] * 3]


def test_the_output_layer_is_never_called():
    trunk = IResNet(width=4, blocks=(1, 1, 1), input_size=32)
    with torch.no_grad():
        for parameter in trunk.output_layer.parameters():
            parameter.fill_(float("nan"))
    assert trunk(draw(2, 3, 32, 32)).isfinite().all()


# -- MobileFaceNet --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("out, stride, residual", [(8, 1, True), (8, 2, False), (12, 2, False)])
def test_a_bottleneck_is_torchvisions_with_another_activation(out, stride, residual):
    torch.manual_seed(0)
    ours = InvertedBottleneck(8, 16, out, stride=stride, residual=residual).eval()
    theirs = InvertedResidual(8, out, stride, expand_ratio=2).eval()
    for layer in ours.modules():
        if isinstance(layer, nn.PReLU):
            layer.weight.zero_()  # ReLU, and below 6 torchvision's ReLU6 too
        elif isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(draw(len(layer.bias)) / 10)
            layer.bias.copy_(draw(len(layer.bias), seed=4) / 10)
    slopes = {f"{n}.weight" for n, m in ours.named_modules() if isinstance(m, nn.PReLU)}
    tensors = [t for n, t in ours.state_dict().items() if n not in slopes]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    x = draw(2, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_mobilefacenet_has_the_published_maps():
    with torch.device("meta"):
        model = MobileFaceNet()
        shapes = []
        for layer in [*model.features, model.landmarks]:
            layer.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape[1:])))
        assert model(torch.empty(2, 3, 112, 112)).shape == (2, 512, 7, 7)
    assert shapes == [
        *[(64, 56, 56)] * 2,
        *[(64, 28, 28)] * 5,
        *[(128, 14, 14)] * 7,
        *[(128, 7, 7)] * 3,
        (512, 7, 7),
        (136,),
    ]
    assert sum(p.numel() for p in model.parameters()) == 1_007_248


def test_the_landmark_head_is_called_and_keeps_out_of_the_gradient():
    model = MobileFaceNet(width=4, blocks=(1, 1, 1), input_size=32).train()
    calls = []
    model.landmarks.register_forward_hook(lambda *args: calls.append(args[2].shape))
    model(draw(4, 3, 32, 32)).sum().backward()
    assert calls == [(4, 136)]
    assert all(p.grad is None for p in model.landmarks.parameters())
    assert all(p.grad is not None for p in model.features.parameters())


def test_mobilefacenet_starts_from_kaiming_fan_out():
    torch.manual_seed(0)
    model = MobileFaceNet()
    conv = model.features[-1][0]  # 1x1, 128 -> 512
    assert conv.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


# -- augmentation ---------------------------------------------------------------------------------


def test_a_quarter_is_flipped_and_another_quarter_gets_noise():
    torch.manual_seed(0)
    x = torch.linspace(-0.5, 0.5, 8).expand(4000, 3, 8, 8).contiguous()
    before = x.clone()
    y = noise_or_flip(x)
    assert torch.equal(x, before)
    same = (y == x).flatten(1).all(1)
    flipped = (y == x.flip(-1)).flatten(1).all(1)
    noisy = ~same & ~flipped
    assert flipped.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert noisy.double().mean().item() == pytest.approx(0.25, abs=0.03)
    noise = 127.5 * (y - x)[noisy].double()  # levels of 255
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.var().item() == pytest.approx(30, rel=0.02)


def test_noise_stays_in_range():
    torch.manual_seed(0)
    y = noise_or_flip(torch.ones(100, 3, 4, 4))
    assert y.max() == 1 and y.min() < 0.95


# -- options --------------------------------------------------------------------------------------


def test_the_authors_network_is_not_reduced():
    assert not POSTEROptions().is_reduced
    assert not POSTEROptions(resize=224, freeze_landmarks=True, augmentation="plain").is_reduced


@pytest.mark.parametrize(
    "values",
    [
        {"size": "base"},
        {"levels": 2},
        {"width": 32},
        {"trunk_blocks": (3, 4, 13)},
        {"landmark_blocks": (3, 6, 2)},
        {"resize": 0},
    ],
)
def test_any_smaller_network_is_reduced(values):
    assert POSTEROptions(**values).is_reduced


@pytest.mark.parametrize("values", [{"levels": 4}, {"width": 30}, {"size": "tiny"}, {"depth": 4}])
def test_options_that_no_network_has_are_refused(values):
    with pytest.raises(ValidationError):
        POSTEROptions(**values)
