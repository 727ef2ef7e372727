"""The lock of a run's folder: who is kept out, for how long, and what is left behind."""

import json
import os
import socket
import threading
import time

import psutil
import pytest
import tiny

from gmelib import lock

HOLD = """
import sys
import tiny
with tiny.run_of(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the run until it is killed or hears a line."""
    process = tiny.start(HOLD, str(tmp_path))
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def try_lock(run):
    with run.lock():
        return "taken"


def test_a_lock_keeps_others_out_while_its_owner_lives_and_no_longer(tmp_path, holder):
    run = tiny.run_of(tmp_path)
    text = tiny.refusal(try_lock, run)
    assert run.id in text and f"process {holder.pid}" in text
    os.utime(run.folder / "lock.json", (0, 0))  # a silent owner on this machine lives all the same
    tiny.refusal(try_lock, run)
    holder.kill()
    while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert try_lock(run) == "taken"  # though nobody has waited for the dead process yet
    holder.wait()
    assert list(run.folder.iterdir()) == []


def test_the_holder_is_told_while_it_lives_and_nothing_is_changed(tmp_path, holder):
    path = tiny.run_of(tmp_path).folder / "lock.json"
    since = json.loads(path.read_text())["since"]
    expected = f"process {holder.pid} on {socket.gethostname()} since {since}"
    assert lock.holder(path) == expected
    holder.kill()
    holder.wait()
    before = path.read_bytes()
    assert lock.holder(path) is None
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    path.unlink()
    assert lock.holder(path) is None


def test_this_process_is_a_holder_too(tmp_path):
    run = tiny.run_of(tmp_path)
    path = run.folder / "lock.json"
    with run.lock():
        assert f"process {os.getpid()} on" in lock.holder(path)
    write_lock(run, owner(host=socket.gethostname()))  # interrupted while it took the lock
    assert lock.holder(path) is None
    write_lock(run, "")
    assert lock.holder(path) == "another process since a moment ago"
    write_lock(run, owner(since="noon"), age=lock.LOCK_TIMEOUT / 2)
    assert lock.holder(path) == f"process {os.getpid()} on far since noon"
    write_lock(run, owner(), age=lock.LOCK_TIMEOUT * 2)
    assert lock.holder(path) is None


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
    assert "on far" in tiny.refusal(try_lock, run)
    write_lock(run, owner(), age=lock.LOCK_TIMEOUT * 2)
    assert try_lock(run) == "taken"


def test_a_process_number_given_to_another_process_is_no_owner(tmp_path):
    run = tiny.run_of(tmp_path)
    text = owner(host=socket.gethostname(), pid=os.getppid(), started=1.0)
    write_lock(run, text, age=lock.LOCK_TIMEOUT * 2)
    assert try_lock(run) == "taken"


def test_an_owner_outlives_a_clock_that_is_set(tmp_path, holder, monkeypatch):
    """The system counts from the clock when a process began, also long afterwards."""
    run = tiny.run_of(tmp_path)
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: began(process) + 3600)
    assert f"process {holder.pid}" in tiny.refusal(try_lock, run)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_lock_is_as_old_as_the_clock_that_stamped_it_says(tmp_path, monkeypatch, hours):
    """A network folder's files are stamped by its server, and this machine's clock is wrong."""
    run = tiny.run_of(tmp_path)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
    write_lock(run, owner())
    assert "on far" in tiny.refusal(try_lock, run)
    assert list(run.folder.iterdir()) == [run.folder / "lock.json"]
    write_lock(run, owner(), age=lock.LOCK_TIMEOUT * 2)
    assert try_lock(run) == "taken"


def test_a_half_written_lock_is_waited_for_a_moment_only(tmp_path):
    run = tiny.run_of(tmp_path)
    write_lock(run, "")
    assert "another process works on this run since a moment ago" in tiny.refusal(try_lock, run)
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
    monkeypatch.setattr(os, "fdopen", lambda handle, _: tiny.FullDisk(handle, "w"))
    assert "No space left" in tiny.refusal(try_lock, run)
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
    assert f"process {os.getppid()}" in tiny.refusal(try_lock, run)
    assert (run.folder / "lock.json").read_text() == alive
