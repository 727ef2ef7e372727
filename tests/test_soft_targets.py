"""Distributions as training targets: which faces they belong to, and every method's losses."""

import numpy as np
import pytest
import tiny
import torch
from made_data import csv_lines, write
from test_ferplus import votes_for_all_classes, write_votes
from test_methods_learn import SMALL
from torch.nn import functional as F

from gmelib.batches import Batch, epoch_steps, make_batch, plan_epoch
from gmelib.data import load_faces
from gmelib.experiment import history, run_student
from gmelib.fields import METHOD_NAMES
from gmelib.losses import distillation_loss
from gmelib.model import Output
from gmelib.record import Run
from gmelib.train import Trainer, initial_model

CLASSES = len(tiny.CLASSES)


def test_every_face_of_a_step_comes_with_its_own_targets():
    faces = tiny.faces()
    train = faces.indices("train")
    step = epoch_steps(tiny.config(), 1, lambda random: plan_epoch(train, "lr", random))[1]
    batch = make_batch(faces, step, torch.device("cpu"))
    assert batch.targets is None and batch.expected is batch.labels
    targets = np.random.default_rng(0).dirichlet(np.ones(CLASSES), len(faces)).astype(np.float32)
    faces.extras["targets"] = targets
    batch = make_batch(faces, step, torch.device("cpu"))
    assert np.array_equal(batch.expected.numpy(), targets[step.index.numpy()])
    assert torch.equal(batch.labels, faces.labels[step.index])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_distributions_is_its_definition(smoothing):
    logits = torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(5, CLASSES, generator=torch.Generator().manual_seed(1))
    targets /= targets.sum(1, keepdim=True)
    terms = distillation_loss(student=Output(logits), labels=targets, label_smoothing=smoothing)
    smooth = (1 - smoothing) * targets + smoothing / CLASSES
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    assert terms["ce"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_s_loss_is_linear_in_the_targets(tmp_path, method):
    """With one-hot targets it is that with labels; half of each of two labels costs their mean."""
    options = {n: v for n, v in SMALL[method].items() if n in ("method_options", "sam_rho")}
    values = {"method": method, "kd_weight": 0.0, "label_smoothing": 0.1} | options
    cfg, faces = tiny.config(tmp_path, **values), tiny.faces()
    trainer = Trainer(Run.open(cfg, "student"), initial_model(cfg, CLASSES), faces, None)
    labelled = torch.arange(8) % 2 == 0

    def terms(labels, targets=None):
        torch.manual_seed(0)
        batch = Batch(faces.images[:8], labels, torch.zeros(8, dtype=torch.bool), labelled, targets)
        return trainer.objective.terms(trainer.forward, batch)

    one, other = faces.labels[:8], (faces.labels[:8] + 1) % CLASSES
    hot = [F.one_hot(labels, CLASSES).float() for labels in (one, other)]
    by_label = terms(one).loss.item()
    assert terms(one, hot[0]).loss.item() == pytest.approx(by_label, rel=1e-5)
    mean = (by_label + terms(other).loss.item()) / 2
    mixed = terms(one, (hot[0] + hot[1]) / 2)
    assert mixed.loss.item() == pytest.approx(mean, rel=1e-5)
    assert mean != pytest.approx(by_label, rel=1e-3)
    assert set(mixed.labels.tolist()) <= set(one.tolist()) and mixed.labels.ndim == 1


def first_epoch(root, votes, rule):
    write_votes(root, votes)
    values = {"dataset": "ferplus", "ferplus_rule": rule, "data_root": str(root)}
    cfg = tiny.config(root, kd_weight=0.0, force=True, **values)
    run = run_student(cfg, load_faces(cfg))
    assert run.is_done and run.facts()["config"]["ferplus_rule"] == rule
    return history(run).iloc[0]


def test_a_run_on_soft_ferplus_is_trained_with_the_shares_of_its_votes(tmp_path):
    write(tmp_path, csv_lines())
    votes = votes_for_all_classes()
    hard = first_epoch(tmp_path, votes, "majority")
    alike = first_epoch(tmp_path, votes, "soft")
    assert alike["ce"] == pytest.approx(hard["ce"], rel=1e-5)
    votes[:14] = votes[:14] * 6 // 10 + 3 * np.eye(10, dtype=int)[6]  # all look a little afraid
    divided = first_epoch(tmp_path, votes, "soft")
    assert divided["ce"] != pytest.approx(hard["ce"], rel=1e-3)
