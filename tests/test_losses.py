"""The distillation loss at its fixed points and against plain loops of eqs 9-13."""

import numpy as np
import plain_loops
import pytest
import tiny
import torch
from torch.nn import functional as F

from gmelib.config import InputError
from gmelib.losses import attention_similarity_loss, cosine_distance, distillation_loss
from gmelib.methods import build_model
from gmelib.model import Output

SHAPES = (((4,), (1, 6, 6)), ((8,), (1, 3, 3)), ((16,), (1, 2, 2)))  # of three blocks


def output(seed, faces=3, classes=7):
    generator = torch.Generator().manual_seed(seed)
    channel, spatial = (
        tuple(torch.randn(faces, *shape[kind], generator=generator) for shape in SHAPES)
        for kind in (0, 1)
    )
    return Output(torch.randn(faces, classes, generator=generator), channel, spatial)


def split_output(maps, first):
    """An output whose maps are zero but for one half of their entries."""

    def halved(m):
        flat = m.flatten(1).clone()
        middle = flat.shape[1] // 2
        flat[:, middle:] = 0 if first else flat[:, middle:]
        flat[:, :middle] = flat[:, :middle] if first else 0
        return flat.reshape(m.shape)

    return Output(
        maps.logits, tuple(map(halved, maps.channel_maps)), tuple(map(halved, maps.spatial_maps))
    )


def test_equal_maps_cost_nothing():
    terms = attention_similarity_loss(student=output(0), teacher=output(0))
    assert terms["kd"].item() == pytest.approx(0, abs=1e-6)
    assert terms["similarity_channel"].item() == pytest.approx(1, abs=1e-6)
    assert terms["similarity_spatial"].item() == pytest.approx(1, abs=1e-6)


def test_the_length_of_a_map_does_not_matter():
    short = output(0)
    long = Output(
        short.logits,
        tuple(7 * m for m in short.channel_maps),
        tuple(0.1 * m for m in short.spatial_maps),
    )
    assert attention_similarity_loss(student=short, teacher=long)["kd"].abs() < 1e-6


@pytest.mark.parametrize("reduction, expected", [("sum", 3.0), ("mean", 1.0)])
def test_orthogonal_maps_cost_1_per_block(reduction, expected):
    student, teacher = split_output(output(0), True), split_output(output(1), False)
    terms = attention_similarity_loss(student=student, teacher=teacher, reduction=reduction)
    assert terms["kd"].item() == pytest.approx(expected)
    assert terms["similarity_channel"].item() == pytest.approx(0, abs=1e-7)


def test_opposite_maps_cost_2_per_block():
    one = output(0)
    other = Output(
        one.logits, tuple(-m for m in one.channel_maps), tuple(-m for m in one.spatial_maps)
    )
    assert attention_similarity_loss(student=one, teacher=other)["kd"].item() == pytest.approx(6)


@pytest.mark.parametrize("maps", ["logit", "sigmoid"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_kd_is_equations_9_to_11(reduction, maps):
    student, teacher = output(0), output(1)
    terms = attention_similarity_loss(
        student=student, teacher=teacher, reduction=reduction, maps=maps
    )
    function = plain_loops.sigmoid if maps == "sigmoid" else np.asarray
    plain = [
        [[function(m.double().numpy()) for m in kind] for kind in one[1:3]]
        for one in (student, teacher)
    ]
    assert terms["kd"].item() == pytest.approx(plain_loops.kd_loss(*plain, reduction), rel=1e-5)


def test_the_similarities_are_means_over_blocks_and_faces():
    student, teacher = output(0), output(1)
    terms = attention_similarity_loss(student=student, teacher=teacher)
    expected = [
        plain_loops.cosine(t[n].numpy(), s[n].numpy())
        for t, s in zip(teacher.spatial_maps, student.spatial_maps, strict=True)
        for n in range(3)
    ]
    assert terms["similarity_spatial"].item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_map_of_zeros_is_no_nan():
    zeros = Output(
        output(0).logits,
        tuple(torch.zeros_like(m, requires_grad=True) for m in output(0).channel_maps),
        tuple(torch.zeros_like(m, requires_grad=True) for m in output(0).spatial_maps),
    )
    kd = attention_similarity_loss(student=zeros, teacher=output(1))["kd"]
    kd.backward()
    assert kd.item() == pytest.approx(3)
    assert all(m.grad.isfinite().all() for m in zeros.channel_maps)


def test_half_precision_maps_are_compared_in_single():
    a, b = torch.randn(2, 64), torch.randn(2, 64)
    distance = cosine_distance(a.bfloat16(), b.bfloat16())
    assert distance.dtype == torch.float32
    assert torch.equal(distance, cosine_distance(a.bfloat16().float(), b.bfloat16().float()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_equation_12_with_smoothed_targets(smoothing):
    student, labels = output(0), torch.tensor([2, 0, 6])
    terms = distillation_loss(student=student, labels=labels, label_smoothing=smoothing)
    logits = student.logits.double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = 0.0
    for i in range(3):
        for j in range(7):
            y = (1 - smoothing) * (labels[i] == j).item() + smoothing / 7
            expected -= y * np.log(p[i, j]) / 3
    assert set(terms) == {"loss", "ce"}
    assert terms["ce"].item() == terms["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kd_weight, reduction", [(5.0, "sum"), (0.5, "mean")])
def test_the_total_is_equation_13(kd_weight, reduction):
    student, teacher, labels = output(0), output(1), torch.tensor([2, 0, 6])
    terms = distillation_loss(
        student=student,
        teacher=teacher,
        labels=labels,
        kd_weight=kd_weight,
        kd_reduction=reduction,
    )
    kd = attention_similarity_loss(student=student, teacher=teacher, reduction=reduction)["kd"]
    ce = F.cross_entropy(student.logits, labels)
    assert set(terms) == {"loss", "ce", "kd", "similarity_channel", "similarity_spatial"}
    assert torch.equal(terms["kd"], kd)
    torch.testing.assert_close(terms["loss"], ce + kd_weight * kd)


def test_distillation_turns_the_students_maps_towards_the_teachers():
    teacher = output(1)
    maps = [m.clone().requires_grad_() for m in output(0).channel_maps]
    before = None
    for _ in range(60):
        student = Output(teacher.logits, tuple(maps), teacher.spatial_maps)
        kd = attention_similarity_loss(student=student, teacher=teacher)["kd"]
        before = kd.item() if before is None else before
        gradients = torch.autograd.grad(kd, maps)
        maps = [
            (m - 5 * g).detach().requires_grad_() for m, g in zip(maps, gradients, strict=True)
        ]
    assert kd.item() < before / 10


@pytest.mark.parametrize(
    "values, student_maps, teacher_maps",
    [
        ({"attention": "none"}, 0, 4),
        ({"blocks": (1, 2, 1, 1)}, 5, 4),
        ({"width": 8}, 4, 4),
        ({"input_size": 48}, 4, 4),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(values, student_maps, teacher_maps):
    student, teacher = build_model(tiny.config(**values), 4), build_model(tiny.config(), 4)
    with torch.inference_mode():
        s = student.eval()(torch.zeros(1, 3, *[values.get("input_size", 32)] * 2))
        t = teacher.eval()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError) as error:
        attention_similarity_loss(student=s, teacher=t)
    assert f"{student_maps} of the student and {teacher_maps} of the teacher" in str(error.value)
    assert "\n" not in str(error.value)


def test_two_networks_without_maps_are_refused():
    bare = Output(torch.zeros(2, 7))
    with pytest.raises(InputError, match="non-empty sets of maps, got 0"):
        distillation_loss(student=bare, teacher=bare, labels=torch.tensor([0, 1]))
