"""The csv files of FER2013: one face a row, its 2,304 grey levels as text.

Columns stand in either published order: emotion,pixels,Usage or emotion, Usage, pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmelib.config import EXPRESSIONS, InputError
from gmelib.data.faceset import FaceSet, expression_named, make_faces, shown

SIDE = 48  # px
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # published 0-6
USAGE = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


class Row(NamedTuple):
    """One line of the csv, checked."""

    label: int  # as published, 0-6
    usage: str  # as published
    pixels: np.ndarray  # (SIDE * SIDE,) uint8


def _columns(header: str, file: str) -> tuple[int, int, int]:
    """Positions of emotion, Usage and pixels in the header line."""
    names = [name.strip().strip('"').lower() for name in header.split(",")]
    missing = [name for name in ("emotion", "Usage", "pixels") if name.lower() not in names]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)} in the header {header.strip()[:80]!r}; "
            "expected emotion,pixels,Usage; download the file again"
        )
    return names.index("emotion"), names.index("usage"), names.index("pixels")


def _parse_pixels(text: str, where: str) -> np.ndarray:
    expected = f"expected {SIDE * SIDE} values 0-255 separated by spaces"
    try:
        # fromstring reads 82 million numbers in seconds; what it cannot read ends the array.
        values = np.fromstring(text, dtype=np.int32, sep=" ")
    except (ValueError, DeprecationWarning):
        raise InputError(f"{where}: pixels are not numbers; {expected}") from None
    if values.size != SIDE * SIDE:
        raise InputError(
            f"{where}: {values.size} pixels; {expected}; the file is incomplete or damaged: "
            "download it again"
        )
    if (values >> 8).any():
        raise InputError(f"{where}: a pixel of {values.min()} or {values.max()}; {expected}")
    return values.astype(np.uint8)


def _parse_row(line: str, columns: tuple[int, int, int], where: str) -> Row:
    fields = line.replace('"', "").split(",")
    if len(fields) <= max(columns):
        raise InputError(
            f"{where}: {len(fields)} columns; expected emotion, pixels and Usage, with "
            f"{SIDE * SIDE} values 0-255 in pixels; the file is incomplete: download it again"
        )
    emotion, usage, pixels = (fields[column].strip() for column in columns)
    if emotion not in "0123456" or len(emotion) != 1:
        raise InputError(f"{where}: unknown emotion {emotion!r}; expected 0-6")
    if usage not in USAGE:
        raise InputError(f"{where}: unknown Usage {usage!r}; expected one of {', '.join(USAGE)}")
    return Row(int(emotion), usage, _parse_pixels(pixels, where))


def read_csv(path: Path) -> FaceSet:
    """Parse the csv: images (N, 1, 48, 48), ids = row in the file, 0-based, header excluded.

    Raises InputError naming the file and the data row (counted from 1, header excluded) for a
    missing column, an unknown label or Usage, or a row that has not 2,304 values 0-255.
    """
    file, rows = shown(path), []
    with (
        warnings.catch_warnings(),
        open(path, encoding="utf-8-sig", errors="replace") as lines,
    ):
        warnings.filterwarnings("error", message="string or file could not be read")
        columns = _columns(next(lines, ""), file)
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{file}, row {number} (the first after the header is row 1)"
                rows.append(_parse_row(line, columns, where))
    if not rows:
        raise InputError(f"{file}: no row after the header; download the file again")
    names = np.array([expression_named(label) for label in LABELS])
    return make_faces(
        name="fer2013",
        images=np.stack([row.pixels for row in rows]).reshape(-1, 1, SIDE, SIDE),
        expressions=names[[row.label for row in rows]],
        split=np.array([USAGE[row.usage] for row in rows]),
        ids=np.arange(len(rows)),
        classes=EXPRESSIONS[:7],
        extras={"notes": [f"layout: {path.name}"]},
    )
