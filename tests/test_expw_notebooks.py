"""ExpW through the notebooks: from label.lst to a teacher, a student at 14 px, and their reports."""

import json

import pandas as pd
import pytest
from made_expw import make_expw

from gmelib import run

PHOTOGRAPHS = 40


@pytest.mark.slow
def test_photographs_become_teacher_student_and_reports(tmp_path):
    faces = make_expw(tmp_path / "data", PHOTOGRAPHS, bom=True, newline="\r\n")
    overlays = [x for name in ("base", "expw", "smoke") for x in ("-f", f"params/{name}.yaml")]
    given = {
        "data_root": str(tmp_path / "data"), "out_root": str(tmp_path / "outputs"),
        "expw_align": "landmarks", "num_threads": "1",
    }  # fmt: skip
    pairs = [x for name, value in given.items() for x in ("-p", name, value)]
    notebooks = [f"notebooks/{stem}.ipynb" for stem in ("02_teacher", "03_student_distillation")]
    assert run.main([*notebooks, *overlays, *pairs]) == 0
    for stage in ("teacher", "student"):
        (folder,) = (tmp_path / "outputs" / "expw" / stage).iterdir()
        facts = json.loads((folder / "run.json").read_text())
        assert facts["config"]["lr_size"] == 14 if stage == "student" else True
        predictions = pd.read_parquet(folder / "predictions.parquet")
        assert 0 < len(predictions) < faces / 5
        assert "ExpW" in (folder / "report.html").read_text()
    (kept,) = (tmp_path / "outputs" / ".cache").glob("expw-*/images.npy")
    assert kept.stat().st_size > faces * 3 * 112**2
