"""The data sets by name, and the one function that loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gmelib.config import Config, InputError
from gmelib.data import duplicates, expw, fer2013_csv, rafdb
from gmelib.data.cache import cache_folder, cached_faces, mapped_faces
from gmelib.data.expw import load_expw
from gmelib.data.faceset import FaceSet, training_problems
from gmelib.data.fer2013 import load_fer2013
from gmelib.data.ferplus import load_ferplus
from gmelib.data.folder import load_folder
from gmelib.data.rafdb import load_rafdb
from gmelib.data.synthetic import load_synthetic

DATASETS: dict[str, Callable[[Config], FaceSet]] = {
    "synthetic": load_synthetic,
    "fer2013": load_fer2013,
    "ferplus": load_ferplus,
    "rafdb": load_rafdb,
    "expw": load_expw,
    "folder": load_folder,
}
MAPPED = ("expw",)  # larger than memory


def load_all(cfg: Config) -> FaceSet:
    """The faces of cfg.dataset as they are there, less training copies as `drop_duplicates` says.

    Raises InputError where the data is missing or damaged.
    """
    if cfg.dataset not in DATASETS:
        raise InputError(f"dataset: expected one of {', '.join(DATASETS)}, got {cfg.dataset!r}")
    faces = DATASETS[cfg.dataset](cfg)
    return faces if cfg.drop_duplicates == "none" else _without_copies(cfg, faces)


def load_faces(cfg: Config) -> FaceSet:
    """The faces of :func:`load_all`, ready to train on.

    Raises InputError where the data is missing or damaged, a split is empty, or a class has no
    train face.
    """
    faces = load_all(cfg)
    problems = training_problems(faces)
    if problems:
        raise InputError("; ".join(problems))
    return faces


def native_faces(cfg: Config, facts: Mapping[str, Any] | None = None) -> tuple[int, int]:
    """Channels and side in px of a data set's faces, without loading it.

    The side is 0 where only the files tell it.

    Args:
        facts: the record of a run with them, which knows; one of older code does not.
    """
    data = facts.get("data", {}) if facts else {}
    if {"channels", "side"} <= data.keys():
        return data["channels"], data["side"]
    if cfg.dataset in ("fer2013", "ferplus"):
        return 1, fer2013_csv.SIDE
    if cfg.dataset == "synthetic":
        return 3, cfg.drawn_size
    return 3, cfg.face_size or {"rafdb": rafdb.SIDE, "expw": expw.SIDE}.get(cfg.dataset, 0)


def _without_copies(cfg: Config, faces: FaceSet) -> FaceSet:
    key = [faces.fingerprint, cfg.drop_duplicates, duplicates.MOST_BITS]
    key.append(duplicates.LEAST_CORRELATION)
    build = partial(duplicates.without_training_copies, faces, cfg.drop_duplicates)
    name = f"{faces.name}-without-copies"
    if cfg.dataset in MAPPED:
        return mapped_faces(cache_folder(cfg.cache_dir, name, key), build)
    return cached_faces(cfg.cache_dir, name, key, build)
