"""FER2013 as Kaggle's image folders: train/<class>/<image> and test/<class>/<image>.

test/ holds PublicTest and PrivateTest. Where the names of its images begin with either, they become
validation and test as published; where they do not, test stays whole, and validation is held out of
train. The folders keep no row order, which FERPlus's votes are matched by.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import FaceSet, make_faces, shown
from gmelib.data.fer2013_csv import SIDE, USAGE
from gmelib.data.folder import (
    SPLIT_FOLDERS,
    Entry,
    entries_of,
    ids_of,
    read_face,
    same_split,
    split_of,
    stack,
)

CLASSES = EXPRESSIONS[:7]
MERGED = "fer2013_merged"  # PublicTest and PrivateTest are one test split


def find_folders(data_root: Path) -> dict[str, Path]:
    """Split -> folder, of data_root/fer2013 or data_root; empty without both train and test.

    Raises InputError where two folders are of one split.
    """
    for root in (data_root / "fer2013", data_root):
        folders = [root / name for name in SPLIT_FOLDERS if (root / name).is_dir()]
        found = {SPLIT_FOLDERS[folder.name]: folder for folder in folders}
        if {"train", "test"} <= found.keys():
            if len(found) < len(folders):
                raise same_split(root / "validation", root / "val")
            return found
    return {}


def _read_face(path: Path) -> np.ndarray:
    face = read_face(path, 0)
    if face.ndim == 3 and (face == face[..., :1]).all():  # grey, but stored as colour
        face = face[..., 0]
    if face.shape != (SIDE, SIDE):
        kind = "grey" if face.ndim == 2 else "colour"
        raise InputError(
            f"{shown(path)}: {len(face)} x {len(face)} px, {kind}; expected {SIDE} x {SIDE} px, "
            "grey, as published: download it again, or set dataset = folder for other faces"
        )
    return face


def _with_usage(entries: list[Entry]) -> list[Entry] | None:
    """Test images under the split that their names begin with; None where they do not tell."""
    usage = [USAGE.get(e.path.name.partition("_")[0]) for e in entries if e.split == "test"]
    if set(usage) != {"validation", "test"}:
        return None
    told = iter(usage)
    return [e._replace(split=next(told)) if e.split == "test" else e for e in entries]


def _read(root: Path, entries: list[Entry], cfg: Config) -> FaceSet:
    extras = {"notes": ["layout: image folders, split as they are"]}
    if not any(entry.split == "validation" for entry in entries):
        told = _with_usage(entries)
        note = "layout: image folders; PublicTest and PrivateTest are told by the images' names"
        if told is None:
            note = (
                "layout: image folders; test is PublicTest and PrivateTest, and validation is "
                "held out of train: not the published splits"
            )
        extras = {"notes": [note]} | ({} if told else {"layout": MERGED})
        entries = told or entries
    return make_faces(
        name="fer2013",
        images=stack([entry.path for entry in entries], _read_face),
        expressions=np.array([entry.expression for entry in entries]),
        split=split_of(entries, cfg.val_fraction),
        ids=ids_of(entries, root),
        classes=CLASSES,
        extras=extras,
    )


def load_folders(cfg: Config, found: dict[str, Path]) -> FaceSet:
    """The images under the folders that `find_folders` found; ids are their paths from there.

    Raises InputError naming the file or folder that is unknown, unreadable, or no grey 48 px.
    """
    entries = list(entries_of(found))
    root = found["train"].parent
    strange = [entry.path.parent for entry in entries if entry.expression not in CLASSES]
    if strange or not entries:
        told = (
            f"{shown(strange[0])}: no class of FER2013" if strange else f"{shown(root)}: no image"
        )
        raise InputError(
            f"{told}; expected train/<class>/<image> and test/<class>/<image> of "
            f"{', '.join(CLASSES)}"
        )
    key = [cfg.val_fraction, [file_stamp(entry.path) for entry in entries]]
    return cached_faces(cfg.cache_dir, "fer2013", key, lambda: _read(root, entries, cfg))
