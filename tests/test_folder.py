"""Folders of images: classes by any name, the held-out share, modes, sizes and damage."""

import errno
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_data import config, same
from PIL import Image
from tiny import refusal

from gmelib.config import InputError
from gmelib.data import decode, load_faces
from gmelib.data.folder import hold_out
from gmelib.evaluate import load_predictions, save_predictions


def make_folder(root, splits=("train", "test"), names=("happy", "Sad", "surprised"), count=10):
    rng = np.random.default_rng(3)
    for split in splits:
        for name in names:
            place = root / "faces" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (20, 20), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return root / "faces"


def test_folder_reads_classes_by_any_name_and_holds_out_a_stratified_share(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "faces" / "train" / ".DS_Store").write_text("")
    (tmp_path / "faces" / "train" / "happy" / "Thumbs.db").write_text("")
    faces = load_faces(config(tmp_path, "folder", val_fraction=0.2))
    assert faces.classes == ("happiness", "sadness", "surprise")
    assert (faces.counts() == [8, 2, 10]).all(axis=None)
    for position in (0, 17, 43):
        path = tmp_path / "faces" / faces.ids[position]
        assert np.array_equal(faces.images[position, 0].numpy(), np.asarray(Image.open(path)))
        assert faces.classes[faces.labels[position]][:2] == path.parent.name.lower()[:2]
    again = load_faces(config(tmp_path, "folder", val_fraction=0.2))
    other = load_faces(config(tmp_path, "folder", val_fraction=0.2, seed=1))
    assert same(again, faces)
    assert np.array_equal(other.split, faces.split)  # training seeds share their data


@pytest.mark.parametrize("name", ["validation", "val"])
def test_folder_keeps_a_validation_folder_that_exists(tmp_path, name):
    make_folder(tmp_path, ("train", name, "test"))
    assert (load_faces(config(tmp_path, "folder")).counts() == 10).all(axis=None)


def test_hold_out_takes_at_least_one_and_never_the_last_of_a_class():
    expressions = np.array(["anger"] + ["fear"] * 2 + ["neutral"] * 40)
    held = hold_out(expressions, 0.1, seed=0)
    assert [held[expressions == e].sum() for e in ("anger", "fear", "neutral")] == [0, 1, 4]
    draws = {hold_out(expressions, 0.1, seed=seed).tobytes() for seed in range(20)}
    assert len(draws) > 10


def test_folder_of_grey_and_colour_images_becomes_colour(tmp_path):
    place = make_folder(tmp_path) / "train" / "happy" / "0.png"
    pixels = np.random.default_rng(4).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place)
    faces = load_faces(config(tmp_path, "folder"))
    colour = (faces.images != faces.images[:, :1]).flatten(1).any(1).numpy()
    assert list(faces.ids[colour]) == ["train/happy/0.png"]
    assert np.array_equal(faces.images[colour][0].permute(1, 2, 0).numpy(), pixels)


def test_folder_resizes_only_when_told(tmp_path):
    place = make_folder(tmp_path) / "train" / "happy" / "3.png"
    large = Image.open(place).resize((31, 31))
    large.save(place)
    with pytest.raises(InputError, match="3.png: 31 px, but .* has 20.*face_size"):
        load_faces(config(tmp_path, "folder"))
    faces = load_faces(config(tmp_path, "folder", face_size=20))
    expected = np.asarray(large.resize((20, 20), Image.Resampling.BICUBIC))
    found = faces.images[np.flatnonzero(faces.ids == "train/happy/3.png")[0], 0]
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_is_no_utf_8_is_spelt_out(tmp_path):
    place = make_folder(tmp_path) / "test" / "happy"
    (place / "3.png").rename(os.fsdecode(os.fsencode(place) + b"/caf\xe9.png"))
    faces = load_faces(config(tmp_path, "folder"))
    assert r"test/happy/caf\xe9.png" in faces.ids
    save_predictions(tmp_path / "predictions.parquet", pd.DataFrame({"id": faces.ids}))
    assert load_predictions(tmp_path)["id"].tolist() == faces.ids.tolist()
    truncate(Path(os.fsdecode(os.fsencode(place) + b"/caf\xe9.png")))
    assert r"happy/caf\xe9.png: not a readable" in refusal(load_faces, config(tmp_path, "folder"))


def spoil(path, image):
    image.save(path)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: truncate(f / "train/happy/3.png"), "3.png: not a readable image"),
        (lambda f: (f / "test/Sad/notes.txt").write_text("x"), "notes.txt: not a readable image"),
        (lambda f: spoil(f / "train/Sad/1.png", Image.new("RGBA", (20, 20))), "mode RGBA.*convert"),
        (lambda f: spoil(f / "train/Sad/1.png", Image.new("I;16", (20, 20))), "mode I;16"),
        (lambda f: spoil(f / "test/Sad/1.png", Image.new("L", (20, 21))), "20 x 21.*square"),
        (lambda f: (f / "train/bored").mkdir(), "bored: unknown class.*angry/anger"),
        (lambda f: (f / "train/happy/more").mkdir(), "more: a folder among"),
        (lambda f: (f / "extra").mkdir(), "extra: unknown split.*train"),
        (lambda f: [(f / n).mkdir() for n in ("val", "validation")], "same split"),
        (lambda f: shutil.rmtree(f / "test"), "no folder test"),
        (lambda f: shutil.rmtree(f / "train/happy"), "no train face of happiness"),
        (lambda f: shutil.rmtree(f), "folder .*faces is missing"),
    ],
)
def test_folder_names_what_is_wrong(tmp_path, change, message):
    change(make_folder(tmp_path))
    with pytest.raises(InputError, match=message):
        load_faces(config(tmp_path, "folder"))


TURNED = struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0)  # orientation 6: a quarter to the right


def exif_of(*entries):
    head = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return head + b"".join(entries) + bytes(4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "exif, turns",
    [
        (exif_of(TURNED), 3),
        (exif_of(TURNED, struct.pack("<HHL4s", 0x011A, 2, 4, b"abc")), 3),  # a resolution in words
        (exif_of(TURNED, struct.pack("<HHL4s", 0x0100, 2, 4, b"abc")), 3),  # and a width
        (b"Exif\0\0no such thing", 0),
        (exif_of(TURNED)[:20], 0),
    ],
    ids=["whole", "resolution", "width", "other", "cut"],
)
def test_damaged_exif_data_do_not_cost_the_pixels(tmp_path, suffix, exif, turns):
    path = tmp_path / f"x.{suffix}"
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as stored:
        expected = np.rot90(np.asarray(stored), turns)
    assert np.array_equal(np.asarray(decode.open_image(path)), expected)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError(3), OSError(errno.EINVAL, "seek")])
def test_whatever_pillow_raises_of_a_damaged_file_is_one_line(tmp_path, monkeypatch, error):
    place = make_folder(tmp_path) / "train" / "happy" / "3.png"
    monkeypatch.setattr(decode.Image.Image, "load", lambda _: (_ for _ in ()).throw(error))
    assert "not a readable image" in refusal(decode.open_image, place)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch, number):
    place = make_folder(tmp_path) / "train" / "happy" / "3.png"

    def refuse(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(decode.Image, "open", refuse)
    told = refusal(decode.open_image, place)
    assert f"3.png: cannot be read ({os.strerror(number)})" in told and "start again" in told
    with pytest.raises(InputError) as error:
        decode.open_image(place)
    assert not isinstance(error.value, decode.Damaged)
