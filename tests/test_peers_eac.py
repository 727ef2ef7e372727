"""EAC: its ResNet against torchvision's, its class maps and losses against plain loops."""

import itertools

import pytest
import tiny
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from gmelib.attribution import attribute
from gmelib.batches import Batch
from gmelib.config import InputError
from gmelib.evaluate import complexity
from gmelib.model import Output
from gmelib.peers.eac import EACNet, EACObjective, EACOptions, add_noise, build_eac

CLASSES = 7


def network(depth: int = 18, input_size: int = 48) -> EACNet:
    torch.manual_seed(0)
    return EACNet(classes=CLASSES, input_size=input_size, depth=depth)


def faces(count: int = 2, side: int = 48) -> torch.Tensor:
    shape = (count, 3, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def lively(model: nn.Module) -> nn.Module:
    """Evaluation mode with BatchNorm layers that all do something, and keep the values' size."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.6)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def batch(count: int = 4, side: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    every = torch.ones(count, dtype=torch.bool)
    return Batch(images, torch.arange(count) % CLASSES, ~every, every)


def see(images: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)


def objective(label_smoothing: float = 0.0, **options) -> EACObjective:
    cfg = tiny.config(method="eac", kd_weight=0, label_smoothing=label_smoothing)
    return EACObjective(cfg, EACOptions(**options), CLASSES, see)


class Stub:
    """Stands for a network: outputs that are leaves, and what it was given."""

    def __init__(self, count: int, side: int = 3):
        generator = torch.Generator().manual_seed(3)
        self.logits = torch.randn(count, CLASSES, generator=generator).requires_grad_()
        self.maps = torch.randn(count, CLASSES, side, side, generator=generator).requires_grad_()

    def __call__(self, x: torch.Tensor) -> Output:
        self.given = x
        return Output(self.logits, extras={"class_maps": self.maps})


def test_costs_are_table_1s():
    pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    costs = complexity(network(50, 224), 224)
    assert costs["parameters"] == costs["parameters_thop"] == 23_522_375  # 23.52 M
    assert round(costs["macs_thop"] / 1e9, 4) == 3.8983  # 3.90 G


def test_the_reduced_network_has_resnet18s_parameters():
    assert sum(p.numel() for p in network().parameters()) == 11_180_103


@pytest.mark.parametrize("depth, side", [(50, 64), (50, 224), (18, 48)])
def test_logits_are_torchvisions_with_strides_moved(depth, side):
    model = lively(network(depth, side))
    reference = getattr(torchvision.models, f"resnet{depth}")(num_classes=CLASSES).eval()
    reference.maxpool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    if depth == 50:
        for module in reference.modules():
            if isinstance(module, torchvision.models.resnet.Bottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
    weights = list(model.state_dict().values())  # in torchvision's order
    names = list(reference.state_dict())
    reference.load_state_dict(dict(zip(names, weights, strict=True)))
    x = faces(1, side)
    output = model(x)
    expected = reference(model.normalize(x))
    assert expected.std() > 1e-3
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    assert output.extras["class_maps"].shape == (1, CLASSES, -(-side // 32), -(-side // 32))


def test_class_maps_are_features_weighted_by_the_classifier_without_bias():
    model, seen = lively(network(18, 64)), []
    model.gradcam_layer.register_forward_hook(lambda *call: seen.append(call[2]))
    output = model(faces(2, 64))
    maps, weights, features = output.extras["class_maps"], model.fc.weight, seen[0]
    for n, k, y, x in itertools.product(range(2), range(CLASSES), range(2), range(2)):
        pairs = zip(weights[k].tolist(), features[n, :, y, x].tolist(), strict=True)
        expected = sum(w * f for w, f in pairs)
        assert float(maps[n, k, y, x].detach()) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(maps.mean((2, 3)) + model.fc.bias, output.logits)


def test_through_the_maps_the_features_learn_and_the_classifier_does_not():
    model = network()
    model(faces()).extras["class_maps"].square().sum().backward()
    assert model.fc.weight.grad is None and model.fc.bias.grad is None
    for name, parameter in model.named_parameters():
        if not name.startswith("fc."):
            assert parameter.grad.abs().max() > 0, name


def test_convolutions_start_kaiming_normal_by_their_outputs():
    model = network(50, 64)
    for conv in (model.stem[0], model.stages[3][1].convs[3], model.stages[3][1].convs[6]):
        expected = (2 / (conv.kernel_size[0] ** 2 * conv.out_channels)) ** 0.5
        assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("side, last", [(32, 1), (48, 2), (112, 4)])
def test_small_inputs_train_all_weights(side, last):
    model = build_eac(tiny.config(input_size=side, method="eac"), EACOptions(depth=18), CLASSES)
    output = model(faces(4, side))
    assert output.extras["class_maps"].shape == (4, CLASSES, last, last)
    F.cross_entropy(output.logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert float(model.stem[0].weight.grad.abs().max()) > 0


def test_grad_cam_reads_a_map():
    assert attribute(network(18, 64).eval(), faces(2, 64), [0, 1], "grad_cam").shape == (2, 64, 64)


@pytest.mark.parametrize("side", [16, 40])
def test_an_input_size_that_does_not_suit_is_refused(side):
    cfg = tiny.config(method="eac").model_copy(update={"input_size": side})
    message = tiny.refusal(build_eac, cfg, EACOptions(depth=18), CLASSES)
    assert message.startswith(f"parameter input_size = {side}: ") and "multiple of 16" in message


def test_options_are_the_authors_and_say_what_is_reduced():
    options = EACOptions()
    assert (options.depth, options.consistency_weight, options.augmentation) == (50, 5, "authors")
    assert not options.is_reduced and EACOptions(depth=18).is_reduced
    cfg = tiny.config(input_size=32, method="eac")
    assert isinstance(build_eac(cfg, EACOptions(depth=18), 5).fc, nn.Linear)
    assert build_eac(cfg, EACOptions(depth=18), 5).fc.in_features == 512
    for wrong in ({"depth": 34}, {"consistency_weight": -1.0}, {"augmentation": "none"}):
        with pytest.raises(ValidationError):
            EACOptions(**wrong)


def test_the_second_half_is_the_erased_first_half_mirrored():
    torch.manual_seed(0)
    faces_of, stub = batch(32), Stub(64)
    terms = objective(augmentation="plain").terms(stub, faces_of)
    x, mirrored = stub.given.chunk(2)
    assert torch.equal(mirrored, x.flip(-1))
    erased = (x != see(faces_of.images, faces_of.high)).flatten(1).any(1)
    assert 8 <= int(erased.sum()) <= 24  # half of them, give or take
    assert torch.equal(terms.logits, stub.logits[:32])
    assert torch.equal(terms.labels, faces_of.labels)


@pytest.mark.parametrize("weight, smoothing", [(5.0, 0.0), (0.5, 0.1)])
def test_losses_are_those_of_plain_loops(weight, smoothing):
    stub, faces_of, side, count = Stub(8), batch(4), 3, 4
    terms = objective(smoothing, consistency_weight=weight).terms(stub, faces_of)
    ce, squares = 0.0, []
    for n in range(count):
        logs = stub.logits[n].detach().log_softmax(0).tolist()
        target = [smoothing / CLASSES] * CLASSES
        target[int(faces_of.labels[n])] += 1 - smoothing
        ce -= sum(t * v for t, v in zip(target, logs, strict=True)) / count
        for k, y, x in itertools.product(range(CLASSES), range(side), range(side)):
            there = stub.maps[count + n, k, y, side - 1 - x]
            squares.append(float((stub.maps[n, k, y, x] - there).detach() ** 2))
    consistency = sum(squares) / len(squares)
    assert float(terms.named["ce"].detach()) == pytest.approx(ce, rel=1e-5)
    assert float(terms.named["consistency"].detach()) == pytest.approx(consistency, rel=1e-5)
    assert float(terms.loss.detach()) == pytest.approx(ce + weight * consistency, rel=1e-5)
    assert terms.named.keys() == {"ce", "consistency"}


def test_consistency_is_the_authors_grid_sampling():
    stub = Stub(4, side=7)
    terms = objective().terms(stub, batch(2))
    place = torch.linspace(-1, 1, 7)
    grid = torch.stack([-place.expand(7, 7), place[:, None].expand(7, 7)], -1).expand(2, -1, -1, -1)
    back = F.grid_sample(stub.maps[2:], grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(terms.named["consistency"], F.mse_loss(stub.maps[:2], back))


def test_losses_of_a_half_precision_network_are_in_float32():
    stub = Stub(8)
    stub.logits, stub.maps = stub.logits.detach().bfloat16(), stub.maps.detach().bfloat16()
    terms = objective().terms(stub, batch(4))
    assert {v.dtype for v in (terms.loss, *terms.named.values())} == {torch.float32}


def test_cross_entropy_reaches_the_original_alone_and_consistency_both():
    stub = Stub(8)
    objective().terms(stub, batch(4)).loss.backward()
    original, mirrored = stub.logits.grad.chunk(2)
    assert original.abs().sum(1).min() > 0 and mirrored.abs().max() == 0
    assert stub.maps.grad.abs().flatten(1).amax(1).min() > 0


def test_a_network_that_does_not_tell_left_from_right_is_consistent():
    model = lively(network())
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
                module.stride = (module.stride[0], 1)  # a stride begins at the left
        model.stem[3] = nn.Identity()
        terms = objective().terms(model, batch(2, 16))
        assert terms.named["consistency"] < 1e-8
        torch.manual_seed(1)
        nn.init.normal_(model.stem[0].weight, std=0.05)
        assert objective().terms(model, batch(2, 16)).named["consistency"] > 1e-6


def test_noise_has_variance_30_on_half_of_the_faces():
    torch.manual_seed(0)
    x = faces(400, 16) / 2  # too far from black and white to be clipped
    added = (add_noise(x) - x).flatten(1)
    noisy = added.abs().amax(1) > 0
    assert 0.4 < float(noisy.float().mean()) < 0.6
    levels = added[noisy] * 127.5
    assert float(levels.var()) == pytest.approx(30, rel=0.02)
    assert abs(float(levels.mean())) < 0.1
    assert add_noise(torch.ones(50, 3, 16, 16)).max() == 1


def test_noise_is_the_authors_augmentation_and_plain_erases_alone():
    faces_of = batch(64)
    x = see(faces_of.images, faces_of.high)
    shares = {}
    for augmentation in ("authors", "plain"):
        torch.manual_seed(0)
        changed = objective(augmentation=augmentation).faces(faces_of) != x
        shares[augmentation] = changed.flatten(1).float().mean(1)  # of a face's pixels
    # an erased rectangle covers a quarter at most, noise almost everything
    assert shares["plain"].max() < 0.3
    assert 16 <= int((shares["authors"] > 0.9).sum()) <= 48
    for share in shares.values():
        assert int(((share > 0) & (share < 0.3)).sum()) >= 8


def test_a_seed_gives_the_same_step_again():
    model, losses = network(), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        losses.append(float(objective().terms(model, batch(4)).loss.detach()))
    assert losses[0] == losses[1] != losses[2]


def test_training_lowers_the_cross_entropy_and_its_weight_keeps_maps_consistent():
    last = {}
    for weight in (5.0, 0.0):
        torch.manual_seed(0)
        model = network()
        chosen = objective(augmentation="plain", consistency_weight=weight)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        history = []
        for _ in range(10):
            terms = chosen.terms(model, batch(8))
            optimizer.zero_grad()
            terms.loss.backward()
            optimizer.step()
            history.append({name: float(value.detach()) for name, value in terms.named.items()})
        assert history[-1]["ce"] < 0.6 * history[0]["ce"]
        last[weight] = history[-1]["consistency"]
    assert last[5.0] < last[0.0] / 2


def test_a_face_is_passed_twice_and_a_teacher_is_refused():
    assert EACObjective.views == 2
    cfg = tiny.config(method="eac")
    with pytest.raises(InputError, match="kd_weight"):
        EACObjective(cfg, EACOptions(), CLASSES, see, teacher=Stub(2))
