"""RAF-DB: the published layout, Kaggle's mirror, and what can be damaged in them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_data import config, same
from made_rafdb import (
    ALL,
    COUNTS,
    PUBLISHED,
    face,
    load,
    make_mirror,
    make_published,
    truncate,
)
from PIL import Image

from gmelib.config import EXPRESSIONS, InputError
from gmelib.data import check_dataset, rafdb

# The layouts


@pytest.mark.parametrize("name", ["rafdb", "RAF-DB", "rafdb/basic", "données/rafdb"])
def test_published_layout(tmp_path, name):
    base = make_published(tmp_path, name)
    faces = load(tmp_path / "données" if name.startswith("d") else tmp_path)
    assert faces.classes == EXPRESSIONS[:7] and faces.images.shape == (42, 3, 100, 100)
    assert (faces.counts() == [3, 1, 2]).all(axis=None)
    expected = {image: PUBLISHED[label - 1] for image, label in ALL}
    assert {i: faces.classes[n] for i, n in zip(faces.ids, faces.labels, strict=True)} == expected
    assert all(i.startswith("test") == (s == "test") for i, s in zip(faces.ids, faces.split,
                                                                     strict=True))  # fmt: skip
    for position in (0, 20, 41):
        stem = faces.ids[position].removesuffix(".jpg")
        with Image.open(base / "Image" / "aligned" / f"{stem}_aligned.jpg") as image:
            pixels = np.asarray(image)
        assert np.array_equal(faces.images[position].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("name", ["rafdb", "."])
@pytest.mark.parametrize("csv", [True, False])
def test_the_mirror_gives_the_same_faces_as_the_published_files(tmp_path, name, csv):
    make_mirror(tmp_path / "mirror", name, csv)
    make_published(tmp_path / "published")
    assert same(load(tmp_path / "mirror"), load(tmp_path / "published"))


def test_a_mark_line_ends_and_quotes_of_windows_change_nothing(tmp_path):
    base = make_mirror(tmp_path)
    plain = load(tmp_path)
    for split in COUNTS:
        file = base / f"{split}_labels.csv"
        rows = file.read_text().split()
        quoted = [rows[0]] + ['"{}",{}'.format(*row.split(",")) for row in rows[1:]]
        file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(quoted).encode() + b"\r\n")
    assert same(load(tmp_path), plain)
    file = make_published(tmp_path / "other") / rafdb.LIST
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert same(load(tmp_path / "other"), plain)


def test_the_held_out_share_does_not_depend_on_the_training_seed_or_the_list_s_order(tmp_path):
    file = make_published(tmp_path) / rafdb.LIST
    first = load(tmp_path)
    file.write_text("".join(f"{image} {label}\n" for image, label in reversed(ALL)))
    assert same(load(tmp_path, seed=3), first)


def test_faces_are_decoded_once(tmp_path, monkeypatch):
    make_published(tmp_path)
    first = load(tmp_path)
    monkeypatch.setattr(rafdb, "stack", None)
    assert same(load(tmp_path), first)


def test_face_size_resizes(tmp_path):
    base = make_published(tmp_path)
    faces = load(tmp_path, face_size=48)
    assert faces.images.shape == (42, 3, 48, 48)
    image = Image.open(base / "Image" / "aligned" / "test_0001_aligned.jpg")
    expected = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC))
    assert np.array_equal(faces.images[0].permute(1, 2, 0).numpy(), expected)


# Damage


def aligned(base, name="train_00003"):
    return base / "Image" / "aligned" / f"{name}_aligned.jpg"


def rewrite(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: (b / rafdb.LIST).unlink(), "list_patition_label.txt is missing.*whdeng.cn"),
        (lambda b: shutil.rmtree(b / "Image"), "aligned: no such folder.*unzip Image/aligned.zip"),
        (lambda b: aligned(b).unlink(), "1 of the 42 images .*train_00003_aligned.jpg.*unzip"),
        (
            lambda b: face(0).save(b / "Image/aligned/train_00099_aligned.jpg"),
            "no label for 1 files.*train_00099_aligned.jpg",
        ),
        (lambda b: truncate(aligned(b)), "train_00003_aligned.jpg: not a readable image"),
        (lambda b: face(0, 96).save(aligned(b)), "train_00003.*96 px; expected 100 x 100"),
        (lambda b: face(0).resize((100, 90)).save(aligned(b)), "100 x 90 px; expected a square"),
        (lambda b: face(0).convert("CMYK").save(aligned(b)), "mode CMYK"),
        (
            lambda b: rewrite(b / rafdb.LIST, "train_00003.jpg 3", "train_00003.jpg 8"),
            "line 3: unknown label '8'; expected .* 1-7",
        ),
        (
            lambda b: rewrite(b / rafdb.LIST, "train_00003.jpg 3", "train_00003.jpg"),
            "line 3: no label in 'train_00003.jpg'",
        ),
        (
            lambda b: rewrite(b / rafdb.LIST, "train_00004", "train_00003"),
            "line 4: train_00003.jpg stands in line 3 already",
        ),
        (
            lambda b: rewrite(b / rafdb.LIST, "train_00003", "valid_00003"),
            "valid_00003.jpg: expected train_<...> or test_<...>",
        ),
        (
            lambda b: [
                (b / rafdb.LIST).write_text("\n"),
                *map(Path.unlink, aligned(b).parent.iterdir()),
            ],
            "rafdb: no image in the lists",
        ),
        (lambda b: (b / rafdb.LIST).write_bytes("trän_00001.jpg 5".encode("latin-1")), "not UTF-8"),
    ],
)
def test_a_damaged_published_layout_names_what_is_wrong(tmp_path, change, message):
    change(make_published(tmp_path))
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def mirrored(base, name, label=3, split="train"):
    return base / "DATASET" / split / str(label) / f"{name}_aligned.jpg"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: shutil.rmtree(b / "DATASET/test"), "DATASET: no folder test"),
        (
            lambda b: mirrored(b, "train_00003").rename(mirrored(b, "train_00003", 4)),
            "train_labels.csv: disgust for train_00003_aligned.jpg, but .*4, happiness .1 such",
        ),
        (
            lambda b: shutil.copy(mirrored(b, "train_00003"), mirrored(b, "train_00003", 4)),
            "train_00003_aligned.jpg: lies in 3, too",
        ),
        (lambda b: mirrored(b, "train_00003").unlink(), "1 of the 28 images of .*train_labels.csv"),
        (
            lambda b: face(0).save(mirrored(b, "test_0099", 1, "test")),
            "test_labels.csv: no label for 1 files.*test_0099_aligned.jpg",
        ),
        (
            lambda b: rewrite(b / "train_labels.csv", "image,label", "name;class"),
            "train_labels.csv: no header image,label",
        ),
        (
            lambda b: rewrite(b / "train_labels.csv", "00003_aligned.jpg,3", "00003_aligned.jpg,0"),
            "train_labels.csv, line 4: unknown label '0'",
        ),
        (lambda b: (b / "DATASET/train/happy").mkdir(), "happy: unknown class; expected 1-7"),
        (lambda b: truncate(mirrored(b, "train_00003")), "train_00003.*not a readable image"),
    ],
)
def test_a_damaged_mirror_names_what_is_wrong(tmp_path, change, message):
    change(make_mirror(tmp_path))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_names_that_are_not_ascii(tmp_path):
    base = make_published(tmp_path)
    aligned(base).rename(aligned(base, "train_Šárka é"))
    rewrite(base / rafdb.LIST, "train_00003", "train_Šárka é")
    faces = load(tmp_path)
    assert "train_Šárka é.jpg" in faces.ids and len(faces) == 42


# The check


def test_check_counts_train_and_validation_together_against_the_published_train(tmp_path):
    make_published(tmp_path)
    report = check_dataset(config(tmp_path, "rafdb"))
    assert report.usable and len(report.problems) == 2
    assert "train+validation has 28 faces, published are 12271" in report.problems[0]
    assert "test has 14 faces, published are 3068" in report.problems[1]
    assert report.counts.loc["all", ("train+validation", "published")] == 12271
    assert report.counts.loc["surprise", ("train+validation", "found")] == 4
    assert report.counts.loc["neutral", ("test", "published")] == 680
