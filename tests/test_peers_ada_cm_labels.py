"""Ada-CM: which faces have labels, and the thresholds, against plain loops."""

import math

import pytest
import tiny
import torch
from torch.nn import functional as F

from gmelib.batches import make_view, training_view
from gmelib.model import Output
from gmelib.peers import ada_cm
from gmelib.peers.ada_cm import AdaCMObjective, AdaCMOptions

CLASSES = 4


def objective(train_on="lr", **options):
    cfg = tiny.config(method="ada_cm", train_on=train_on, kd_weight=0)
    options = AdaCMOptions(**({"labels": 0} | options))
    return AdaCMObjective(cfg, options, CLASSES, training_view(cfg, "student"))


# -- which faces ----------------------------------------------------------------------------------


def planned(faces, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return objective(**options).plan(faces, faces.indices("train"), generator)


@pytest.mark.parametrize("train_on", ["lr", "hr"])
def test_in_one_resolution_each_face_comes_once_with_or_without_its_label(train_on):
    faces = tiny.faces(sizes={"train": 33, "validation": 4, "test": 8})
    plan = planned(faces, train_on=train_on)
    assert sorted(plan.index.tolist()) == list(range(33))
    assert plan.labelled.tolist() == [row % 2 == 0 for row in range(33)]
    assert plan.high.tolist() == [train_on == "hr"] * 33
    assert not torch.equal(plan.index, planned(faces, seed=1, train_on=train_on).index)
    assert torch.equal(plan.index, planned(faces, train_on=train_on).index)


def test_in_both_resolutions_the_low_ones_have_the_labels():
    faces = tiny.faces()
    plan = planned(faces, train_on="lr+hr")
    everyone = faces.indices("train").tolist()
    assert len(plan.index) == 2 * len(everyone)
    assert sorted(plan.index[0::2].tolist()) == sorted(plan.index[1::2].tolist()) == everyone
    assert not torch.equal(plan.index[0::2], plan.index[1::2])
    assert plan.labelled[0::2].all() and not plan.labelled[1::2].any()
    assert torch.equal(plan.high, ~plan.labelled)


@pytest.mark.parametrize("train_on, count", [("lr", 32), ("hr", 32), ("lr+hr", 64)])
def test_few_labels_come_again_and_again(train_on, count):
    faces = tiny.faces()
    train = faces.indices("train")
    plan = planned(faces, labels=4, train_on=train_on)
    chosen = ada_cm.labelled_faces(faces, train, 4).tolist()
    assert len(plan.index) == count and plan.labelled.tolist() == [True, False] * (count // 2)
    passes = plan.index[0::2].view(-1, 4)  # each pass holds every labelled face, in a new order
    assert [sorted(p) for p in passes.tolist()] == [sorted(chosen)] * (count // 8)
    assert len({tuple(p) for p in passes.tolist()}) > 1
    unlabelled = plan.index[1::2].tolist()
    assert len(set(unlabelled)) == count // 2 and set(unlabelled) <= set(train.tolist())
    assert plan.high.tolist() == {
        "lr": [False] * 32, "hr": [True] * 32, "lr+hr": [False, True] * 32,
    }[train_on]  # fmt: skip


def test_the_same_faces_have_labels_in_every_run():
    faces = tiny.faces()
    train = faces.indices("train")
    chosen = ada_cm.labelled_faces(faces, train, 10)
    torch.manual_seed(99)
    assert torch.equal(chosen, ada_cm.labelled_faces(faces, train, 10))
    assert len(set(chosen.tolist())) == 10 and set(chosen.tolist()) <= set(train.tolist())
    assert sorted(torch.bincount(faces.labels[chosen]).tolist()) == [2, 2, 3, 3]
    assert torch.equal(ada_cm.labelled_faces(faces, train, 0), train)
    assert len(ada_cm.labelled_faces(faces, train, 4000)) == len(train)


RAF_DB = [705, 717, 281, 4772, 1982, 1290, 2524]  # training faces in the order of EXPRESSIONS


@pytest.mark.parametrize(
    "available, total, fear, expected",
    [
        (RAF_DB, 4000, 2, [625, 625, 250, 625, 625, 625, 625]),
        ([5000] * 7, 4000, 2, [571, 571, 571, 571, 572, 572, 572]),
        ([3995, 436, 4097, 7215, 4830, 3171, 4965], 4000, 2, [594, 436, 594, 594, 594, 594, 594]),
        (RAF_DB, 1400, 2, [200] * 7),
        (RAF_DB, 4000, None, [619, 620, 281, 620, 620, 620, 620]),
        ([5, 5, 1], 9, None, [4, 4, 1]),
        ([5, 5, 1], 100, None, [5, 5, 1]),
    ],
)
def test_labels_are_shared_out(available, total, fear, expected):
    counts = ada_cm.label_counts(available, total, fear)
    assert counts == expected
    assert sum(counts) == min(total, sum(available))


def test_fewer_labels_than_classes_are_refused():
    message = tiny.refusal(objective, labels=3)
    assert "labels = 3" in message and "at least 4" in message


# -- the thresholds -------------------------------------------------------------------------------


class Reader(torch.nn.Module):
    """Reads fixed logits out of a table by the mean of what it sees."""

    def __init__(self, means, logits):
        super().__init__()
        self.means, self.logits = torch.nn.Parameter(means, requires_grad=False), logits
        self.was_training, self.sizes = [], []

    def forward(self, x):
        self.was_training.append(self.training)
        self.sizes.append(len(x))
        nearest = (x.mean((1, 2, 3))[:, None] - self.means).abs().argmin(1)
        return Output(logits=self.logits[nearest])


@pytest.fixture
def as_long_as_the_authors(monkeypatch):
    """An epoch of the 32 made faces counts as one of the authors'."""
    monkeypatch.setattr(ada_cm, "AUTHORS_STEPS", 32 / tiny.config().batch_size)


def learning(sure, labels=0, train_on="lr", faces=None):
    """An objective and a network that gives each face its class with logit ``sure[class]``."""
    faces = faces or tiny.faces()
    train = faces.indices("train")
    method = objective(train_on=train_on, labels=labels)
    high = torch.full((len(train),), train_on == "hr")
    means = method.see(faces.images[train], high).mean((1, 2, 3))
    logits = F.one_hot(faces.labels[train], CLASSES) * torch.tensor(sure)[faces.labels[train], None]
    return method, Reader(means, logits), faces, train


@pytest.mark.usefixtures("as_long_as_the_authors")
def test_thresholds_follow_the_confidence_of_correct_faces():
    sure = [9.0, 5.0, 1.0, -3.0]  # the last class is never recognized
    method, network, faces, train = learning(sure)
    assert method.thresholds.tolist() == pytest.approx([0.8] * 4)
    network.train()
    for epoch in range(1, 6):
        row = method.end_epoch(network, faces, train)
        expected = []
        for logit in sure:
            confidence = math.exp(logit) / (math.exp(logit) + 3) if logit > 0 else 0
            expected.append(max(0.8, confidence * 0.97 / (1 + math.exp(-epoch))))
        assert method.thresholds.tolist() == pytest.approx(expected, rel=1e-5)
        assert row["threshold"] == pytest.approx(sum(expected) / 4, rel=1e-5)
        assert row["threshold_least"] == pytest.approx(0.8)
        assert row["threshold_most"] == pytest.approx(max(expected), rel=1e-5)
        assert row["labelled_accuracy"] == pytest.approx(0.75)
    assert max(expected) > 0.96
    assert network.training and not any(network.was_training)


def test_faces_that_are_wrong_do_not_count():
    method, network, faces, train = learning([9.0] * 4)
    own = (faces.labels[train] == 2).nonzero()[:, 0]
    network.logits[own[0]] = torch.tensor([0.0, 0.0, 3.2, 0.0])
    network.logits[own[1:3]] = torch.tensor([20.0, 0.0, 0.0, 0.0])
    method.epochs = 20
    method.end_epoch(network, faces, train)
    sure = math.exp(9) / (math.exp(9) + 3)
    less = math.exp(3.2) / (math.exp(3.2) + 3)
    expected = 0.97 * (less + (len(own) - 3) * sure) / (len(own) - 2)
    assert method.thresholds[2].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("train_on, high", [("lr", False), ("hr", True), ("lr+hr", False)])
def test_thresholds_come_from_labelled_faces_as_they_are_presented(train_on, high):
    faces = tiny.faces()
    train = faces.indices("train")
    method = objective(train_on=train_on, labels=8)
    shown = []

    class Shown(torch.nn.Linear):
        def forward(self, x):
            shown.append(x)
            return Output(logits=torch.zeros(len(x), CLASSES))

    method.end_epoch(Shown(1, 1), faces, train)
    told = ada_cm.labelled_faces(faces, train, 8)
    expected = method.see(faces.images[told], torch.full((8,), high))
    assert torch.equal(torch.cat(shown), expected)
    low = make_view(tiny.config(), "student")(faces.images[told])
    assert torch.equal(expected, low) != high


def test_thresholds_are_learnt_in_batches_of_256():
    faces = tiny.faces(sizes={"train": 520, "validation": 4, "test": 4})
    method, network, _, train = learning([9.0] * 4, faces=faces)
    method.end_epoch(network, faces, train)
    assert network.sizes == [256, 256, 8]


@pytest.mark.parametrize("train_on, presented", [("lr", 32), ("lr+hr", 64)])
def test_time_is_told_by_steps_and_not_by_epochs(train_on, presented):
    method, network, faces, train = learning([9.0] * 4, train_on=train_on)
    method.end_epoch(network, faces, train)
    steps = presented / method.cfg.batch_size
    assert method.state()["epochs"] == pytest.approx(steps / 800)


@pytest.mark.usefixtures("as_long_as_the_authors")
def test_a_resumed_objective_goes_on():
    method, network, faces, train = learning([9.0, 5.0, 1.0, -3.0])
    method.end_epoch(network, faces, train)
    method.end_epoch(network, faces, train)
    other = objective()
    other.resume(method.state())
    for each in (method, other):
        each.end_epoch(network, faces, train)
    assert tiny.states_equal(method.state(), other.state())
    assert other.state()["epochs"] == 3 and other.thresholds.max() > 0.9
