"""Published figures come out again from their records, and a changed one is noticed."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_published import (
    SMOKE,
    as_committed,
    change,
    facts_of,
    publish_smoke,
    published_student,
    write_tables,
)

from gmelib import listing, published, record
from gmelib.ablation import ablation_run, complete, finish, row_students
from gmelib.config import Config, InputError


@pytest.fixture
def place(tmp_path: Path, smoke_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return publish_smoke(tmp_path, smoke_root, monkeypatch)


# -- verifying ------------------------------------------------------------------------------------


def test_every_figure_comes_out_again(place: Path) -> None:
    assert published.verify() == []
    assert len(listing.published_runs()) == 4


def test_training_state_is_not_published(place: Path) -> None:
    names = {p.name for p in published_student(place, "kd5").iterdir()}
    assert {"run.json", "history.jsonl", "predictions.parquet", "report.html", "figures"} <= names
    assert not names & published.LEFT_OUT


def test_a_changed_figure_is_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    metrics = facts_of(folder)["metrics"]
    metrics["all"]["accuracy"]["value"] += 0.01
    change(folder, metrics=metrics)
    wrong = published.verify()
    assert any("accuracy.value" in sentence and "nokd" in sentence for sentence in wrong)
    assert any(sentence.startswith("README.md") for sentence in wrong)
    assert any(sentence.startswith("outputs/published/README.md") for sentence in wrong)


def test_a_changed_validation_accuracy_is_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    told = facts_of(folder)["validation"]
    change(folder, validation=told | {"best_accuracy": told["best_accuracy"] + 0.01})
    assert any("history.jsonl" in sentence for sentence in published.verify())


def test_changed_costs_are_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    costs = facts_of(folder)["complexity"]
    change(folder, complexity=costs | {"macs": costs["macs"] - 1})
    assert any("macs is" in sentence for sentence in published.problems_of(folder))


def test_changed_predictions_are_noticed(place: Path) -> None:
    path = published_student(place, "nokd") / "predictions.parquet"
    table = pd.read_parquet(path)
    table["label"] = (table["label"] + 1) % 7
    table.to_parquet(path)
    assert any("accuracy.value" in sentence for sentence in published.verify())


def test_missing_predictions_are_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    (folder / "predictions.parquet").unlink()
    assert any("predictions.parquet is missing" in s for s in published.problems_of(folder))


@pytest.mark.parametrize("stage", ["student", "attention"])
def test_uncommitted_code_is_noticed(place: Path, stage: str) -> None:
    folder = next((place / "outputs/published/synthetic" / stage).iterdir())
    change(folder, revision={"commit": "0" * 40, "dirty": True})
    assert any("committed revision" in sentence for sentence in published.verify())


def test_uncommitted_code_of_an_earlier_session_is_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    (session,) = facts_of(folder)["sessions"]
    before = session | {"revision": {"commit": "0" * 40, "dirty": True}}
    change(folder, sessions=[before, session])
    assert any("committed revision" in sentence for sentence in published.verify())


def test_a_figure_without_predictions_is_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    metrics = facts_of(folder)["metrics"]
    metrics["all"]["happiness_index"] = metrics["all"]["accuracy"]
    change(folder, metrics=metrics)
    assert any("all happiness_index in run.json is no" in s for s in published.problems_of(folder))


def test_a_record_in_another_runs_folder_is_noticed(place: Path) -> None:
    folder = published_student(place, "nokd")
    other = folder.with_name(folder.name.replace("-s0-", "-s9-"))
    folder.rename(other)
    assert any(f"lies in {other.name}" in sentence for sentence in published.verify())


def test_a_list_that_is_missing_is_noticed(place: Path) -> None:
    (place / "outputs/published/README.md").unlink()
    (wrong,) = published.verify()
    assert wrong.startswith("outputs/published/README.md") and "--write" in wrong


def test_an_ablation_report_must_agree_with_the_published_runs(place: Path) -> None:
    rows = ["DBAM+GM without KD", "GME-Net"]
    cfg = Config.load(*SMOKE, rows=rows, sweeps=[], out_root=str(record.PUBLISHED))
    run = ablation_run(cfg)
    finish(run, complete(row_students(cfg), train=False), {})
    as_committed(run.folder)
    write_tables()
    assert published.verify() == []
    assert run.id in listing.listing()
    for name in ("rows", "contrasts"):
        told = facts_of(run.folder)[name]
        change(run.folder, **{name: [row | {"low": 0.5} for row in told]})
        wrong = published.verify()
        assert len(wrong) == len(told) and all("run 05 again" in sentence for sentence in wrong)
        change(run.folder, **{name: told})
    shutil.rmtree(published_student(place, "nokd"))
    assert any("DBAM+GM without KD is not" in s for s in published.problems_of(run.folder))


# -- publishing -----------------------------------------------------------------------------------


def test_no_notebook_names_a_place_on_one_machine(place: Path, smoke_root: Path) -> None:
    """The smoke runs were given an out_root; what else they were given stays."""
    (made,) = smoke_root.glob("synthetic/teacher/*/02_teacher.ipynb")
    assert f'out_root = \\"{smoke_root}' in made.read_text()
    (path,) = place.glob("outputs/published/synthetic/teacher/*/02_teacher.ipynb")
    content = json.loads(path.read_text())
    assert not [c for c in content["cells"] if f'out_root = "{smoke_root}"' in "".join(c["source"])]
    given = content["metadata"]["papermill"]["parameters"]
    assert "out_root" not in given and given["num_threads"] == 1
    shutil.copy(made, path)
    (problem,) = published.problems_of(path.parent)
    assert "02_teacher.ipynb names out_root" in problem


def test_an_unfinished_run_cannot_be_published(place: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match=r"no run\.json"):
        published.add(tmp_path / "half")
    assert published.verify() == []


def test_a_report_with_pictures_of_its_users_cannot_be_published(tmp_path: Path) -> None:
    facts = {"run": "x", "dataset": "synthetic", "stage": "predict", "config": {}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not published"):
        published.add(tmp_path)


def test_figures_need_no_weights(place: Path, tmp_path: Path) -> None:
    folder = published_student(place, "kd5")
    copied = shutil.copytree(folder, tmp_path / "own" / folder.name)
    assert (copied / published.WEIGHTS).is_file()
    for weights in (False, True):
        assert published.add(copied, weights=weights) == folder
        assert (folder / published.WEIGHTS).is_file() == weights
        assert published.verify() == []


def test_a_figure_that_does_not_come_out_again_changes_nothing(place: Path) -> None:
    folder = published_student(place, "kd5")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    made = place / "made" / "student" / folder.name
    (made / "predictions.parquet").unlink()
    with pytest.raises(InputError, match=r"predictions\.parquet is missing.*not published"):
        published.add(made)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert not list(folder.parent.glob(".*"))


def test_half_a_copy_is_no_published_run(place: Path, monkeypatch) -> None:
    """Publishing may be killed at any moment."""
    folder = published_student(place, "nokd")
    made = place / "made" / "student" / folder.name
    shutil.rmtree(folder)

    def killed(_: Path) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(published, "problems_of", killed)
    monkeypatch.setattr(published.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        published.add(made)
    assert list(folder.parent.glob(".*/*/run.json"))  # it lies there
    assert folder.name not in [run.name for run in listing.published_runs()]
    assert not [path for path in record.record_paths() if path.parent.name == folder.name]


def test_networks_are_published_before_their_reports(place: Path, smoke_root: Path) -> None:
    stages = ("attention", "student", "teacher")
    folders = [next((smoke_root / "synthetic" / stage).iterdir()) for stage in stages]
    folders.sort(key=published.is_report)
    assert folders[-1].parent.name == "attention"


def test_publishing_writes_both_tables(place: Path, monkeypatch, capsys) -> None:
    folder = published_student(place, "nokd")
    shutil.rmtree(folder)
    write_tables()
    texts = [path.read_text() for path in published.tables()]
    given = str(place / "made" / "student" / folder.name)
    monkeypatch.setattr("sys.argv", ["published", "--add", given])
    assert published.main() == 0
    assert "tables agree" in capsys.readouterr().out
    for before, path in zip(texts, published.tables(), strict=True):
        after = path.read_text()
        assert folder.name in after and folder.name not in before
