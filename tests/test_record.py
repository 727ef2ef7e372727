"""The run folder: atomic files, the record, the lock, and the index of all runs."""

import errno
import json
import math
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import tiny

from gmelib import lock, record
from gmelib.config import PROJECT_ROOT, InputError
from gmelib.record import Run, load_runs, read_facts, write_atomic, write_json


def refusal(call, *args, **kwargs):
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


class FullDisk:
    """Stands for ``open``: the file opens, and nothing can be written into it."""

    def __init__(self, *args):
        self.file = open(*args)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "place, name, failing",
    [(record, "open", FullDisk), (os, "replace", no_space), (os, "fsync", no_space)],
)
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch, place, name, failing):
    path = tmp_path / "file"
    write_atomic(path, b"one")
    monkeypatch.setattr(place, name, failing, raising=False)
    text = refusal(write_atomic, path, b"two")
    monkeypatch.undo()
    assert str(path) in text and "No space left on device" in text and "out_root" in text
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]  # no rest of the attempt


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    assert "cannot be written" in refusal(write_atomic, tmp_path / "outputs" / "x" / "y", b"")
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


def test_the_states_of_a_run(tmp_path):
    run = tiny.run_of(tmp_path)
    assert "holds no run.json" in refusal(run.facts)
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
    assert "not readable as a run record" in refusal(read_facts, tmp_path)


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


# -- lock -----------------------------------------------------------------------------------------

HOLD = """
import sys, tiny
with tiny.run_of(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the run until it is killed or hears a line."""
    paths = os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def try_lock(run):
    with run.lock():
        return "taken"


def test_a_lock_keeps_others_out_while_its_owner_lives_and_no_longer(tmp_path, holder):
    run = tiny.run_of(tmp_path)
    text = refusal(try_lock, run)
    assert run.id in text and f"process {holder.pid}" in text
    os.utime(run.folder / "lock.json", (0, 0))  # a silent owner on this machine lives all the same
    refusal(try_lock, run)
    holder.kill()
    while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert try_lock(run) == "taken"  # though nobody has waited for the dead process yet
    holder.wait()
    assert list(run.folder.iterdir()) == []


def test_a_lock_can_be_held_twice_by_the_code_that_holds_it(tmp_path):
    run = tiny.run_of(tmp_path)
    with run.lock():
        with tiny.run_of(tmp_path).lock():
            assert (run.folder / "lock.json").exists()
        assert (run.folder / "lock.json").exists()
    assert not (run.folder / "lock.json").exists()


def test_a_lock_is_released_when_its_work_fails(tmp_path):
    run = tiny.run_of(tmp_path)
    with pytest.raises(KeyboardInterrupt), run.lock():
        raise KeyboardInterrupt
    assert try_lock(run) == "taken"


def write_lock(run, content, age=0.0):
    path = run.folder / "lock.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))


def owner(**values):
    me = psutil.Process()
    return json.dumps({"pid": me.pid, "started": me.create_time(), "host": "far", "since": "t"}
                      | values)  # fmt: skip


def test_an_owner_on_another_machine_is_believed_while_it_gives_signs_of_life(tmp_path):
    run = tiny.run_of(tmp_path)
    write_lock(run, owner(), age=lock.LOCK_TIMEOUT / 2)
    assert "on far" in refusal(try_lock, run)
    write_lock(run, owner(), age=lock.LOCK_TIMEOUT * 2)
    assert try_lock(run) == "taken"


def test_a_process_number_given_to_another_process_is_no_owner(tmp_path):
    run = tiny.run_of(tmp_path)
    write_lock(run, owner(host=socket.gethostname(), pid=os.getppid(), started=1.0))
    assert try_lock(run) == "taken"


def test_a_half_written_lock_is_waited_for_a_moment_only(tmp_path):
    run = tiny.run_of(tmp_path)
    write_lock(run, "")
    assert "another process works on this run since a moment ago" in refusal(try_lock, run)
    write_lock(run, '{"pid"', age=lock.HEARTBEAT * 2)
    assert try_lock(run) == "taken"


def test_a_lock_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    run = tiny.run_of(tmp_path)
    with run.lock():
        path = run.folder / "lock.json"
        os.utime(path, (0, 0))
        touched = threading.Event()
        for _ in range(200):
            if path.stat().st_mtime > 0:
                touched.set()
                break
            threading.Event().wait(0.02)
        assert touched.is_set()


def test_a_lock_on_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    run = tiny.run_of(tmp_path)
    monkeypatch.setattr(os, "fdopen", lambda handle, _: FullDisk(handle, "w"))
    assert "No space left" in refusal(try_lock, run)
    monkeypatch.undo()
    assert list(run.folder.iterdir()) == []
    assert try_lock(run) == "taken"


def test_an_interrupt_while_the_lock_is_taken_does_not_lock_this_process_out(tmp_path):
    run = tiny.run_of(tmp_path)
    write_lock(run, owner(host=socket.gethostname()))
    assert try_lock(run) == "taken"


def test_a_lock_that_another_machine_took_over_is_left_to_it(tmp_path):
    run = tiny.run_of(tmp_path)
    with run.lock():
        write_lock(run, owner())
    assert json.loads((run.folder / "lock.json").read_text())["host"] == "far"


def test_the_new_lock_of_a_quicker_process_is_given_back(tmp_path, monkeypatch):
    """Two processes find a dead lock; the slower one must not bury the other's new one."""
    run = tiny.run_of(tmp_path)
    write_lock(run, "{", age=lock.HEARTBEAT * 2)
    alive = owner(host=socket.gethostname(), pid=os.getppid(),
                  started=psutil.Process(os.getppid()).create_time())  # fmt: skip
    rename = os.rename

    def late(source, target):
        if source.name == "lock.json" and source.read_text() == "{":
            write_lock(run, alive)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert f"process {os.getppid()}" in refusal(try_lock, run)
    assert (run.folder / "lock.json").read_text() == alive


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
