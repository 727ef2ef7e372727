"""A lock file that names its owner, so that one process at a time works in a run's folder.

An owner counts as alive while its process lives or, on another machine, while it touches the file.
When a process began is counted from the clock, so after the clock was set a living owner looks like
another process that got its number: it, too, counts as alive while it touches the file.
"""

import json
import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from gmelib.config import InputError

HEARTBEAT = 20  # seconds between signs of life of a lock's owner
LOCK_TIMEOUT = 300  # seconds without one after which an owner that cannot be asked counts as dead
OWNER = {"pid", "started", "host", "since"}  # what a lock tells of it


class RunLocked(InputError):
    """Another living process works on the run."""


@dataclass
class _Holding:
    """A lock of this process, and how many times it was taken on top of itself."""

    text: str  # the file's content
    stop: threading.Event
    beat: threading.Thread
    depth: int = 1


_held: dict[Path, _Holding] = {}
_guard = threading.RLock()


def take(path: Path) -> None:
    """Takes the lock, or once more one that this process holds; :func:`release` undoes it.

    Raises:
        RunLocked: if a living process holds it.
        OSError: if the folder cannot be written.
    """
    with _guard:
        if path in _held:
            _held[path].depth += 1
            return
        text, stop = _create(path), threading.Event()
        beat = threading.Thread(target=_touch, args=(path, stop), daemon=True)
        _held[path] = _Holding(text, stop, beat)
        beat.start()


def release(path: Path) -> None:
    with _guard:
        holding = _held[path]
        holding.depth -= 1
        if holding.depth:
            return
        del _held[path]
    holding.stop.set()
    holding.beat.join()
    try:
        if path.read_text() == holding.text:  # else another machine thought this one dead
            path.unlink()
    except FileNotFoundError:
        pass


def holder(path: Path) -> str | None:
    """Who holds the lock, as ``process 123 on host since 2026-01-31T12:00:00+00:00``.

    None if nobody does, or nobody who lives; nothing is changed. On another machine an owner
    counts as alive until it has been silent for :data:`LOCK_TIMEOUT`.
    """
    with _guard:
        is_mine = path in _held  # which _is_alive cannot tell
    try:
        _, owner, is_alive = _read(path)
    except OSError:  # not there, or not for this user to read
        return None
    return " since ".join(_named(owner)) if is_mine or is_alive else None


def _create(path: Path) -> str:
    me = psutil.Process()
    owner = {
        "pid": me.pid,
        "started": me.create_time(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(owner)
    for _ in range(3):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            _remove_if_dead(path)
            continue
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return text
    raise RunLocked(f"{path}: another process took this run at the same time; start again later")


def _remove_if_dead(path: Path) -> None:
    try:
        text, owner, is_alive = _read(path)
    except FileNotFoundError:
        return  # released meanwhile
    if is_alive:
        who, since = _named(owner)
        raise RunLocked(
            f"{path.parent.name}: {who} works on this run since {since}; wait for it, stop it, or "
            "change a parameter"
        )
    grave = path.with_name(f".lock.{os.getpid()}.{time.time_ns()}")
    try:
        os.rename(path, grave)  # one of several takers wins; the others try again
        if grave.read_text() != text:  # the new lock of a quicker one: back with it
            os.rename(grave, path)
        grave.unlink(missing_ok=True)
    except FileNotFoundError:
        pass


def _read(path: Path) -> tuple[str, dict[str, Any], bool]:
    """A lock's text, its owner (empty where the text names none), and whether that one lives."""
    text = path.read_text(errors="replace")
    try:
        owner = json.loads(text)
    except ValueError:
        owner = None
    if not isinstance(owner, dict) or not OWNER <= owner.keys():
        owner = {}  # not yet written, or killed while it wrote
    return text, owner, _is_alive(owner, path)


def _named(owner: dict[str, Any]) -> tuple[str, str]:
    """An owner in words, and since when it holds the lock."""
    if not owner:
        return "another process", "a moment ago"
    return f"process {owner['pid']} on {owner['host']}", owner["since"]


def _is_alive(owner: dict[str, Any], path: Path) -> bool:
    if not owner:
        return _silence(path) < HEARTBEAT
    if owner["host"] != socket.gethostname():
        return _silence(path) < LOCK_TIMEOUT
    if owner["pid"] == os.getpid():
        return False  # this process, interrupted while it took the lock: it does not hold it
    try:
        process = psutil.Process(owner["pid"])
        # a killed process stays a zombie until its parent asks for it, in some containers for ever
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        is_the_one = abs(process.create_time() - owner["started"]) < 1
        return is_the_one or _silence(path) < LOCK_TIMEOUT  # the clock may have been set
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _silence(path: Path) -> float:
    """Seconds since the last sign of life, by the clock that stamps the folder's files.

    A network folder has its server's, and this machine's may be minutes away from that.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            now = os.fstat(file.fileno()).st_mtime
    except OSError:  # not for this user to write, or full
        now = time.time()
    return now - path.stat().st_mtime


def _touch(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        try:
            os.utime(path)
        except OSError:
            continue  # a network folder that is away for a while
