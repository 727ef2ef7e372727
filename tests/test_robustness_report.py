"""The sentences of the robustness report say what the figures say, and what limits them."""

import made_runs
import numpy as np
import pytest

from gmelib import robustness
from gmelib.config import Config
from gmelib.robustness import FER, SIZES, Measured

N = 200  # made faces
STUDENT = {48: 90, 24: 104, 16: 106, 14: 106, 12: 106, 8: 80}  # of them right, at each size
INSTALLED = {48: 132, 24: 102, 16: 64, 14: 58, 12: 54, 8: 48}


def made(name, right, *, native=48, seed=0):
    """Models whose right faces are spread differently, as those of two networks are."""
    order = np.random.default_rng(seed).permutation(N)
    tables = {s: made_runs.predictions(order < n) for s, n in right.items()}
    return Measured(name, tables, native, resamples=100)


def told(tmp_path, right=STUDENT, other=INSTALLED, *, native=48, **values):
    cfg = Config.make(out_root=str(tmp_path), **({"dataset": "fer2013", "kd_weight": 0} | values))
    student = made("net", right, native=native)
    fer = made(FER, other, native=native, seed=1)
    own = student.predictions[cfg.lr_size]
    run = made_runs.finish(cfg, own["label"] == own["predicted"])
    return robustness.conclusion(run, student, fer)


def test_the_conclusion_says_where_the_student_overtakes_and_by_how_much(tmp_path):
    said = told(tmp_path)
    assert "(net) was trained on faces of 12 px." in said
    assert "net: 53.0 % at its best size (16 px) and 40.0 % at its worst (8 px)" in said
    assert "it falls by 13.0 points" in said and "it falls by 42.0 points" in said
    assert "net overtakes package fer between 24 and 16 px." in said
    assert f"{FER} at 48 px; neither at 24 px; net at 16 px, 14 px, 12 px, 8 px" in said
    assert "At 12 px net minus package fer: +26.0 [" in said
    assert "At 16 px, 14 px, 12 px, 8 px it is not above the 33.5 % of always saying anger." in said
    assert "chosen on FER2013's test faces, which FERPlus shares: its figure at 48 px" in said
    assert "in its record" not in said and "contempt" not in said


@pytest.mark.parametrize(
    "right, sentence",
    [
        (dict.fromkeys(SIZES, 190), "net is shown to be the more accurate at every size."),
        (dict.fromkeys(SIZES, 20), "At 8 px net is not shown to be more accurate than"),
    ],
)
def test_the_conclusion_knows_of_curves_that_do_not_cross(tmp_path, right, sentence):
    said = told(tmp_path, right)
    assert sentence in said and "overtakes" not in said


def test_the_conclusion_says_that_fer_knows_no_contempt(tmp_path, monkeypatch):
    monkeypatch.setattr(made_runs, "CLASSES", ("anger", "happiness", "contempt"))
    said = told(tmp_path, dataset="ferplus")
    assert "package fer does not know contempt: it has all 66 such faces of 200 wrong." in said
    assert "which FERPlus (which labels them anew) shares" in said


def test_the_conclusion_says_what_is_no_result(tmp_path):
    assert "this is not a result" in told(tmp_path, dataset="synthetic")
    assert "flatters" not in told(tmp_path, dataset="synthetic")
    assert "picked on the test set" in told(tmp_path, select="test")
    assert "The faces have 32 px: from there up nothing was shrunk" in told(tmp_path, native=32)


def test_the_conclusion_says_when_the_student_answers_otherwise_than_in_its_record(tmp_path):
    cfg = Config.make(out_root=str(tmp_path), dataset="fer2013", kd_weight=0)
    student, fer = made("net", STUDENT), made(FER, INSTALLED, seed=1)
    own = student.predictions[12]
    right = (own["label"] == own["predicted"]).to_numpy(copy=True)
    right[:3] = ~right[:3]
    run = made_runs.finish(cfg, right)
    assert "net answers 3 of the 12 px faces otherwise" in robustness.conclusion(run, student, fer)
