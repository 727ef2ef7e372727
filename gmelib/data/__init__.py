"""Data sets of facial expressions: one loader a file, each returning a FaceSet."""

from gmelib.data.check import DataReport, check_dataset
from gmelib.data.faceset import SPLITS, FaceSet
from gmelib.data.registry import DATASETS, load_faces, native_faces

__all__ = [
    "DATASETS", "SPLITS", "DataReport", "FaceSet", "check_dataset", "load_faces", "native_faces",
]  # fmt: skip
