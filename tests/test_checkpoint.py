"""Checkpoints and weights: what is damaged, foreign or dangerous is found and named."""

import errno
import json
import pickle
import warnings
from pathlib import Path

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gmelib.checkpoint import (
    KEYS,
    discard,
    load_checkpoint,
    load_model,
    load_weights,
    save_checkpoint,
    save_weights,
)
from gmelib.config import Config, InputError
from gmelib.fields import PRIVATE
from gmelib.train import initial_model


def state(epoch, run="run-a"):
    return dict.fromkeys(KEYS) | {"run": run, "epoch": epoch, "model": {"w": torch.ones(3) * epoch}}


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])


def epoch_of(folder):
    found = load_checkpoint(folder, "run-a")
    return None if found is None else found["epoch"]


# -- to resume ------------------------------------------------------------------------------------


def test_the_newest_checkpoint_comes_back_whole(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, state(epoch))
    assert tiny.states_equal(load_checkpoint(tmp_path, "run-a"), state(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


def test_a_folder_without_checkpoint_has_none(tmp_path):
    assert load_checkpoint(tmp_path, "run-a") is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, share):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    cut(tmp_path / "last.pt", share)
    with pytest.warns(UserWarning, match=r"last\.pt: cannot be read as a checkpoint") as caught:
        assert epoch_of(tmp_path) == 1
    assert len(caught) == 1


def test_two_damaged_checkpoints_mean_a_new_start(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    cut(tmp_path / "last.pt")
    cut(tmp_path / "previous.pt")
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        assert epoch_of(tmp_path) is None
    assert len(caught) == 2


REFUSALS = [
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EMFILE, "Too many open files"),
    PermissionError(errno.EACCES, "Permission denied"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."),
]


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
@pytest.mark.parametrize("where", [(Path, "read_bytes"), (torch, "load")], ids=["file", "torch"])
def test_a_checkpoint_that_the_system_does_not_give_out_is_not_passed_over(
    tmp_path, monkeypatch, where, error
):
    """It would be taken for damaged, training begin anew, and the good checkpoint be lost."""
    save_checkpoint(tmp_path, state(1))

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(*where, refuse)
    text = tiny.refusal(load_checkpoint, tmp_path, "run-a")
    reason = getattr(error, "strerror", None) or "not enough memory"
    assert f"last.pt: cannot be read ({reason})" in text
    monkeypatch.undo()
    assert epoch_of(tmp_path) == 1


@pytest.mark.parametrize("killed_after", ["next", "last", "all"])
def test_a_kill_between_any_two_steps_of_saving_loses_no_epoch(tmp_path, monkeypatch, killed_after):
    """Saving writes next.pt, then moves last.pt away, then moves next.pt there."""
    import os

    save_checkpoint(tmp_path, state(1))
    replace, steps = os.replace, {"next": 1, "last": 2, "all": 3}[killed_after]

    def stop(*paths):
        nonlocal steps
        if not steps:
            raise KeyboardInterrupt
        steps -= 1
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop)
    if killed_after == "all":
        save_checkpoint(tmp_path, state(2))
    else:
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, state(2))
    monkeypatch.undo()
    assert epoch_of(tmp_path) == (1 if killed_after == "next" else 2)
    save_checkpoint(tmp_path, state(3))
    assert epoch_of(tmp_path) == 3


def test_a_foreign_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, state(4, run="run-b"))
    with pytest.raises(InputError, match="is the checkpoint of run run-b, expected run-a"):
        epoch_of(tmp_path)


class Dangerous:
    def __reduce__(self):
        return exec, ("import builtins; builtins.gmelib_was_hacked = True",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda v, p: p.write_bytes(pickle.dumps(v))])
def test_code_in_a_checkpoint_never_runs(tmp_path, write):
    import builtins

    write(state(1) | {"model": Dangerous()}, tmp_path / "last.pt")
    with pytest.warns(UserWarning, match="cannot be read as a checkpoint"):
        assert epoch_of(tmp_path) is None
    assert not hasattr(builtins, "gmelib_was_hacked")


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, torch.ones(3)])
def test_something_else_saved_by_torch_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.warns(UserWarning, match="not a checkpoint"):
        assert epoch_of(tmp_path) is None


def test_discarding_leaves_no_training_state_no_report_and_no_record(tmp_path):
    run = tiny.run_of(tmp_path)
    run.folder.mkdir(parents=True)
    for _ in range(2):
        save_checkpoint(run.folder, state(1))
    run.finish()
    for name in ("02_teacher.ipynb", "report.html", "06_maps.ipynb", "06_maps.html", "my.ipynb"):
        (run.folder / name).touch()
    discard(run)
    assert [path.name for path in run.folder.iterdir()] == ["my.ipynb"]
    assert run.state == "missing"


# -- to share -------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    cfg = tiny.config(tmp_path, attention="cbam", data_root="/home/someone/data")
    model = tiny.shake(initial_model(cfg, 4))
    path = tmp_path / "model.safetensors"
    save_weights(path, model, cfg, tiny.CLASSES)
    return path, model, cfg


def test_weights_bring_back_network_configuration_and_classes(weights):
    path, model, cfg = weights
    loaded, loaded_cfg, classes = load_weights(path)
    assert tiny.states_equal(dict(loaded.state_dict()), dict(model.state_dict()))
    assert not loaded.training
    assert classes == tiny.CLASSES
    assert loaded_cfg.scientific() == cfg.scientific()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x).logits, model(x).logits)


def test_shared_weights_name_no_place_on_this_machine(weights):
    with safe_open(weights[0], "pt") as file:
        header = file.metadata()
    assert "/home/someone" not in json.dumps(header)
    assert not set(json.loads(header["config"])) & PRIVATE


def test_a_finished_runs_network_is_loaded_from_its_folder(tmp_path):
    run = tiny.run_of(tmp_path)
    model = initial_model(run.cfg, 4)
    save_weights(run.folder / "model.safetensors", model, run.cfg, tiny.CLASSES)
    assert tiny.states_equal(dict(load_model(run).state_dict()), dict(model.state_dict()))


def refused(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            load_weights(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_weights_are_named(tmp_path):
    assert "model.safetensors: no such weights" in refused(tmp_path / "model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_refused(weights, share):
    cut(weights[0], share)
    assert "cannot be read as a GME-Net network" in refused(weights[0])


def test_weights_of_another_program_are_refused(tmp_path):
    save_file({"conv.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    assert "cannot be read as a GME-Net network" in refused(tmp_path / "model.safetensors")
    torch.save({"conv.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    assert "cannot be read as a GME-Net network" in refused(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        {"config": "{}", "classes": "[]"},
        {"config": "[1]", "classes": '["anger", "fear"]'},
        {"config": "{", "classes": "[]"},
        {"config": '{"depth": 50}', "classes": '["anger"]'},
        {"config": "{}", "classes": "4"},
        {"classes": "[]"},
    ],
)
def test_a_header_that_does_not_fit_is_refused(weights, header):
    with safe_open(weights[0], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, weights[0], metadata=header)
    assert "cannot be read as a GME-Net network" in refused(weights[0])


def test_weights_of_another_architecture_are_refused(weights):
    path, _, cfg = weights
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    wider = Config(**(cfg.model_dump() | {"width": 8}))
    header = {"config": wider.model_dump_json(exclude=PRIVATE), "classes": json.dumps(tiny.CLASSES)}
    save_file(tensors, path, metadata=header)
    assert "cannot be read as a GME-Net network" in refused(path)
