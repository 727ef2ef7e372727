"""What a teacher or student run is refused for: one line each, and nothing finished is spoilt."""

import json
import shlex

import pytest
import tiny

from gmelib.config import Config, parameters_cell
from gmelib.evaluate import load_predictions
from gmelib.experiment import find_teacher, history, open_student, run_student, run_teacher
from gmelib.record import Run


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
    before = tiny.snapshot(student.folder)
    cfg = tiny.config(root, lr_size=student.cfg.lr_size, force=force)
    text = tiny.refusal(run_student, cfg, tiny.faces())
    assert str(weights) in text and "cannot be read as a GME-Net network" in text
    assert tiny.snapshot(student.folder) == before


def test_a_device_that_is_not_here_spoils_no_finished_run(root):
    before = tiny.snapshot(tiny.run_of(root).folder)
    text = tiny.refusal(run_student, tiny.config(root, device="cuda:7", force=True), tiny.faces())
    assert "device = 'cuda:7'" in text
    assert tiny.snapshot(tiny.run_of(root).folder) == before


def test_distillation_without_maps_is_refused(root):
    text = tiny.refusal(run_student, tiny.config(root, attention="none"), tiny.faces())
    assert "kd_weight = 5" in text and "attention = 'none'" in text
    assert not tiny.run_of(root, attention="none").folder.exists()


@pytest.mark.parametrize("run", [run_teacher, run_student])
def test_a_finished_run_of_other_faces_is_refused_and_left_as_it_is(root, run, no_training):
    before = tiny.snapshot(tiny.run_of(root).folder)
    other = tiny.faces(seed=1)
    text = tiny.refusal(run, tiny.config(root), other)
    assert "was made from other data" in text and other.fingerprint[:8] in text
    assert tiny.snapshot(tiny.run_of(root).folder) == before


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
