"""RAF-DB's faces from its photographs: aligned by the annotated landmarks, or cut out by the box.

Annotation/manual/<name>_manu_attri.txt: five lines `x y` (the eyes, the tip of the nose, the mouth
corners), then gender, race and age. Annotation/boundingbox/<name>_boundingbox.txt: left, top, right
and bottom in px.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmelib.config import InputError
from gmelib.data.decode import open_image
from gmelib.data.faceset import shown
from gmelib.faces import align, crop, left_to_right, within


def landmarks_file(root: Path, photograph: Path) -> Path:
    return root / "Annotation" / "manual" / f"{photograph.stem}_manu_attri.txt"


def box_file(root: Path, photograph: Path) -> Path:
    return root / "Annotation" / "boundingbox" / f"{photograph.stem}_boundingbox.txt"


def annotation_files(root: Path, photographs: list[Path]) -> list[Path]:
    """One file a photograph: that of its landmarks, or else of its box.

    Raises InputError where a photograph has neither.
    """
    files = []
    for path in photographs:
        both = landmarks_file(root, path), box_file(root, path)
        found = [file for file in both if file.is_file()]
        if not found:
            raise InputError(
                f"{shown(path)}: neither landmarks nor box; expected {shown(both[0])} or "
                f"{shown(both[1])}: unzip Annotation/manual.zip and Annotation/boundingbox.zip, or "
                "set rafdb_faces = aligned"
            )
        files.append(found[0])
    return files


def _numbers(file: Path, count: int, told: str) -> np.ndarray:
    """The first `count` numbers of a text file."""
    try:
        words = file.read_text(encoding="utf-8-sig").replace(",", " ").split()[:count]
        numbers = np.array(words, dtype=float)
    except ValueError:  # of a number, or of UTF-8
        numbers = np.empty(0)
    if len(numbers) < count or not np.isfinite(numbers).all():
        raise InputError(f"{shown(file)}: expected {told}; download the file again")
    return numbers


def read_landmarks(file: Path) -> np.ndarray:
    """(5, 2) in the order of gmelib.faces.Face, whichever side the annotation begins with.

    Raises InputError naming the file where it does not begin with ten numbers.
    """
    points = _numbers(file, 10, "five lines `x y` of the eyes, nose and mouth corners")
    return left_to_right(points.reshape(5, 2))


def face_in(root: Path, photograph: Path, size: int) -> np.ndarray:
    """The face of a photograph as (size, size, 3) uint8.

    Raises InputError naming the photograph or annotation that cannot be used.
    """
    (file,) = annotation_files(root, [photograph])
    image = np.asarray(open_image(photograph, mode="RGB"))
    is_aligned = file == landmarks_file(root, photograph)
    place = read_landmarks(file) if is_aligned else _numbers(file, 4, "left, top, right and bottom")
    if not within(place.reshape(-1, 2), image):
        height, width = image.shape[:2]
        raise InputError(
            f"{shown(file)}: {place.round(2).tolist()} is outside {shown(photograph)}, which has "
            f"{width} x {height} px; expected a place in it: download both again"
        )
    try:
        return align(image, place, size) if is_aligned else crop(image, tuple(place), size)
    except InputError as error:
        raise InputError(f"{shown(file)}: {error}") from None
