"""ExpW through the notebooks: from label.lst to teacher, student at 14 px, and their reports."""

import json

import pandas as pd
import pytest
from made_data import config
from made_expw import make_expw

from gmelib import run
from gmelib.data import load_faces

PHOTOGRAPHS = 40


@pytest.mark.slow
def test_photographs_become_teacher_student_and_reports(tmp_path):
    make_expw(tmp_path, PHOTOGRAPHS, bom=True, newline="\r\n")
    overlays = [x for name in ("base", "expw", "smoke") for x in ("-f", f"params/{name}.yaml")]
    given = {
        "data_root": str(tmp_path), "out_root": str(tmp_path / "outputs"),
        "expw_align": "landmarks", "num_threads": "1",
    }  # fmt: skip
    pairs = [x for name, value in given.items() for x in ("-p", name, value)]
    notebooks = [f"notebooks/{stem}.ipynb" for stem in ("02_teacher", "03_student_distillation")]
    assert run.main([*notebooks, *overlays, *pairs]) == 0
    faces = load_faces(config(tmp_path, "expw", expw_align="landmarks"))
    told = {}
    for stage in ("teacher", "student"):
        (folder,) = (tmp_path / "outputs" / "expw" / stage).iterdir()
        told[stage] = json.loads((folder / "run.json").read_text())
        assert told[stage]["data"]["fingerprint"] == faces.fingerprint
        predictions = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
        assert set(predictions["id"]) == set(faces.ids[faces.split == "test"])
        assert "What we see" in (folder / "report.html").read_text()
    assert told["student"]["config"]["lr_size"] == 14
    assert told["student"]["distillation"]["teacher"] == told["teacher"]["run"]
