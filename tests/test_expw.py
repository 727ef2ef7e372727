"""ExpW from made photographs with drawn faces: what is cut out, split, resumed and told."""

import csv
import shutil
import signal
import sys

import numpy as np
import pytest
import tiny
from made_data import config, same, write_expw
from made_expw import DRAWN, make_expw
from made_expw import main as make
from PIL import Image
from tiny import refusal

from gmelib.config import EXPRESSIONS
from gmelib.data import check_dataset, load_faces, registry
from gmelib.data.expw import load_expw, prepare
from gmelib.data.expw.labels import read_landmarks
from gmelib.faces import Face, align, crop, make_detector
from gmelib.synthetic import draw_faces, drawn_landmarks

PHOTOGRAPHS = 40


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    make_expw(root, PHOTOGRAPHS, bom=True, newline="\r\n")
    return root


@pytest.fixture(scope="session")
def faces(made, tmp_path_factory):
    """By landmarks, undisturbed."""
    return load_faces(expw(made, tmp_path_factory.mktemp("whole")))


@pytest.fixture
def own(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def expw(root, out_root=None, align="landmarks", **values):
    values |= {"out_root": str(out_root)} if out_root else {}
    return config(root, "expw", expw_align=align).replace(**values)


def lines_of(root):
    path = root / "expw" / "data" / "label" / "label.lst"
    return path.read_text(encoding="utf-8-sig").splitlines()


def origin(root):
    return root / "expw" / "data" / "image" / "origin"


def dropped_of(root):
    (path,) = (root / "outputs" / ".cache").glob("expw-*/dropped.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_faces_stand_upright_as_they_were_drawn(faces):
    """Pasted at any size and turn, an aligned face looks as its own drawing, aligned."""
    drawn = draw_faces(len(faces), size=DRAWN)
    marks = drawn_landmarks(len(faces), size=DRAWN).numpy()
    assert faces.images.shape == (len(drawn), 3, 112, 112) and faces.images.is_contiguous()
    inner = np.s_[40:100, 30:82]
    for image, original, points in zip(faces.images, drawn.images, marks, strict=True):
        expected = align(original.permute(1, 2, 0).numpy(), points).mean(2)[inner]
        found = image.float().mean(0).numpy()[inner]
        # measured: 0.87 at least; with 15 degrees or 4 px of error 0.68 at most
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.8


def test_labels_ids_and_classes_are_the_lists(made, faces):
    drawn = draw_faces(len(faces), size=DRAWN)
    assert faces.classes == EXPRESSIONS[:7] == drawn.classes
    assert faces.labels.tolist() == drawn.labels.tolist()
    assert list(faces.ids) == [" ".join(line.split()[:2]) for line in lines_of(made)]
    assert len({name.split()[0] for name in faces.ids}) == PHOTOGRAPHS < len(faces)


def test_a_tenth_of_every_class_is_tested_whatever_else_is_dropped(own, faces):
    counts = faces.counts()
    total = counts.sum(axis=1)
    assert (abs(counts["test"] - 0.1 * total) <= 0.5).all()
    assert (counts["validation"] >= 1).all()
    fewer = load_expw(expw(own, align="boxes", expw_confidence=60.0, seed=3))
    assert 0 < len(fewer) < len(faces)
    side = dict(zip(faces.ids, faces.split, strict=True))
    assert all(side[face] == split for face, split in zip(fewer.ids, fewer.split, strict=True))


def test_boxes_are_cropped_with_a_margin(made, tmp_path):
    faces = load_expw(expw(made, tmp_path, align="boxes", face_size=64))
    for position in (0, 17, 60):
        name, _, top, left, right, bottom, *_ = lines_of(made)[position].split()
        image = np.asarray(Image.open(origin(made) / name))
        box = tuple(map(float, (left, top, right, bottom)))
        expected = crop(image, box, 64, margin=prepare.BOX_MARGIN)
        assert np.array_equal(faces.images[position].permute(1, 2, 0).numpy(), expected)


def test_a_detector_finds_the_drawn_faces_and_drops_what_is_none(own, monkeypatch):
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    few = [f"drawn_{position}.jpg" for position in range(6)]
    lines = [line for line in lines_of(own) if line.split()[0] in few]
    Image.new("RGB", (300, 200), "grey").save(origin(own) / "empty.jpg")
    path = own / "expw" / "data" / "label" / "label.lst"
    path.write_text("\n".join([*lines, "empty.jpg 0 50 50 150 150 99 3"]))
    seen = []
    monkeypatch.setattr(prepare, "align", lambda *x: seen.append(x[1]) or align(*x))
    faces = load_expw(expw(own, align="detector"))
    assert list(faces.ids) == [" ".join(line.split()[:2]) for line in lines]
    assert faces.extras["dropped"] == {"no face found": 1}
    assert [row["image_name"] for row in dropped_of(own)] == ["empty.jpg"]
    known = read_landmarks(own / "expw" / "landmarks.csv")
    for face, found in zip(faces.ids, seen, strict=True):
        eyes_apart = np.hypot(*(known[face][1] - known[face][0]))
        assert np.hypot(*(found - known[face]).T).mean() < 0.2 * eyes_apart


@pytest.mark.parametrize("turned", [False, True])
def test_a_photographed_face_is_aligned_by_its_box_as_by_the_whole_photograph(tmp_path, turned):
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    photograph = Image.fromarray(data.astronaut()[:400])
    photograph = photograph.rotate(-25, Image.Resampling.BICUBIC) if turned else photograph
    found = make_detector("mtcnn")(np.asarray(photograph))[0]
    left, top, right, bottom = map(round, found.box)
    line = f"a b.png 0 {top - 9} {left - 5} {right + 12} {bottom + 2} 50 3"
    write_expw(tmp_path, [line], {"a b.png": np.asarray(photograph)})
    (image,) = load_expw(expw(tmp_path, align="detector")).images
    expected = align(np.asarray(photograph), found.landmarks)
    inner = np.s_[30:105, 20:92]
    told = [face.mean(2)[inner].ravel() for face in (image.permute(1, 2, 0).float(), expected)]
    # landmarks found at another scale differ by 3 to 6 % of the eyes' distance
    assert np.corrcoef(*told)[0, 1] > 0.8


def test_of_several_faces_found_the_one_in_the_box_is_meant():
    """In the surroundings, 160 px for twice the box; a neighbour's face may be the larger one."""
    marks = np.arange(10.0).reshape(5, 2)
    near, neighbour = Face((40, 40, 110, 120), marks), Face((110, 10, 230, 150), marks + 50)
    box = (100.0, 200.0, 140.0, 240.0)
    found = prepare._landmarks_of([neighbour, near], box)
    assert np.allclose(found, marks * 0.5 + [80, 180])
    assert prepare._landmarks_of([neighbour], box) is None
    assert prepare._landmarks_of([], box) is None


def test_each_photograph_is_opened_once(made, tmp_path, monkeypatch):
    opened, read = [], prepare.read_photograph
    monkeypatch.setattr(prepare, "read_photograph", lambda path: opened.append(path) or read(path))
    cfg = expw(made, tmp_path, align="boxes")
    once = load_expw(cfg)
    assert len(opened) == len(set(opened)) == PHOTOGRAPHS
    assert same(load_expw(cfg), once)
    load_expw(cfg.replace(expw_confidence=50.0, val_fraction=0.3))
    assert len(opened) == PHOTOGRAPHS  # another choice among the faces is no new work


def test_stopped_work_goes_on_at_the_next_chunk(made, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 8)
    made_chunks, make = [], prepare._make

    def stop_at_the_fourth(chunk, method):
        if len(made_chunks) == 3:
            raise KeyboardInterrupt
        made_chunks.append(chunk)
        return make(chunk, method)

    monkeypatch.setattr(prepare, "_make", stop_at_the_fourth)
    cfg = expw(made, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        load_expw(cfg)
    assert [path.name for path in cfg.cache_dir.iterdir()] == ["expw-chunks"]  # nothing looks done
    finished = sorted((cfg.cache_dir / "expw-chunks").iterdir())
    finished[1].write_bytes(finished[1].read_bytes()[:-500])  # and one of the three was damaged
    monkeypatch.setattr(prepare, "_make", lambda *x: made_chunks.append(x[0]) or make(*x))
    assert same(load_expw(cfg), faces)
    assert len(made_chunks) == 3 + 2 + 1


KILLED = """
import os, signal, sys
from gmelib import record
from gmelib.config import Config
from gmelib.data.expw import load_expw, prepare
from gmelib.data.expw.labels import read_landmarks
prepare.CHUNK, replaced, replace = 8, [], os.replace
def kill_at_the_third(*names):
    if len(replaced) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replaced.append(replace(*names))
record.os.replace = kill_at_the_third
load_expw(Config.model_validate_json(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_work_killed_while_a_chunk_is_written_goes_on(made, faces, tmp_path, monkeypatch):
    cfg = expw(made, tmp_path)
    process = tiny.start(KILLED, cfg.model_dump_json())
    assert process.wait(timeout=600) == -signal.SIGKILL
    monkeypatch.setattr(prepare, "CHUNK", 8)
    assert len(list((cfg.cache_dir / "expw-chunks").glob("[!.]*.npz"))) == 2
    made_chunks, make = [], prepare._make
    monkeypatch.setattr(prepare, "_make", lambda *x: made_chunks.append(x[0]) or make(*x))
    assert same(load_expw(cfg), faces)
    assert len(made_chunks) == 3


def test_a_photograph_that_comes_later_leaves_the_other_chunks(own, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 8)
    late = origin(own) / "drawn_9.jpg"
    content = late.read_bytes()
    late.unlink()
    first = load_expw(expw(own))
    made_chunks, make = [], prepare._make
    monkeypatch.setattr(prepare, "_make", lambda *x: made_chunks.append(x[0]) or make(*x))
    late.write_bytes(content)
    second = load_expw(expw(own))
    assert len(made_chunks) == 1 and len(second) > len(first)
    assert first.extras["dropped"] == {"photograph missing": len(second) - len(first)}


def test_what_is_dropped_is_counted_and_listed(own):
    path = own / "expw" / "data" / "label" / "label.lst"
    lines = lines_of(own)
    fields = lines[0].split()
    fields[2:6] = ["400", "10", "60", "450"]  # below the photograph
    lines[0] = " ".join(fields)
    fields = lines[5].split()
    fields[2:6] = ["10", "20", "20", "60"]  # no width
    lines[5] = " ".join(fields)
    path.write_text("\n".join([*lines, lines[3]]))
    landmarks = own / "expw" / "landmarks.csv"
    rows = landmarks.read_text().splitlines()
    del rows[12]  # of the list's line 12, for the header is row 0
    landmarks.write_text("\n".join(rows))
    truncated, missing = (origin(own) / lines[at].split()[0] for at in (30, 50))
    truncated.write_bytes(truncated.read_bytes()[:2000])
    missing.unlink()
    report = check_dataset(expw(own))
    told = {(row["line"], row["reason"]) for row in dropped_of(own)}
    assert {
        ("1", prepare.OUTSIDE), ("6", prepare.OUTSIDE), ("12", prepare.NO_LANDMARKS),
        ("31", prepare.UNREADABLE), ("51", prepare.MISSING), (str(len(lines) + 1), "line repeated"),
    } <= told  # fmt: skip
    assert len(report.faces) == len(lines) + 1 - len(told)
    for reason, count in report.faces.extras["dropped"].items():
        assert f"rows dropped, {reason}: {count}" in report.notes
        assert sum(row["reason"] == reason for row in dropped_of(own)) == count
    assert report.usable and not report.problems


def test_the_check_tells_the_published_numbers_and_shared_photographs(made, faces, tmp_path):
    report = check_dataset(expw(made, tmp_path))
    assert f"faces in label.lst: {len(faces)}, published are 91,793; kept: {len(faces)}, the " \
        "paper keeps 87,305" in report.notes  # fmt: skip
    photograph = np.array([face.split()[0] for face in faces.ids])
    train = set(photograph[faces.split == "train"])
    shared = sum(name in train for name in photograph[faces.split == "test"])
    assert shared and f"test faces whose photograph has a train face, too: {shared}" in report.notes


def test_copies_are_dropped_from_a_set_that_stays_on_the_disk(made, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "cached_faces", lambda *_: pytest.fail("copied in memory"))
    cfg = expw(made, tmp_path, align="boxes", drop_duplicates="exact")
    faces = load_faces(cfg)
    assert faces.extras["dropped"] == {"training_copies_exact": 0} and same(faces, load_faces(cfg))


def test_a_missing_landmarks_file_is_named(own):
    (own / "expw" / "landmarks.csv").unlink()
    assert "landmarks.csv" in refusal(load_expw, expw(own))
    assert len(load_expw(expw(own, align="boxes")))


def test_a_data_set_that_is_there_is_never_overwritten_by_a_made_one(tmp_path, monkeypatch, capsys):
    own = tmp_path / "expw" / "landmarks.csv"
    own.parent.mkdir()
    own.write_text("my own")
    monkeypatch.setattr(sys, "argv", ["made_expw.py", str(tmp_path), "--photographs", "1"])
    assert make() == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {own.parent}: exists") and told.count("\n") == 1
    assert own.read_text() == "my own" and list(own.parent.iterdir()) == [own]
    monkeypatch.setattr(sys, "argv", ["made_expw.py", str(tmp_path / "x"), "--photographs", "1"])
    assert [make(), make()] == [0, 2]
