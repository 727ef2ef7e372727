"""ExpW's label.lst, and landmarks.csv: which faces there are, where, and what they show."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmelib.config import InputError
from gmelib.data.faceset import expression_named, shown
from gmelib.faces import left_to_right

NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # published 0-6
COLUMNS = "image_name face_id box_top box_left box_right box_bottom confidence label"
# In what stands before the last seven columns: a file's name and seven columns, the last run on.
JOINED = re.compile(r"\.[A-Za-z]\w*\s+\d+(\s+[-+.\de]+){5}\s+[0-6]\s*\S")
HEADER = ("image_name", "face_id", *(f"{axis}{point}" for point in range(1, 6) for axis in "xy"))


class Label(NamedTuple):
    """One line of label.lst, checked.

    box: left, top, right, bottom in px of the photograph, as told: it may leave the photograph or
    be empty; confidence: of the detector that the data set's authors used.
    """

    photograph: str
    face: int
    box: tuple[float, float, float, float]
    confidence: float
    expression: str
    line: int

    @property
    def id(self) -> str:
        """What names the face: several may stand in one photograph."""
        return f"{self.photograph} {self.face}"

    @property
    def content(self) -> tuple:
        """All but the line it stands in."""
        return self[:-1]


def file_name(text: str) -> str:
    """One spelling of accented names: some file systems store letters and accents apart."""
    return unicodedata.normalize("NFC", text)


def _read_text(path: Path) -> str:
    file = shown(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{file}, line {line}: not UTF-8; save the file as UTF-8, or download it again"
        ) from None


def _parse(text: str, line: int, file: str) -> Label:
    where = f"{file}, line {line}"
    # Names may hold blanks: only what stands behind them is of a fixed number.
    fields = text.rsplit(maxsplit=7)
    if len(fields) < 8:
        raise InputError(
            f"{where}: {len(fields)} columns; expected {COLUMNS}; the file is incomplete or "
            "damaged: download it again"
        )
    name, face, *numbers, label = fields
    if JOINED.search(name):
        raise InputError(
            f"{where}: two faces in one line, {text.strip()[:160]!r}; expected {COLUMNS}: a line "
            "break is lost: put it back, or download the file again"
        )
    try:
        top, left, right, bottom, confidence = map(float, numbers)
        face_id = int(face)
    except ValueError:
        raise InputError(f"{where}: {text.strip()!r} is not {COLUMNS}, all numbers") from None
    if not all(map(math.isfinite, (top, left, right, bottom, confidence))):
        raise InputError(f"{where}: expected finite numbers in {COLUMNS}, got {' '.join(numbers)}")
    if label not in [str(code) for code in range(len(NAMES))]:
        told = ", ".join(f"{code} {name}" for code, name in enumerate(NAMES))
        raise InputError(f"{where}: unknown label {label!r}; expected one of {told}")
    expression = expression_named(NAMES[int(label)])
    box = (left, top, right, bottom)
    return Label(file_name(name.strip()), face_id, box, confidence, expression, line)


def read_labels(path: Path) -> tuple[list[Label], list[Label]]:
    """The faces of label.lst in its order, and the lines that repeat one of them word for word.

    Raises InputError naming the line that has too few columns, two faces, no numbers or an unknown
    label, and both lines where one face is told twice and differently.
    """
    file = shown(path)
    known: dict[str, Label] = {}
    repeated = []
    for line, text in enumerate(_read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        label = _parse(text, line, file)
        first = known.setdefault(label.id, label)
        if first is label:
            continue
        if first.content != label.content:
            raise InputError(
                f"{file}, lines {first.line} and {line}: both are face {label.face} of "
                f"{label.photograph}, but they differ; expected one line a face: remove one"
            )
        repeated.append(label)
    if not known:
        raise InputError(f"{file}: no line in it; expected {COLUMNS}; download the file again")
    return list(known.values()), repeated


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a csv file, each with the line it begins in."""
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(
                f"{shown(path)}, line {line}: not readable as csv ({error}); expected quotes in "
                "pairs around a name, or none: look for a stray one"
            ) from None
        if row is None:
            return
        yield line, row


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Landmarks (5, 2) in px of the photograph, in the order of `gmelib.faces.Face`, by `Label.id`.

    Each pair may begin with the image's left or with the face's own. Raises InputError naming the
    line that is incomplete, misquoted, not finite or all one point, or the two lines of one face.
    """
    file, rows = shown(path), _rows(path)
    if tuple(name.strip() for name in next(rows, (1, []))[1]) != HEADER:
        raise InputError(f"{file}, line 1: expected the header {','.join(HEADER)}")
    found: dict[str, np.ndarray] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        if not row:
            continue
        where = f"{file}, line {line}"
        try:
            name, face, *numbers = row
            points = np.array(numbers, dtype=float).reshape(5, 2)
            key = f"{file_name(name.strip())} {int(face)}"
        except ValueError:
            raise InputError(f"{where}: expected {','.join(HEADER)}, got {len(row)} columns "
                             f"{','.join(row)[:80]!r}") from None  # fmt: skip
        if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
            raise InputError(f"{where}: expected five finite points that are not all one")
        if key in found:
            raise InputError(
                f"{file}, lines {lines[key]} and {line}: both are face {key}; expected "
                "one line a face: remove one"
            )
        found[key], lines[key] = left_to_right(points), line
    return found
