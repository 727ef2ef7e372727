"""Your own faces: data_root/folder_name/<split>/<class>/<image>.

Splits are train, validation (or val) and test; without a validation folder a stratified share of
train is held out. Classes are the expressions by any of their usual names. Images are square, 8-bit
grey or RGB, and all of one size unless `face_size` is set. Give the faces at their native size: low
resolution is always made from it, and a face that was enlarged before is no high-resolution face.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import (
    SYNONYMS,
    FaceSet,
    MissingData,
    expression_named,
    make_faces,
    shown,
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


def _visible(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in _LITTER
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; InputError for a strange folder, two of one split, or none of train."""
    found: dict[str, Path] = {}
    for folder in filter(Path.is_dir, _visible(root)):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            raise InputError(
                f"{shown(folder)}: unknown split; expected the folders {', '.join(SPLIT_FOLDERS)}"
            )
        if split in found:
            raise InputError(
                f"{shown(root)}: {found[split].name} and {folder.name} are the same split; "
                "expected one of them: merge the two folders"
            )
        found[split] = folder
    missing = [split for split in ("train", "test") if split not in found]
    if missing:
        raise InputError(
            f"{shown(root)}: no folder {' and no folder '.join(missing)}; expected {LAYOUT}"
        )
    return found


def _entries(root: Path) -> Iterator[Entry]:
    for split, split_folder in sorted(_split_folders(root).items()):
        for folder in filter(Path.is_dir, _visible(split_folder)):
            expression = expression_named(folder.name)
            if expression is None:
                accepted = ", ".join("/".join(names) for names in SYNONYMS.values())
                raise InputError(f"{shown(folder)}: unknown class; expected one of {accepted}")
            for path in _visible(folder):
                if path.is_dir():
                    raise InputError(
                        f"{shown(path)}: a folder among the images; expected {LAYOUT}: move its "
                        "images up or remove it"
                    )
                yield Entry(path, split, expression)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # cameras store rotation beside pixels
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{shown(path)}: not a readable image ({reason}); replace or remove the file"
        ) from None


def read_face(path: Path, face_size: int) -> np.ndarray:
    """One image as (H, W) or (H, W, 3) uint8, square; resized (bicubic) to face_size px if not 0.

    Raises InputError for a file that cannot be read, another mode than L and RGB, or no square.
    """
    image = _open(path)
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


def _stack(entries: list[Entry], face_size: int) -> np.ndarray:
    """All faces as (N, C, S, S) uint8; C is 1 where every image is grey, else 3."""
    faces = [read_face(entry.path, face_size) for entry in entries]
    size = faces[0].shape[0]
    for entry, face in zip(entries, faces, strict=True):
        if face.shape[0] != size:
            raise InputError(
                f"{shown(entry.path)}: {face.shape[0]} px, but {shown(entries[0].path)} has "
                f"{size}; expected one size: set face_size to resize all faces to it"
            )
    channels = 3 if any(face.ndim == 3 for face in faces) else 1
    images = np.empty((len(faces), channels, size, size), dtype=np.uint8)
    for target, face in zip(images, faces, strict=True):
        target[:] = face if face.ndim == 2 else face.transpose(2, 0, 1)
    return images


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


def _read(root: Path, entries: list[Entry], cfg: Config) -> FaceSet:
    split = np.array([entry.split for entry in entries], dtype="U10")
    expressions = np.array([entry.expression for entry in entries])
    if "validation" not in split:
        train = np.flatnonzero(split == "train")
        split[train[hold_out(expressions[train], cfg.val_fraction, SPLIT_SEED)]] = "validation"
    return make_faces(
        name=cfg.folder_name,
        images=_stack(entries, cfg.face_size),
        expressions=expressions,
        split=split,
        ids=np.array([entry.path.relative_to(root).as_posix() for entry in entries]),
    )


def load_folder(cfg: Config) -> FaceSet:
    """The images under data_root/folder_name; decoded once, then memory-mapped.

    Raises InputError naming the file or folder that is missing, unknown, unreadable or unlike the
    others. Without a validation folder, `val_fraction` of train is held out,
    the same whatever `seed` is, so that training seeds share their data.
    """
    root = cfg.path("data_root") / cfg.folder_name
    if not root.is_dir():
        raise MissingData(
            f"folder {shown(root)} is missing; expected {LAYOUT}: set data_root and folder_name"
        )
    entries = list(_entries(root))
    if not entries:
        raise InputError(f"{shown(root)}: no image found; expected {LAYOUT}")
    key = [cfg.face_size, cfg.val_fraction, [file_stamp(e.path) for e in entries]]
    return cached_faces(cfg.cache_dir, "folder", key, lambda: _read(root, entries, cfg))
