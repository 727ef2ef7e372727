"""The run folder: atomic files, the record, and the index of all runs."""

import json
import math
import os
from pathlib import Path

import pytest
import tiny
from matplotlib.figure import Figure

from gmelib import record
from gmelib.config import Config, InputError
from gmelib.record import Run, load_runs, read_facts, write_atomic, write_json

# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "place, name, failing",
    [(record, "open", tiny.FullDisk), (os, "replace", tiny.no_space), (os, "fsync", tiny.no_space)],
)
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch, place, name, failing):
    path = tmp_path / "file"
    write_atomic(path, b"one")
    monkeypatch.setattr(place, name, failing, raising=False)
    text = tiny.refusal(write_atomic, path, b"two")
    monkeypatch.undo()
    assert str(path) in text and "No space left on device" in text and "out_root" in text
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]  # no rest of the attempt


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    assert "cannot be written" in tiny.refusal(write_atomic, tmp_path / "outputs" / "x" / "y", b"")
    run = tiny.run_of(tmp_path / "outputs")
    with pytest.raises(InputError, match="cannot be written"), run.lock():
        pass


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [1.5, math.inf], 3: (None, "é")})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": None, "b": [1.5, None], "3": [None, "é"]}


# -- a run ----------------------------------------------------------------------------------------


def test_the_folder_says_what_the_run_is(tmp_path):
    run = tiny.run_of(tmp_path, seed=3, attention="cbam", kd_weight=0, global_branch=False)
    assert run.folder.parent == tmp_path / "synthetic" / "student"
    assert run.id == f"gmenet-cbam-local-8px-nokd-s3-{run.cfg.digest('student')}"
    assert run.state == "missing"
    assert tiny.run_of(tmp_path, "teacher").id.startswith("gmenet-s0-")


def test_every_published_network_is_still_found_by_its_parameters():
    """A change here orphans what is published, as in test_config: put it back."""
    seen = 0
    for path in sorted(record.PUBLISHED.glob("*/*/*/run.json")):
        facts = read_facts(path.parent)
        if facts["stage"] in ("teacher", "student"):
            cfg, parents = Config.make(**facts["config"]), {}
            teacher = facts.get("distillation", {}).get("teacher")
            if teacher not in (None, Run.open(cfg.teacher(), "teacher").id):
                parents = {"teacher": teacher}  # that was named, and counts
            assert Run.open(cfg, facts["stage"], **parents).folder == path.parent
            seen += 1
    assert seen


def test_the_states_of_a_run(tmp_path):
    run = tiny.run_of(tmp_path)
    assert "holds no run.json" in tiny.refusal(run.facts)
    run.folder.mkdir(parents=True)
    (run.folder / "last.pt").touch()
    assert run.state == "broken"
    run.finish(metrics={})
    assert run.state == "done"


def test_the_record_names_versions_and_code_but_no_place_on_this_machine(tmp_path):
    run = tiny.run_of(tmp_path, data_root="/home/someone/data", teacher_run="/home/someone/x")
    run.finish(metrics={"all": {}})
    facts = run.facts()
    assert facts["run"] == run.id and facts["stage"] == "student"
    assert facts["versions"]["torch"] and facts["versions"]["python"]
    assert set(facts["revision"]) == {"commit", "dirty"}
    text = (run.folder / "run.json").read_text()
    assert "/home/someone" not in text and str(tmp_path) not in text
    assert facts["config"]["blocks"] == [1, 1, 1, 1]


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", "null"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert "not readable as a run record" in tiny.refusal(read_facts, tmp_path)


def test_a_folder_inside_the_project_is_shown_relative_to_it(tmp_path):
    assert tiny.run_of("outputs").label.startswith(str(Path("outputs") / "synthetic"))
    assert tiny.run_of(tmp_path).label == str(tiny.run_of(tmp_path).folder)


def test_a_published_run_is_found_unless_an_own_one_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    published = tiny.run_of(tmp_path / "published")
    assert tiny.run_of(tmp_path / "own").folder.is_relative_to(tmp_path / "own")
    published.finish()
    assert tiny.run_of(tmp_path / "own").folder == published.folder
    assert tiny.run_of(tmp_path / "own", force=True).folder != published.folder
    own = Run(published.cfg, "student", tmp_path / "own" / published.folder.relative_to(
        tmp_path / "published"))  # fmt: skip
    own.finish()
    assert tiny.run_of(tmp_path / "own").folder == own.folder


def test_a_note_is_made_of_other_code(tmp_path, capsys):
    run = tiny.run_of(tmp_path)
    run.finish(revision={"commit": "0123456789", "dirty": False})
    run.note_other_code()
    here = record.code_revision()["commit"]
    assert ("01234567" in capsys.readouterr().out) == (here is not None)
    run.finish()
    run.note_other_code()
    assert capsys.readouterr().out == ""


# -- all runs -------------------------------------------------------------------------------------


def figures(value):
    return {"accuracy": {"value": value, "low": 0.1, "high": 0.9, "n": 20}}


def test_all_finished_runs_are_listed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    metrics = {"all": figures(0.5), "without_duplicates": figures(0.4)}
    done = tiny.run_of(tmp_path / "own", seed=1)
    done.finish(metrics=metrics)
    both = tiny.run_of(tmp_path / "own", seed=2)
    both.finish(metrics=metrics)
    tiny.run_of(tmp_path / "published", seed=2).finish(metrics=metrics)
    broken = tiny.run_of(tmp_path / "own", seed=3)
    broken.folder.mkdir(parents=True)
    (broken.folder / "last.pt").touch()
    runs = load_runs(tmp_path / "own").set_index("run")
    assert set(runs.index) == {done.id, both.id}
    assert runs["published"].to_dict() == {done.id: False, both.id: True}
    assert runs.loc[done.id, "accuracy"] == 0.5
    assert runs.loc[done.id, "accuracy_without_duplicates"] == 0.4
    assert runs.loc[done.id, "seed"] == 1 and runs.loc[done.id, "lr_size"] == 8


def test_no_runs_are_an_empty_table(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    assert load_runs(tmp_path / "own").empty


def test_what_shows_a_published_run_is_written_beside_the_own_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PUBLISHED", tmp_path / "published")
    tiny.run_of(tmp_path / "published").finish(metrics={})
    run = tiny.run_of(tmp_path / "own")
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    run.save_figure(Figure(figsize=(1, 1)), "faces")
    run.finish(metrics={"all": {}})
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before
    place = tmp_path / "own" / run.folder.relative_to(tmp_path / "published")
    assert (place / "figures" / "faces.png").is_file() and (place / "run.json").is_file()
