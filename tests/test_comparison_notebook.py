"""04 through papermill on drawn faces: every method, and again from the records alone."""

import json

import pytest
from conftest import run_smoke

from gmelib.variants import ENTRIES

MODES = '["lr+hr"]'


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    assert run_smoke(root, "04_comparisons", modes=MODES) == 0
    return root


def facts_in(root):
    (record,) = root.glob("synthetic/comparison/*/run.json")
    return json.loads(record.read_text())


def test_every_method_is_trained_and_stands_in_the_table(compared):
    facts = facts_in(compared)
    assert len(facts["runs"]) == len(ENTRIES) and facts["missing"] == []
    assert len(facts["rows"]) == len(ENTRIES)
    assert {row["passes"] for row in facts["rows"]} == {2}
    costs = {row["method"]: row for row in facts["full_size"]}
    assert costs["POSTER"]["parameters (true)"] == pytest.approx(71.85, abs=0.005)
    assert {row["method"] for row in facts["speed"]} >= {"GME-Net-cpu", "MobileNetV3-small"}


def test_it_leaves_its_figures_and_report(compared):
    (folder,) = compared.glob("synthetic/comparison/*")
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert names == {"cost", "confusion_peer", "confusion_gmenet", "recalls"}
    assert "What we see" in (folder / "report.html").read_text()


def test_again_it_loads_what_is_done_and_trains_nothing(compared):
    students, told = "synthetic/student/*/run.json", facts_in(compared)["runs"]
    before = {p: p.stat().st_mtime_ns for p in compared.glob(students)}
    assert run_smoke(compared, "04_comparisons", modes=MODES, train_missing="False") == 0
    assert {p: p.stat().st_mtime_ns for p in compared.glob(students)} == before
    assert facts_in(compared)["runs"] == told
