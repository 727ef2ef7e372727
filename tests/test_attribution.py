"""Attributions that can be told beforehand, and attention maps against plain loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gmelib.attribution import (
    METHODS,
    LogitsModel,
    agreement,
    attention_over_face,
    attribute,
    class_mean_maps,
)
from gmelib.config import InputError
from gmelib.model import GMENet, Output

SIZE = 32


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = GMENet(
        classes=7, input_size=SIZE, width=8, blocks=(1, 2, 1, 1), global_blocks=(1, 1), head="gap"
    )
    for _ in range(3):  # BatchNorm's statistics leave their initial values
        model(torch.randn(16, 3, SIZE, SIZE))
    return model.eval()


def faces(count=4, seed=1):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class CornerNet(nn.Module):
    """Sees the upper left quarter alone: logits are its mean and minus its mean."""

    def forward(self, x):
        mean = x[..., : SIZE // 2, : SIZE // 2].mean((1, 2, 3))
        return Output(torch.stack([mean, -mean], 1))


class BlobNet(nn.Module):
    """Two channels at half the size, brightness and darkness; each speaks for one class."""

    def __init__(self):
        super().__init__()
        self.gradcam_layer = nn.AvgPool2d(2)

    def forward(self, x):
        grey = x.mean(1, keepdim=True)
        maps = self.gradcam_layer(torch.cat([grey.relu(), (-grey).relu()], 1))
        return Output(maps.mean((2, 3)))


def test_integrated_gradients_sum_to_the_logit_gained_over_grey(network):
    x, targets = faces(), torch.tensor([0, 3, 6, 2])
    maps = attribute(network, x, targets, "integrated_gradients")
    with torch.no_grad():
        gained = network(x).logits - network(torch.zeros_like(x)).logits
    gained = gained[torch.arange(4), targets]
    assert gained.abs().min() > 0.02
    assert torch.allclose(maps.sum((1, 2)), gained, rtol=0.05, atol=0.01)


def test_integrated_gradients_of_a_linear_network_are_weight_times_pixel():
    x = faces(2)
    maps = attribute(CornerNet(), x, [0, 1])
    expected = torch.zeros_like(maps)
    half = SIZE // 2
    expected[:, :half, :half] = x[:, :, :half, :half].sum(1) / (3 * half * half)
    expected[1] *= -1
    assert torch.allclose(maps, expected, atol=1e-6)


def test_occlusion_finds_the_corner_a_network_looks_at():
    x = torch.ones(2, 3, SIZE, SIZE)
    maps = attribute(CornerNet(), x, [0, 1], "occlusion")
    window, half = SIZE // 6, SIZE // 2
    assert torch.equal(maps[:, half + window :], torch.zeros_like(maps[:, half + window :]))
    assert torch.equal(maps[:, :, half + window :], torch.zeros_like(maps[:, :, half + window :]))
    inside = maps[0, : half - window, : half - window]
    # a window wholly inside takes window^2 of the corner's half^2 ones out of the mean
    assert torch.allclose(inside, torch.full_like(inside, window**2 / half**2), atol=1e-6)
    assert torch.allclose(maps[1], -maps[0])


def test_grad_cam_is_hot_where_the_evidence_is():
    x = -torch.ones(1, 3, SIZE, SIZE)
    x[..., 4:12, 20:28] = 1  # a bright blob on black
    bright, dark = attribute(BlobNet(), x.repeat(2, 1, 1, 1), [0, 1], "grad_cam")
    assert bright.shape == (SIZE, SIZE)
    assert bright[5:11, 21:27].min() > 0
    outside = bright.clone()
    outside[3:13, 19:29] = 0
    assert outside.abs().max() == 0
    assert dark[5:11, 21:27].max() == 0 and dark[20:, :16].min() > 0


def test_grad_cam_equals_its_formula(network):
    x, targets = faces(), torch.tensor([0, 3, 6, 2])
    kept = {}
    hook = network.gradcam_layer.register_forward_hook(lambda m, i, out: kept.update(map=out))
    logits = network(x).logits[torch.arange(4), targets].sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(logits, kept["map"])
    cam = (gradient.mean((2, 3), keepdim=True) * kept["map"]).sum(1, keepdim=True).relu()
    expected = F.interpolate(cam, (SIZE, SIZE), mode="bilinear")[:, 0].detach()
    assert torch.allclose(attribute(network, x, targets, "grad_cam"), expected, atol=1e-6)
    early = attribute(network, x, targets, "grad_cam", layer=network.stem)
    assert early.shape == expected.shape and not torch.allclose(early, expected)


@pytest.mark.parametrize("method", METHODS)
def test_faces_are_explained_one_by_one_however_they_are_batched(method):
    x, targets = faces(5), torch.tensor([0, 1, 1, 0, 1])
    whole = attribute(BlobNet(), x, targets, method, batch_size=8)
    assert whole.shape == (5, SIZE, SIZE) and whole.dtype == torch.float32
    chunks = attribute(BlobNet(), x, targets, method, batch_size=2)
    assert torch.allclose(chunks, whole, atol=1e-5)
    for i in range(5):
        alone = attribute(BlobNet(), x[i : i + 1], targets[i : i + 1], method)
        assert torch.allclose(alone[0], whole[i], atol=1e-5) and alone.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_network_comes_back_as_it_was(network, method):
    network.train()
    network.stem.eval()
    network.stem.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = [m.training for m in network.modules()]
    learning = [p.requires_grad for p in network.parameters()]
    x = faces(2)
    try:
        with torch.inference_mode():  # an evaluation loop may be around it
            maps = attribute(network, x, [0, 1], method)
        assert maps.isfinite().all() and maps.abs().max() > 0
        with pytest.raises(RuntimeError, match="out of bounds"):
            attribute(network, x, [0, 70], method)  # fails inside; the flags still come back
        assert [m.training for m in network.modules()] == training
        assert [p.requires_grad for p in network.parameters()] == learning
        assert all(p.grad is None for p in network.parameters())
        assert not x.requires_grad and x.grad is None
        assert all(torch.equal(network.state_dict()[n], value) for n, value in before.items())
        assert not any(m._forward_hooks or m._backward_hooks for m in network.modules())
    finally:
        network.eval().requires_grad_(True)


def test_bad_requests_are_refused_in_one_line(network):
    with pytest.raises(InputError, match="'gradcam': expected one of integrated_gradients, grad_"):
        attribute(network, faces(), [0] * 4, "gradcam")
    with pytest.raises(InputError, match="one class per face, 4 in all, got 3"):
        attribute(network, faces(), [0] * 3)


def test_logits_model_returns_logits_alone(network):
    x = faces()
    with torch.no_grad():
        assert torch.equal(LogitsModel(network)(x), network(x).logits)


def test_attention_over_face_averages_the_blocks_of_a_stage(network):
    with torch.no_grad():
        output = network(faces())
    maps = attention_over_face(output, network.stage_of_block, 64)
    assert network.stage_of_block == (1, 2, 2, 3, 4)
    assert maps.shape == (4, 4, 64, 64)
    assert 0 < maps.min() and maps.max() < 1
    first, second = (output.spatial_maps[i].sigmoid() for i in (1, 2))
    expected = F.interpolate((first + second) / 2, (64, 64), mode="bilinear")[:, 0]
    assert torch.allclose(maps[:, 1], expected, atol=1e-6)


def test_attention_over_face_keeps_places():
    spot = torch.full((1, 1, 8, 8), -9.0)
    spot[..., 1, 6] = 9  # row 1, column 6 of 8
    (row, column) = divmod(
        int(attention_over_face(Output(spot, (), (spot,)), [1], 64).argmax()), 64
    )
    assert 8 <= row < 16 and 48 <= column < 56


def test_class_mean_maps_equal_a_loop():
    maps, labels = torch.rand(10, 3, 4, 4), torch.tensor([0, 2, 2, 0, 0, 2, 1, 2, 0, 1])
    means = class_mean_maps(maps, labels, ("a", "b", "c", "d"))
    assert means.shape == (4, 3, 4, 4)
    for k in range(3):
        chosen = [maps[i] for i in range(10) if labels[i] == k]
        assert torch.allclose(means[k], sum(chosen) / len(chosen), atol=1e-6)
    assert means[3].isnan().all()


def test_agreement_equals_a_loop():
    torch.manual_seed(3)
    teacher, student = (
        Output(
            torch.zeros(4, 7),
            tuple(torch.randn(4, c) for c in (6, 12)),
            tuple(torch.randn(4, 1, side, side) for side in (5, 3)),
        )
        for _ in range(2)
    )
    table = agreement(teacher, student, (1, 2))
    shares = table[["channel_compared", "spatial_compared"]]
    assert (shares == 1).all(axis=None)
    assert list(table.columns[:3]) == ["block", "stage", "channel"]
    assert table.block.tolist() == [1, 2] and table.stage.tolist() == [1, 2]
    for name in ("channel", "spatial"):
        for i, (t, s) in enumerate(
            zip(getattr(teacher, f"{name}_maps"), getattr(student, f"{name}_maps"), strict=True)
        ):
            total = 0.0
            for a, b in zip(t.flatten(1).tolist(), s.flatten(1).tolist(), strict=True):
                dot = sum(p * q for p, q in zip(a, b, strict=True))
                total += dot / math.hypot(*a) / math.hypot(*b)
            assert table[name][i] == pytest.approx(total / len(t), abs=1e-5)


def test_agreement_of_equal_and_opposite_maps():
    maps = (
        (torch.randn(3, 6), torch.randn(3, 8)),
        (torch.randn(3, 1, 4, 4), torch.randn(3, 1, 2, 2)),
    )
    same = Output(torch.zeros(3, 7), *maps)
    opposite = Output(torch.zeros(3, 7), *(tuple(-m for m in kind) for kind in maps))
    assert agreement(same, same, [1, 2])[["channel", "spatial"]].to_numpy() == pytest.approx(1)
    assert agreement(same, opposite, [1, 2])[["channel", "spatial"]].to_numpy() == pytest.approx(-1)


def test_faces_whose_map_is_zero_everywhere_are_left_out():
    """A dead unit says nothing of the student; as similarity 0 it would."""
    torch.manual_seed(0)
    channel, spatial = torch.randn(4, 6), torch.randn(4, 1, 4, 4)
    partly = channel.clone()
    partly[:3] = 0
    teacher = Output(torch.zeros(4, 7), (partly, 0 * channel), (spatial, spatial))
    student = Output(torch.zeros(4, 7), (channel, channel), (spatial, spatial))
    table = agreement(teacher, student, [1, 1])
    assert table["channel"][0] == pytest.approx(1) and table["channel_compared"][0] == 0.25
    assert math.isnan(table["channel"][1]) and table["channel_compared"][1] == 0
    assert table["spatial"].tolist() == pytest.approx([1, 1])


def test_maps_that_cannot_be_compared_are_refused(network):
    with torch.no_grad():
        output = network(faces())
    stages = network.stage_of_block
    with pytest.raises(InputError, match="no attention maps; expected attention = dbam or cbam"):
        attention_over_face(Output(output.logits), stages, SIZE)
    with pytest.raises(InputError, match="5 attention maps but 3 blocks"):
        attention_over_face(output, stages[:3], SIZE)
    wider = output._replace(channel_maps=tuple(m.repeat(1, 2) for m in output.channel_maps))
    with pytest.raises(InputError, match="expected the same faces and one architecture"):
        agreement(output, wider, stages)
