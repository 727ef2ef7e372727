"""FER2013 (Goodfellow et al., arXiv:1307.0414): 35,887 grey faces of 48 x 48 px.

Read from one csv file (fer2013.csv or icml_face_data.csv), else from Kaggle's image folders.
Training, PublicTest and PrivateTest are train, validation and test.
"""

from __future__ import annotations

from pathlib import Path

from gmelib.config import Config, InputError
from gmelib.data import fer2013_folders as folders
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import FaceSet, MissingData, shown
from gmelib.data.fer2013_csv import read_csv

FILES = ("fer2013.csv", "icml_face_data.csv")
UNLABELLED = "test.csv"  # beside train.csv: what torchvision reads, too
LAYOUT = (
    "data_root/fer2013/fer2013.csv (columns emotion,pixels,Usage) or icml_face_data.csv, or the "
    "image folders train/<class> and test/<class>"
)
SOURCE = (
    "the Kaggle competition challenges-in-representation-learning-facial-expression-"
    "recognition-challenge"
)


def _places(names: tuple[str, ...], data_root: Path) -> list[Path]:
    return [folder / name for folder in (data_root / "fer2013", data_root) for name in names]


def first_of(names: tuple[str, ...], data_root: Path) -> Path | None:
    """The first file of data_root/fer2013/<name> and data_root/<name>; None if there is none."""
    return next(filter(Path.is_file, _places(names, data_root)), None)


def missing(names: tuple[str, ...], data_root: Path, layout: str, source: str) -> MissingData:
    """The error that says where a file was looked for, what was expected, and who has it."""
    looked = ", ".join(map(shown, _places(names, data_root)))
    return MissingData(
        f"{names[0]} is missing: looked for {looked}; expected {layout}; ask for the data at "
        f"{source}"
    )


def load_fer2013(cfg: Config) -> FaceSet:
    """FER2013 from data_root/fer2013/ or data_root/; decoded once, then memory-mapped.

    Raises InputError naming what is missing or damaged, and for a test.csv, which has no labels.
    """
    data_root = cfg.path("data_root")
    file = first_of(FILES, data_root)
    if file:
        return cached_faces(cfg.cache_dir, "fer2013", file_stamp(file), lambda: read_csv(file))
    found = folders.find_folders(data_root)
    if found:
        return folders.load_folders(cfg, found)
    unlabelled = first_of((UNLABELLED,), data_root)
    if unlabelled:
        raise InputError(
            f"{shown(unlabelled)}: has no labels, so nothing could be scored on it; expected "
            f"{' or '.join(FILES)}, which hold the labels of all faces: get either at {SOURCE}"
        )
    raise missing(FILES, data_root, LAYOUT, SOURCE)
