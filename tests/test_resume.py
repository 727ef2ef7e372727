"""A run that stops at any moment goes on as if it never had: bit for bit, on equal threads."""

import os

import pytest
import tiny
import torch

from gmelib import checkpoint
from gmelib.checkpoint import load_checkpoint
from gmelib.train import Trainer, fit, initial_model

HARD = {  # everything that has a state or draws random numbers
    "epochs": 4, "schedule": "onecycle", "ema": 0.9, "shift": 2, "dropout": 0.4,
    "label_smoothing": 0.1, "lr_size": 8,
}  # fmt: skip
LIGHT = {"epochs": 3}


def teacher():
    return initial_model(tiny.config(seed=9), 4)


def train(out_root, values, *, guided=False, faces=None):
    """Trains from the start or from where the folder stands; the run and its weights."""
    run = tiny.run_of(out_root, **values)
    model = initial_model(run.cfg, 4)
    fit(run, model, faces or tiny.faces(), teacher=teacher() if guided else None)
    return run, dict(model.state_dict())


def lasting(run):
    """A checkpoint without what may differ between two equal runs: the clock."""
    state = load_checkpoint(run.folder, run.id)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state["history"]]
    return state | {"sessions": None, "history": rows}


def stop_at(monkeypatch, epoch, step, error):
    """Raises ``error`` in the middle of an epoch, after so many of its steps."""
    original, done = Trainer.step, {"steps": 0, "epoch": 0}

    def stopping(self, batch):
        if self.epoch != done["epoch"]:
            done.update(epoch=self.epoch, steps=0)
        if (self.epoch, done["steps"]) == (epoch, step):
            raise error
        done["steps"] += 1
        return original(self, batch)

    monkeypatch.setattr(Trainer, "step", stopping)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What HARD ends with, distilled, when nothing happens to it."""
    run, weights = train(tmp_path_factory.mktemp("whole"), HARD, guided=True)
    return lasting(run), weights


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    run, weights = train(tmp_path_factory.mktemp("light"), LIGHT)
    return lasting(run), weights


@pytest.mark.parametrize("epoch, step", [(3, 2), (2, 0)])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, uninterrupted, epoch, step):
    """Weights, averaged weights, optimizer, best epoch and history, with KD and EMA."""
    stop_at(monkeypatch, epoch, step, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, HARD, guided=True)
    monkeypatch.undo()
    torch.manual_seed(99)
    run, weights = train(tmp_path, HARD, guided=True)
    state, expected = uninterrupted
    assert tiny.states_equal(weights, expected)
    assert tiny.states_equal(lasting(run), state)
    sessions = load_checkpoint(run.folder, run.id)["sessions"]
    assert [s["first_epoch"] for s in sessions] == [1, epoch]


def test_the_stop_button_leaves_a_run_that_is_not_locked_and_can_go_on(tmp_path, monkeypatch):
    stop_at(monkeypatch, 2, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, LIGHT)
    run = tiny.run_of(tmp_path, **LIGHT)
    assert run.state == "broken"
    assert not (run.folder / "lock.json").exists()
    assert load_checkpoint(run.folder, run.id)["epoch"] == 1
    assert not (run.folder / "model.safetensors").exists()


KILLED = """
import sys, test_resume, tiny
from gmelib.train import Trainer
import torch
torch.set_num_threads(1)
step = Trainer.step
def announced(self, batch):
    terms = step(self, batch)
    if self.epoch == 3:
        print("in epoch 3", flush=True)
        sys.stdin.readline()  # until it is killed
    return terms
Trainer.step = announced
test_resume.train(sys.argv[1], test_resume.HARD, guided=True)
"""


def test_a_run_killed_in_mid_epoch_ends_with_the_weights_of_one_never_killed(
    tmp_path, uninterrupted
):
    process = tiny.start(KILLED, str(tmp_path))
    try:
        for line in process.stdout:
            if line.strip() == "in epoch 3":
                break
    finally:
        process.kill()  # SIGKILL: nothing can be tidied up
        process.wait()
    run = tiny.run_of(tmp_path, **HARD)
    assert load_checkpoint(run.folder, run.id)["epoch"] == 2
    assert (run.folder / "lock.json").exists() and run.state == "broken"
    run, weights = train(tmp_path, HARD, guided=True)
    state, expected = uninterrupted
    assert tiny.states_equal(weights, expected)
    assert tiny.states_equal(lasting(run), state)
    assert not (run.folder / "lock.json").exists()


def test_a_run_that_trained_to_the_end_is_not_trained_again(tmp_path, monkeypatch, light):
    train(tmp_path, LIGHT)
    run = tiny.run_of(tmp_path, **LIGHT)
    (run.folder / "model.safetensors").unlink()  # killed just before it was written
    stop_at(monkeypatch, 3, 0, AssertionError("trained again"))
    run, weights = train(tmp_path, LIGHT)
    assert tiny.states_equal(weights, light[1])
    assert (run.folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    "damaged, restarts_from", [(["last.pt"], 2), (["last.pt", "previous.pt"], 1)]
)
def test_damaged_checkpoints_cost_epochs_and_nothing_else(
    tmp_path, monkeypatch, light, damaged, restarts_from
):
    stop_at(monkeypatch, 3, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, LIGHT)
    monkeypatch.undo()
    run = tiny.run_of(tmp_path, **LIGHT)
    for name in damaged:
        (run.folder / name).write_bytes((run.folder / name).read_bytes()[:1000])
    with pytest.warns(UserWarning, match="cannot be read as a checkpoint"):
        run, weights = train(tmp_path, LIGHT)
    assert tiny.states_equal(weights, light[1])
    sessions = load_checkpoint(run.folder, run.id)["sessions"]
    assert sessions[-1]["first_epoch"] == restarts_from


# -- what cannot go on ----------------------------------------------------------------------------


def interrupted(tmp_path, monkeypatch, **values):
    stop_at(monkeypatch, 2, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, LIGHT | values)
    monkeypatch.undo()
    return tiny.run_of(tmp_path, **(LIGHT | values))


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch):
    run = interrupted(tmp_path, monkeypatch)
    before = (run.folder / "last.pt").read_bytes()
    text = tiny.refusal(train, tmp_path, LIGHT, faces=tiny.faces(seed=1))
    assert "was trained on other data" in text and "delete the folder" in text
    assert (run.folder / "last.pt").read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch):
    run = interrupted(tmp_path, monkeypatch)
    other = tiny.run_of(tmp_path, **LIGHT, seed=1)
    os.rename(run.folder, other.folder)
    assert f"is the checkpoint of run {run.id}, expected {other.id}" in tiny.refusal(
        train, tmp_path, LIGHT | {"seed": 1}
    )


def test_a_checkpoint_that_does_not_fit_the_network_is_refused(tmp_path, monkeypatch):
    run = interrupted(tmp_path, monkeypatch)
    state = load_checkpoint(run.folder, run.id)
    state["model"].popitem()
    torch.save(state, run.folder / "last.pt")
    assert "does not fit this network" in tiny.refusal(train, tmp_path, LIGHT)


@pytest.mark.parametrize("written", ["data", "rename"])
def test_a_full_disk_stops_the_run_with_one_line_and_keeps_the_last_checkpoint(
    tmp_path, monkeypatch, light, written
):
    save, saved = checkpoint.save_checkpoint, []

    def until_full(folder, state):
        if state["epoch"] == 2:
            if written == "data":
                monkeypatch.setattr("gmelib.record.open", tiny.FullDisk, raising=False)
            else:
                monkeypatch.setattr(os, "replace", tiny.no_space)
        save(folder, state)
        saved.append(state["epoch"])

    monkeypatch.setattr("gmelib.train.save_checkpoint", until_full)
    text = tiny.refusal(train, tmp_path, LIGHT)
    assert "No space left on device" in text and "finished epochs are kept" in text
    assert saved == [1]
    monkeypatch.undo()
    run = tiny.run_of(tmp_path, **LIGHT)
    assert load_checkpoint(run.folder, run.id)["epoch"] == 1
    assert not list(run.folder.glob("*.tmp")) and not list(run.folder.glob(".*.tmp"))
    assert not (run.folder / "lock.json").exists()
    assert tiny.states_equal(train(tmp_path, LIGHT)[1], light[1])  # once there is room again


def test_a_second_process_is_kept_out_of_a_run_in_training(tmp_path):
    source = """
import sys, tiny
with tiny.run_of(sys.argv[1], epochs=3).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""
    process = tiny.start(source, str(tmp_path))
    try:
        assert process.stdout.readline() == "held\n"
        assert f"process {process.pid}" in tiny.refusal(train, tmp_path, LIGHT)
        assert tiny.run_of(tmp_path, **LIGHT).state == "missing"
    finally:
        process.kill()
        process.wait()
