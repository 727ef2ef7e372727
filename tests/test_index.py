"""outputs/index.html lists every run as it is, whatever state its folder is in."""

import json
import os
import shutil
import socket
from pathlib import Path

import psutil
import pytest
import tiny
from index_rows import PLAIN, STUDENT, only, row_of, rows_of

from gmelib import index, lock


@pytest.fixture(autouse=True)
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of published runs, empty."""
    monkeypatch.setattr(index, "PUBLISHED", tmp_path / "published")
    return tmp_path / "published"


def owned_by_another_process() -> str:
    parent = psutil.Process(os.getppid())
    owner = {"pid": parent.pid, "started": parent.create_time(), "host": socket.gethostname()}
    return json.dumps(owner | {"since": "2026-01-31T12:00:00+00:00"})


def break_off(folder: Path, **progress) -> None:
    """The folder of a run that was killed after an epoch."""
    config = json.loads((folder / "run.json").read_text())["config"]
    (folder / "run.json").unlink()
    told = {"epoch": 1, "best_epoch": 1, "sessions": [{"seconds": 90.0}], "config": config}
    (folder / "training.json").write_text(json.dumps(told | progress))


# -- states ---------------------------------------------------------------------------------------


def test_every_finished_run_is_a_row_with_the_figures_of_its_record(root):
    rows = rows_of(root)
    assert [row["state"] for row in rows] == ["done"] * 3
    assert {(r["data set"], r["stage"]) for r in rows} == {
        ("synthetic", "teacher"), ("synthetic", "student"),
    }  # fmt: skip
    folder = only(root, PLAIN)
    facts = json.loads((folder / "run.json").read_text())
    row = row_of(root, folder.name)
    assert row["run"].startswith("DBAM+GM without KD")
    accuracy = facts["metrics"]["all"]["accuracy"]
    interval = f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"
    assert row["accuracy"] == f"{100 * accuracy['value']:.2f} {interval}"
    assert row["macro-F1"].startswith(f"{100 * facts['metrics']['all']['macro_f1']['value']:.2f} ")
    assert row["validation"] == f"{100 * facts['validation']['best_accuracy']:.2f}"
    assert (row["px"], row["seed"], row["epochs"]) == ("8", "0", "2")
    assert row["finished"] == facts["finished"][:16].replace("T", " ")
    assert row["links"] == {"record": f"synthetic/student/{folder.name}/run.json"}
    assert row_of(root, "teacher")["px"] == "32"


def test_the_newest_run_stands_first(root):
    for number, path in enumerate(sorted(root.glob("*/*/*/run.json"))):
        facts = json.loads(path.read_text()) | {"finished": f"2026-01-0{number + 1}T12:00:00+00:00"}
        path.write_text(json.dumps(facts))
    assert [row["finished"][:10] for row in rows_of(root)] == [
        "2026-01-03", "2026-01-02", "2026-01-01",
    ]  # fmt: skip


def test_reports_notebooks_and_figures_are_linked(root):
    folder = only(root, STUDENT)
    (folder / "figures").mkdir()
    for name in ("report.html", "06_seen.html", "03_made.ipynb", "my.ipynb", "figures/loss.png"):
        (folder / name).touch()
    links = row_of(root, folder.name)["links"]
    assert list(links) == [
        "report", "report 06", "notebook 03", "notebook my", "record", "loss",
    ]  # fmt: skip


def test_a_run_in_both_places_is_one_row(root, published):
    own = only(root, STUDENT)
    (own / "report.html").touch()
    shutil.copytree(own, published / own.relative_to(root))
    row = row_of(root, own.name)
    assert len(rows_of(root)) == 3
    assert set(row["links"]) == {"report", "record", "report (own)", "record (own)"}
    record = (own / "run.json").read_bytes()
    (own / "run.json").write_text("{")  # the own one is what a notebook would load
    assert row_of(root, own.name)["state"] == "damaged"
    (own / "run.json").write_bytes(record)
    assert "published" not in row_of(root, own.name)["run"]
    (own / "run.json").unlink()  # what 03 leaves where a published run was only looked at
    row = row_of(root, own.name)
    assert row["state"] == "done" and "published" in row["run"]
    assert set(row["links"]) == {"report", "record", "report (own)"}


@pytest.mark.parametrize(
    ("progress", "text"), [({}, "epoch 1 of 2 is saved"), ({"config": {}}, "epoch 1 is saved")]
)
def test_a_broken_run_tells_how_far_it_came(root, progress, text):
    folder = only(root, STUDENT)
    break_off(folder, **progress)
    assert (folder / "last.pt").is_file()
    row = row_of(root, folder.name)
    assert row["state"] == "broken" and text in row["run"] and "it goes on" in row["run"]
    (folder / "last.pt").unlink()
    (folder / "previous.pt").unlink(missing_ok=True)
    assert "no finished epoch; start it again" in row_of(root, folder.name)["run"]


def test_a_damaged_account_of_progress_hides_nothing(root):
    folder = only(root, STUDENT)
    break_off(folder)
    for content in ("", "[1]", '{"epoch": "x", "sessions": 3, "config": 5}'):
        (folder / "training.json").write_text(content)
        assert row_of(root, folder.name)["state"] == "broken"


def test_a_run_is_running_while_its_owner_lives(root):
    folder = only(root, STUDENT)
    break_off(folder)
    (folder / "lock.json").write_text(owned_by_another_process())
    row = row_of(root, folder.name)
    assert row["state"] == "running"
    who = f"process {os.getppid()} on {socket.gethostname()} since 2026-01-31T12:00:00 UTC"
    assert f"epoch 1 of 2: {who}" in row["run"]
    (folder / "lock.json").write_text("{")
    os.utime(folder / "lock.json", (0, 0))
    assert row_of(root, folder.name)["state"] == "broken"


def test_a_run_in_its_first_epoch_is_running_too(tmp_path):
    run = tiny.run_of(tmp_path / "outputs")
    with run.lock():
        assert lock.holder(run.folder / "lock.json")
        row = row_of(tmp_path / "outputs", run.id)
    assert row["state"] == "running" and "first epoch" in row["run"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"run": <b>',
        b"\xff\xfe",
        b"[]",
        b'{"run": "x", "dataset": "synthetic", "stage": "student", "config": {}}',
        b'{"run": "x", "dataset": "synthetic", "stage": "student", "config": null}',
    ],
)
def test_a_damaged_record_is_a_row_that_says_so(root, content):
    folder = only(root, STUDENT)
    (folder / "run.json").write_bytes(content)
    row = row_of(root, folder.name)
    assert row["state"] == "damaged" and "run.json" in row["run"]
    assert str(root) not in row["run"]
    assert sorted(r["state"] for r in rows_of(root)) == ["damaged", "done", "done"]


@pytest.mark.parametrize("change", [{"metrics": {"all": None}}, {"metrics": 3}, {"finished": 0}])
def test_a_record_of_odd_content_is_damaged(root, change):
    path = only(root, STUDENT) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert row_of(root, path.parent.name)["state"] == "damaged"


def test_an_undefined_figure_is_left_out(root):
    path = only(root, STUDENT) / "run.json"
    facts = json.loads(path.read_text())
    facts["metrics"]["all"]["macro_f1"] = {"value": None, "low": None, "high": None, "n": 0}
    path.write_text(json.dumps(facts))
    row = row_of(root, path.parent.name)
    assert row["state"] == "done" and row["macro-F1"] == ""


def test_what_may_not_stand_unmarked_is_marked(root):
    path = only(root, STUDENT) / "run.json"
    facts = json.loads(path.read_text())
    facts["config"]["select"] = "test"
    path.write_text(json.dumps(facts | {"revision": {"commit": "0" * 40, "dirty": True}}))
    row = row_of(root, path.parent.name)
    assert "epoch picked on the test set, code with changes" in row["run"]
