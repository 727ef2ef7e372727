"""A disk that is full when a checkpoint or a prepared data set is written: the system itself
refuses, and nothing is lost.

The disk is a small one in memory (where mounting is allowed), or every file of the process is held
under a size. tests/test_resume.py has stand-ins for the moments at which writing can fail.
"""

import resource
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
from made_data import config, write_expw
from test_resume import LIGHT, lasting, stop_at, train

from gmelib.checkpoint import load_checkpoint
from gmelib.data.expw import load_expw


@dataclass
class Disk:
    """A folder, and how to fill its disk and to make room again."""

    folder: Path
    fill: Callable[[int], None]  # for a checkpoint of so many bytes
    clear: Callable[[], None]


def mount(*arguments: str) -> None:
    """Raises OSError or CalledProcessError where this is not allowed."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def memory_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")

    def fill(size: int) -> None:
        """Two checkpoints lie there; a third one finds room for its first half."""
        mount("-o", f"remount,size={int(2.5 * size) // 4096 * 4096}", str(folder))

    yield Disk(folder, fill, lambda: mount("-o", "remount,size=64m", str(folder)))
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def limited_files(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def clear() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield Disk(
        tmp_path,
        lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard)),
        clear,
    )
    clear()


@pytest.fixture(params=["memory_disk", "limited_files"])
def disk(request) -> Disk:
    return request.getfixturevalue(request.param)


def test_a_full_disk_costs_one_epoch_and_leaves_the_checkpoint(tmp_path_factory, monkeypatch, disk):
    undisturbed, weights = train(tmp_path_factory.mktemp("whole"), LIGHT)
    stop_at(monkeypatch, 3, 0, KeyboardInterrupt())
    with suppress(KeyboardInterrupt):
        train(disk.folder, LIGHT)
    monkeypatch.undo()
    run = tiny.run_of(disk.folder, **LIGHT)
    before = tiny.snapshot(run.folder)
    assert {"last.pt", "previous.pt"} <= before.keys()

    disk.fill(len(before["last.pt"]))
    for _ in range(2):  # nor does it fill up further
        text = tiny.refusal(train, disk.folder, LIGHT)
        assert "next.pt: cannot be written (" in text and "finished epochs are kept" in text
        assert tiny.snapshot(run.folder) == before
    assert load_checkpoint(run.folder, run.id)["epoch"] == 2

    disk.clear()
    assert tiny.states_equal(train(disk.folder, LIGHT)[1], weights)
    assert tiny.states_equal(lasting(run), lasting(undisturbed))


LOAD = """
import sys
from gmelib.config import Config, InputError
from gmelib.data.expw import load_expw
try:
    load_expw(Config.model_validate_json(sys.argv[1]))
except InputError as error:
    print(error)
"""


def test_a_full_disk_does_not_kill_who_prepares_a_mapped_data_set(tmp_path, memory_disk):
    pixels = np.random.default_rng(4).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    lines = [f"a.png {face} 5 5 {40 + face % 9} 45 9 {face % 7}" for face in range(40)]
    write_expw(tmp_path, lines, {"a.png": pixels})
    cfg = config(tmp_path, "expw", expw_align="boxes").replace(out_root=str(memory_disk.folder))
    expected = load_expw(cfg).fingerprint
    (place,) = cfg.cache_dir.glob("expw-????????????????")
    size = (place / "images.npy").stat().st_size  # as large as the chunks, which stay
    shutil.rmtree(place)
    memory_disk.fill(int(0.6 * size))
    process = tiny.start(LOAD, cfg.model_dump_json())
    told = process.communicate(timeout=600)[0]
    assert process.returncode == 0  # else a signal: nothing can be said then, nor tidied up
    assert "cannot be written (No space left on device)" in told and told.count("\n") == 1
    assert [path.name for path in cfg.cache_dir.iterdir()] == ["expw-chunks"]
    memory_disk.clear()
    assert load_expw(cfg).fingerprint == expected
