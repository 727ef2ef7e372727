"""From photographs to upright faces, chunk by chunk, so that work that was killed goes on.

A chunk is some photographs and what is to be done with them. Its result is one file, named by all
that decides it and written atomically: where it lies the work is done, in whatever run.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from gmelib.config import InputError
from gmelib.data.decode import Damaged, open_image
from gmelib.data.expw.labels import Label
from gmelib.faces import Detector, Face, align, crop, make_detector, square, within
from gmelib.record import write_atomic

# By the source of the faces; raised when the same photographs would give other ones.
SCHEMA = {"detector": 1, "landmarks": 2, "boxes": 1}
CHUNK = 64  # photographs
BOX_MARGIN = 0.1  # around a box that is cropped without landmarks, of its longer side
# What a detector is shown: the box and half its side around it, so that the face has 80 of 160 px.
AROUND, SEEN, LEAST_FACE = 0.5, 160, 40

# Why a face is dropped.
MISSING = "photograph missing"
OUTSIDE = "box empty or outside the photograph"
UNREADABLE = "photograph unreadable"
NO_FACE = "no face found"
NO_LANDMARKS = "no landmarks"
LANDMARKS_OUTSIDE = "landmarks outside the photograph"
LANDMARKS_UNLIKE = "landmarks unlike a face's"
KEPT = ""

LIST = "list"  # the source of faces that are not cut out: what label.lst tells of them


class Photograph(NamedTuple):
    """Its file, None if missing, what changes when the file does, and the faces wanted of it."""

    path: Path | None
    stamp: list | None
    labels: list[Label]


class Method:
    """How faces are cut out: by `source`, as the parameter expw_align tells, at `size` px.

    landmarks: by `Label.id`, for the source "landmarks". The source LIST cuts nothing out.
    """

    def __init__(self, source: str, size: int, landmarks: dict[str, np.ndarray]):
        self.source, self.size, self.landmarks = source, size, landmarks

    @cached_property
    def detector(self) -> Detector:
        return make_detector("mtcnn", least_face=LEAST_FACE)

    def digest(self, chunk: Sequence[Photograph]) -> str:
        """Names the chunk's result: of its photographs' stamps, labels and landmarks."""
        content = [
            [
                photograph.stamp,
                [label.content for label in photograph.labels],
                [np.asarray(self.landmarks.get(x.id, [])).tolist() for x in photograph.labels],
            ]
            for photograph in chunk
        ]
        text = json.dumps([SCHEMA[self.source], self.source, self.size, content])
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def faces(self, image: np.ndarray, labels: Sequence[Label]) -> list[np.ndarray | str]:
        """(size, size, 3) of every face that is asked for, or why there is none.

        By the LIST: KEPT in place of the face.
        """
        inside = [label for label in labels if _is_box(label.box, image)]
        cut = {
            "boxes": self._by_boxes,
            "landmarks": self._by_landmarks,
            "detector": self._by_detector,
            LIST: self._by_list,
        }[self.source](image, inside)
        done = dict(zip((label.id for label in inside), cut, strict=True))
        return [done.get(label.id, OUTSIDE) for label in labels]

    def _by_boxes(self, image: np.ndarray, labels: list[Label]) -> list[np.ndarray | str]:
        return [crop(image, label.box, self.size, margin=BOX_MARGIN) for label in labels]

    def _by_landmarks(self, image: np.ndarray, labels: list[Label]) -> list[np.ndarray | str]:
        return [self._aligned(image, self.landmarks.get(x.id), NO_LANDMARKS) for x in labels]

    def _by_detector(self, image: np.ndarray, labels: list[Label]) -> list[np.ndarray | str]:
        parts = [crop(image, label.box, SEEN, margin=AROUND) for label in labels]
        found = self.detector.many(parts)
        return [
            self._aligned(image, _landmarks_of(faces, label.box), NO_FACE)
            for faces, label in zip(found, labels, strict=True)
        ]

    def _by_list(self, image: np.ndarray, labels: list[Label]) -> list[np.ndarray | str]:
        return [KEPT] * len(labels)

    def _aligned(
        self, image: np.ndarray, landmarks: np.ndarray | None, missing: str
    ) -> np.ndarray | str:
        if landmarks is None:
            return missing
        if not within(landmarks, image):
            return LANDMARKS_OUTSIDE
        try:
            return align(image, landmarks, self.size)
        except InputError:
            return LANDMARKS_UNLIKE


def _corners(box: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(box).reshape(2, 2)


def _is_box(box: tuple[float, float, float, float], image: np.ndarray) -> bool:
    """Whether a box has an area, a part of which is in the image."""
    corners = _corners(box)
    return bool((corners[0] < corners[1]).all()) and within(corners, image)


def _landmarks_of(faces: list[Face], box: tuple[float, float, float, float]) -> np.ndarray | None:
    """Of faces found around a box, the landmarks of the one it means, in px of the photograph.

    A face whose middle lies outside the box is a neighbour's; of the others the nearest is meant.
    """
    left, top, side = square(box, AROUND)
    corners, best = _corners(box), None
    for face in faces:
        middle = _corners(face.box).mean(0) * (side / SEEN) + [left, top]
        if not ((corners[0] <= middle) & (middle <= corners[1])).all():
            continue
        away = float(np.hypot(*(middle - corners.mean(0))))
        if best is None or away < best[0]:
            best = away, face.landmarks * (side / SEEN) + [left, top]
    return best and best[1]


class Chunk(NamedTuple):
    """What became of the faces of some photographs.

    images: (K, 3, S, S) uint8 of those kept; reasons: for every face asked for, KEPT or why not.
    """

    images: np.ndarray
    reasons: np.ndarray


def read_photograph(path: Path) -> np.ndarray:
    """(H, W, 3) uint8; Damaged where no later try will read it, InputError where one may.

    As stored: a rotation that a camera noted beside the pixels is not applied, for boxes count in
    the pixels themselves.
    """
    return np.asarray(open_image(path, upright=False, mode="RGB"))


def _make(chunk: Sequence[Photograph], method: Method) -> Chunk:
    results: list[np.ndarray | str] = []
    for photograph in chunk:
        if photograph.path is None:
            results += [MISSING] * len(photograph.labels)
            continue
        try:
            image = read_photograph(photograph.path)
        except Damaged:
            results += [UNREADABLE] * len(photograph.labels)
        else:
            results += method.faces(image, photograph.labels)
    kept = [face.transpose(2, 0, 1) for face in results if not isinstance(face, str)]
    shape = (0, 3, method.size, method.size)
    reasons = [face if isinstance(face, str) else KEPT for face in results]
    return Chunk(np.stack(kept) if kept else np.empty(shape, np.uint8), np.array(reasons))


def _load(path: Path) -> Chunk | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Chunk(file["images"], file["reasons"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _store(path: Path, chunk: Chunk) -> None:
    content = io.BytesIO()
    np.savez(content, **chunk._asdict())
    write_atomic(path, content.getvalue())


class Preparation:
    """The faces of photographs, by `method`; finished chunks lie in `folder`.

    Chunks are drawn over all photographs, missing ones, too, and hold all their faces: a photograph
    that is added later, or another choice among the faces, leaves the other chunks finished.
    """

    def __init__(self, photographs: Sequence[Photograph], method: Method, folder: Path):
        self.method = method
        self.chunks = {}
        for start in range(0, len(photographs), CHUNK):
            chunk = photographs[start : start + CHUNK]
            self.chunks[folder / f"{method.digest(chunk)}.npz"] = chunk

    def _finished(self, path: Path) -> Chunk:
        chunk = _load(path)
        if chunk is None:
            chunk = _make(self.chunks[path], self.method)
            _store(path, chunk)
        return chunk

    def reasons(self) -> list[str]:
        """Makes every chunk that is not there yet; for each face asked for, KEPT or why not."""
        total = sum(map(len, self.chunks.values()))
        told: list[str] = []
        with tqdm(total=total, unit="photograph", desc="ExpW faces", mininterval=1) as bar:
            for path, chunk in self.chunks.items():
                told += self._finished(path).reasons.tolist()
                bar.update(len(chunk))
        return told

    def images(self) -> Iterator[np.ndarray]:
        """Every face that is KEPT, (3, S, S), in order; a chunk gone meanwhile is made again."""
        for path in self.chunks:
            yield from self._finished(path).images
