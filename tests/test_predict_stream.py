"""Many pictures from the command line: little is read ahead, a killed table goes on, whole."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from made_network import CLASSES, face, network, write_faces
from PIL import Image

from gmelib import faces
from gmelib.faces import Face
from gmelib.predict import load_predictor, predict_images
from gmelib.predict.__main__ import main
from gmelib.predict.pictures import Picture
from gmelib.predict.stream import WORKERS, ahead, answers

SIDES = [8 + number % 5 for number in range(30)]
BATCH = ["--batch-size", "4", "--device", "cpu"]
SLOW = """
import sys, time
from gmelib.predict import network
from gmelib.predict.__main__ import main
answer = network.Predictor.probabilities
def slowly(self, seen):
    time.sleep(0.2)
    return answer(self, seen)
network.Predictor.probabilities = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def run(tmp_path):
    return network(tmp_path / "run")


@pytest.fixture
def pictures(tmp_path):
    write_faces(tmp_path / "pictures", SIDES)
    (tmp_path / "pictures" / "010.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.fixture
def whole(run, pictures, tmp_path):
    """The table of an undisturbed run, as bytes."""
    assert main([str(run.folder), str(pictures), "--out", str(tmp_path / "whole.csv"), *BATCH]) == 1
    return (tmp_path / "whole.csv").read_bytes()


def call(run, places, out, *more):
    return main([str(run.folder), *map(str, places), "--out", str(out), *BATCH, *more])


def cut(out: Path, content: bytes) -> None:
    """Leaves a table as a kill would: only the beginning, under the unfinished name."""
    out.rename(f"{out}.part")
    Path(f"{out}.part").write_bytes(content)


# -- streaming ------------------------------------------------------------------------------------


def test_pictures_are_read_only_as_far_ahead_as_they_are_needed(run):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield Picture(str(len(read)), face(9))

    blocks = answers(load_predictor(run), endless(), batch_size=4)
    for count in range(1, 6):
        assert len(next(blocks)) == 4
        assert len(read) <= 4 * count + 4
    blocks.close()
    assert len(read) <= 24


def test_results_keep_their_order_and_waiting_ones_are_given_up():
    done = []

    def slow_first(number):
        time.sleep(0.05 if number == 0 else 0.01)
        done.append(number)
        return number

    assert list(ahead(slow_first, range(20), workers=4, most=6)) == list(range(20))
    done.clear()
    results = ahead(slow_first, range(1000), workers=2, most=50)
    next(results)
    results.close()
    assert len(done) < 25  # of the 50 that were asked for


def test_a_detector_is_called_by_one_thread_at_a_time(run, pictures):
    inside = threading.Lock()

    def detect(image):
        assert inside.acquire(blocking=False), "called twice at once"
        time.sleep(0.002)
        inside.release()
        return [Face((0, 0, 8, 8))]

    table = predict_images(run, pictures, detector=detect)
    assert WORKERS > 1 and (table["error"] != "").tolist() == [n == 10 for n in range(30)]


# -- the table ------------------------------------------------------------------------------------


def test_the_table_holds_what_python_gives(run, pictures, tmp_path, whole):
    table = pd.read_csv(tmp_path / "whole.csv", keep_default_na=False, na_values={"size": ""})
    given = predict_images(run, pictures, batch_size=4)
    assert list(table) == list(given) and len(table) == 30
    for name in CLASSES:
        shares = pd.to_numeric(table[f"p_{name}"])
        np.testing.assert_allclose(shares, given[f"p_{name}"], atol=1e-6)
    assert table["expression"].tolist() == given["expression"].fillna("").tolist()
    assert "cannot be read" in table["error"][10] and table["face"][10] == 0
    assert not list(tmp_path.glob("whole.csv.part")) and not list(tmp_path.glob(".whole*"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_table_goes_on_and_ends_as_if_nothing_had_happened(
    run, pictures, tmp_path, whole, how
):
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    given = [str(run.folder), str(pictures), "--out", str(out), *BATCH]
    process = tiny.start(SLOW, *given)
    deadline = time.monotonic() + 120
    while not part.exists() or part.read_bytes().count(b"\n") < 6:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(60) == (130 if how == signal.SIGTERM else -how)
    rows = part.read_bytes().count(b"\n") - 1
    assert 5 <= rows < 30 and not out.exists()
    assert main(given) == 1
    assert out.read_bytes() == whole and not part.exists()


@pytest.mark.parametrize("length", ["header", "row", "word", "quote"])
def test_wherever_it_was_cut_the_table_is_repaired(run, pictures, tmp_path, whole, length):
    out = tmp_path / "whole.csv"
    lines = whole.splitlines(keepends=True)
    kept = {
        "header": lines[0],
        "row": b"".join(lines[:9]),  # the header and two blocks
        "word": b"".join(lines[:10])[:-5],
        "quote": b"".join(lines[:9]) + b'"a name that was cut,\n',
    }[length]
    cut(out, kept)
    assert call(run, [pictures], out) == 1
    assert out.read_bytes() == whole


def test_rows_that_stand_are_not_answered_again(run, pictures, tmp_path, whole, monkeypatch):
    out = tmp_path / "whole.csv"
    lines = whole.splitlines(keepends=True)
    cut(out, b"".join(lines[:14]))  # three blocks of four and a row
    read, original = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: read.append(Path(path).name) or original(path))
    assert call(run, [pictures], out) == 1
    assert sorted(read) == [f"{number:03}.png" for number in range(12, 30)]


def test_a_finished_table_is_left_alone(run, pictures, tmp_path, whole, capsys):
    out = tmp_path / "whole.csv"
    before = out.stat().st_mtime_ns
    assert call(run, [pictures], out) == 1  # as before: one picture cannot be read
    assert "is finished already" in capsys.readouterr().err
    assert out.stat().st_mtime_ns == before
    write_faces(pictures / "more", [8])
    assert call(run, [pictures], out) == 2
    assert f"picture 31 is nothing, expected {pictures}/more/000.png" in capsys.readouterr().err
    assert out.read_bytes() == whole


def test_the_table_of_another_run_or_other_pictures_is_refused(
    run, pictures, tmp_path, whole, capsys
):
    out = tmp_path / "whole.csv"
    cut(out, whole[:2000])
    part = Path(f"{out}.part").read_bytes()

    def refused(*given, **more):
        assert call(*given, out, *more.get("more", ())) == 2
        (line,) = [t for t in capsys.readouterr().err.splitlines() if t.startswith("error")]
        assert Path(f"{out}.part").read_bytes() == part
        return line

    other = network(tmp_path / "other", seed=1)
    assert "with run = run, expected other" in refused(other, [pictures])
    retrained = network(tmp_path / "again" / "run", seed=1)
    assert "was made with weights = " in refused(retrained, [pictures])
    assert "view = lr, expected hr" in refused(run, [pictures], more=["--view", "hr"])
    assert "batch_size = 4, expected 8" in refused(run, [pictures], more=["--batch-size", "8"])
    precise = json.loads(Path(f"{out}.json").read_text()) | {"precision": "bfloat16"}
    Path(f"{out}.json").write_text(json.dumps(precise))
    assert "precision = bfloat16, expected float32" in refused(run, [pictures])
    Path(f"{out}.json").write_text(json.dumps(precise | {"precision": "float32"}))
    (pictures / "000.png").rename(pictures / "0000.png")
    assert f"picture 1 is {pictures}/000.png" in refused(run, [pictures])
    (pictures / "0000.png").rename(pictures / "000.png")
    (tmp_path / "whole.csv.json").unlink()
    assert "no whole.csv.json beside it" in refused(run, [pictures])


def test_two_processes_do_not_write_one_table(run, pictures, tmp_path):
    out = tmp_path / "out.csv"
    given = [str(run.folder), str(pictures), "--out", str(out), *BATCH]
    process = tiny.start(SLOW, *given)
    while not (tmp_path / "out.csv.part").exists():
        assert process.poll() is None
        time.sleep(0.02)
    assert main(given) == 2
    assert process.wait(60) == 1 and out.read_bytes().count(b"\n") == 31


def test_any_file_name_survives(run, tmp_path):
    folder = tmp_path / "pictures"
    names = [b"a\nb.png", b"c\rr.png", b'comma, "quote".png', "größe 日本.png".encode(),
             b"latin-\xe9.png"]  # fmt: skip
    for path, name in zip(write_faces(folder, [8] * 5), names, strict=True):
        os.rename(path, os.fsencode(folder) + b"/" + name)
    out = tmp_path / "out.csv"
    assert call(run, [folder], out) == 0
    told = [path.rsplit("/", 1)[1] for path in pd.read_csv(out)["path"]]
    assert told == ["a\nb.png", "c\\rr.png", 'comma, "quote".png', "größe 日本.png",
                    "latin-\\xe9.png"]  # fmt: skip
    whole = out.read_bytes()
    within_a_character = whole.index("größe".encode()) + 3
    for length in (-20, within_a_character):
        cut(out, whole[:length])
        assert call(run, [folder], out) == 0 and out.read_bytes() == whole


def test_faces_of_one_picture_stay_together_when_a_table_goes_on(
    run, pictures, tmp_path, monkeypatch
):
    def detect(image):
        return [Face((0, 0, 8, 8)), Face((1, 1, 8, 8))][: image.shape[0] % 3]

    monkeypatch.setattr(faces, "make_detector", lambda name: detect, raising=False)
    out = tmp_path / "out.csv"
    assert call(run, [pictures], out, "--detector", "mtcnn") == 1
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for count in range(1, len(lines), 7):
        cut(out, b"".join(lines[:count]))
        assert call(run, [pictures], out, "--detector", "mtcnn") == 1
        assert out.read_bytes() == whole
    assert b"no face found" in whole


# -- the command ----------------------------------------------------------------------------------


def test_without_a_file_the_table_is_printed(run, pictures, tmp_path, whole, capsys):
    assert main([str(run.folder), str(pictures), *BATCH]) == 1
    said = capsys.readouterr()
    assert said.out.encode() == whole
    assert "1 picture(s) could not be read" in said.err


@pytest.mark.parametrize(
    "given, said",
    [(["{run}", "nowhere"], "nowhere: no such file"), (["none", "{in}"], "run none"),
     (["{run}", "{in}", "--margin", "0.2"], "without a detector"),
     (["{run}", "{in}", "--batch-size", "0"], "batch_size = 0"),
     (["{run}", "{in}", "--out", "{in}"], "is a folder"),
     (["{run}", "{in}", "--out", "."], "is a folder")],
)  # fmt: skip
def test_mistakes_stop_before_anything_is_read(run, pictures, given, said, capsys):
    places = {"{run}": str(run.folder), "{in}": str(pictures)}
    assert main([places.get(text, text) for text in given]) == 2
    assert said in capsys.readouterr().err


def test_a_full_disk_ends_it_and_says_so(run, pictures, tmp_path, monkeypatch, capsys):
    full = lambda path, mode, **_: tiny.FullDisk(path, mode)  # noqa: E731
    monkeypatch.setattr("gmelib.predict.table.open", full, raising=False)
    assert call(run, [pictures], tmp_path / "out.csv") == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said and "give another --out" in said
