"""Faces in photographs: detection, alignment by five landmarks, square crops."""

from gmelib.faces.detect import DETECTORS, Detector, find_faces, make_detector
from gmelib.faces.geometry import (
    TEMPLATE,
    TEMPLATE_SIDE,
    Face,
    align,
    crop,
    left_to_right,
    similarity,
    square,
    within,
)

__all__ = [
    "DETECTORS", "TEMPLATE", "TEMPLATE_SIDE", "Detector", "Face", "align", "crop", "find_faces",
    "left_to_right", "make_detector", "similarity", "square", "within",
]  # fmt: skip
