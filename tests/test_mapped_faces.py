"""Sets larger than memory: written to the file they are mapped from, and never held at once."""

import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest
import tiny
from made_data import same

from gmelib import lock
from gmelib.data import cache
from gmelib.data.cache import IMAGES, cache_folder, map_images, mapped_faces, write_images
from gmelib.data.check import _notes
from gmelib.data.duplicates import without_training_copies
from gmelib.data.faceset import make_faces

COUNT, SIDE = 600, 112


def one_by_one():
    for position in range(COUNT):
        image = np.full((3, SIDE, SIDE), position % 140, np.uint8)
        image[0, 0, 0] = position % 7
        yield image


def build(folder):
    return make_faces(
        name="large",
        images=write_images(folder, one_by_one(), (COUNT, 3, SIDE, SIDE)),
        expressions=np.array(["anger", "neutral"] * (COUNT // 2)),
        split=np.repeat(["train", "validation", "test"], COUNT // 3),
        ids=np.arange(COUNT),
        extras={"notes": ["a sentence"]},
    )


def test_a_mapped_set_never_stands_in_memory(tmp_path):
    place = cache_folder(tmp_path, "large", 1)
    tracemalloc.start()
    try:
        first = mapped_faces(place, build)
        again = mapped_faces(place, lambda _: pytest.fail("built twice"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < COUNT * 3 * SIDE**2 / 4
    assert same(first, again) and first.extras == again.extras
    assert sorted(path.name for path in tmp_path.iterdir()) == [place.name]


def test_without_its_copies_it_does_not_stand_in_memory_either(tmp_path):
    faces = mapped_faces(cache_folder(tmp_path, "large", 1), build)
    place = cache_folder(tmp_path, "large-without-copies", 1)
    tracemalloc.start()
    try:
        part = mapped_faces(place, partial(without_training_copies, faces, "exact"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < COUNT * 3 * SIDE**2 / 4
    expected = without_training_copies(faces, "exact")
    assert 0 < len(part) < len(faces) and same(part, expected) and part.extras == expected.extras


def test_a_mapped_set_is_fingerprinted_as_one_in_memory(tmp_path):
    mapped = mapped_faces(cache_folder(tmp_path, "large", 1), build)
    plain = make_faces(
        name="large",
        images=mapped.images.numpy().copy(),
        expressions=np.array(["anger", "neutral"] * (COUNT // 2)),
        split=mapped.split,
        ids=mapped.ids,
    )
    assert same(mapped, plain) and mapped.duplicate.any()


def test_its_file_does_not_change_through_the_tensor(tmp_path):
    place = cache_folder(tmp_path, "large", 1)
    faces = mapped_faces(place, build)
    faces.images[0] = 99
    assert (map_images(place)[0] != 99).any()


def test_a_damaged_file_is_built_again(tmp_path):
    place = cache_folder(tmp_path, "large", 1)
    first = mapped_faces(place, build)
    kept = first.images.clone()
    with open(place / IMAGES, "r+b") as file:
        file.seek(5000)
        file.write(b"\x07\x07\x07")
    assert (mapped_faces(place, build).images == kept).all()


def test_the_check_counts_constant_images_and_passes_notes_on(tmp_path):
    notes = _notes(mapped_faces(cache_folder(tmp_path, "large", 1), build))
    flat = sum(position % 140 == position % 7 for position in range(COUNT))
    assert f"constant images (one grey level): {flat}" in notes and notes[-1] == "a sentence"


# -- several processes ----------------------------------------------------------------------------

PREPARE = """
import sys
from pathlib import Path
import test_mapped_faces
from gmelib.data.cache import cache_folder, mapped_faces
def build(folder):
    print("builds", flush=True)
    sys.stdin.readline()
    return test_mapped_faces.build(folder)
print(mapped_faces(cache_folder(Path(sys.argv[1]), "large", 1), build).fingerprint)
"""


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path):
    first = tiny.start(PREPARE, str(tmp_path))
    assert first.stdout.readline() == "builds\n"
    second = tiny.start(PREPARE, str(tmp_path))
    place = cache_folder(tmp_path, "large", 1)
    assert second.stdout.readline().startswith(f"note: process {first.pid} on ")
    told = first.communicate("\n", timeout=600)[0]
    assert told and second.communicate(timeout=600)[0] == told
    assert (first.returncode, second.returncode) == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_builds_is_not(tmp_path):
    process = tiny.start(PREPARE, str(tmp_path))
    assert process.stdout.readline() == "builds\n"
    process.kill()
    process.wait()
    place, others = cache_folder(tmp_path, "large", 1), [cache_folder(tmp_path, "large", 2)]
    others.append(cache_folder(tmp_path, "large", 3))
    others.append(cache_folder(tmp_path, "large-without-copies", 1))  # another kind, not locked
    orphans = [path.with_name(f".{path.name}-0123456789ab") for path in others]
    for orphan in orphans:
        orphan.mkdir()
    lock.take(cache._lock_of(others[1]))
    try:
        mapped_faces(place, build)
        left = {path.name for path in tmp_path.iterdir()}
    finally:
        lock.release(cache._lock_of(others[1]))
    assert left == {place.name, cache._lock_of(others[1]).name, *(o.name for o in orphans[1:])}


def test_a_folder_that_another_process_has_finished_meanwhile_stays(tmp_path):
    """As where its lock was thought dead, for its machine was silent for long."""
    place = cache_folder(tmp_path, "large", 1)

    def build_and_be_overtaken(folder):
        with cache._building(place) as building:
            cache._write(building, build(building))
        return build(folder)

    faces = mapped_faces(place, build_and_be_overtaken)
    stands = (place / IMAGES).stat().st_ino
    assert same(faces, mapped_faces(place, lambda _: pytest.fail("built twice")))
    assert (place / IMAGES).stat().st_ino == stands
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_what_cannot_be_written_is_read_where_another_process_has_written_it(tmp_path, monkeypatch):
    place = cache_folder(tmp_path, "large", 1)

    def overtaken(*names):
        monkeypatch.undo()
        with cache._building(place) as building:
            cache._write(building, build(building))
        tiny.no_space()

    monkeypatch.setattr(cache.os, "rename", overtaken)
    faces = mapped_faces(place, build)
    assert same(faces, mapped_faces(place, lambda _: pytest.fail("built twice")))
