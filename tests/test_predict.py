"""Prediction: what reaches the network and what it answers, against a plain loop over pictures."""

import json

import numpy as np
import pytest
import real_data
import tiny
import torch
from made_network import CLASSES, face, network, write_faces
from PIL import Image
from scipy.ndimage import correlate1d

from gmelib.checkpoint import load_model
from gmelib.config import PROJECT_ROOT
from gmelib.evaluate import load_predictions
from gmelib.faces import Face
from gmelib.predict import load_predictor, predict_images
from gmelib.predict.stream import EXACT

PUBLISHED = "outputs/published/fer2013/student/gmenet-12px-kd5-s0-7912f4ca"
SIDES = (8, 5, 33, 17, 8, 60, 33)


@pytest.fixture
def run(tmp_path):
    return network(tmp_path / "run")


def blurred(channel, size):
    """One channel enlarged without rounding and blurred as the paper says, by other libraries."""
    image = Image.fromarray(channel.astype(np.float32)).resize((size, size), Image.BICUBIC)
    taps = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    values = np.asarray(image).clip(0, 255)
    for axis in (0, 1):
        values = correlate1d(values, taps / taps.sum(), axis=axis, mode="mirror")
    return values


def plainly(run, picture, *, low):
    """One picture through the network alone: open, shrink, restore, twice, and their mean."""
    answers = []
    for image in (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        if low:
            small = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC)).reshape(8, 8, -1)
            seen = np.stack([blurred(c, 32) for c in small.transpose(2, 0, 1)])
        else:
            seen = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
            seen = seen.reshape(32, 32, -1).transpose(2, 0, 1)
        inputs = torch.from_numpy((seen / 255 - 0.5) / 0.5).float()[None].expand(1, 3, -1, -1)
        with torch.inference_mode():
            answers.append(load_model(run)(inputs.contiguous()).logits.log_softmax(1))
    return (sum(answers) / 2).softmax(1)[0].numpy()


def shares(table):
    return table[[f"p_{name}" for name in CLASSES]].to_numpy()


@pytest.mark.parametrize("dataset, mode", [("fer2013", "L"), ("synthetic", "RGB")])
@pytest.mark.parametrize("stage", ["student", "teacher"])
def test_answers_are_those_of_a_plain_loop(tmp_path, dataset, mode, stage):
    run = network(tmp_path / "run", stage, dataset=dataset)
    paths = write_faces(tmp_path / "pictures", SIDES)
    table = predict_images(run, tmp_path / "pictures", batch_size=3)
    assert table["path"].tolist() == [str(p) for p in paths]
    assert table["size"].tolist() == list(SIDES) and (table["face"] == 1).all()
    expected = [plainly(run, Image.open(p).convert(mode), low=stage == "student") for p in paths]
    np.testing.assert_allclose(shares(table), expected, atol=1e-4)
    assert np.ptp(np.stack(expected), axis=0).max() > 0.1  # a network that tells them apart
    assert table["expression"].tolist() == [CLASSES[np.argmax(e)] for e in expected]


def test_the_published_student_answers_as_in_its_record():
    told = load_predictions(PROJECT_ROOT / PUBLISHED).head(64)
    faces = real_data.some_faces(int(told["id"].max()) + 1)[told["id"].to_numpy()]
    table = predict_images(PUBLISHED, faces, device="cpu")
    columns = [c for c in told if c.startswith("p_")]
    np.testing.assert_allclose(table[columns], told[columns], atol=1e-4)


def test_without_flip_averaging_a_face_is_answered_once(tmp_path):
    run = network(tmp_path / "run", flip_average=False)
    picture = face(20, channels=1)
    small = np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC))
    seen = torch.from_numpy((blurred(small, 32) / 255 - 0.5) / 0.5).float().expand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = load_model(run)(seen.contiguous()).logits.softmax(1)
    np.testing.assert_allclose(shares(predict_images(run, [picture])), expected, atol=1e-4)


# -- which view, which faces ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage, train_on, view",
    [("teacher", "lr", "hr"), ("student", "lr", "lr"), ("student", "lr+hr", "lr"),
     ("student", "hr", "hr")],
)  # fmt: skip
def test_a_network_is_given_the_resolution_that_it_was_trained_on(tmp_path, stage, train_on, view):
    run = network(tmp_path / "run", stage, train_on=train_on)
    assert load_predictor(run).view == view
    assert load_predictor(run, view="lr").size == 8 and load_predictor(run, view="hr").size == 32


def test_small_faces_are_warned_of(run, tmp_path):
    student = load_predictor(run)
    assert not any(map(student.warning, (8, 7.6, 48, 4000)))
    assert student.warning(7) == "face of 7 px, enlarged to 8 px"
    teacher = load_predictor(network(tmp_path / "teacher", "teacher"))
    assert teacher.warning(35) == "face of 35 px, trained on 48 px" and not teacher.warning(36)
    table = predict_images(run, [face(7), face(8)])
    assert table["warning"].tolist() == ["face of 7 px, enlarged to 8 px", ""]


def test_an_oblong_picture_is_read_in_its_central_square(run):
    wide = face(20, width=31)
    table = predict_images(run, [wide, wide[:, 5:25]])
    assert table.loc[0, ["left", "top", "right", "bottom"]].tolist() == [5, 0, 25, 20]
    assert table.loc[0, "size"] == 20
    np.testing.assert_array_equal(*shares(table))


def test_a_large_jpeg_is_read_at_a_fraction_and_measured_whole(run, tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(face(1700, width=2300)).save(path, quality=95)
    exact = Image.open(path)
    exact.load()
    row = predict_images(run, path).iloc[0]
    assert row["size"] == pytest.approx(1700, abs=3) and row["left"] == pytest.approx(300, abs=3)
    whole = predict_images(run, [np.asarray(exact)]).iloc[0]
    columns = [f"p_{name}" for name in CLASSES]
    assert np.abs(row[columns].astype(float) - whole[columns].astype(float)).max() < 0.02
    small = tmp_path / "small.jpg"
    Image.fromarray(face(2 * EXACT - 1)).save(small)
    rows = predict_images(run, [small, np.asarray(Image.open(small))])
    np.testing.assert_array_equal(*shares(rows))  # too small to save anything: every pixel is read


def test_every_face_that_a_detector_finds_is_a_row(run):
    photograph = np.concatenate([face(40, 1), face(40, 2)], axis=1)

    def detect(image):
        assert image.shape[2:] == (3,) and image.dtype == np.uint8
        boxes = [(0, 0, 40, 40), (44, 4, 76, 36)]
        return [Face(box) for box in boxes] if image.shape[1] == 80 else []

    alone = predict_images(run, [photograph[:, :40], photograph[4:36, 44:76]])
    table = predict_images(run, [photograph, face(20, channels=1)], detector=detect)
    assert table["path"].tolist() == ["0", "0", "1"] and table["face"].tolist() == [1, 2, 0]
    assert table["size"].tolist()[:2] == [40, 32]
    np.testing.assert_allclose(shares(table)[:2], shares(alone), atol=1e-5)
    assert table["warning"][2] == "no face found" and np.isnan(shares(table)[2]).all()
    wider = predict_images(run, [photograph], detector=detect, margin=0.125)
    np.testing.assert_allclose(
        shares(wider)[1], shares(predict_images(run, [photograph[:, 40:]]))[0], atol=1e-5
    )


def test_a_face_that_cannot_be_cut_out_is_told_from_a_broken_picture(run):
    def detect(image):
        return [Face((0, 0, 8, 8)), Face((90, 0, 99, 9))]

    (error,) = predict_images(run, [face(20)], detector=detect)["error"]
    assert error.startswith("its faces cannot be cut out: box 90, 0, 99, 9")


def test_refusals_name_what_was_given(run, tmp_path):
    assert "margin = 0.1" in tiny.refusal(predict_images, run, [face(9)], margin=0.1)
    assert "batch_size = 0" in tiny.refusal(predict_images, run, [face(9)], batch_size=0)
    assert "detector" in tiny.refusal(predict_images, run, [face(9)], detector="eyes")
    assert "view" in tiny.refusal(load_predictor, run, view="middle")
    assert "run nowhere: no such folder" in tiny.refusal(load_predictor, "nowhere")
    (run.folder / "run.json").unlink()
    assert "holds no run.json" in tiny.refusal(load_predictor, run.folder)
    assert load_predictor(run.folder, view="lr").view == "lr"
    (run.folder / "model.safetensors").unlink()
    assert "no such weights" in tiny.refusal(load_predictor, run.folder)


def test_a_run_is_found_by_its_folder_its_file_and_its_id(run):
    for given in (run, run.folder, str(run.folder / "model.safetensors")):
        assert load_predictor(given).name == "run"
    name = PUBLISHED.rsplit("/", 1)[1]
    by_id = load_predictor(name)
    assert by_id.name == name and by_id.weights == load_predictor(PUBLISHED).weights


@pytest.mark.parametrize(
    "dataset, values, mode, native",
    [("ferplus", {}, "L", 48), ("rafdb", {}, "RGB", 100), ("expw", {"face_size": 80}, "RGB", 80),
     ("synthetic", {"drawn_size": 64}, "RGB", 64), ("folder", {}, "RGB", 32)],
)  # fmt: skip
def test_a_record_tells_colour_and_size_of_the_training_faces(
    tmp_path, dataset, values, mode, native
):
    run = network(tmp_path / "run", dataset=dataset, **values)
    predictor = load_predictor(run)
    assert (predictor.mode, predictor.native) == (mode, native)
    path = run.folder / "run.json"
    told = json.loads(path.read_text()) | {"data": {"channels": 1, "side": 40}}
    path.write_text(json.dumps(told))
    predictor = load_predictor(run)
    assert (predictor.mode, predictor.native) == ("L", 40)
