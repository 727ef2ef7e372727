"""Every notebook through papermill on drawn faces: it ends, leaves its record, and runs again."""

import json
from pathlib import Path

import pandas as pd
import papermill
import pytest
from conftest import run_smoke
from papermill.exceptions import PapermillExecutionError

from gmelib.config import PROJECT_ROOT, parameters_cell
from gmelib.record import load_runs

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
FIGURES = {
    "data": {"class_balance", "faces", "resolutions", "kernels", "fidelity"},
    "teacher": {"history", "confusion_matrix", "recalls"},
    "student": {"history", "confusion_matrix", "recalls", "beside"},
    "ablation": {"rows", "contrasts"},
    "attention": {
        "agreement", "attention", "class_means", "attributions_student", "attributions_teacher",
    },
    "predict": {"faces"},
    "robustness": {"sizes", "robustness"},
}  # fmt: skip


def only(root: Path, pattern: str) -> Path:
    (found,) = root.glob(pattern)
    return found


@pytest.mark.parametrize("stage", FIGURES)
def test_a_notebook_leaves_record_report_and_figures(smoke_root: Path, stage: str) -> None:
    folders = sorted((smoke_root / "synthetic" / stage).iterdir())
    assert len(folders) == (2 if stage == "student" else 1)
    for folder in folders:
        facts = json.loads((folder / "run.json").read_text())
        assert facts["stage"] == stage and facts["run"] == folder.name
        assert {p.stem for p in (folder / "figures").glob("*.png")} == FIGURES[stage]
        report = (folder / "report.html").read_text()
        assert "What we see" in report and "from_namespace" not in report


def test_runs_are_found_with_their_metrics(smoke_root: Path) -> None:
    table = load_runs(smoke_root).query("~published")
    stages = "ablation attention data predict robustness student student teacher".split()
    assert sorted(table["stage"]) == stages
    trained = table[table["stage"].isin(["teacher", "student"])]
    assert trained["accuracy"].between(0, 1).all()


def test_the_distilled_student_names_its_teacher(smoke_root: Path) -> None:
    teacher = only(smoke_root, "synthetic/teacher/*").name
    for folder in (smoke_root / "synthetic/student").iterdir():
        facts = json.loads((folder / "run.json").read_text())
        assert facts["distillation"]["teacher"] == (None if "nokd" in folder.name else teacher)
        history = pd.read_json(folder / "history.jsonl", lines=True)
        assert ("kd" in history) == ("nokd" not in folder.name)


def test_a_finished_run_is_loaded_not_trained_again(smoke_root: Path) -> None:
    folder = only(smoke_root, "synthetic/teacher/*")
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*.safetensors")}
    record = (folder / "run.json").read_text()
    assert run_smoke(smoke_root, "02_teacher") == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.safetensors")} == before
    assert (folder / "run.json").read_text() == record


def test_a_student_without_its_teacher_says_how_to_make_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_smoke(tmp_path, "03_student_distillation") == 1
    assert "papermill notebooks/02_teacher.ipynb" in capfd.readouterr().err
    assert not list(tmp_path.rglob("report.html"))


def test_a_misspelt_parameter_stops_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_smoke(tmp_path, "02_teacher", kd_wieght="1") == 2
    assert "did you mean 'kd_weight'" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_parameters_cell_is_that_of_config(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    (cell,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert "".join(cell["source"]) == parameters_cell()


def test_plain_papermill_stops_on_a_misspelt_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with pytest.raises(PapermillExecutionError, match="did you mean 'kd_weight'"):
        papermill.execute_notebook(
            PROJECT_ROOT / "notebooks" / "01_data_generation.ipynb",
            tmp_path / "out.ipynb",
            parameters={"kd_wieght": 1, "out_root": str(tmp_path / "outputs")},
            cwd=PROJECT_ROOT,
            progress_bar=False,
        )
    assert not (tmp_path / "outputs").exists()
