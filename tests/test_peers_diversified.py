"""Heidari and Iosifidis' method: size, what is diversified, determinants, loss, warp."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from gmelib.batches import Batch
from gmelib.peers import diversified
from gmelib.peers.diversified import (
    Diversified,
    DiversifiedObjective,
    DiversifiedOptions,
    build_diversified,
    determinant,
    similarity,
)
from gmelib.peers.ma_blocks import MultiScaleBlock
from gmelib.peers.ma_net import MANet

CLASSES = 4
TERMS = ("spatial", "channel", "branches")


def small(size=32, **options):
    torch.manual_seed(0)
    cfg = SimpleNamespace(input_size=size)
    return build_diversified(cfg, DiversifiedOptions(width=8, **options), CLASSES)


def drawn(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def see(images, high):
    return images.float() / 127.5 - 1


def batch(size=32, count=6):
    images = torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(2))
    everywhere = torch.ones(count, dtype=torch.bool)
    return Batch(images.to(torch.uint8), torch.arange(count) % CLASSES, everywhere, everywhere)


def step(model, **options):
    options = DiversifiedOptions(**({"augmentation": "plain"} | options))
    return DiversifiedObjective(tiny.config(), options, CLASSES, see).terms(model, batch())


# -- network --------------------------------------------------------------------------------------


def test_size_is_that_of_table_1():
    with torch.device("meta"):
        model = Diversified(classes=7).eval()
    assert sum(p.numel() for p in model.parameters()) == 50_547_214
    thop = pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    face = torch.zeros(1, 3, 224, 224, device="meta")
    macs, parameters = thop.profile(model, (face,), verbose=False)
    assert f"{parameters / 1e6:.3f}M / {macs / 1e9:.3f}G" == "50.547M / 3.652G"


def test_both_chains_run_forward_where_ma_nets_second_runs_back():
    def chains(model):
        return {m.directions for m in model.modules() if isinstance(m, MultiScaleBlock)}

    assert chains(small()) == {("forward", "forward")}
    assert chains(Diversified(classes=2, input_size=32, width=8)) == {("forward", "forward")}
    assert chains(MANet(classes=2, input_size=32, width=8)) == {("forward", "backward")}


@pytest.mark.parametrize("size, side", [(32, 1), (48, 2), (64, 2)])
def test_diversified_features_are_means_of_the_quadrants_maps(size, side):
    model = small(size).eval()
    x = drawn(3, 3, size, size)
    output = model(x)
    maps, local_vector, global_vector = model.features(x)
    assert {name: tuple(output.extras[name].shape) for name in TERMS} == {
        "spatial": (3, 4, side, side),
        "channel": (3, 4, 64),
        "branches": (3, 2, 64),
    }
    for i, quadrant in enumerate(maps):
        torch.testing.assert_close(output.extras["spatial"][:, i], quadrant.sum(1) / 64)
        channel = quadrant.flatten(2).sum(2) / side**2
        torch.testing.assert_close(output.extras["channel"][:, i], channel)
    torch.testing.assert_close(output.extras["branches"][:, 0], local_vector)
    torch.testing.assert_close(output.extras["branches"][:, 1], global_vector)
    torch.testing.assert_close(
        output.logits, 0.6 * output.extras["local"] + 0.4 * output.extras["global"]
    )


def test_what_is_diversified_is_single_precision_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        extras = small()(drawn(2, 3, 32, 32)).extras
    assert extras["local"].dtype == torch.bfloat16
    assert {extras[name].dtype for name in TERMS} == {torch.float32}


def test_an_input_without_quadrants_is_refused():
    cfg = SimpleNamespace(input_size=56)
    assert "input_size = 56" in tiny.refusal(build_diversified, cfg, DiversifiedOptions(), 7)


@pytest.mark.parametrize("kind, white", [("imagenet", (1 - 0.485) / 0.229), ("unit", 1.0)])
def test_faces_are_normalised_as_the_option_says(kind, white):
    model, kept = small(normalize=kind), []
    model.stem.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    model(torch.ones(2, 3, 32, 32))
    assert kept[0][0, 0, 0, 0].item() == pytest.approx(white)


def test_only_a_narrower_network_is_reduced():
    assert not DiversifiedOptions(kernel_constant=0.1).is_reduced
    assert DiversifiedOptions(width=8).is_reduced


# -- determinants ---------------------------------------------------------------------------------


def plain_similarity(features, constant):
    faces, branches = features.shape[:2]
    matrix = np.zeros((branches, branches))
    for i, j in permutations(range(branches), 2):
        for face in range(faces):
            squared = ((features[face, i] - features[face, j]) ** 2).sum()
            matrix[i, j] += np.exp(-constant * squared) / faces
    return matrix


@pytest.mark.parametrize("shape", [(5, 4, 2, 2), (5, 4, 6), (3, 2, 6)])
@pytest.mark.parametrize("constant", [10.0, 0.3])
def test_similarity_is_its_plain_loops(shape, constant):
    features = 0.3 * drawn(*shape)
    expected = plain_similarity(features.double().numpy(), constant)
    np.testing.assert_allclose(similarity(features, constant).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_determinant_and_its_gradient_are_torchs(size):
    matrix = drawn(size, size, seed=size, dtype=torch.float64).requires_grad_()
    own, theirs = determinant(matrix), torch.linalg.det(matrix)
    torch.testing.assert_close(own, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(own, matrix), torch.autograd.grad(theirs, matrix)
    )


def test_determinant_is_greatest_for_quadrants_that_are_alike_in_pairs():
    left, right = drawn(2, 1, 3).expand(2, 2, 3), 9 + drawn(2, 1, 3, seed=2).expand(2, 2, 3)
    in_pairs = determinant(similarity(torch.cat([left, right], 1), 10.0))
    all_alike = determinant(similarity(left[:, :1].expand(2, 4, 3), 10.0))
    all_apart = determinant(similarity(9.0 * torch.arange(4.0).view(1, 4, 1), 10.0))
    assert (in_pairs.item(), all_alike.item(), all_apart.item()) == (1, -3, 0)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_gradient_of_a_singular_determinant_is_the_cofactors(rank):
    factors = drawn(4, rank, dtype=torch.float64), drawn(rank, 4, seed=2, dtype=torch.float64)
    matrix = (factors[0] @ factors[1]).requires_grad_()
    (gradient,) = torch.autograd.grad(determinant(matrix), matrix)
    for i in range(4):
        for j in range(4):
            rows, columns = [k for k in range(4) if k != i], [k for k in range(4) if k != j]
            minor = matrix.detach().numpy()[np.ix_(rows, columns)]
            cofactor = (-1) ** (i + j) * np.linalg.det(minor)
            assert gradient[i, j].item() == pytest.approx(cofactor, abs=1e-12)


# -- loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [10.0, 0.05])
def test_loss_is_cross_entropy_minus_three_weighted_determinants(constant):
    weights = {"spatial": 0.5, "channel": 2.0, "branches": 3.0}
    model = small()
    terms = step(
        model,
        kernel_constant=constant,
        spatial_weight=weights["spatial"],
        channel_weight=weights["channel"],
        branch_weight=weights["branches"],
    )
    output = model(see(batch().images, None))
    ce = 0.6 * F.cross_entropy(output.extras["local"], batch().labels)
    expected = (ce + 0.4 * F.cross_entropy(output.extras["global"], batch().labels)).item()
    for name, weight in weights.items():
        features = output.extras[name].detach().double().numpy()
        value = -np.linalg.det(plain_similarity(features, constant))
        assert terms.named[f"diversity_{name}"].item() == pytest.approx(value, rel=1e-3, abs=1e-7)
        expected += weight * value
    assert terms.loss.item() == pytest.approx(expected, rel=1e-5)
    assert {*terms.named} == {"ce", "ce_local", "ce_global"} | {f"diversity_{n}" for n in TERMS}


def test_defaults_are_the_authors():
    options = DiversifiedOptions()
    assert options.kernel_constant == 10 and options.local_weight == 0.6
    assert options.spatial_weight == options.channel_weight == options.branch_weight == 1
    assert (options.normalize, options.augmentation) == ("imagenet", "authors")


@pytest.mark.parametrize(
    "name, reached",
    [
        ("spatial", {"trunk", "quadrant_branches"}),
        ("channel", {"trunk", "quadrant_branches"}),
        ("branches", {"trunk", "quadrant_branches", "global_branch"}),
    ],
)
def test_a_determinant_reaches_its_own_branches_alone(name, reached):
    model = small()
    step(model, kernel_constant=0.05).named[f"diversity_{name}"].backward()
    parts = ("trunk", "quadrant_branches", "global_branch", "local_head", "global_head")
    moved = {
        part
        for part in parts
        if any(p.grad is not None and p.grad.any() for p in getattr(model, part).parameters())
    }
    assert moved == reached


def test_similarities_that_underflow_leave_training_finite():
    model = small()

    def far(x):
        output = model(x)
        return output._replace(extras=output.extras | {"branches": 100 * output.extras["branches"]})

    terms = step(far)
    assert terms.named["diversity_branches"] == 0  # exp(-10 x a large square) in float32
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert step(far, kernel_constant=1e-7).named["diversity_branches"] > 0.1


# -- augmentation ---------------------------------------------------------------------------------


def test_the_fifth_of_the_faces_is_warped():
    x = drawn(2000, 1, 8, 8).clamp(-1, 1)
    torch.manual_seed(0)
    warped = diversified.random_warp(x)
    moved = (warped != x).flatten(1).any(1)
    assert moved.float().mean().item() == pytest.approx(0.2, abs=0.03)
    torch.manual_seed(0)
    assert torch.equal(warped, diversified.random_warp(x))


def test_shift_pads_with_black_and_reaches_a_seventh_of_the_side(monkeypatch):
    monkeypatch.setattr(diversified, "WARP_SHARE", 1.0)
    monkeypatch.setattr(diversified, "ROTATION", 0.0)
    x = drawn(100, 1, 28, 28).clamp(-1, 0.9)
    torch.manual_seed(0)
    warped = diversified.random_warp(x)
    padded = F.pad(x, (4, 4, 4, 4), value=-1)
    seen = set()
    for before, after in zip(padded, warped, strict=True):
        fits = [
            (i, j)
            for i in range(9)
            for j in range(9)
            if torch.allclose(before[:, i : i + 28, j : j + 28], after, atol=1e-6)
        ]
        assert len(fits) == 1
        seen |= {*fits}
    assert {i for i, _ in seen} == {j for _, j in seen} == {*range(9)}


@pytest.mark.parametrize("degrees", [-20.0, 7.0])
def test_rotation_is_torchvisions(degrees):
    x = drawn(1, 3, 33, 33).clamp(-1, 0.9)
    angle, zero = torch.tensor([degrees]).deg2rad(), torch.zeros(1)
    turned = diversified.warp(x, (angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero))
    theirs = rotate(x, degrees, InterpolationMode.NEAREST, fill=-1)
    # a sample half-way between two pixels may take either
    assert ((turned - theirs).abs() < 1e-5).float().mean() > 0.99 and (turned == -1).any()


def test_authors_augmentation_warps_and_erases_and_plain_does_neither():
    x = torch.zeros(200, 3, 32, 32)
    options = {name: DiversifiedOptions(augmentation=name) for name in ("authors", "plain")}
    torch.manual_seed(0)
    augmented = {
        name: DiversifiedObjective(tiny.config(), o, CLASSES, see).augment(x)
        for name, o in options.items()
    }
    assert torch.equal(augmented["plain"], x)
    erased = (augmented["authors"][:, 0] - (2 * 0.485 - 1)).abs() < 1e-6
    shares = erased.float().mean((1, 2))
    assert (shares > 0).float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert 0.015 < shares[shares > 0].min() and shares.max() < 0.27
    assert (augmented["authors"] == -1).any()  # black behind a turned face
