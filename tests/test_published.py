"""Published figures come out again from their records, and a changed one is noticed."""

import json
from pathlib import Path

import pandas as pd
import pytest

from gmelib import published
from gmelib.config import PRIVATE, Config, InputError

TABLE = "# Results\n\n<!-- results: synthetic -->\n<!-- end -->\n"


@pytest.fixture
def place(tmp_path: Path, smoke_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own in which the smoke runs are published."""
    monkeypatch.setattr(published, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "outputs" / "published")
    monkeypatch.setattr(published, "README", tmp_path / "README.md")
    for stage in ("teacher", "student", "attention"):
        for folder in (smoke_root / "synthetic" / stage).iterdir():
            _as_committed(published.add(folder))
    (tmp_path / "README.md").write_text(published.filled(TABLE))
    return tmp_path


def _as_committed(folder: Path) -> None:
    """Smoke runs are made from whatever lies in the working tree; published ones must not be."""
    path = folder / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"revision": {"commit": "0" * 40, "dirty": False}}))


def published_student(place: Path, name: str) -> Path:
    (folder,) = (place / "outputs/published/synthetic/student").glob(f"*{name}*")
    return folder


def test_every_figure_comes_out_again(place: Path) -> None:
    assert published.verify() == []
    assert len(published.published_runs()) == 4


def test_training_state_is_not_published(place: Path) -> None:
    names = {p.name for p in published_student(place, "kd5").iterdir()}
    assert {"run.json", "history.jsonl", "predictions.parquet", "report.html", "figures"} <= names
    assert not names & published.LEFT_OUT


def test_a_changed_figure_is_noticed(place: Path) -> None:
    path = published_student(place, "nokd") / "run.json"
    facts = json.loads(path.read_text())
    facts["metrics"]["all"]["accuracy"]["value"] += 0.01
    path.write_text(json.dumps(facts))
    wrong = published.verify()
    assert any("accuracy.value" in sentence and "nokd" in sentence for sentence in wrong)
    assert any(sentence.startswith("README.md") for sentence in wrong)


def test_changed_predictions_are_noticed(place: Path) -> None:
    path = published_student(place, "nokd") / "predictions.parquet"
    table = pd.read_parquet(path)
    table["label"] = (table["label"] + 1) % 7
    table.to_parquet(path)
    assert any("accuracy.value" in sentence for sentence in published.verify())


def test_missing_predictions_are_noticed(place: Path) -> None:
    (published_student(place, "nokd") / "predictions.parquet").unlink()
    assert any("predictions.parquet is missing" in s for s in published.problems_of(
        published_student(place, "nokd")))  # fmt: skip


def test_uncommitted_code_is_noticed(place: Path) -> None:
    path = published_student(place, "nokd") / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"revision": {"commit": "0" * 40, "dirty": True}}))
    assert any("committed revision" in sentence for sentence in published.verify())


def test_readme_table_gives_runs_and_the_difference(place: Path) -> None:
    text = (place / "README.md").read_text()
    assert text.startswith("# Results\n\n<!-- results: synthetic -->\n| network |")
    facts = json.loads((published_student(place, "kd5") / "run.json").read_text())
    assert f"{100 * facts['metrics']['all']['accuracy']['value']:.2f}" in text
    assert "GME-Net with KD minus without KD" in text and "no difference shown" in text


def test_an_unfinished_run_cannot_be_published(place: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match=r"no run\.json"):
        published.add(tmp_path / "half")
    assert published.verify() == []


@pytest.mark.parametrize(
    ("overlay", "changes", "preset"),
    [
        ("cpu", {}, "cpu"),
        ("cpu", {"kd_weight": 0}, "cpu"),
        ("cpu", {"epochs": 9}, "own"),
        ("paper", {}, "paper"),
    ],
)
def test_a_run_is_labelled_with_the_preset_it_follows(overlay, changes, preset) -> None:
    cfg = Config.load(f"params/{overlay}.yaml", dataset="fer2013", **changes)
    assert published.preset_of(cfg.model_dump(mode="json", exclude=PRIVATE)) == preset
