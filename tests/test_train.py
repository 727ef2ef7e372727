"""The training loop: schedules, what learns and what does not, averages, history, selection."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch
from torch import nn

from gmelib.checkpoint import load_checkpoint, load_weights
from gmelib.config import InputError
from gmelib.schedule import learning_rate_at
from gmelib.train import DivergedError, Trainer, fit, initial_model


def trained(tmp_path, stage="student", *, teacher=None, faces=None, **values):
    """A finished fit: the run, its network, its history."""
    run = tiny.run_of(tmp_path, stage, **values)
    model = initial_model(run.cfg, 4)
    return run, model, fit(run, model, faces or tiny.faces(), teacher=teacher)


def copied(module):
    return {name: t.clone() for name, t in module.state_dict().items()}


# -- learning rate --------------------------------------------------------------------------------


def test_the_step_schedule_is_the_papers():
    cfg = tiny.config(schedule="step", learning_rate=0.1, decay=0.4, decay_every=20, epochs=100)
    rates = {e: learning_rate_at(cfg, e * 7, 7) for e in (0, 19, 20, 39, 40, 60, 80, 99)}
    expected = {0: 0.1, 19: 0.1, 20: 0.04, 39: 0.04, 40: 0.016, 60: 0.0064, 80: 2.56e-3}
    assert rates == pytest.approx(expected | {99: 2.56e-3})
    assert learning_rate_at(cfg, 20 * 7 - 1, 7) == 0.1
    both = cfg.replace(train_on="lr+hr", epochs=50)  # an epoch of 14 steps shows each face twice
    assert [learning_rate_at(both, s, 14) for s in range(700)] == pytest.approx(
        [learning_rate_at(cfg, s, 7) for s in range(700)]
    )


def torchs(scheduler_of, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.3)
    scheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_onecycle_is_torchs_and_ends_at_0():
    cfg = tiny.config(schedule="onecycle", learning_rate=0.3, epochs=4)
    total = 4 * 25
    expected = torchs(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=0.3,
            total_steps=total + 1,
            pct_start=(0.3 * total + 1) / (total + 1),  # torch counts both ends, we the first only
            anneal_strategy="cos",
            div_factor=25,
            final_div_factor=1e12,
            cycle_momentum=False,
        ),
        total,
    )
    ours = [learning_rate_at(cfg, step, 25) for step in range(total)]
    assert ours == pytest.approx(expected, abs=1e-9)
    assert max(ours) == 0.3 and ours[0] == 0.3 / 25
    assert learning_rate_at(cfg, total, 25) == pytest.approx(0, abs=1e-12)


def test_cosine_is_torchs_and_ends_at_0():
    cfg = tiny.config(schedule="cosine", learning_rate=0.3, epochs=4)
    expected = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100), 100)
    assert [learning_rate_at(cfg, s, 25) for s in range(100)] == pytest.approx(expected, abs=1e-9)
    assert learning_rate_at(cfg, 100, 25) == pytest.approx(0, abs=1e-12)


def test_every_step_runs_at_its_own_learning_rate(tmp_path):
    run, _, history = trained(tmp_path, schedule="onecycle")
    last_steps = [learning_rate_at(run.cfg, step, 4) for step in (3, 7)]
    assert history["learning_rate"].tolist() == pytest.approx(last_steps)


# -- what learns ----------------------------------------------------------------------------------


def test_the_teacher_is_bit_identical_after_distillation(tmp_path):
    teacher = initial_model(tiny.config(seed=9), 4).train()
    before = copied(teacher)
    assert any("running_mean" in name for name in before)
    _, student, history = trained(tmp_path, teacher=teacher)
    assert tiny.states_equal(before, copied(teacher))
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training
    assert "kd" in history
    assert not tiny.states_equal(before, copied(student))


def test_distillation_brings_the_maps_together(tmp_path):
    teacher = initial_model(tiny.config(seed=9), 4)
    _, _, history = trained(tmp_path, teacher=teacher, epochs=4, kd_weight=5.0)
    assert history["kd"].iloc[-1] < 0.5 * history["kd"].iloc[0]
    assert history["similarity_spatial"].iloc[-1] > history["similarity_spatial"].iloc[0]


def test_32_faces_can_be_learnt_by_heart(tmp_path):
    """Random labels: nothing but memory helps."""
    faces = tiny.faces()
    labels = torch.randint(0, 4, (len(faces),), generator=torch.Generator().manual_seed(1))
    values = {"epochs": 25, "batch_size": 32, "schedule": "onecycle", "lr_size": 16}
    values |= {"dropout": 0.0, "flip": False, "weight_decay": 0.0}
    _, _, history = trained(tmp_path, faces=replace(faces, labels=labels), **values)
    assert len(faces.indices("train")) == 32
    assert history["train_accuracy"].iloc[-1] >= 0.95
    assert history["loss"].iloc[-1] < 0.1 * history["loss"].iloc[0]


def test_faces_of_the_other_splits_are_never_trained_on(tmp_path):
    faces = tiny.faces()
    other = faces.images.clone()
    held_out = torch.from_numpy(faces.split != "train")
    other[held_out] = 255 - other[held_out]
    _, one, _ = trained(tmp_path / "a", faces=faces, select="last")
    _, two, _ = trained(tmp_path / "b", faces=replace(faces, images=other), select="last")
    assert tiny.states_equal(copied(one), copied(two))


def test_weights_start_from_the_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = initial_model(tiny.config(seed=2), 4)
    assert torch.equal(torch.rand(3), expected)  # nobody else's random numbers are used up
    assert tiny.states_equal(copied(one), copied(initial_model(tiny.config(seed=2), 4)))
    assert not tiny.states_equal(copied(one), copied(initial_model(tiny.config(seed=3), 4)))


def test_equal_runs_end_equal(tmp_path):
    ends = []
    for place in ("a", "b"):
        torch.manual_seed(len(place) + len(ends))
        ends.append(copied(trained(tmp_path / place, shift=2)[1]))
    assert tiny.states_equal(*ends)


# -- averaged weights -----------------------------------------------------------------------------


def test_ema_is_the_recurrence_over_the_steps_of_weights_and_statistics(tmp_path):
    run, faces = tiny.run_of(tmp_path, ema=0.8), tiny.faces()
    trainer = Trainer(run, initial_model(run.cfg, 4), faces, None)
    expected, step = {}, trainer.optimizer.step

    def watched():
        step()
        for name, now in trainer.model.state_dict().items():
            old = expected.get(name, now)
            expected[name] = 0.8 * old + 0.2 * now if name in expected else old.clone()

    trainer.optimizer.step = watched
    for trainer.epoch in (1, 2):
        trainer.train_epoch(lambda _: None)
    averaged = trainer.evaluated.state_dict()
    assert any(name.endswith("running_var") for name in averaged)
    for name, value in averaged.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("select", ["last", "validation"])
def test_the_averaged_network_is_the_one_that_is_judged_and_kept(tmp_path, select):
    run, model, _ = trained(tmp_path, ema=0.8, select=select)
    state = load_checkpoint(run.folder, run.id)
    kept = state["average"] if select == "last" else state["best"]["model"]
    assert tiny.states_equal(copied(model), kept)
    assert not tiny.states_equal(copied(model), state["model"])


# -- what is written ------------------------------------------------------------------------------


def test_history_holds_every_term_of_every_epoch(tmp_path):
    teacher = initial_model(tiny.config(seed=9), 4)
    run, _, history = trained(tmp_path, teacher=teacher, epochs=3)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"loss", "ce", "kd", "similarity_channel", "similarity_spatial", "train_accuracy",
            "validation_accuracy", "validation_loss", "learning_rate", "seconds",
            } <= set(history)  # fmt: skip
    assert history.notna().all(axis=None)
    assert history["loss"].tolist() == pytest.approx(
        (history["ce"] + run.cfg.kd_weight * history["kd"]).tolist(), rel=1e-5
    )
    written = pd.read_json(run.folder / "history.jsonl", lines=True)
    pd.testing.assert_frame_equal(written, history, check_dtype=False)
    training = json.loads((run.folder / "training.json").read_text())
    assert training["epoch"] == 3 and len(training["sessions"]) == 1
    session = training["sessions"][0]
    assert session["threads"] == 1 and session["precision"] == "float32"
    assert session["seconds"] == pytest.approx(history["seconds"].sum())


def test_means_in_the_history_weigh_every_face_alike(tmp_path):
    """17 faces in batches of 8, 8 and 1: the single one is left out, not counted as a batch."""
    faces = tiny.faces(sizes={"train": 18, "validation": 4, "test": 4})
    run = tiny.run_of(tmp_path, flip=False)
    trainer = Trainer(run, initial_model(run.cfg, 4), faces, None)
    trainer.epoch, terms, step = 1, [], trainer.step

    def watched(batch):
        out = step(batch)
        terms.append((len(batch.labels), out["loss"].item()))
        return out

    trainer.step = watched
    row = trainer.train_epoch(lambda _: None)
    assert [n for n, _ in terms] == [8, 8, 2]
    assert row["loss"] == pytest.approx(sum(n * x for n, x in terms) / 18)


@pytest.mark.parametrize("select", ["validation", "last", "test"])
def test_select_decides_which_epoch_is_kept(tmp_path, select, monkeypatch):
    scores = {"validation": [0.2, 0.9, 0.9, 0.1], "test": [0.8, 0.3, 0.2, 0.1]}
    seen = []

    def validate(self, split):
        seen.append((self.epoch, split, copied(self.evaluated)))
        return {f"{split}_accuracy": scores[split][self.epoch - 1], f"{split}_loss": 1.0}

    monkeypatch.setattr(Trainer, "validate", validate)
    run, model, history = trained(tmp_path, select=select, epochs=4)
    weights = {epoch: state for epoch, _, state in seen}
    kept = {"validation": 2, "last": 4, "test": 1}[select]  # the first of two equal epochs
    assert tiny.states_equal(copied(model), weights[kept])
    loaded, _, classes = load_weights(run.folder / "model.safetensors")
    assert tiny.states_equal(copied(loaded), weights[kept])
    assert classes == tiny.CLASSES
    assert ({split for _, split, _ in seen} == {"validation", "test"}) == (select == "test")
    assert ("test_accuracy" in history) == (select == "test")


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    run = tiny.run_of(tmp_path, learning_rate=1e6, epochs=30)
    with pytest.raises(DivergedError) as error:
        fit(run, initial_model(run.cfg, 4), tiny.faces())
    text = str(error.value)
    assert "\n" not in text and "not finite" in text and "learning_rate" in text
    state = load_checkpoint(run.folder, run.id)
    epoch = 0 if state is None else state["epoch"]
    assert (f"checkpoint of epoch {epoch} is kept" if epoch else "nothing is kept") in text
    if state:
        assert all(t.isfinite().all() for t in state["model"].values())
    assert not (run.folder / "model.safetensors").exists()
    assert run.state != "done" and not (run.folder / "lock.json").exists()


@pytest.mark.parametrize("good_epochs", [0, 2])
def test_weights_that_break_in_an_epochs_last_step_are_not_checkpointed(
    tmp_path, monkeypatch, good_epochs
):
    """The loss of that step is still finite: it was taken before the update."""
    train_epoch = Trainer.train_epoch

    def poisoned(self, on_step):
        row = train_epoch(self, on_step)
        if self.epoch == good_epochs + 1:
            with torch.no_grad():
                self.model.head[-1].weight[0, 0] = math.inf
        return row

    monkeypatch.setattr(Trainer, "train_epoch", poisoned)
    run = tiny.run_of(tmp_path, epochs=4)
    with pytest.raises(DivergedError, match=f"after epoch {good_epochs + 1}"):
        fit(run, initial_model(run.cfg, 4), tiny.faces())
    state = load_checkpoint(run.folder, run.id)
    assert (state["epoch"] if state else 0) == good_epochs
    monkeypatch.undo()
    assert len(fit(run, initial_model(run.cfg, 4), tiny.faces())) == 4


def test_too_few_training_faces_are_named(tmp_path):
    run = tiny.run_of(tmp_path, limit_train=1)
    with pytest.raises(InputError, match="limit_train = 1"):
        fit(run, initial_model(run.cfg, 4), tiny.faces())


def test_a_device_that_is_not_here_is_named(tmp_path):
    for device in ("cuda:7", "gpu"):
        run = tiny.run_of(tmp_path, device=device)
        with pytest.raises(InputError, match=f"device = '{device}'") as error:
            fit(run, initial_model(run.cfg, 4), tiny.faces())
        assert "\n" not in str(error.value)
