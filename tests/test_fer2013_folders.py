"""FER2013 as image folders: both ways to split it, what is refused, and torchvision's files."""

import shutil

import numpy as np
import pytest
from made_data import EMOTION, PIXELS, USAGE, config, csv_lines, write
from PIL import Image

from gmelib.config import EXPRESSIONS, InputError
from gmelib.data import check_dataset, fer2013, load_faces
from gmelib.data.fer2013_csv import LABELS


def make_folders(root, place="fer2013", told=True, ending="png"):
    """The faces of made_data as Kaggle's folders hold them; PNG keeps their pixels."""
    base = root / place
    for number, (emotion, usage, pixels) in enumerate(zip(EMOTION, USAGE, PIXELS, strict=True)):
        folder = base / ("train" if usage == "Training" else "test") / LABELS[emotion]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{usage}_{97 * number}" if told else f"im{number}"
        Image.fromarray(pixels).save(folder / f"{name}.{ending}")
    return base


@pytest.mark.parametrize("place", ["fer2013", ""])
def test_splits_are_the_published_ones_where_names_tell_them(tmp_path, place):
    base = make_folders(tmp_path, place)
    report = check_dataset(config(tmp_path))
    faces = report.faces
    assert (faces.counts() == [2, 1, 1]).all(axis=None) and faces.classes == EXPRESSIONS[:7]
    told = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    for name, split, label, image in zip(
        faces.ids, faces.split, faces.labels, faces.images, strict=True
    ):
        assert told[name.split("/")[2].partition("_")[0]] == split
        with Image.open(base / name) as stored:
            number = int(name.rpartition("_")[2].removesuffix(".png")) // 97
            assert np.array_equal(image[0].numpy(), np.asarray(stored))
        assert np.array_equal(image[0].numpy(), PIXELS[number])
        assert faces.classes[label] == EXPRESSIONS[EMOTION[number]]
    assert any("told by the images' names" in note for note in report.notes)
    assert any("validation has 7 faces, published are 3589" in p for p in report.problems)


def test_validation_is_held_out_where_names_do_not_tell(tmp_path):
    make_folders(tmp_path, told=False)
    cfg = config(tmp_path, val_fraction=0.4)
    report = check_dataset(cfg)
    assert (report.faces.counts() == [1, 1, 2]).all(axis=None)
    assert any("not the published splits" in note for note in report.notes)
    assert "train+validation has 14 faces, published are 28709" in report.problems[0]
    assert "test has 14 faces, published are 7178" in report.problems[1]
    assert report.counts.loc["disgust", ("test", "published")] == 56 + 55
    again = load_faces(cfg.replace(seed=4))
    assert np.array_equal(again.split, report.faces.split)


def test_jpeg_and_grey_stored_as_colour_are_read(tmp_path):
    base = make_folders(tmp_path, ending="jpg")
    path = base / "train" / "angry" / "Training_0.jpg"
    grey = Image.open(path)
    grey.convert("RGB").save(path.with_suffix(".png"))
    path.unlink()
    faces = load_faces(config(tmp_path))
    assert faces.images.shape == (28, 1, 48, 48)
    position = faces.ids.tolist().index("train/angry/Training_0.png")
    assert np.array_equal(faces.images[position, 0].numpy(), np.asarray(grey))


def test_a_csv_goes_before_folders(tmp_path):
    make_folders(tmp_path)
    write(tmp_path, csv_lines("icml_face_data.csv"), "icml_face_data.csv")
    assert load_faces(config(tmp_path)).ids.tolist() == list(range(28))


def image(base):
    return base / "train" / "happy" / "Training_291.png"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-60]), "Training_291.png: not a readable image"),
        (lambda p: Image.new("L", (64, 64)).save(p), "291.png: 64 x 64 px, grey; expected 48 x 48"),
        (lambda p: Image.new("RGB", (48, 48), (9, 0, 0)).save(p), "48 x 48 px, colour; expected"),
        (lambda p: Image.new("L", (48, 40)).save(p), "48 x 40 px; expected a square"),
        (lambda p: p.parent.rename(p.parent.with_name("joyful")), "joyful: unknown class"),
        (lambda p: p.parent.rename(p.parent.with_name("contempt")), "contempt: no class"),
        (lambda p: [shutil.rmtree(f) for s in ("train", "test") for f in
                    (p.parents[2] / s).iterdir()], "fer2013: no image; expected train/<class>"),
        (lambda p: [shutil.copytree(p.parents[2] / "test", p.parents[2] / name) for name in
                    ("validation", "val")], "fer2013: validation and val are the same split"),
        (lambda p: shutil.rmtree(p.parents[2] / "test"), "fer2013.csv is missing.*train/<class>"),
    ],
)  # fmt: skip
def test_damaged_folders_are_named(tmp_path, change, message):
    change(image(make_folders(tmp_path)))
    with pytest.raises(InputError, match=message) as error:
        load_faces(config(tmp_path))
    assert "\n" not in str(error.value)


def test_faces_of_folders_are_decoded_once(tmp_path, monkeypatch):
    make_folders(tmp_path)
    first = load_faces(config(tmp_path))
    monkeypatch.setattr(fer2013.folders, "stack", None)
    assert load_faces(config(tmp_path)).fingerprint == first.fingerprint


def test_ferplus_says_why_folders_cannot_do(tmp_path):
    base = make_folders(tmp_path)
    (base / "fer2013new.csv").write_text("Usage\n")
    with pytest.raises(InputError, match="matched by row.*no row order.*fer2013.csv"):
        load_faces(config(tmp_path, "ferplus"))


def test_a_test_csv_without_labels_is_refused(tmp_path):
    base = tmp_path / "fer2013"
    base.mkdir()
    pixels = '"' + " ".join(["7"] * 48 * 48) + '"'
    (base / "train.csv").write_text(f'"emotion","pixels"\n"0",{pixels}\n')
    (base / "test.csv").write_text(f'"pixels"\n{pixels}\n')
    with pytest.raises(InputError, match="test.csv: has no labels.*expected fer2013.csv or icml"):
        load_faces(config(tmp_path))
