"""Sets larger than memory: written to the file they are mapped from, and never held at once."""

import tracemalloc

import numpy as np
import pytest
from made_data import same

from gmelib.data.cache import IMAGES, cache_folder, map_images, mapped_faces, write_images
from gmelib.data.check import _notes
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
