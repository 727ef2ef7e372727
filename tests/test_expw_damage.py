"""Damaged and unusual ExpW lists: every one is read as it is meant or refused in one clear line."""

import errno
import os
import shutil

import numpy as np
import pytest
from made_data import config, same, write_expw
from tiny import no_space, refusal

from gmelib.data import cache, check_dataset, decode
from gmelib.data.expw import load_expw, prepare
from gmelib.data.expw.labels import HEADER, read_labels, read_landmarks
from gmelib.faces import crop

RNG = np.random.default_rng(5)
NAMES = ("a.png", "two words 1.png", "gl\u00fccklich \u7b11.png", "e\u0301 apart.png")
PHOTOGRAPHS = {name: RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8) for name in NAMES}
# image_name face_id top left right bottom confidence label
LINES = [f"{name} {face} 5 {8 + face} 38 41 44.5 {label}"
         for name in NAMES for face in (0, 7) for label in [len(name) % 7]]  # fmt: skip
MARKS = {"eyes": (12, 14, 28, 14), "nose": (20, 22), "mouth": (14, 30, 26, 30)}
ROW = ",".join(str(number) for points in MARKS.values() for number in points)


def load(root, lines=LINES, photographs=PHOTOGRAPHS, align="boxes", **how):
    write_expw(root, lines, photographs, **how)
    return load_expw(config(root, "expw", expw_align=align))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [False, True])
def test_names_with_blanks_and_accents_are_read(tmp_path, newline, bom):
    faces = load(tmp_path, newline=newline, bom=bom)
    assert len(faces) == len(LINES) == 8 and faces.extras["dropped"] == {}
    assert "two words 1.png 7" in faces.ids and "gl\u00fccklich \u7b11.png 0" in faces.ids
    assert "\u00e9 apart.png 0" in faces.ids  # spelt with the accent apart in list and file system
    expected = crop(PHOTOGRAPHS[NAMES[2]], (15, 5, 38, 41), 112, margin=prepare.BOX_MARGIN)
    (image,) = faces.images[faces.ids == "gl\u00fccklich \u7b11.png 7"]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_a_name_of_many_numbers_is_one_name(tmp_path):
    name = "a 1.0 2014 05 12 10 33 22 1.png"
    faces = load(tmp_path, [f"{name} 0 5 8 38 41 44.5 3"], {name: PHOTOGRAPHS["a.png"]})
    assert list(faces.ids) == [f"{name} 0"]


def test_columns_may_be_parted_by_tabs_and_lines_by_empty_ones(tmp_path):
    faces = load(tmp_path, ["a.png\t0\t5\t8\t38\t41\t44.5\t3", "", "a.png 1  5 8  38 41 44.5 3 "])
    assert list(faces.ids) == ["a.png 0", "a.png 1"]


@pytest.mark.parametrize(
    "line, told",
    [
        ("a.png 0 5 8 38 41 44.5", "line 3: 7 columns; expected image_name face_id box_top"),
        ("a.png 0 5 8 38 41 44.5 7", "line 3: unknown label '7'; expected one of 0 angry, 1 dis"),
        ("a.png 0 5 8 38 41 44.5 happy", "line 3: unknown label 'happy'"),
        ("a.png x 5 8 38 41 44.5 3", "line 3: 'a.png x 5 8 38 41 44.5 3' is not image_name"),
        ("a.png 0 5 - 38 41 44.5 3", "line 3: .*all numbers"),
        ("a.png 0 5 nan 38 41 44.5 3", "line 3: expected finite numbers"),
        ("a.jpg 0 1 2 3 4 5.0 6b.jpg 0 5 8 38 41 44.5 3", "line 3: two faces in one line, 'a.jpg"),
        ("a.jpg 0 1 -2 3 4 5.0 6 b 1.jpg 1 5 8 38 41 44.5 3", "line 3: two faces in one line"),
        ("a.png 0 5 8 38 41 44.5 4", r"label.lst, lines 1 and 3: both are face 0 of a.png, but"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, told):
    with pytest.raises(ValueError, match=told) as error:
        load(tmp_path, [LINES[0].rsplit(maxsplit=1)[0] + " 3", LINES[1], line, LINES[2]])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("outputs/.cache/*"))


def test_other_encodings_and_empty_lists_are_refused(tmp_path):
    path = write_expw(tmp_path, LINES[:2], {})
    path.write_bytes("a.png 0 5 8 38 41 44.5 3\ngl\u00fcck.png".encode("latin-1"))
    assert "label.lst, line 2: not UTF-8" in refusal(read_labels, path)
    path.write_text("\n\n")
    assert "no line in it" in refusal(read_labels, path)


def test_a_box_that_leaves_the_photograph_repeats_its_edge(tmp_path):
    lines = [
        "a.png 0 -20 -20 10 10 9 3",
        "a.png 1 60 5 9 80 9 3",  # below
        "a.png 2 5 8 8 41 9 3",  # no width
        "a.png 3 41 8 38 5 9 3",  # upside down
        "a.png 4 0 0 1000000000 9 9 3",  # nowhere near
    ]
    faces = load(tmp_path, lines)
    assert list(faces.ids) == ["a.png 0"] and faces.extras["dropped"] == {prepare.OUTSIDE: 4}
    image = faces.images[0].permute(1, 2, 0).numpy()
    assert (image[:20, :20] == PHOTOGRAPHS["a.png"][0, 0]).all()


def test_a_missing_list_or_folder_names_every_place(tmp_path):
    told = refusal(load_expw, config(tmp_path, "expw"))
    assert "label.lst is missing: looked for" in told and "expw/data/label/label.lst" in told
    path = write_expw(tmp_path, LINES, {})
    shutil.rmtree(tmp_path / "expw" / "image")
    told = refusal(load_expw, config(tmp_path, "expw"))
    assert "folder of photographs is missing" in told and "expw/data/image/origin" in told
    path.unlink()
    report = check_dataset(config(tmp_path, "expw"))
    assert not report.usable and report.is_missing
    assert "label.lst is missing" in report.problems[0]
    assert "label.lst" in report.layout and "hk" in report.source


def test_without_any_photograph_the_expected_folder_is_named(tmp_path):
    write_expw(tmp_path, LINES, {"other.png": PHOTOGRAPHS["a.png"]})
    told = refusal(load_expw, config(tmp_path, "expw", expw_align="boxes"))
    assert "expw/image: holds none of the photographs" in told and "such as a.png" in told


def test_damaged_photographs_are_dropped_and_all_damaged_ones_refused(tmp_path):
    write_expw(tmp_path, LINES, PHOTOGRAPHS)
    folder = tmp_path / "expw" / "image"
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / NAMES[1]).write_text("no image")
    (folder / NAMES[2]).unlink()
    cfg = config(tmp_path, "expw", expw_align="boxes")
    faces = load_expw(cfg)
    assert faces.extras["dropped"] == {prepare.MISSING: 2, prepare.UNREADABLE: 4}
    assert len(faces) == 2
    (folder / NAMES[3]).write_text("no image")
    told = refusal(load_expw, cfg)
    assert "no face is left (photograph missing: 2, photograph unreadable: 6)" in told


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_photograph_that_cannot_be_reached_now_is_not_dropped_for_good(
    tmp_path, monkeypatch, number
):
    image_open = decode.Image.open

    def refuse(path):
        if path.name == NAMES[1]:
            raise OSError(number, os.strerror(number))
        return image_open(path)

    monkeypatch.setattr(decode.Image, "open", refuse)
    told = refusal(load, tmp_path)
    assert f"expw/image/{NAMES[1]}: cannot be read ({os.strerror(number)})" in told
    assert "start again" in told
    monkeypatch.undo()
    assert load_expw(config(tmp_path, "expw", expw_align="boxes")).extras["dropped"] == {}


def test_grey_and_transparent_photographs_become_rgb(tmp_path):
    grey = PHOTOGRAPHS["a.png"][..., 0]
    clear = np.dstack([PHOTOGRAPHS["a.png"], grey])
    faces = load(tmp_path, LINES[:4], {"a.png": grey, NAMES[1]: clear})
    assert faces.images.shape == (4, 3, 112, 112)
    assert (faces.images[:2] == faces.images[:2, :1]).all()


@pytest.mark.parametrize(
    "rows, told",
    [
        (["a.png,0," + ROW], "line 1: expected the header image_name,face_id,x1,y1"),
        ([",".join(HEADER), "a.png,0,1,2"], "line 2: expected image_name,.*got 4 columns"),
        ([",".join(HEADER), "a.png,0," + ROW.replace("12", "")], "line 2: expected image_name"),
        ([",".join(HEADER), "a.png,0," + ROW.replace("12", "nan")], "line 2: expected five finite"),
        ([",".join(HEADER), "a.png,0" + ",9" * 10], "line 2: .*not all one"),
        ([",".join(HEADER), *["a.png,0," + ROW] * 2], "lines 2 and 3: both are face a.png 0"),
    ],
)
def test_a_damaged_line_of_landmarks_is_named(tmp_path, rows, told):
    path = tmp_path / "landmarks.csv"
    path.write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8", newline="")
    with pytest.raises(ValueError, match=f"landmarks.csv, {told}"):
        read_landmarks(path)


@pytest.mark.parametrize("stray", ['"b.png,0,', '"b.png" ,0,', 'b.png,"0"0,'])
@pytest.mark.parametrize("more", [1, 5000])  # rows that one field swallows, or cannot
def test_a_stray_quote_in_landmarks_is_named(tmp_path, stray, more):
    rows = [",".join(HEADER), f'"a.png",0,{ROW}', stray + ROW]
    rows += [f"c.png,{face},{ROW}" for face in range(more)]
    path = tmp_path / "landmarks.csv"
    path.write_text("\n".join(rows))
    told = refusal(read_landmarks, path)
    assert "landmarks.csv, line 3: not readable as csv" in told and "stray" in told


def test_landmarks_outside_the_photograph_drop_their_face(tmp_path):
    write_expw(tmp_path, LINES[:4], PHOTOGRAPHS)
    far = ",".join(str(int(number) + 100) for number in ROW.split(","))
    rows = [",".join(HEADER), "a.png,0," + ROW, "a.png,7," + far, '"two words 1.png",0,' + ROW]
    (tmp_path / "expw" / "landmarks.csv").write_text("\n".join(rows))
    faces = load_expw(config(tmp_path, "expw", expw_align="landmarks"))
    assert list(faces.ids) == ["a.png 0", "two words 1.png 0"]
    assert faces.extras["dropped"] == {prepare.LANDMARKS_OUTSIDE: 1, prepare.NO_LANDMARKS: 1}


def test_landmarks_in_the_order_of_the_face_s_own_left_and_right_give_the_same_face(tmp_path):
    write_expw(tmp_path, LINES[:2], PHOTOGRAPHS)
    file, cfg = tmp_path / "expw" / "landmarks.csv", config(tmp_path, "expw")
    cfg, turned = cfg.replace(expw_align="landmarks"), "28,14,12,14,20,22,26,30,14,30"
    file.write_text(f"{','.join(HEADER)}\na.png,0,{ROW}\na.png,7,{ROW}\n")
    first = load_expw(cfg)
    file.write_text(f"{','.join(HEADER)}\na.png,0,{turned}\na.png,7,{ROW}\n")
    assert same(load_expw(cfg), first)


def test_landmarks_unlike_a_face_s_drop_their_face(tmp_path):
    write_expw(tmp_path, LINES[:2], PHOTOGRAPHS)
    rows = [",".join(HEADER), "a.png,0," + ROW, "a.png,7,5,9,45,9,25,9,44.9,9,4.9,9"]
    (tmp_path / "expw" / "landmarks.csv").write_text("\n".join(rows))
    faces = load_expw(config(tmp_path, "expw", expw_align="landmarks"))
    assert list(faces.ids) == ["a.png 0"]
    assert faces.extras["dropped"] == {prepare.LANDMARKS_UNLIKE: 1}


def test_a_full_disk_is_told_and_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.os, "rename", no_space)
    with pytest.raises(ValueError, match="cannot be written .No space left.*set out_root"):
        load(tmp_path)
    places = list((tmp_path / "outputs" / ".cache").iterdir())
    assert [place.name for place in places] == ["expw-chunks"]
    monkeypatch.undo()
    assert len(load(tmp_path)) == len(LINES)
