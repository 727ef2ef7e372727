"""One run by two processes on a CPU: equal to one process, written once, ended together."""

import json
import os
import subprocess
import sys
import time

import pairs
import pandas as pd
import pytest
import tiny
import torch
from pairs import Pair
from torch import nn

from gmelib import launch, processes
from gmelib.batches import epoch_seed
from gmelib.checkpoint import load_checkpoint, load_weights
from gmelib.config import PROJECT_ROOT
from gmelib.evaluate import load_predictions
from gmelib.experiment import history, run_teacher
from gmelib.train import initial_model


def of_both(folder, function, *arguments):
    """What a function returns in each of two processes."""
    ended = Pair(folder, pairs.each_saves, function, folder, *arguments).end()
    assert [e.status for e in ended] == [0, 0], ended
    return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in (0, 1)]


# -- one process ----------------------------------------------------------------------------------


def test_with_one_process_nothing_happens(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes.joined():
        assert (processes.rank(), processes.world(), processes.is_first()) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        thing, tensor, model = object(), torch.ones(2), nn.Linear(1, 1)
        assert processes.agree(thing) is thing and processes.total(tensor) is tensor
        assert processes.parallel(model) is model
        assert processes.with_joint_statistics(model, torch.device("cuda")) is model
        assert processes.share(5) == (slice(0, 5), 1.0)
        assert processes.first_then_others(max, 2, 3) == 3
        assert processes.is_first_to_fail()


def test_torchs_variables_without_torchrun_start_nothing(monkeypatch):
    """A batch system may set some of them for its own purposes."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with processes.joined():
        assert processes.world() == 1


def test_random_numbers_differ_between_processes_and_are_those_of_old_in_the_first():
    seeds = [epoch_seed(s, e, p) for s in (0, 1, 2) for e in (1, 2, 100) for p in range(16)]
    draws = {tuple(torch.rand(4, generator=torch.Generator().manual_seed(s))) for s in seeds}
    assert len(draws) == len(seeds)
    assert epoch_seed(3, 7, 0) == epoch_seed(3, 7) == 3 * 100_003 + 7


def test_synchronized_batchnorm_keeps_names_weights_and_results():
    model = tiny.shake(initial_model(tiny.config(), 4))
    joint = processes.synchronized(model)
    assert tiny.states_equal(dict(model.state_dict()), dict(joint.state_dict()))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    kinds = [type(m) for m in joint.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(kinds) > 5 and set(kinds) == {nn.SyncBatchNorm}
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(joint(x), model(x))


# -- two: what they compute -----------------------------------------------------------------------


def test_what_two_processes_agree_on(tmp_path):
    first, second = of_both(tmp_path, pairs.agreements)
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["is_first"] and not second["is_first"]
    for found in (first, second):
        assert found["world"] == 2
        assert found["agree"]["from"] == 0 and found["agree"]["tensor"].tolist() == [0, 0]
        assert found["total"].tolist() == [2.0, 1.0]
        assert found["own"] == str(found["rank"]) and found["order"] == "01"
    assert sorted([first["says"], second["says"]]) == [False, True]
    assert first["shares"] == [((0, 4), 4 / 8), ((0, 3), 3 / 7), ((0, 2), 2 / 4), ((0, 3), 1 / 2),
                               ((0, 2), 1 / 2)]  # fmt: skip
    assert second["shares"] == [((4, 8), 4 / 8), ((3, 7), 4 / 7), ((2, 4), 2 / 4), ((0, 3), 1 / 2),
                                ((0, 2), 1 / 2)]  # fmt: skip


def test_the_others_wait_while_the_first_prepares_a_data_set_for_hours(tmp_path):
    ended = Pair(tmp_path, pairs.kept_waiting, tmp_path).end()
    assert [e.status for e in ended] == [0, 0], ended
    assert all((tmp_path / f"done-{rank}").exists() for rank in (0, 1))


# batches of 8 and a last one of 8, of 5 (2 + 3 faces), of 3 (too few to share)
CASES = [(16, False), (21, False), (21, True), (19, True)]


def test_gradients_and_means_are_those_of_one_process_with_the_joined_batch(tmp_path):
    both = of_both(tmp_path / "two", pairs.all_gradients, CASES)
    for case, *of_two in zip(CASES, *both, strict=True):
        expected = pairs.gradients(tmp_path / "one", *case)
        assert len(expected["steps"]) == -(-case[0] // 8)
        for found in of_two:
            assert found["row"] == pytest.approx(expected["row"], rel=1e-5)
            for ours, theirs in zip(found["steps"], expected["steps"], strict=True):
                for name, gradient in theirs.items():
                    margin = 1e-4 * float(gradient.abs().max()) + 1e-7
                    torch.testing.assert_close(ours[name], gradient, rtol=0, atol=margin)
        assert of_two[0]["seed"] == expected["seed"] != of_two[1]["seed"]


def test_both_end_with_the_weights_that_are_kept_and_a_stopped_run_goes_on(tmp_path):
    both = of_both(tmp_path, pairs.both_ways)
    run = tiny.run_of(tmp_path / "whole", **pairs.HARD)
    kept = load_weights(run.folder / "model.safetensors")[0].state_dict()
    for whole, stopped in both:
        assert tiny.states_equal(whole["weights"], dict(kept))
        assert tiny.states_equal(stopped["weights"], whole["weights"])
        assert stopped["history"] == whole["history"] == both[0][0]["history"]
        assert whole["history"]["epoch"] == [1, 2, 3]
        assert whole["teacher_is_as_before"] and stopped["teacher_is_as_before"]
        assert (stopped["locked"], stopped["epoch"]) == (False, 2)
    state = load_checkpoint(tiny.run_of(tmp_path / "stopped", **pairs.HARD).folder, run.id)
    assert [s["processes"] for s in state["sessions"]] == [2, 2]
    assert [s["first_epoch"] for s in state["sessions"]] == [1, 3]


# -- two: how they end ----------------------------------------------------------------------------


def teacher_first(folder, monkeypatch, **values):
    """A finished teacher, made by one process, and the arguments that mean its student."""
    monkeypatch.setattr(launch, "load_faces", pairs._tiny_faces)
    arguments = pairs.overlay(folder, **values)
    assert launch.main(["teacher", *arguments]) == 0
    return arguments


def test_a_run_killed_in_mid_epoch_goes_on(tmp_path, monkeypatch, capfd):
    arguments = teacher_first(tmp_path, monkeypatch, epochs=3)
    run = tiny.run_of(tmp_path, epochs=3)
    pair = Pair(tmp_path / "logs", pairs.launched, "student", arguments, "sleep")
    limit = time.monotonic() + 60
    while not (run.folder / "in-epoch-2").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    pair.kill()
    assert run.state == "broken" and (run.folder / "lock.json").exists()
    ended = Pair(tmp_path / "logs", pairs.launched, "student", arguments).end()
    assert [e.status for e in ended] == [0, 0], ended
    assert run.state == "done" and not (run.folder / "lock.json").exists()
    sessions = run.facts()["sessions"]
    assert [(s["processes"], s["first_epoch"]) for s in sessions] == [(2, 1), (2, 2)]
    assert history(run)["epoch"].tolist() == [1, 2, 3]
    assert [e.text.count("run folder:") for e in ended] == [1, 0]
    assert "epoch" not in ended[1].text
    assert_each_test_face_once(run, tiny.faces())
    written = tiny.snapshot(run.folder)
    assert launch.main(["student", *arguments]) == 0  # one process finds it done
    assert run.id in capfd.readouterr().out.splitlines()[-1]
    assert tiny.snapshot(run.folder) == written


def assert_each_test_face_once(run, faces):
    table, index = load_predictions(run.folder), faces.indices("test")
    assert table["id"].tolist() == faces.ids[index].tolist()
    assert table["label"].tolist() == faces.labels[index].tolist()
    assert run.facts()["metrics"]["all"]["accuracy"]["n"] == len(index)


@pytest.mark.parametrize("trouble", ["in process 0", "in process 1"])
def test_an_error_in_one_process_ends_both_and_is_said_once(tmp_path, trouble):
    arguments = pairs.overlay(tmp_path, epochs=200)
    ended = Pair(tmp_path / "logs", pairs.launched, "teacher", arguments, trouble).end(30)
    assert [e.status for e in ended] == [1, 1], ended
    text = "".join(e.text for e in ended)
    assert text.count("error: no such thing; do another") == 1 and "Traceback" not in text
    assert max(e.seconds for e in ended) < 20
    run = tiny.run_of(tmp_path, "teacher", epochs=200)
    assert run.state == "broken" and not (run.folder / "lock.json").exists()


@pytest.mark.parametrize(
    "values, said",
    [
        ({"learning_rate": 1e6, "epochs": 30}, "not finite"),
        ({"batch_size": 3}, "batch_size = 3: 2 processes share a batch"),
        ({"limit_train": 1}, "1 face to train on"),
        ({"device": "mps"}, "device = 'mps': 2 processes need a device each"),
        ({"seed": -1}, "parameter seed = -1"),
    ],
)
def test_what_all_processes_find_wrong_is_said_once(tmp_path, values, said):
    arguments = pairs.overlay(tmp_path, **values)
    ended = Pair(tmp_path / "logs", pairs.launched, "teacher", arguments).end(30)
    status = 2 if values.keys() & {"device", "seed"} else 1
    assert [e.status for e in ended] == [status] * 2, ended
    errors = [line for e in ended for line in e.text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in ended[0].text + ended[1].text
    assert not list(tmp_path.rglob("lock.json")) and not list(tmp_path.rglob("run.json"))


def test_a_locked_run_is_refused_once(tmp_path):
    with tiny.run_of(tmp_path, "teacher").lock():
        ended = Pair(tmp_path / "l", pairs.launched, "teacher", pairs.overlay(tmp_path)).end(30)
    text = "".join(e.text for e in ended)
    assert [e.status for e in ended] == [1, 1] and text.count("error:") == 1
    assert f"process {os.getpid()}" in text


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv, said",
    [
        (["-p", "sed", "1"], "unknown parameter 'sed': did you mean 'seed'?"),
        (["-f", "params/none.yaml"], "no such YAML file"),
    ],
)
def test_wrong_arguments_stop_before_anything_starts(monkeypatch, capsys, argv, said):
    monkeypatch.setattr(launch, "load_faces", lambda cfg: pytest.fail("started"))
    assert launch.main(["student", *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_command_means_the_run_that_the_notebook_means():
    """Without -f a notebook starts from its own list of overlays; base.yaml empties it."""
    plain = launch.configuration([], [("seed", "3")])
    assert (plain.seed, plain.width, plain.epochs) == (3, 16, 8)  # of params/cpu.yaml
    paper = launch.configuration(["params/base.yaml", "params/paper.yaml"], [])
    assert (paper.width, paper.epochs, paper.overlays) == (32, 100, [])


@pytest.mark.slow
def test_a_whole_run_by_torchrun(tmp_path):
    overlays = [f"params/{name}.yaml" for name in ("base", "synthetic", "smoke")]
    given = [x for path in overlays for x in ("-f", path)]
    given += ["-p", "out_root", str(tmp_path), "-p", "num_threads", "1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               "2", "-m", "gmelib.launch", "teacher", *given]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: ") == 1
    (record,) = tmp_path.glob("synthetic/teacher/*/run.json")
    facts = json.loads(record.read_text())
    assert [s["processes"] for s in facts["sessions"]] == [2]
    assert facts["sessions"][0]["first_epoch"] == 1
    rows = pd.read_json(record.parent / "history.jsonl", lines=True)
    assert rows["epoch"].tolist() == [1, 2]
    table = load_predictions(record.parent)
    assert len(table) == table["id"].nunique() == facts["metrics"]["all"]["accuracy"]["n"] == 48
    assert not (record.parent / "lock.json").exists()
    cfg = launch.configuration(overlays, [("out_root", str(tmp_path))])
    faces = launch.load_faces(cfg)
    run = run_teacher(cfg, faces)
    assert run.folder == record.parent and facts == run.facts()  # loaded, not trained again
    assert_each_test_face_once(run, faces)
