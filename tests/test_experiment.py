"""From parameters to a finished run: done is loaded, broken resumed, missing trained."""

import json
import shlex
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch

from gmelib import experiment, record
from gmelib.batches import make_view, predict_logits
from gmelib.checkpoint import load_checkpoint, load_model
from gmelib.config import PRIVATE, Config, parameters_cell
from gmelib.evaluate import load_predictions
from gmelib.experiment import find_teacher, history, open_student, run_student, run_teacher
from gmelib.metrics import report
from gmelib.record import Run
from gmelib.train import Trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An outputs folder with a teacher, its student, and a student without distillation."""
    root = tmp_path_factory.mktemp("finished")
    faces = tiny.faces()
    run_teacher(tiny.config(root), faces)
    run_student(tiny.config(root), faces)
    run_student(tiny.config(root, kd_weight=0), faces)
    return root


@pytest.fixture
def root(finished, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(finished, tmp_path / "outputs")


@pytest.fixture
def no_training(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("trained although it is done")

    monkeypatch.setattr(experiment, "fit", fail)


def snapshot(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


# -- the record -----------------------------------------------------------------------------------


def test_the_record_says_what_ran_on_what_and_what_came_out(root):
    faces, run = tiny.faces(), tiny.run_of(root)
    facts = run.facts()
    assert (facts["run"], facts["dataset"], facts["stage"]) == (run.id, "synthetic", "student")
    assert Config.make(**facts["config"]).scientific() == run.cfg.scientific()
    assert not set(facts["config"]) & PRIVATE
    assert facts["classes"] == list(tiny.CLASSES)
    assert facts["versions"]["torch"] == str(torch.__version__).split("+")[0]
    assert set(facts["revision"]) == {"commit", "dirty"}
    assert facts["data"] == {
        "fingerprint": faces.fingerprint,
        "counts": faces.counts().to_dict(),
        "duplicates": 1,
    }
    session = facts["sessions"][0]
    assert session["threads"] == 1 and session["precision"] == "float32" and session["device"]
    assert facts["wall_seconds"] == pytest.approx(session["seconds"])
    assert facts["complexity"]["parameters"] == sum(p.numel() for p in load_model(run).parameters())
    assert str(root) not in json.dumps(facts)


def test_metrics_are_given_with_and_without_the_faces_seen_in_training(root):
    run = tiny.run_of(root)
    metrics = run.facts()["metrics"]
    assert metrics["all"]["accuracy"]["n"] == 20
    assert metrics["without_duplicates"]["accuracy"]["n"] == 19
    for scope in metrics.values():
        accuracy = scope["accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1


def test_every_metric_can_be_computed_again_from_the_predictions(root):
    for run in (tiny.run_of(root), tiny.run_of(root, "teacher")):
        predictions = load_predictions(run.folder)
        again = report(predictions, resamples=run.cfg.resamples)
        assert json.loads(json.dumps(again)) == run.facts()["metrics"]


def test_predictions_are_those_of_the_network_that_is_kept(root):
    faces = tiny.faces()
    index = faces.indices("test")
    for stage in ("teacher", "student"):
        run = tiny.run_of(root, stage)
        table = load_predictions(run.folder)
        logits = predict_logits(
            load_model(run), faces.images[index], make_view(run.cfg, stage), flip_average=True
        )
        expected = logits.softmax(1)
        columns = [f"p_{name}" for name in tiny.CLASSES]
        torch.testing.assert_close(torch.tensor(table[columns].to_numpy()), expected)
        assert table["id"].tolist() == faces.ids[index].tolist()
        assert table["label"].tolist() == faces.labels[index].tolist()
        assert table["duplicate"].sum() == 1 and set(table["split"]) == {"test"}


def test_the_record_names_the_selection_and_the_teacher(root):
    teacher, student = tiny.run_of(root, "teacher"), tiny.run_of(root)
    plain = tiny.run_of(root, kd_weight=0)
    assert student.facts()["distillation"] == {"teacher": teacher.id, "kd_weight_x_blocks": 20.0}
    assert plain.facts()["distillation"] == {"teacher": None, "kd_weight_x_blocks": 0.0}
    rows = history(student)
    best = int(rows["validation_accuracy"].idxmax())
    facts = student.facts()
    assert facts["selection"]["by"] == "validation" and facts["selection"]["epoch"] == best + 1
    accuracy = rows["validation_accuracy"]
    assert facts["validation"]["best_epoch"] == best + 1
    assert facts["validation"]["best_accuracy"] == pytest.approx(accuracy.max())
    assert facts["validation"]["last_accuracy"] == pytest.approx(accuracy.iloc[-1])
    assert 0 <= facts["selection"]["accuracy_of_last_epoch"] <= 1
    assert {"kd", "similarity_channel"} <= set(rows) and "kd" not in history(plain)


def test_the_test_faces_decide_nothing_unless_asked_for(root, tmp_path, monkeypatch):
    seen = []
    validate = Trainer.validate
    monkeypatch.setattr(Trainer, "validate", lambda s, split: seen.append(split)
                        or validate(s, split))  # fmt: skip
    run_teacher(tiny.config(tmp_path / "a", epochs=1), tiny.faces())
    assert set(seen) == {"validation"}
    run = run_teacher(tiny.config(tmp_path / "b", epochs=1, select="test"), tiny.faces())
    assert set(seen) == {"validation", "test"}
    assert run.facts()["selection"]["by"] == "test"  # so the habit is marked as such
    assert run.id != tiny.run_of(tmp_path, "teacher", epochs=1).id


# -- done, broken, missing ------------------------------------------------------------------------


def test_a_finished_run_is_loaded_and_left_as_it_is(root, no_training):
    cfg, faces = tiny.config(root), tiny.faces()
    before = snapshot(tiny.run_of(root).folder), snapshot(tiny.run_of(root, "teacher").folder)
    assert run_teacher(cfg, faces).folder == tiny.run_of(root, "teacher").folder
    assert run_student(cfg, faces).folder == tiny.run_of(root).folder
    assert run_student(cfg.replace(kd_weight=0), faces).state == "done"
    after = snapshot(tiny.run_of(root).folder), snapshot(tiny.run_of(root, "teacher").folder)
    assert before == after


def test_students_of_any_resolution_share_the_teacher(root, no_training):
    for values in ({"lr_size": 16}, {"kd_weight": 0}, {"blur_sigma": 0}, {"kernel": "box"}):
        run = run_teacher(tiny.config(root, **values), tiny.faces())
        assert run.folder == tiny.run_of(root, "teacher").folder


def test_a_broken_run_is_resumed(root, monkeypatch):
    """Killed after training and before the record: training is not repeated, figures are equal."""
    run, faces = tiny.run_of(root), tiny.faces()
    before = run.facts()
    for name in ("run.json", "predictions.parquet", "model.safetensors"):
        (run.folder / name).unlink()
    assert run.state == "broken"
    monkeypatch.setattr(Trainer, "train_epoch", lambda *args: pytest.fail("trained again"))
    assert run_student(tiny.config(root), faces).state == "done"
    after = run.facts()
    assert after["metrics"] == before["metrics"] and after["sessions"] == before["sessions"]


def test_a_published_run_is_found_and_used(root, tmp_path, monkeypatch, no_training):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(experiment, "PUBLISHED", tmp_path / "published")
    root.rename(tmp_path / "published")
    cfg = tiny.config(tmp_path / "own")
    assert run_student(cfg, tiny.faces()).folder.is_relative_to(tmp_path / "published")
    assert find_teacher(cfg, tiny.faces()).folder.is_relative_to(tmp_path / "published")
    assert not (tmp_path / "own").exists()


def test_force_trains_again_and_ends_alike(root):
    run, faces = tiny.run_of(root), tiny.faces()
    before = run.facts(), load_model(run).state_dict(), load_checkpoint(run.folder, run.id)
    teacher = snapshot(tiny.run_of(root, "teacher").folder)
    run_student(tiny.config(root, force=True), faces)
    after = run.facts()
    assert after["sessions"] != before[0]["sessions"] and len(after["sessions"]) == 1
    assert after["metrics"] == before[0]["metrics"]
    assert tiny.states_equal(dict(load_model(run).state_dict()), dict(before[1]))
    assert snapshot(tiny.run_of(root, "teacher").folder) == teacher


def test_forcing_a_student_keeps_its_published_teacher(root, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    root.rename(tmp_path / "published")
    run = run_student(tiny.config(tmp_path / "own", force=True, epochs=2), tiny.faces())
    assert run.folder.is_relative_to(tmp_path / "own")
    assert run.facts()["distillation"]["teacher"] == tiny.run_of(tmp_path, "teacher").id


# -- what is refused ------------------------------------------------------------------------------


def test_a_missing_teacher_is_answered_by_the_command_that_makes_it(tmp_path):
    cfg = tiny.config(tmp_path / "it's here", data_root="my data")
    text = tiny.refusal(run_student, cfg, tiny.faces())
    assert f"the teacher {Run.open(cfg.teacher(), 'teacher').id} is missing" in text
    words = shlex.split(text.split("train it first with: ")[1])
    assert words[:2] == ["papermill", "notebooks/02_teacher.ipynb"] and words[-2] == "-y"
    assert not (tmp_path / "it's here").exists()

    given = json.loads(words[-1])  # what papermill does with it
    namespace = {}
    exec(parameters_cell(), namespace)
    source = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in given.items())
    exec(source, namespace)
    made = Config.from_namespace(namespace | {"In": ["", "", source, ""]})
    assert Run.open(made.teacher(), "teacher").folder == Run.open(cfg.teacher(), "teacher").folder
    assert made.path("data_root") == cfg.path("data_root")


def test_a_broken_teacher_is_no_teacher(root):
    teacher = tiny.run_of(root, "teacher")
    (teacher.folder / "run.json").unlink()
    text = tiny.refusal(find_teacher, tiny.config(root), tiny.faces())
    assert "is broken; train it first with: papermill" in text


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"width": 8}, "width = 4 (expected 8)"),
        ({"blocks": (1, 2, 1, 1)}, "blocks = [1, 1, 1, 1] (expected [1, 2, 1, 1])"),
        ({"input_size": 48}, "input_size = 32 (expected 48)"),
        ({"attention": "cbam"}, "attention = dbam (expected cbam)"),
        ({"dataset": "fer2013"}, "dataset = synthetic (expected fer2013)"),
    ],
)
def test_a_teacher_of_another_architecture_or_data_set_is_refused(root, values, expected):
    teacher = tiny.run_of(root, "teacher")
    cfg = tiny.config(root, teacher_run=str(teacher.folder), **values)
    text = tiny.refusal(run_student, cfg, tiny.faces())
    assert expected in text and teacher.id in text


def test_a_teacher_of_other_faces_is_refused(root):
    text = tiny.refusal(run_student, tiny.config(root, lr_size=16), tiny.faces(seed=1))
    assert tiny.run_of(root, "teacher").id in text and "was made from other data" in text


def test_a_student_is_no_teacher_and_neither_is_any_folder(root, tmp_path):
    faces, student = tiny.faces(), tiny.run_of(root)
    cfg = tiny.config(root, teacher_run=str(student.folder))
    assert "is a student, no teacher" in tiny.refusal(find_teacher, cfg, faces)
    cfg = tiny.config(root, teacher_run=str(tmp_path))
    assert "holds no run.json" in tiny.refusal(find_teacher, cfg, faces)


def test_a_named_teacher_counts_into_the_students_name_unless_it_is_the_implied_one(root):
    faces, implied = tiny.faces(), tiny.run_of(root, "teacher")
    cfg = tiny.config(root, teacher_run=str(implied.folder))
    assert open_student(cfg, find_teacher(cfg, faces)).id == tiny.run_of(root).id
    other = run_teacher(tiny.config(root, epochs=1), faces)
    cfg = tiny.config(root, teacher_run=str(other.folder))
    run = open_student(cfg, find_teacher(cfg, faces))
    assert run.id != tiny.run_of(root).id and run.state == "missing"


@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_teacher_stops_the_student_and_spoils_nothing(root, force):
    teacher = tiny.run_of(root, "teacher")
    weights = teacher.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    student = tiny.run_of(root, lr_size=8 if force else 16)
    before = snapshot(student.folder) if force else {}
    cfg = tiny.config(root, lr_size=student.cfg.lr_size, force=force)
    text = tiny.refusal(run_student, cfg, tiny.faces())
    assert str(weights) in text and "cannot be read as a GME-Net network" in text
    assert (snapshot(student.folder) if student.folder.exists() else {}) == before


def test_a_device_that_is_not_here_spoils_no_finished_run(root):
    before = snapshot(tiny.run_of(root).folder)
    text = tiny.refusal(run_student, tiny.config(root, device="cuda:7", force=True), tiny.faces())
    assert "device = 'cuda:7'" in text
    assert snapshot(tiny.run_of(root).folder) == before


def test_distillation_without_maps_is_refused(root):
    text = tiny.refusal(run_student, tiny.config(root, attention="none"), tiny.faces())
    assert "kd_weight = 5" in text and "attention = 'none'" in text
    assert not tiny.run_of(root, attention="none").folder.exists()


@pytest.mark.parametrize("run", [run_teacher, run_student])
def test_a_finished_run_of_other_faces_is_refused_and_left_as_it_is(root, run, no_training):
    before = snapshot(tiny.run_of(root).folder)
    other = tiny.faces(seed=1)
    text = tiny.refusal(run, tiny.config(root), other)
    assert "was made from other data" in text and other.fingerprint[:8] in text
    assert snapshot(tiny.run_of(root).folder) == before


def test_a_run_that_cannot_be_written_to_the_end_has_no_record(root, monkeypatch):
    run = tiny.run_of(root)
    for name in ("run.json", "predictions.parquet", "model.safetensors"):
        (run.folder / name).unlink()
    monkeypatch.setattr("gmelib.record.open", tiny.FullDisk, raising=False)
    text = tiny.refusal(run_student, tiny.config(root), tiny.faces())
    monkeypatch.undo()
    assert "No space left on device" in text
    assert run.state == "broken"
    assert run_student(tiny.config(root), tiny.faces()).state == "done"


@pytest.mark.parametrize("name, load", [("predictions.parquet", lambda run: load_predictions(
    run.folder)), ("history.jsonl", history)])  # fmt: skip
def test_a_spoilt_file_of_a_finished_run_is_named(root, name, load):
    run = tiny.run_of(root)
    (run.folder / name).write_bytes(b"PAR1 {")
    assert name in tiny.refusal(load, run)
    (run.folder / name).unlink()
    assert name in tiny.refusal(load, run)


def test_classes_come_from_the_faces(tmp_path):
    """Eight classes give eight outputs; the record and the predictions name them."""
    faces = tiny.faces()
    faces = replace(faces, classes=("anger", "disgust", *faces.classes[2:]))
    run = run_teacher(tiny.config(tmp_path, epochs=1), faces)
    assert run.facts()["classes"] == list(faces.classes)
    assert {f"p_{c}" for c in faces.classes} <= set(pd.read_parquet(
        run.folder / "predictions.parquet"))  # fmt: skip
