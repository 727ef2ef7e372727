"""RAF-DB's faces from photographs: alignment by landmarks, crops by boxes, damaged annotations."""

import shutil

import numpy as np
import pytest
from made_data import config, same
from made_rafdb import ALL, load, make_mirror, make_published, truncate
from PIL import Image

from gmelib.config import InputError
from gmelib.data import check_dataset
from gmelib.faces import TEMPLATE, crop

WIDTH, HEIGHT = 240, 200
COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250)]


def landmarks_of(number):
    """The template, turned and scaled, somewhere in the photograph."""
    angle, scale = (number % 9 - 4) / 5, 0.9 + number % 3 / 10
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 56) @ turn * scale + [110 + number % 7, 95]


def photograph(points):
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for point, colour in zip(points, COLOURS, strict=True):
        pixels[np.hypot(x - point[0], y - point[1]) < 6] = colour
    return Image.fromarray(pixels)


def make_photographs(root):
    base = make_published(root)
    for folder in ("Image/original", "Annotation/manual", "Annotation/boundingbox"):
        (base / folder).mkdir(parents=True)
    for number, (image, _) in enumerate(ALL):
        stem, points = image.removesuffix(".jpg"), landmarks_of(number)
        photograph(points).save(base / "Image" / "original" / image, quality=95, subsampling=0)
        lines = [f"{x:.4f}\t{y:.4f}" for x, y in points] + ["1", "0", "2"]
        (base / f"Annotation/manual/{stem}_manu_attri.txt").write_text("\n".join(lines))
        box = [*points.min(0), *points.max(0)]
        text = " ".join(f"{value:.3f}" for value in box)
        (base / f"Annotation/boundingbox/{stem}_boundingbox.txt").write_text(text + " \n")
    return base


def test_photographs_are_aligned_by_their_landmarks(tmp_path):
    make_photographs(tmp_path)
    faces = load(tmp_path, rafdb_faces="original")
    assert faces.images.shape == (42, 3, 100, 100) and faces.extras["notes"] == [
        "layout: published"
    ]
    columns, rows = np.floor(TEMPLATE * (100 / 112)).astype(int).T
    found = faces.images[:, :, rows, columns].permute(0, 2, 1).numpy().astype(int)
    assert abs(found - np.array(COLOURS)).max() < 40
    assert load(tmp_path, rafdb_faces="original", face_size=64).images.shape[-1] == 64
    assert load(tmp_path).fingerprint != faces.fingerprint


def test_landmarks_in_the_order_of_the_face_s_own_left_and_right_give_the_same_face(tmp_path):
    base = make_photographs(tmp_path)
    first = load(tmp_path, rafdb_faces="original")
    for file in (base / "Annotation" / "manual").iterdir():
        lines = file.read_text().split("\n")
        file.write_text("\n".join([lines[i] for i in (1, 0, 2, 4, 3, 5, 6, 7)]))
    assert same(load(tmp_path, rafdb_faces="original"), first)


def test_a_photograph_without_landmarks_is_cropped_by_its_box(tmp_path):
    base = make_photographs(tmp_path)
    (base / "Annotation/manual/test_0001_manu_attri.txt").unlink()
    cfg = config(tmp_path, "rafdb", rafdb_faces="original", val_fraction=0.25)
    report = check_dataset(cfg)
    assert "faces cropped by their boxes, for want of landmarks: 1" in report.notes
    box = (base / "Annotation/boundingbox/test_0001_boundingbox.txt").read_text().split()
    image = np.asarray(Image.open(base / "Image/original/test_0001.jpg"))
    expected = crop(image, tuple(map(float, box)), 100)
    assert np.array_equal(report.faces.images[0].permute(1, 2, 0).numpy(), expected)


def annotation(base, kind):
    folder, ending = {"manual": ("manual", "manu_attri"), "box": ("boundingbox",) * 2}[kind]
    return base / "Annotation" / folder / f"train_00003_{ending}.txt"


def respell(file, position, number):
    words = file.read_text().split()
    words[position] = number
    file.write_text(" ".join(words))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: shutil.rmtree(b / "Annotation"),
         "test_0001.jpg: neither landmarks nor box.*manual.zip"),
        (lambda b: annotation(b, "manual").write_text("1 2\n3 4\n"),
         "train_00003_manu_attri.txt: expected five lines"),
        (lambda b: annotation(b, "manual").write_text("x y\n" * 5), "_attri.txt: expected five"),
        (lambda b: annotation(b, "manual").write_text("7 7\n" * 5), "manu_attri.txt: .*one point"),
        (lambda b: (annotation(b, "manual").unlink(), annotation(b, "box").write_text("9 9 3 30")),
         "train_00003_boundingbox.txt: box 9, 9, 3, 30 .*no area"),
        (lambda b: (annotation(b, "manual").unlink(), annotation(b, "box").write_text("9 9 nan 3")),
         "train_00003_boundingbox.txt: expected left, top"),
        (lambda b: respell(annotation(b, "manual"), 4, "12345"),
         r"00003_manu_attri.txt: .*12345.* is outside .*train_00003.jpg, which has 240 x 200 px"),
        (lambda b: (annotation(b, "manual").unlink(), respell(annotation(b, "box"), 2, "12345")),
         r"00003_boundingbox.txt: .*12345.* is outside .*train_00003.jpg, which has 240 x 200 px"),
        (lambda b: annotation(b, "manual").write_text("9 9\n99 9\n50 9\n99 9\n9 9\n"),
         "00003_manu_attri.txt: landmarks: no face of an image of 240 x 200 px has them"),
        (lambda b: shutil.rmtree(b / "Image/original"), "unzip Image/original.zip"),
        (lambda b: truncate(b / "Image/original/train_00003.jpg"), "train_00003.*not a readable"),
    ],
)  # fmt: skip
def test_damaged_annotations_are_named(tmp_path, change, message):
    change(make_photographs(tmp_path))
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path, rafdb_faces="original")
    assert "\n" not in str(error.value)


def test_the_mirror_has_no_photographs(tmp_path):
    make_mirror(tmp_path)
    with pytest.raises(InputError, match="rafdb_faces = 'original'.*mirror.*set rafdb_faces"):
        load(tmp_path, rafdb_faces="original")
