"""Faces on their way to the network: augmentation, order, views, and batched prediction."""

import numpy as np
import pytest
import tiny
import torch

from gmelib.batches import (
    augment,
    epoch_steps,
    make_view,
    plan_epoch,
    predict_logits,
    train_indices,
)
from gmelib.degrade import high_resolution_view, low_resolution_view
from gmelib.train import Trainer, initial_model


def augmented(image, flip, down, right):
    """Plain loop over one face (C, H, W): mirror, then move; edges repeated."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                source_y = min(max(y - down, 0), height - 1)
                source_x = min(max(x - right, 0), width - 1)
                out[c, y, x] = image[c, source_y, width - 1 - source_x if flip else source_x]
    return out


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_augmentation_mirrors_and_moves_every_face_by_itself(shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, *shape), dtype=np.uint8)
    flips = rng.random(9) < 0.5
    shifts = rng.integers(-9, 10, (9, 2))  # also past the edge
    shifts[:2] = [[0, 0], [1, -2]]
    result = augment(torch.from_numpy(images), torch.from_numpy(flips), torch.from_numpy(shifts))
    assert result.dtype == torch.uint8
    for n in range(9):
        expected = augmented(images[n], flips[n], *shifts[n])
        np.testing.assert_array_equal(result[n].numpy(), expected)


def test_no_flip_and_no_shift_leave_the_faces_as_they_are():
    images = tiny.faces().images[:5]
    still = torch.zeros(5, dtype=torch.bool), torch.zeros(5, 2, dtype=torch.int64)
    assert torch.equal(augment(images, *still), images)


def test_teacher_and_student_see_one_augmented_face_in_two_resolutions(tmp_path):
    run = tiny.run_of(tmp_path, flip=True, shift=4)
    faces, cfg = tiny.faces(), run.cfg
    student, teacher = initial_model(cfg, 4), initial_model(cfg.replace(seed=1), 4)
    seen = {"student": [], "teacher": []}
    student.register_forward_pre_hook(lambda _, x: seen["student"].append(x[0].clone()))
    teacher.register_forward_pre_hook(lambda _, x: seen["teacher"].append(x[0].clone()))
    trainer = Trainer(run, student, faces, teacher)
    trainer.epoch = 1
    trainer.train_epoch(lambda _: None)

    steps = steps_of(cfg, train_indices(cfg, faces), 1)
    assert len(seen["student"]) == len(seen["teacher"]) == len(steps) == 4
    for number, (index, _, _, flips, shifts) in enumerate(steps):
        native = np.stack([augmented(faces.images[i].numpy(), f, *s) for i, f, s in zip(
            index, flips.tolist(), shifts.tolist(), strict=True)])  # fmt: skip
        native = torch.from_numpy(native)
        high = high_resolution_view(native, 32)
        low = low_resolution_view(native, 32, 8, kernel=cfg.kernel, blur_sigma=cfg.blur_sigma)
        assert torch.equal(seen["teacher"][number], high)
        assert torch.equal(seen["student"][number], low)
        assert not torch.allclose(high, low)


def test_a_teacher_in_training_sees_high_resolution(tmp_path):
    run, faces = tiny.run_of(tmp_path, "teacher"), tiny.faces()
    images = faces.images[:3]
    assert torch.equal(make_view(run.cfg, "teacher")(images), high_resolution_view(images, 32))
    trainer = Trainer(run, initial_model(run.cfg, 4), faces, None)
    assert torch.equal(trainer.view(images), high_resolution_view(images, 32))


# -- order ----------------------------------------------------------------------------------------


def steps_of(cfg, indices, epoch):
    return epoch_steps(cfg, epoch, lambda random: plan_epoch(indices, cfg.train_on, random))


def order(cfg, epoch, count=21):
    return [t for step in steps_of(cfg, torch.arange(100, 100 + count), epoch) for t in step]


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    cfg = tiny.config(shift=3)
    one = order(cfg, 5)
    torch.manual_seed(123)
    torch.rand(7)
    assert all(map(torch.equal, one, order(cfg, 5)))
    assert not torch.equal(one[0], order(cfg, 6)[0])
    assert not torch.equal(one[0], order(cfg.replace(seed=1), 5)[0])


@pytest.mark.parametrize("count, used", [(24, 24), (21, 21), (17, 16)])
def test_every_face_comes_once_an_epoch_but_a_single_left_over_one(count, used):
    steps = steps_of(tiny.config(batch_size=8), torch.arange(100, 100 + count), 1)
    drawn = torch.cat([step.index for step in steps])
    assert len(drawn) == len(set(drawn.tolist())) == used
    assert set(drawn.tolist()) <= set(range(100, 100 + count))
    assert all(len(step.index) >= 2 for step in steps)  # BatchNorm


def test_the_face_left_over_is_another_one_in_another_epoch():
    faces = set(range(17))
    left = [
        (faces - set(torch.cat([step.index for step in steps]).tolist())).pop()
        for steps in (steps_of(tiny.config(batch_size=8), torch.arange(17), e) for e in range(8))
    ]
    assert len(set(left)) > 2


def test_half_of_the_faces_are_mirrored_and_shifts_reach_both_ends():
    cfg = tiny.config(shift=2)
    *_, flips, shifts = (
        torch.cat(parts) for parts in zip(*steps_of(cfg, torch.arange(4000), 1), strict=True)
    )
    assert 0.46 < flips.float().mean() < 0.54
    assert sorted(shifts.unique().tolist()) == [-2, -1, 0, 1, 2]
    *_, flips, shifts = steps_of(cfg.replace(flip=False, shift=0), torch.arange(8), 1)[0]
    assert not flips.any() and not shifts.any()


def test_limit_train_takes_a_fixed_part_of_the_training_faces():
    faces = tiny.faces()
    some = train_indices(tiny.config(limit_train=10), faces)
    assert len(set(some.tolist())) == 10
    assert set(some.tolist()) <= set(faces.indices("train").tolist())
    assert torch.equal(some, train_indices(tiny.config(limit_train=10, seed=5), faces))
    more = train_indices(tiny.config(limit_train=20), faces)
    assert set(some.tolist()) < set(more.tolist())
    assert len(train_indices(tiny.config(limit_train=999), faces)) == 32


# -- prediction -----------------------------------------------------------------------------------


def test_prediction_does_not_depend_on_the_batch_size():
    cfg, images = tiny.config(), tiny.faces().images[:10]
    model, view = tiny.shake(initial_model(cfg, 4)), make_view(cfg, "student")
    whole = predict_logits(model, images, view)
    parts = predict_logits(model, images, view, batch_size=3)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert whole.shape == (10, 4) and whole.dtype == torch.float32


def test_flip_averaging_is_the_mean_of_log_probabilities_and_blind_to_mirroring():
    cfg, images = tiny.config(), tiny.faces().images[:6]
    model, view = tiny.shake(initial_model(cfg, 4)), make_view(cfg, "student")
    one = predict_logits(model, images, view).log_softmax(1)
    other = predict_logits(model, images.flip(-1), view).log_softmax(1)
    averaged = predict_logits(model, images, view, flip_average=True)
    torch.testing.assert_close(averaged, (one + other) / 2)
    mirrored = predict_logits(model, images.flip(-1), view, flip_average=True)
    torch.testing.assert_close(averaged, mirrored)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_leaves_the_network_in_its_mode_and_its_buffers_alone(training):
    cfg = tiny.config()
    model = tiny.shake(initial_model(cfg, 4)).train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    predict_logits(model, tiny.faces().images[:6], make_view(cfg, "student"))
    assert model.training == training
    assert tiny.states_equal(before, dict(model.state_dict()))
