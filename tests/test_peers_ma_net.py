"""MA-Net: sizes of Table 1, blocks against torchvision and plain loops, loss, crop."""

from types import SimpleNamespace

import numpy as np
import plain_loops
import pytest
import tiny
import torch
import torchvision
from torch import nn
from torchvision.transforms import RandomResizedCrop

from gmelib.batches import Batch
from gmelib.peers import ma_net
from gmelib.peers.ma_blocks import AttentionBlock, MultiScaleBlock
from gmelib.peers.ma_net import MANet, MANetObjective, MANetOptions, build_ma_net

CLASSES = 4


def small(size=32, width=8, **options):
    torch.manual_seed(0)
    cfg = SimpleNamespace(input_size=size)
    return build_ma_net(cfg, MANetOptions(width=width, **options), CLASSES)


def drawn(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def copy_in_order(target, source):
    """Copies the weights of ``source``, whose modules stand in the same order."""
    pairs = zip(target.state_dict().items(), source.state_dict().values(), strict=True)
    target.load_state_dict({name: value for (name, _), value in pairs})
    return target.eval()


def objective(see=None, **options):
    see = see or (lambda images, high: images.float() / 127.5 - 1)
    return MANetObjective(tiny.config(), MANetOptions(**options), CLASSES, see)


def batch(size=32, count=6):
    images = torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(2))
    everywhere = torch.ones(count, dtype=torch.bool)
    return Batch(images.to(torch.uint8), torch.arange(count) % CLASSES, everywhere, everywhere)


def test_size_is_that_of_table_1():
    with torch.device("meta"):
        model = MANet(classes=7).eval()
    assert sum(p.numel() for p in model.parameters()) == 50_547_214
    thop = pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    face = torch.zeros(1, 3, 224, 224, device="meta")
    macs, parameters = thop.profile(model, (face,), verbose=False)
    assert f"{parameters / 1e6:.3f}M / {macs / 1e9:.3f}G" == "50.547M / 3.652G"


@pytest.mark.parametrize("size", [32, 48, 64, 80])
def test_small_inputs_train(size):
    model = small(size)
    output = model(drawn(2, 3, size, size))
    assert output.logits.shape == (2, CLASSES)
    output.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    convolutions = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.grad.abs().sum() > 0 for w in convolutions if w.shape[0] > 1)


@pytest.mark.parametrize("size", [16, 40, 56, 225])
def test_an_input_without_quadrants_is_refused(size):
    message = tiny.refusal(build_ma_net, SimpleNamespace(input_size=size), MANetOptions(), 7)
    assert f"input_size = {size}" in message and "multiple of 16" in message


# -- blocks ---------------------------------------------------------------------------------------


def test_stem_and_trunk_are_the_first_half_of_torchvisions_resnet18():
    with torch.device("meta"):  # the other half is never made
        resnet, model = torchvision.models.resnet18(), MANet(classes=7)
    parts = (resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1, resnet.layer2)
    reference = tiny.shake(nn.Sequential(*parts).to_empty(device="cpu").double())
    own = nn.Sequential(model.stem, model.trunk).to_empty(device="cpu").double()
    copy_in_order(own, reference)
    x = drawn(2, 3, 64, 64, dtype=torch.float64)
    assert own(x).shape == (2, 128, 8, 8) and own(x).any()
    torch.testing.assert_close(own(x), reference(x))


def plain(module):
    return {name: t.double().numpy() for name, t in module.state_dict().items()}


def relu(x):
    return np.maximum(x, 0)


def plain_shortcut(x, w, stride):
    if "shortcut.0.weight" not in w:
        return x
    x = plain_loops.conv(x, w["shortcut.0.weight"], stride=stride)
    return plain_loops.batch_norm(x, w, "shortcut.1")


@pytest.mark.parametrize("channels, stride", [((8, 8), 1), ((4, 8), 2)])
def test_attention_block_gates_before_the_addition(channels, stride):
    block = tiny.shake(AttentionBlock(*channels, stride)).double()
    w, x = plain(block), drawn(1, channels[0], 5, 5, dtype=torch.float64)
    f = plain_loops.conv(x[0].numpy(), w["convs.0.weight"], stride=stride)
    f = plain_loops.conv(relu(plain_loops.batch_norm(f, w, "convs.1")), w["convs.3.weight"])
    gated, _, _ = plain_loops.cbam(plain_loops.batch_norm(f, w, "convs.4"), w, "attention.")
    expected = relu(gated + plain_shortcut(x[0].numpy(), w, stride))
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-9)


def plain_multi_scale(x, w, stride, directions):
    f = plain_loops.conv(x, w["conv.0.weight"], stride=stride)
    f = relu(plain_loops.batch_norm(f, w, "conv.1"))
    part = len(f) // 4
    total = plain_shortcut(x, w, stride)
    for chain, direction in enumerate(directions):
        out, before = np.zeros_like(f), 0
        for i in (0, 1, 2, 3) if direction == "forward" else (3, 2, 1, 0):
            name = f"chains.{chain}.{i}"
            own = slice(i * part, (i + 1) * part)
            step = plain_loops.conv(f[own] + before, w[f"{name}.0.weight"])
            out[own] = plain_loops.batch_norm(step, w, f"{name}.1")
            before = relu(out[own])
        total = total + out
    return relu(total)


@pytest.mark.parametrize("directions", [("forward", "backward"), ("forward", "forward")])
@pytest.mark.parametrize("channels, stride", [((8, 8), 1), ((4, 8), 2)])
def test_multi_scale_block_is_its_plain_loops(channels, stride, directions):
    block = tiny.shake(MultiScaleBlock(*channels, stride, directions=directions)).double()
    x = drawn(1, channels[0], 5, 5, dtype=torch.float64)
    expected = plain_multi_scale(x[0].numpy(), plain(block), stride, directions)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-9)


def test_multi_scale_block_needs_four_groups():
    with pytest.raises(ValueError, match="multiple of 4"):
        MultiScaleBlock(4, 6)


# -- network --------------------------------------------------------------------------------------


def test_every_quadrant_has_its_own_branch():
    model = small().eval()
    model.normalize = model.stem = model.trunk = nn.Identity()
    fork = drawn(2, 16, 8, 8)
    maps, local_vector, global_vector = model.features(fork)
    corners = [fork[..., :4, :4], fork[..., :4, 4:], fork[..., 4:, :4], fork[..., 4:, 4:]]
    for got, branch, corner in zip(maps, model.quadrant_branches, corners, strict=True):
        torch.testing.assert_close(got, branch(corner))
    assert not torch.allclose(maps[0], model.quadrant_branches[1](corners[0]))
    means = torch.stack([m.mean((2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(local_vector, means)
    torch.testing.assert_close(global_vector, model.global_branch(fork).mean((2, 3)))


@pytest.mark.parametrize("beta", [0.6, 0.25])
def test_prediction_weighs_the_two_branches(beta):
    model = small(local_weight=beta).eval()
    x = drawn(2, 3, 32, 32)
    _, local_vector, global_vector = model.features(x)
    output = model(x)
    local = local_vector @ model.local_head.weight.T + model.local_head.bias
    other = global_vector @ model.global_head.weight.T + model.global_head.bias
    torch.testing.assert_close(output.extras, {"local": local, "global": other})
    torch.testing.assert_close(output.logits, beta * local + (1 - beta) * other)


@pytest.mark.parametrize("size", [32, 48, 64])
def test_gradcam_of_the_layer_is_the_predictions_class_activation_map(size):
    model, kept = small(size).eval(), []
    model.gradcam_layer.register_forward_hook(lambda *args: kept.append(args[2]))
    logit = model(drawn(1, 3, size, size)).logits[0, 1]
    maps = kept[0]
    side = 2 * -(-size // 32)
    assert maps.shape == (1, 128, side, side)
    (gradient,) = torch.autograd.grad(logit, maps)
    weights = torch.cat([0.6 * model.local_head.weight[1], 0.4 * model.global_head.weight[1]])
    bias = 0.6 * model.local_head.bias[1] + 0.4 * model.global_head.bias[1]
    torch.testing.assert_close(gradient.sum((2, 3))[0], weights)
    torch.testing.assert_close((gradient * maps).sum() + bias, logit)


def test_faces_reach_the_stem_in_zero_to_one():
    model, kept = small(), []
    model.stem.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    model(torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 32, 32))
    assert kept[0].amin((1, 2, 3)).tolist() == kept[0].amax((1, 2, 3)).tolist() == [0, 0.5, 1]


def test_convolutions_start_from_kaiming_fan_out():
    convolution = small().trunk[2].convs[0]  # 8 -> 16, 3x3
    assert convolution.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)


# -- loss -----------------------------------------------------------------------------------------


def plain_cross_entropy(logits, labels):
    each = [row.exp().sum().log() - row[label] for row, label in zip(logits, labels, strict=True)]
    return sum(each) / len(each)


@pytest.mark.parametrize("beta", [0.6, 0.1])
def test_loss_weighs_two_cross_entropies(beta):
    model, faces = small(local_weight=beta), batch()
    terms = objective(augmentation="plain", local_weight=beta).terms(model, faces)
    output = model(faces.images.float() / 127.5 - 1)
    local = plain_cross_entropy(output.extras["local"], faces.labels)
    other = plain_cross_entropy(output.extras["global"], faces.labels)
    torch.testing.assert_close(terms.loss, beta * local + (1 - beta) * other)
    expected = {"ce": terms.loss, "ce_local": local, "ce_global": other}
    torch.testing.assert_close(terms.named, expected)
    torch.testing.assert_close(terms.logits, output.logits)
    assert terms.labels is faces.labels


def test_a_branch_of_no_weight_gets_no_gradient():
    model = small(local_weight=1)
    objective(augmentation="plain", local_weight=1).terms(model, batch()).loss.backward()
    for part in (model.quadrant_branches, model.local_head, model.trunk):
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0
    for part in (model.global_branch, model.global_head):
        assert not any(p.grad.any() for p in part.parameters())


def test_augmentation_is_switched_and_sees_the_right_resolution():
    seen, faces = [], batch()

    def see(images, high):
        assert images is faces.images and high is faces.high
        return images.float() / 127.5 - 1

    def forward(x):
        seen.append(x)
        return model(x)

    model = small()
    objective(see, augmentation="plain").terms(forward, faces)
    assert torch.equal(seen[0], faces.images.float() / 127.5 - 1)
    for _ in range(2):
        torch.manual_seed(3)
        objective(see).terms(forward, faces)
    assert torch.equal(seen[1], seen[2])  # the seed decides
    assert seen[1].shape == seen[0].shape and not torch.allclose(seen[1], seen[0])


# -- crop -----------------------------------------------------------------------------------------


def test_crop_has_torchvisions_distribution():
    torch.manual_seed(0)
    face = torch.zeros(1, 2000, 2000)  # fine enough for shares of a side
    crop = RandomResizedCrop(224)
    theirs = np.array([crop.get_params(face, crop.scale, crop.ratio) for _ in range(4000)]) / 2000
    height, width = (side.numpy() for side in ma_net.crop_sides(4000))
    for own, their in ((height, theirs[:, 2]), (width, theirs[:, 3])):
        quantiles = np.linspace(0, 1, 21)[1:-1]
        difference = np.quantile(own, quantiles) - np.quantile(their, quantiles)
        assert np.abs(difference).max() < 0.02
    assert np.corrcoef(height, width)[0, 1] == pytest.approx(
        np.corrcoef(theirs[:, 2], theirs[:, 3])[0, 1], abs=0.05
    )
    assert max(height.max(), width.max()) <= 1


def test_a_crop_that_never_fits_is_the_whole_face(monkeypatch):
    monkeypatch.setattr(ma_net, "CROP_AREA", (0.99, 1.0))
    monkeypatch.setattr(ma_net, "CROP_ASPECT", (1.5, 2.0))
    height, width = ma_net.crop_sides(5)
    assert height.tolist() == width.tolist() == [1] * 5


def test_crop_enlarges_an_upright_rectangle_of_every_face():
    side, count = 64, 50
    ramp = (torch.arange(side) + 0.5) / side * 2 - 1  # the coordinate itself, -1 to 1
    rows, columns = torch.meshgrid(ramp, ramp, indexing="ij")
    x = torch.stack([rows, columns]).expand(count, -1, -1, -1)
    torch.manual_seed(5)
    cropped = ma_net.random_resized_crop(x)
    torch.manual_seed(5)
    height, width = ma_net.crop_sides(count)
    lines = torch.stack([cropped[:, 0, :, 32], cropped[:, 1, 32, :]])  # along rows, along columns
    slopes = (lines[..., 40] - lines[..., 24]) / (ramp[40] - ramp[24])  # away from the border
    torch.testing.assert_close(slopes, torch.stack([height, width]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cropped[:, 0], lines[0][:, :, None].expand(-1, -1, side))
    torch.testing.assert_close(cropped[:, 1], lines[1][:, None].expand(-1, side, -1))
    middle = lines[..., 31:33].mean(-1)
    assert (middle.abs() <= 1 - slopes + 1e-4).all()  # inside the face
    assert middle.std() > 0.1  # and each at its own place
