"""The hook by which methods differ: plans of an epoch, training modes, what reaches the network."""

import pytest
import tiny
import torch

from gmelib.batches import epoch_steps, plan_epoch, presentations, training_view
from gmelib.checkpoint import load_checkpoint
from gmelib.degrade import high_resolution_view, low_resolution_view
from gmelib.experiment import budget, run_student
from gmelib.losses import logit_distillation_loss
from gmelib.methods import METHODS, make_objective, options_of, passes_of, title_of
from gmelib.objective import Objective
from gmelib.train import Trainer, fit, initial_model


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["lr", "hr"])
def test_one_resolution_presents_every_face_once(mode):
    plan = plan_epoch(torch.arange(100, 130), mode, generator())
    assert sorted(plan.index.tolist()) == list(range(100, 130))
    assert plan.high.tolist() == [mode == "hr"] * 30
    assert plan.labelled.all()


def test_both_resolutions_present_every_face_once_in_each_in_mixed_order():
    plan = plan_epoch(torch.arange(100, 130), "lr+hr", generator())
    for high in (False, True):
        assert sorted(plan.index[plan.high == high].tolist()) == list(range(100, 130))
    assert 0 < plan.high[:30].sum() < 30
    assert not torch.equal(plan.index[plan.high], plan.index[~plan.high])


def test_lr_draws_what_it_drew_before_there_were_modes():
    """Order, flips and shifts of an epoch, in this order from one generator: runs stay the same."""
    cfg = tiny.config(shift=2)
    steps = epoch_steps(cfg, 3, lambda g: plan_epoch(torch.arange(20), "lr", g))
    random = torch.Generator().manual_seed(cfg.seed * 100_003 + 3)
    order = torch.randperm(20, generator=random)
    flips = torch.rand(20, generator=random) < 0.5
    shifts = torch.randint(-2, 3, (20, 2), generator=random)
    assert torch.equal(torch.cat([s.index for s in steps]), order)
    assert torch.equal(torch.cat([s.flips for s in steps]), flips)
    assert torch.equal(torch.cat([s.shifts for s in steps]), shifts)


@pytest.mark.parametrize("stage, mode, expected", [
    ("student", "lr", "LLLL"), ("student", "hr", "HHHH"), ("student", "lr+hr", "LHHL"),
    ("teacher", "lr", "HHHH"),
])  # fmt: skip
def test_what_the_network_is_given(stage, mode, expected):
    cfg, images = tiny.config(train_on=mode), tiny.faces().images[:4]
    seen = training_view(cfg, stage)(images, torch.tensor([False, True, True, False]))
    low = low_resolution_view(images, 32, 8, kernel=cfg.kernel, blur_sigma=cfg.blur_sigma)
    high = high_resolution_view(images, 32)
    for face, kind in enumerate(expected):
        assert torch.equal(seen[face], (high if kind == "H" else low)[face])


@pytest.mark.parametrize("mode, kinds", [("lr", 1), ("hr", 1), ("lr+hr", 2)])
def test_a_run_in_each_mode_is_judged_on_low_resolution(tmp_path, mode, kinds):
    cfg, faces = tiny.config(tmp_path, train_on=mode, kd_weight=0.0, epochs=1), tiny.faces()
    run = run_student(cfg, faces)
    facts = run.facts()
    assert facts["budget"] == {
        "presentations": 32 * kinds, "passes": kinds, "forward_backward": 32 * kinds,
    }  # fmt: skip
    trainer = Trainer(run, initial_model(cfg, 4), faces, None)
    images = faces.images[:2]
    low = low_resolution_view(images, 32, 8, kernel=cfg.kernel, blur_sigma=cfg.blur_sigma)
    assert torch.equal(trainer.view(images), low)


def test_a_budget_counts_views_and_second_passes():
    cfg = tiny.config(method="eac", epochs=3, train_on="lr+hr")
    assert budget(cfg, "student", 100)["forward_backward"] == 1200  # two views
    both = tiny.config(method="poster", epochs=3, sam_rho=0.05)
    assert budget(both, "student", 100) == {
        "presentations": 300, "passes": 3, "forward_backward": 600,
    }  # fmt: skip
    assert presentations(tiny.config(train_on="lr+hr"), "teacher", 10) == 10


# -- the hook -------------------------------------------------------------------------------------


class Counting(Objective):
    """Counts epochs, shows half of the faces, and adds a term of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.epochs = 0

    def plan(self, faces, indices, generator):
        whole = super().plan(faces, indices, generator)
        return type(whole)(*(part[: len(part) // 2] for part in whole))

    def terms(self, forward, batch):
        terms = super().terms(forward, batch)
        one = torch.ones((), device=terms.loss.device)
        return terms._replace(loss=terms.loss + 2 * one, named=terms.named | {"one": one})

    def end_epoch(self, network, faces, indices):
        self.epochs += 1
        return {"epochs_seen": float(self.epochs), "train_faces": float(len(indices))}

    def state(self):
        return {"epochs": self.epochs}

    def resume(self, state):
        self.epochs = state["epochs"]


def test_terms_plans_and_ends_of_epochs_reach_the_history_and_a_resumed_run(tmp_path, monkeypatch):
    method = METHODS["gmenet"]
    monkeypatch.setitem(METHODS, "gmenet", method.__class__(
        method.title, method.build, method.options, Counting))  # fmt: skip
    run = tiny.run_of(tmp_path, kd_weight=0.0, epochs=1)
    fit(run, initial_model(run.cfg, 4), tiny.faces())
    state = load_checkpoint(run.folder, run.id)
    assert state["objective"] == {"epochs": 1}
    longer = run.__class__(run.cfg.replace(epochs=2), "student", run.folder)
    monkeypatch.setattr(type(longer), "id", property(lambda self: run.folder.name))
    history = fit(longer, initial_model(run.cfg, 4), tiny.faces())
    assert history["epochs_seen"].tolist() == [1, 2]
    assert history["train_faces"].tolist() == [32, 32]
    assert history["one"].tolist() == [1, 1]
    assert history["loss"].tolist() == pytest.approx((history["ce"] + 2).tolist(), rel=1e-5)


@pytest.mark.parametrize("method", [m for m, v in METHODS.items() if not v.objective.distils])
def test_methods_with_their_own_losses_refuse_a_teacher(method):
    cfg = tiny.config(method=method, kd_weight=1.0)
    text = tiny.refusal(make_objective, cfg, 4, None, teacher=lambda images: None)
    assert "kd_weight = 1" in text and method in text and "set kd_weight = 0" in text


def test_options_are_checked_by_name_and_value():
    text = tiny.refusal(options_of, tiny.config(method="eac", method_options={"deep": 18}))
    assert "eac" in text and "'deep'" in text and "depth" in text
    text = tiny.refusal(options_of, tiny.config(method="eac", method_options={"depth": 34}))
    assert "depth = 34" in text


def test_a_smaller_network_bears_its_own_name():
    full = {"width": 32, "blocks": (3, 4, 14, 3)}
    assert title_of(tiny.config(**full)) == "GME-Net"
    assert title_of(tiny.config()) == "GME-Net-cpu"
    assert title_of(tiny.config(method="eac")) == "EAC"
    assert title_of(tiny.config(method="eac", method_options={"depth": 18})) == "EAC-cpu"


def test_every_method_says_what_a_step_costs():
    assert {m: passes_of(tiny.config(method=m)) for m in METHODS} == {
        "gmenet": 1, "ma_net": 1, "ada_cm": 2, "eac": 2, "poster": 1, "diversified": 1,
        "resnet18": 1, "mobilenet_v3_small": 1,
    }  # fmt: skip


# -- logit distillation ---------------------------------------------------------------------------


def test_logit_distillation_is_hintons_sum_over_faces_and_classes():
    ours, theirs = torch.randn(3, 5, generator=generator()), torch.randn(3, 5)
    p = (theirs.double() / 4).exp()
    p /= p.sum(1, keepdim=True)
    q = (ours.double() / 4).exp()
    q /= q.sum(1, keepdim=True)
    expected = 16 * sum(
        p[n, k] * (p[n, k].log() - q[n, k].log()) for n in range(3) for k in range(5)
    ) / 3  # fmt: skip
    found = logit_distillation_loss(student=ours, teacher=theirs, temperature=4.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert logit_distillation_loss(student=ours, teacher=ours).item() == pytest.approx(0, abs=1e-6)


def test_logits_distil_a_plain_network_and_leave_the_teacher_alone(tmp_path):
    run = tiny.run_of(tmp_path, method="resnet18", kd="logits", kd_weight=2.0, epochs=1)
    teacher = initial_model(run.cfg.replace(seed=9), 4)
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    row = fit(run, initial_model(run.cfg, 4), tiny.faces(), teacher=teacher).iloc[0]
    assert row["loss"] == pytest.approx(row["ce"] + 2 * row["kd"], rel=1e-5) and row["kd"] > 0
    assert tiny.states_equal(before, dict(teacher.state_dict()))
