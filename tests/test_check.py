"""python -m gmelib.check: what is here, what is damaged, what is copied; its exit status."""

import os

import numpy as np
import pytest
from made_data import config, csv_lines, write, write_expw
from made_expw import make_expw
from PIL import Image
from test_ferplus import votes_for_all_classes, write_votes
from test_rafdb_photographs import make_photographs

from gmelib.check import main
from gmelib.data.expw import load_expw, prepare
from gmelib.synthetic import draw_faces


@pytest.fixture
def root(tmp_path):
    """One's own faces: 3 classes, 8 faces each in train and test, none copied."""
    images = draw_faces(48, size=40, seed=3).images.numpy().transpose(0, 2, 3, 1)
    names = ["happy", "sad", "angry"]
    for i, image in enumerate(images):
        split = "train" if i < 24 else "test"
        place = tmp_path / "mine" / split / names[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02}.png")
    return tmp_path


def check(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_ones_own_faces_are_found_and_well(root, capsys):
    status, out, _ = check(capsys, root)
    assert status == 0
    assert "layout: mine/<split>/<class>/<image>" in out
    assert "folder: fingerprint" in out and "no problem found" in out
    assert "class balance:" in out and "near copy" not in out
    assert "fer2013: not here; expected data_root/fer2013/fer2013.csv" in out


def test_copies_across_splits_are_told_with_the_parameter_that_drops_them(root, capsys):
    source = np.asarray(Image.open(root / "mine/train/happy/00.png"))
    darker = (source * 0.8).astype(np.uint8)
    Image.fromarray(darker).save(root / "mine/test/happy/24.png")
    for path in (root / "mine/train/happy").glob("*.png"):  # 0.png may be held out
        mirrored = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(root / "mine/test/sad" / f"of-{path.name}")
    status, out, _ = check(capsys, root)
    assert status == 0
    line = next(row for row in out.splitlines() if row.startswith("test faces with an exact or"))
    assert "drop_duplicates = near" in line
    assert int(line.split(": ")[1].split(" of ")[0]) >= 7
    status, out, _ = check(capsys, root, "--exact")
    assert status == 0 and "near" not in out


def test_every_unreadable_file_is_named(root, capsys):
    for name in ("03", "06"):
        path = root / f"mine/train/happy/{name}.png"
        path.write_bytes(path.read_bytes()[:80])
    status, out, _ = check(capsys, root)
    assert status == 1
    assert "2 files cannot be read" in out
    assert "happy/03.png" in out and "happy/06.png" in out


@pytest.mark.parametrize("number, more", [(8, None), (20, None), (21, "and 1 more")])
def test_only_some_of_many_unreadable_files_are_named(root, capsys, number, more):
    for i in range(number):
        (root / f"mine/train/happy/bad{i:02}.png").write_bytes(b"no image")
    _, out, _ = check(capsys, root)
    assert f"{number} files cannot be read" in out and out.count("/bad") >= min(number, 20)
    assert ("more" in out) == bool(more) and (more or "") in out


def test_a_subset_is_a_problem_and_a_damaged_file_too(tmp_path, capsys):
    path = write(tmp_path, csv_lines())
    status, out, _ = check(capsys, tmp_path, "--dataset", "fer2013")
    assert status == 1 and "published are 28709" in out
    assert "layout: fer2013.csv" in out
    path.write_text("emotion,pixels\n1,2\n")
    status, out, _ = check(capsys, tmp_path, "--dataset", "fer2013")
    assert status == 1 and "no column Usage" in out


def test_nothing_here_is_told_apart_from_something_wrong(tmp_path, capsys):
    status, out, _ = check(capsys, tmp_path)
    assert status == 2 and "ferplus: not here" in out
    status, _, err = check(capsys, tmp_path / "nowhere")
    assert status == 2 and "no such folder" in err


# -- as a notebook would read them ----------------------------------------------------------------


def test_parameters_say_how_a_data_set_is_read(root, tmp_path, capsys):
    place = root / "mine/train/happy/03.png"
    Image.open(place).resize((50, 50)).save(place)
    assert check(capsys, root)[0] == 1
    assert check(capsys, root, "-p", "face_size", "40")[0] == 0
    assert check(capsys, "-p", "data_root", root, "-p", "face_size", "40")[0] == 0
    (root / "own.yaml").write_text("dataset: folder\nfolder_name: mine\nface_size: 40\n")
    status, out, _ = check(capsys, root, "-f", root / "own.yaml")
    assert status == 0 and "fer2013" not in out


def test_photographs_of_rafdb_are_looked_at_where_they_are_meant(tmp_path, capsys):
    (make_photographs(tmp_path) / "Image" / "aligned").rename(tmp_path / "away")
    given = ("-p", "out_root", tmp_path / "outputs", "-p", "val_fraction", "0.25")
    status, out, _ = check(capsys, tmp_path, "--dataset", "rafdb", *given)
    assert status == 1 and "Image/aligned: no such folder" in out
    given = (*given, "-p", "rafdb_faces", "original")
    _, out, _ = check(capsys, tmp_path, "--dataset", "rafdb", *given)
    assert "rafdb: fingerprint" in out and "42 faces of 3 x 100 x 100" in out


@pytest.mark.parametrize(
    "given, said",
    [
        (("-p", "face_siz", "9"), "did you mean 'face_size'"),
        (("-p", "expw_align", "eyes"), "expw_align"),
        (("-f", "params/none.yaml"), "no such YAML file"),
        (("-f", "params/synthetic.yaml"), "dataset = 'synthetic': expected one of fer2013"),
    ],
)
def test_a_wrong_parameter_is_one_line(root, capsys, given, said):
    status, out, err = check(capsys, root, *given)
    assert status == 2 and not out and err.startswith("error: ") and said in err
    assert err.count("\n") == 1


def test_files_of_other_data_sets_are_not_laid_to_one_that_is_damaged(root, capsys):
    (root / "mine/train/happy/bad.png").write_bytes(b"no image")
    write(root, csv_lines())
    votes = votes_for_all_classes().tolist()
    votes[4][2] = "x"
    write_votes(root, votes)
    status, out, _ = check(capsys, root, "--dataset", "ferplus")
    assert status == 1 and "fer2013new.csv, row 5" in out and "bad.png" not in out
    status, out, _ = check(capsys, root, "--dataset", "folder")
    assert status == 1 and "bad.png: not a readable image" in out


# -- ExpW -----------------------------------------------------------------------------------------


@pytest.fixture
def expw(tmp_path, monkeypatch):
    """A made one, and a detector that must not be asked for."""
    make_expw(tmp_path, 30)
    monkeypatch.setattr(prepare, "make_detector", lambda *_, **__: pytest.fail("a detector"))
    return tmp_path


def origin(root, number):
    return root / "expw/data/image/origin" / f"drawn_{number}.jpg"


def truncate(path):
    path.write_bytes(path.read_bytes()[:2000])


def test_expw_is_looked_at_without_a_face_cut_out(expw, capsys):
    given = (expw, "--dataset", "expw", "-p", "out_root", expw / "outputs")
    status, out, _ = check(capsys, *given)
    assert status == 0 and "no problem found" in out and "class balance:" in out
    assert "layout: " in out and "faces in label.lst: " in out
    assert "note: no face was cut out (expw_align = detector)" in out
    origin(expw, 3).unlink()
    assert check(capsys, *given)[0] == 0  # any subset works
    truncate(origin(expw, 5))
    origin(expw, 7).write_text("no image")
    status, out, _ = check(capsys, *given)
    assert status == 1 and "2 files cannot be read" in out
    assert "drawn_5.jpg: not a readable image" in out and "drawn_7.jpg: not" in out
    assert f"rows dropped, {prepare.MISSING}: " in out
    assert f"rows dropped, {prepare.UNREADABLE}: " in out
    assert not (expw / "outputs").exists()


def test_counts_of_expw_before_and_after_its_faces_are_cut_out_are_the_same(expw, capsys):
    given = (expw, "--dataset", "expw", "-p", "out_root", expw / "outputs", "--exact")
    given += ("-p", "expw_align", "boxes", "-p", "expw_confidence", "40")
    label_list = expw / "expw/data/label/label.lst"
    lines = label_list.read_text().splitlines()
    fields = lines[4].split()
    lines[4] = " ".join([*fields[:2], "900", "900", "990", "990", *fields[6:]])
    label_list.write_text("\n".join([*lines, lines[2]]))
    truncate(origin(expw, 5))  # of low confidence
    truncate(origin(expw, 9))
    before = check(capsys, *given)[1].splitlines()
    values = {"expw_align": "boxes", "expw_confidence": 40}
    load_expw(config(expw, "expw", **values))
    status, out, _ = check(capsys, *given)
    after = out.splitlines()
    assert status == 1 and "fingerprint" in after[0] and "drawn_9.jpg: not a readable" in out
    for sign in ("rows dropped", "all ", "happiness ", "layout", "class balance", "test faces wh",
                 "cannot be read", "drawn_"):  # fmt: skip
        found = [[line for line in told if sign in line] for told in (before, after)]
        assert found[0] and found[0] == found[1]


def test_a_photograph_that_could_not_be_read_once_is_told(expw, capsys):
    content = origin(expw, 5).read_bytes()
    status = origin(expw, 5).stat()
    truncated = content[:2000].ljust(len(content), b"\0")
    for pixels in (truncated, content):
        origin(expw, 5).write_bytes(pixels)
        os.utime(origin(expw, 5), ns=(status.st_atime_ns, status.st_mtime_ns))
        load_expw(config(expw, "expw", expw_align="boxes"))
    given = (expw, "--dataset", "expw", "-p", "out_root", expw / "outputs")
    code, out, _ = check(capsys, *given, "-p", "expw_align", "boxes")
    assert code == 1 and "drawn_5.jpg: can be read, but could not when the faces were cut" in out


def test_a_damaged_list_of_expw_is_a_problem(tmp_path, capsys):
    pixels = np.zeros((40, 40, 3), np.uint8)
    write_expw(tmp_path, ["a.png 0 5 5 30 30 9 8"], {"a.png": pixels})
    status, out, _ = check(capsys, tmp_path)
    assert status == 1 and "label.lst, line 1: unknown label '8'" in out
    write_expw(tmp_path, ["a.png 0 90 90 99 99 9 3"], {})
    status, out, _ = check(capsys, tmp_path)
    assert status == 1 and "problem: expw: the train split is empty" in out
