"""From parameters to a finished run: done is loaded, broken resumed, missing trained."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch

from gmelib import experiment, record
from gmelib.batches import make_view, predict_logits
from gmelib.checkpoint import load_checkpoint, load_model
from gmelib.config import Config
from gmelib.evaluate import complexity, load_predictions
from gmelib.experiment import find_teacher, history, run_student, run_teacher
from gmelib.fields import PRIVATE
from gmelib.metrics import report
from gmelib.train import Trainer, initial_model

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
        "channels": 1,
        "side": 32,
    }
    session = facts["sessions"][0]
    assert session["threads"] == 1 and session["precision"] == "float32" and session["device"]
    assert facts["wall_seconds"] == pytest.approx(session["seconds"])
    assert facts["complexity"]["parameters"] == sum(p.numel() for p in load_model(run).parameters())
    assert str(root) not in json.dumps(facts)


def test_costs_are_those_of_the_network_and_not_of_its_arithmetic(tmp_path, monkeypatch):
    """Training lets wide convolutions of small maps skip the padding; the count must not."""
    run, faces = tiny.run_of(tmp_path, kd_weight=0.0), tiny.faces()
    monkeypatch.setattr("gmelib.small_maps.MANY_WEIGHTS", 1)
    trained = Trainer(run, initial_model(run.cfg, 4), faces, None).model
    expected = complexity(initial_model(run.cfg, 4), run.cfg.input_size)
    assert complexity(trained, run.cfg.input_size)["macs"] < expected["macs"]
    assert run_student(run.cfg, faces).facts()["complexity"] == expected


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
    folders = tiny.run_of(root).folder, tiny.run_of(root, "teacher").folder
    before = [tiny.snapshot(folder) for folder in folders]
    assert run_teacher(cfg, faces).folder == tiny.run_of(root, "teacher").folder
    assert run_student(cfg, faces).folder == tiny.run_of(root).folder
    assert run_student(cfg.replace(kd_weight=0), faces).state == "done"
    assert before == [tiny.snapshot(folder) for folder in folders]


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


def test_a_teacher_of_an_older_record_that_lacks_parameters_still_fits(root):
    """What was made before a parameter existed was made with its default."""
    teacher = tiny.run_of(root, "teacher")
    facts = json.loads((teacher.folder / "run.json").read_text())
    for name in ("method", "method_options"):
        del facts["config"][name]
    (teacher.folder / "run.json").write_text(json.dumps(facts))
    student = run_student(tiny.config(root, lr_size=10), tiny.faces())
    assert student.facts()["distillation"]["teacher"] == teacher.id


def test_force_trains_again_and_ends_alike(root):
    run, faces = tiny.run_of(root), tiny.faces()
    before = run.facts(), load_model(run).state_dict(), load_checkpoint(run.folder, run.id)
    teacher = tiny.snapshot(tiny.run_of(root, "teacher").folder)
    run_student(tiny.config(root, force=True), faces)
    after = run.facts()
    assert after["sessions"] != before[0]["sessions"] and len(after["sessions"]) == 1
    assert after["metrics"] == before[0]["metrics"]
    assert tiny.states_equal(dict(load_model(run).state_dict()), dict(before[1]))
    assert tiny.snapshot(tiny.run_of(root, "teacher").folder) == teacher


def test_forcing_a_student_keeps_its_published_teacher(root, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    root.rename(tmp_path / "published")
    run = run_student(tiny.config(tmp_path / "own", force=True, epochs=2), tiny.faces())
    assert run.folder.is_relative_to(tmp_path / "own")
    assert run.facts()["distillation"]["teacher"] == tiny.run_of(tmp_path, "teacher").id


def test_classes_come_from_the_faces(tmp_path):
    """Eight classes give eight outputs; the record and the predictions name them."""
    faces = tiny.faces()
    faces = replace(faces, classes=("anger", "disgust", *faces.classes[2:]))
    run = run_teacher(tiny.config(tmp_path, epochs=1), faces)
    assert run.facts()["classes"] == list(faces.classes)
    assert {f"p_{c}" for c in faces.classes} <= set(pd.read_parquet(
        run.folder / "predictions.parquet"))  # fmt: skip
