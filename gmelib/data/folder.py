"""Your own faces: data_root/folder_name/<split>/<class>/<image>.

Splits are train, validation (or val) and test; without a validation folder a stratified share of
train is held out. Classes are the expressions by any of their usual names. Images are square, 8-bit
grey or RGB, and all of one size unless `face_size` is set. Give the faces at their native size: low
resolution is always made from it, and a face that was enlarged before is no high-resolution face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.decode import open_image
from gmelib.data.faceset import (
    SYNONYMS,
    FaceSet,
    MissingData,
    expression_named,
    make_faces,
    shown,
    spelt,
)

SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
LAYOUT = "data_root/folder_name/<train|validation|test>/<class>/<image>"
SOURCE = "the owner of the faces; no download belongs to this data set"
SPLIT_SEED = 0  # of the held-out share: part of the data, not of a training run
_LITTER = {"thumbs.db", "desktop.ini"}  # what file managers leave behind


class Entry(NamedTuple):
    """One image file and what its place says about it."""

    path: Path
    split: str
    expression: str


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files and what file managers leave behind."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in _LITTER
    )


def same_split(one: Path, other: Path) -> InputError:
    """What is wrong with two folders of one split, beside each other."""
    return InputError(
        f"{shown(one.parent)}: {one.name} and {other.name} are the same split; expected one of "
        "them: merge the two folders"
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; InputError for a strange folder, two of one split, or none of train."""
    found: dict[str, Path] = {}
    for folder in filter(Path.is_dir, visible(root)):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            raise InputError(
                f"{shown(folder)}: unknown split; expected the folders {', '.join(SPLIT_FOLDERS)}"
            )
        if split in found:
            raise same_split(found[split], folder)
        found[split] = folder
    missing = [split for split in ("train", "test") if split not in found]
    if missing:
        raise InputError(
            f"{shown(root)}: no folder {' and no folder '.join(missing)}; expected {LAYOUT}"
        )
    return found


def entries_of(split_folders: dict[str, Path]) -> Iterator[Entry]:
    """The images under <split folder>/<class>/; InputError for an unknown class or a deeper one.

    split_folders: split -> its folder.
    """
    for split, split_folder in sorted(split_folders.items()):
        for folder in filter(Path.is_dir, visible(split_folder)):
            expression = expression_named(folder.name)
            if expression is None:
                accepted = ", ".join("/".join(names) for names in SYNONYMS.values())
                raise InputError(f"{shown(folder)}: unknown class; expected one of {accepted}")
            for path in visible(folder):
                if path.is_dir():
                    raise InputError(
                        f"{shown(path)}: a folder among the images; expected {LAYOUT}: move its "
                        "images up or remove it"
                    )
                yield Entry(path, split, expression)


def read_face(path: Path, face_size: int) -> np.ndarray:
    """One image as (H, W) or (H, W, 3) uint8, square; resized (bicubic) to face_size px if not 0.

    Raises InputError for a file that cannot be read, another mode than L and RGB, or no square.
    """
    image = open_image(path)
    if image.mode not in ("L", "RGB"):
        raise InputError(
            f"{shown(path)}: image mode {image.mode}; expected 8-bit grey (L) or RGB: convert it, "
            'for example by Image.open(path).convert("RGB")'
        )
    if image.width != image.height:
        raise InputError(
            f"{shown(path)}: {image.width} x {image.height} px; expected a square: crop the face"
        )
    if face_size and image.width != face_size:
        image = image.resize((face_size, face_size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def stack(paths: list[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """All faces as (N, C, S, S) uint8; C is 1 where every image is grey, else 3. Shows progress.

    read: from a path to its face, (S, S) or (S, S, 3) uint8. Raises InputError for a face of
    another size than the first.
    """
    images, is_grey = np.empty(0), True
    for number, path in enumerate(
        tqdm(paths, desc="reading faces", unit="face", delay=2, mininterval=1)
    ):
        face = read(path)
        if number == 0:
            images = np.empty((len(paths), 3, *face.shape[:2]), dtype=np.uint8)
        if face.shape[0] != images.shape[2]:
            raise InputError(
                f"{shown(path)}: {face.shape[0]} px, but {shown(paths[0])} has "
                f"{images.shape[2]}; expected one size: set face_size to resize all faces to it"
            )
        is_grey &= face.ndim == 2
        images[number] = face if face.ndim == 2 else face.transpose(2, 0, 1)
    return images[:, :1] if is_grey else images


def hold_out(expressions: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """(N,) bool: a stratified random share of the faces, at least one of a class that has two.

    A class's draw depends on the seed and its own faces only, and never takes the last face.
    """
    held = np.zeros(len(expressions), dtype=bool)
    for position, expression in enumerate(EXPRESSIONS):
        members = np.flatnonzero(expressions == expression)
        count = min(max(round(fraction * len(members)), 1), max(len(members) - 1, 0))
        order = np.random.default_rng([seed, position]).permutation(members)
        held[order[:count]] = True
    return held


def split_of(entries: list[Entry], fraction: float) -> np.ndarray:
    """(N,) names of splits; without a validation face a stratified share of train becomes it.

    The draw is the same whatever the seed of training is, so that training seeds share their data.
    """
    split = np.array([entry.split for entry in entries], dtype="U10")
    if "validation" not in split:
        train = np.flatnonzero(split == "train")
        expressions = np.array([entries[position].expression for position in train])
        split[train[hold_out(expressions, fraction, SPLIT_SEED)]] = "validation"
    return split


def ids_of(entries: list[Entry], root: Path) -> np.ndarray:
    """(N,) str: where every image lies under root."""
    return np.array([spelt(entry.path.relative_to(root).as_posix()) for entry in entries])


def _read(root: Path, entries: list[Entry], cfg: Config) -> FaceSet:
    return make_faces(
        name=cfg.folder_name,
        images=stack([entry.path for entry in entries], lambda p: read_face(p, cfg.face_size)),
        expressions=np.array([entry.expression for entry in entries]),
        split=split_of(entries, cfg.val_fraction),
        ids=ids_of(entries, root),
        extras={"notes": [f"layout: {root.name}/<split>/<class>/<image>"]},
    )


def load_folder(cfg: Config) -> FaceSet:
    """The images under data_root/folder_name; decoded once, then memory-mapped.

    Raises InputError naming the file or folder that is missing, unknown, unreadable or unlike the
    others. Without a validation folder, `val_fraction` of train is held out.
    """
    root = cfg.path("data_root") / cfg.folder_name
    if not root.is_dir():
        raise MissingData(
            f"folder {shown(root)} is missing; expected {LAYOUT}: set data_root and folder_name"
        )
    entries = list(entries_of(_split_folders(root)))
    if not entries:
        raise InputError(f"{shown(root)}: no image found; expected {LAYOUT}")
    key = [cfg.face_size, cfg.val_fraction, [file_stamp(e.path) for e in entries]]
    return cached_faces(cfg.cache_dir, "folder", key, lambda: _read(root, entries, cfg))
