"""Decoded data sets on disk, so that a notebook's second start takes a moment.

A cached set is a folder of .npy files and a meta.json with their checksums. It is built under
another name and renamed when complete, so several processes may build it at once; what takes hours
is built by one of them, and the others wait. A folder that does not match its checksums is rebuilt;
where nothing can be written there is simply no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from gmelib import lock
from gmelib.data.faceset import FaceSet, spelt
from gmelib.record import unwritable

SCHEMA = 2  # raised when the content of a cached folder changes its meaning
_META = "meta.json"
IMAGES = "images.npy"
_MARK = 12  # hexadecimal digits that tell apart what several processes build
LOOK = 1  # seconds between looks whether another process has finished


def file_stamp(path: Path) -> list[Any]:
    """What identifies a file's content without reading it: path, bytes, time of change (ns)."""
    status = path.stat()
    return [spelt(path.resolve()), status.st_size, status.st_mtime_ns]


def _arrays_of(faces: FaceSet) -> dict[str, np.ndarray]:
    arrays = {
        "images": faces.images.numpy(),
        "labels": faces.labels.numpy(),
        "split": faces.split,
        "ids": faces.ids,
        "duplicate": faces.duplicate,
    }
    extras = {f"extra-{k}": v for k, v in faces.extras.items() if isinstance(v, np.ndarray)}
    return arrays | extras


def _write(folder: Path, faces: FaceSet) -> None:
    checksums = {}
    for name, array in _arrays_of(faces).items():
        path = folder / f"{name}.npy"
        if not path.exists():  # `mapped_faces`: the images stand there already
            np.save(path, array, allow_pickle=False)
        checksums[name] = zlib.crc32(np.ascontiguousarray(array))
    meta = {
        "name": faces.name,
        "classes": faces.classes,
        "fingerprint": faces.fingerprint,
        "checksums": checksums,
        "extras": {k: v for k, v in faces.extras.items() if not isinstance(v, np.ndarray)},
    }
    (folder / _META).write_text(json.dumps(meta))


def _read_array(path: Path, checksum: int) -> np.ndarray:
    # Copy-on-write: pages are read when used, and nobody can change the file through a tensor.
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if zlib.crc32(array) != checksum:
        raise ValueError(f"{path}: other content than was written")
    return array


def _read(folder: Path) -> FaceSet:
    meta = json.loads((folder / _META).read_text())
    arrays = {
        name: _read_array(folder / f"{name}.npy", checksum)
        for name, checksum in meta["checksums"].items()
    }
    extras = {k.removeprefix("extra-"): a for k, a in arrays.items() if k.startswith("extra-")}
    return FaceSet(
        images=torch.from_numpy(arrays["images"]),
        labels=torch.from_numpy(np.array(arrays["labels"])),
        split=np.array(arrays["split"]),
        classes=tuple(meta["classes"]),
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        ids=np.array(arrays["ids"]),
        duplicate=np.array(arrays["duplicate"]),
        extras=extras | meta["extras"],
    )


def read_if_sound(folder: Path) -> FaceSet | None:
    """The set that lies in a folder; None where there is none, or not the one that was written."""
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """A new folder to build in; it becomes `folder` if the block ends well, and else is removed.

    So it is where a sound one stands there by then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}-{uuid4().hex[:_MARK]}")
    building.mkdir()
    try:
        yield building
        if folder.exists() and read_if_sound(folder) is None:
            shutil.rmtree(folder)
        if not folder.exists():  # else another process has just finished, and may map it already
            os.rename(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other living process builds `folder`, then keeps the others waiting."""
    path, has_told = _lock_of(folder), False
    while True:
        try:
            lock.take(path)
            break
        except lock.RunLocked:
            who = lock.holder(path)
            if who and not has_told:
                print(f"note: {who} prepares {folder.name}; waiting for it", flush=True)
                has_told = True
            time.sleep(LOOK)
    try:
        yield
    finally:
        lock.release(path)


def _remove_orphans(folder: Path) -> None:
    """What killed processes had built of `folder` (whoever builds it now is alone) and its kin."""
    kin, digest = folder.name.rsplit("-", 1)
    for orphan in folder.parent.glob(f".{kin}-{'?' * len(digest)}-{'?' * _MARK}"):
        meant = folder.with_name(orphan.name[1 : -_MARK - 1])
        if meant == folder or lock.holder(_lock_of(meant)) is None:
            shutil.rmtree(orphan, ignore_errors=True)


def cache_folder(cache_dir: Path, name: str, key: Any) -> Path:
    """Where the face set stored under `name` and `key` (anything JSON can hold) lies, or would."""
    digest = hashlib.sha256(json.dumps([SCHEMA, key]).encode()).hexdigest()[:16]
    return cache_dir / f"{name}-{digest}"


def cached_faces(cache_dir: Path, name: str, key: Any, build: Callable[[], FaceSet]) -> FaceSet:
    """The face set stored under `name` and `key` (anything JSON can hold), built if need be.

    The result of a stored set is memory-mapped. Errors of `build` pass through; errors of writing
    do not: the set that was built is returned, and the next start builds it again.
    """
    folder = cache_folder(cache_dir, name, key)
    faces = read_if_sound(folder)
    if faces is not None:
        return faces
    faces = build()
    try:
        with _building(folder) as building:
            _write(building, faces)
    except OSError:
        return faces
    return read_if_sound(folder) or faces


def mapped_faces(folder: Path, build: Callable[[Path], FaceSet]) -> FaceSet:
    """As `cached_faces`, for a set larger than memory, stored in `folder` (`cache_folder`).

    `build` gets the folder that is being filled and writes IMAGES there itself, by `write_images`;
    what else it writes there stays. Of several processes one builds, the others wait. Such a set
    cannot do without its files: raises InputError where they cannot be written.
    """
    faces = read_if_sound(folder)
    if faces is not None:
        return faces
    try:
        with _alone(folder):
            _remove_orphans(folder)
            faces = read_if_sound(folder)  # of the process that was waited for
            if faces is None:
                with _building(folder) as building:
                    _write(building, build(building))
                faces = _read(folder)
    except OSError as error:
        faces = read_if_sound(folder)
        if faces is None:
            raise unwritable(folder, error) from error
    return faces


def write_images(
    folder: Path, images: Iterable[np.ndarray], shape: tuple[int, int, int, int]
) -> np.ndarray:
    """Writes images one after another as IMAGES of a folder; the result is mapped.

    images: (C, H, W) uint8 each; shape: (N, C, H, W) of all. Raises OSError where the disk is full:
    written through a map, the same faces would end the process without a word.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(folder / IMAGES, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, image in zip(range(shape[0]), images, strict=True):
            file.write(image.tobytes())
    return map_images(folder)


def map_images(folder: Path) -> np.ndarray:
    """IMAGES of a folder, read when used; nobody can change the file through the array."""
    return np.load(folder / IMAGES, mmap_mode="c", allow_pickle=False)
