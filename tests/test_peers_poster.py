"""POSTER: size and cost as published, options, the whole network, and its objective."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from gmelib.batches import Batch
from gmelib.evaluate import complexity
from gmelib.model import Output
from gmelib.peers.erasing import IMAGENET_MEAN
from gmelib.peers.normalize import Normalize
from gmelib.peers.poster import (
    DEPTHS,
    POSTER,
    POSTERObjective,
    POSTEROptions,
    build_poster,
)

CLASSES = 4
SMALL = {"classes": CLASSES, "input_size": 32, "depth": 2, "width": 8,
         "trunk_blocks": (1, 1, 1), "landmark_blocks": (1, 0, 1)}  # fmt: skip


def network(seed=0, **values):
    torch.manual_seed(seed)
    return POSTER(**SMALL | values)


def random_faces(count=4, side=32, seed=1):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def meta(input_size=224, classes=7, **options):
    """What build_poster makes, without memory for its weights: for counting."""
    with torch.device("meta"):
        return build_poster(
            SimpleNamespace(input_size=input_size), POSTEROptions(**options), classes
        )


def count(module):
    return sum(p.numel() for p in module.parameters())


# -- size and cost --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authors():
    return meta()


def test_the_authors_networks_have_their_parameters(authors):
    assert count(meta(size="small")) == 52_229_135
    assert count(meta(size="base")) == 62_039_767
    assert count(authors) == 71_850_399


def test_without_the_landmark_stream_they_are_what_the_authors_log_prints(authors):
    assert round((count(authors) - count(authors.landmarks)) / 1e6, 3) == 70.843


def test_thop_counts_table_1(authors):
    pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    costs = complexity(authors, 224)
    assert round(costs["parameters_thop"] / 1e6, 3) == 58.977
    assert round(costs["macs_thop"] / 1e9, 4) == 7.8951


def test_the_network_of_a_cpu_is_small():
    costs = complexity(meta(input_size=48, size="small", width=24, resize=0), 48)
    assert 0.15e9 < costs["macs"] < 0.3e9
    assert costs["parameters"] < 6e6


# -- options --------------------------------------------------------------------------------------


def test_inputs_are_resized_unless_resize_is_0():
    sides = [meta(224, width=8, size="small", resize=resize).input_size for resize in (112, 0, 64)]
    assert sides == [112, 224, 64]
    assert meta(48, width=8, size="small").input_size == 112  # the default


def test_options_reach_the_network():
    blocks = {"trunk_blocks": (1, 2, 3), "landmark_blocks": (1, 0, 1)}
    shared = {"classes": 5, "levels": 2, "width": 8, **blocks}
    model = meta(48, size="small", resize=32, freeze_landmarks=True, **shared)
    with torch.device("meta"):
        same = POSTER(input_size=32, depth=DEPTHS["small"], **shared)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (model, same)]
    assert shapes[0] == shapes[1]
    assert not any(p.requires_grad for p in model.landmarks.parameters())


@pytest.mark.parametrize("side", [16, 40, 100])
def test_a_side_that_does_not_fit_is_named(side):
    assert f"parameter input_size = {side}:" in tiny.refusal(network, input_size=side)


@pytest.mark.parametrize("name, blocks", [("trunk_blocks", (1, 0, 1)),
                                          ("landmark_blocks", (1, -1, 1))])  # fmt: skip
def test_a_stage_without_blocks_is_named(name, blocks):
    assert f"{name} = {blocks}" in tiny.refusal(network, **{name: blocks})


# -- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side, levels", [(32, 3), (48, 1), (64, 2)])
def test_other_sizes_and_levels_train(side, levels):
    model = network(input_size=side, levels=levels).train()
    output = model(random_faces(side=side))
    assert output.logits.shape == (4, CLASSES)
    F.cross_entropy(output.logits, torch.arange(4)).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    # a parameter that asks for a gradient and gets none stops DistributedDataParallel
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.isfinite().all()] == []
    # of vectors, BatchNorm takes some out again; a matrix or kernel always matters
    assert [n for n, p in trained.items() if p.ndim > 1 and not p.grad.any()] == []
    dead = ("image.output_layer.", "landmarks.landmarks.", "pyramid.class_token")
    assert set(trained) == {n for n, _ in model.named_parameters() if not n.startswith(dead)}


def test_frozen_landmarks_take_no_gradient_and_still_adapt_their_statistics():
    model = network(freeze_landmarks=True).train()
    before = {n: t.clone() for n, t in model.landmarks.named_buffers() if t.is_floating_point()}
    model(random_faces()).logits.sum().backward()
    assert all(p.grad is None for p in model.landmarks.parameters())
    assert model.image.stem[0].weight.grad.any()
    after = dict(model.landmarks.named_buffers())
    assert [n for n, t in before.items() if torch.equal(t, after[n])] == []


def test_the_forward_pass_step_by_step():
    model = tiny.shake(network())
    model.normalize = Normalize("imagenet")  # its statistics are buffers too
    x = random_faces()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406],
                                                          [0.229, 0.224, 0.225]))  # fmt: skip
    normal = ((x + 1) / 2 - mean) / std
    with torch.no_grad():
        flat = model.image(normal).contiguous().view(4, -1)  # 32 channels of 4 x 4
        image = torch.stack([flat[:, i * 128 : (i + 1) * 128] for i in range(4)], 1)
        places = model.landmarks(normal)  # (4, 64, 2, 2)
        landmarks = torch.stack([places[:, :, i // 2, i % 2] for i in range(4)], 1)
        fused = model.pyramid(model.embed(image), landmarks)
        first, _, second, _ = model.gate.gate
        hidden = (fused @ first.weight.T + first.bias).clamp(min=0)
        gate = 1 / (1 + torch.exp(-(hidden @ second.weight.T + second.bias)))
        expected = (fused * gate) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(x).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_order_of_memory_does_not_matter():
    model, x = network().eval(), random_faces()
    torch.testing.assert_close(
        model.to(memory_format=torch.channels_last)(
            x.contiguous(memory_format=torch.channels_last)
        ).logits,
        network().eval()(x).logits,
    )


def test_larger_faces_are_resized_nearest():
    model, x = network().eval(), random_faces(side=64)
    assert torch.equal(model(x).logits, model(x[:, :, ::2, ::2]).logits)


def test_gradcam_reads_the_image_streams_last_map():
    model, maps = network().eval(), []
    model.gradcam_layer.register_forward_hook(lambda *args: maps.append(args[2]))
    model(random_faces())
    assert [m.shape for m in maps] == [(4, 32, 4, 4)]


# -- the objective --------------------------------------------------------------------------------


def batch_of(count=4, seed=2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    every = torch.ones(count, dtype=torch.bool)
    return Batch(images, torch.arange(count) % CLASSES, every, every)


def see(images, high):
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)


def objective(sam_rho=0.0, **options):
    cfg = SimpleNamespace(sam_rho=sam_rho, kd_weight=5.0, method="poster")
    return POSTERObjective(cfg, POSTEROptions(**options), CLASSES, see)


class Watch:
    """Stands for the network: keeps what it is given."""

    def __init__(self, logits=None):
        self.given, self.logits = [], logits

    def __call__(self, x):
        self.given.append(x)
        return Output(torch.zeros(len(x), CLASSES) if self.logits is None else self.logits)


@pytest.mark.parametrize("smoothing, weight", [(0.2, 2.0), (0.1, 0.5)])
def test_the_loss_is_cross_entropy_and_twice_the_smoothed_one(smoothing, weight):
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    batch = batch_of()
    settings = {"smoothing": smoothing, "smoothing_weight": weight}
    terms = objective(augmentation="plain", **settings).terms(Watch(logits), batch)
    ce, smooth = [], []
    for row, label in zip(logits.double().tolist(), batch.labels.tolist(), strict=True):
        total = math.log(sum(math.exp(v) for v in row))
        surprise = [total - v for v in row]  # -log p
        ce.append(surprise[label])
        smooth.append((1 - smoothing) * surprise[label] + smoothing * np.mean(surprise))
    assert terms.named["ce"].item() == pytest.approx(np.mean(ce), rel=1e-5)
    assert terms.named["smooth_ce"].item() == pytest.approx(np.mean(smooth), rel=1e-5)
    assert terms.loss.item() == pytest.approx(np.mean(ce) + weight * np.mean(smooth), rel=1e-5)
    assert torch.equal(terms.logits, logits) and torch.equal(terms.labels, batch.labels)


def test_losses_are_taken_in_full_precision():
    logits = torch.randn(4, CLASSES).bfloat16()
    assert objective().terms(Watch(logits), batch_of()).loss.dtype == torch.float32


def test_the_loss_trains_the_network():
    torch.manual_seed(0)
    model, batch = network().train(), batch_of(8)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    task, losses = objective(augmentation="plain"), []
    for _ in range(10):
        optimizer.zero_grad()
        terms = task.terms(model, batch)
        terms.loss.backward()
        optimizer.step()
        losses.append(terms.loss.item())
    assert losses[-1] < losses[0] / 2


def test_a_teacher_is_refused():
    cfg = SimpleNamespace(sam_rho=0.0, kd_weight=5.0, method="poster")
    message = tiny.refusal(POSTERObjective, cfg, POSTEROptions(), CLASSES, see, teacher=Watch())
    assert "kd_weight" in message


# -- augmentation ---------------------------------------------------------------------------------


def test_plain_faces_reach_the_network_as_they_are():
    watch, batch = Watch(), batch_of()
    objective(augmentation="plain").terms(watch, batch)
    assert torch.equal(watch.given[0], see(batch.images, batch.high))


def test_half_of_the_faces_lose_a_tenth_at_most():
    torch.manual_seed(0)
    every = torch.ones(500, dtype=torch.bool)
    images = torch.full((500, 1, 32, 32), 255, dtype=torch.uint8)
    watch = Watch()
    objective().terms(watch, Batch(images, torch.zeros(500, dtype=torch.int64), every, every))
    mean = torch.tensor(IMAGENET_MEAN)[None, :, None, None]
    share = (watch.given[0] == mean).all(1).double().mean((1, 2))
    erased = share[share > 0]
    assert len(erased) / 500 == pytest.approx(0.5, abs=0.08)
    assert 0.015 < erased.min() and erased.max() < 0.11  # sides are rounded to pixels


def test_augmentation_repeats_with_the_seed_and_not_without():
    task, watch, batch = objective(), Watch(), batch_of(16)
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        task.terms(watch, batch)
    first, again, other = watch.given
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_both_passes_of_a_sharpness_aware_step_see_the_same_faces():
    task, watch, batch = objective(sam_rho=0.05), Watch(), batch_of(16)
    for _ in range(3):
        task.terms(watch, batch)
    task.terms(watch, batch_of(16, seed=3))
    first, second, third, next_step = watch.given
    assert torch.equal(first, second)
    assert not torch.equal(first, third)  # another step on the same faces
    assert not torch.equal(third, next_step)
