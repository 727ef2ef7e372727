"""python -m gmelib.check: what is here, what is damaged, what is copied; its exit status."""

import numpy as np
import pytest
from made_data import csv_lines, write
from PIL import Image

from gmelib.check import main
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
