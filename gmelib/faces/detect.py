"""From a photograph to its faces, by a detector of an optional package or without any.

Nothing here needs a download: both detectors carry their weights in their wheels. On one type of
machine the same image gives the same faces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gmelib.config import InputError
from gmelib.faces.geometry import Face

SHORTEST = 160  # px: an image with a shorter side is enlarged to it before a detector sees it
FACE_ITSELF = 128  # px: an image with no longer side than this is taken for a face, not a scene
LEAST_FACE, LEAST_SHARE = 20, 1 / 40  # px, and share of the longer side, of a face searched for
WINDOW = 12.0  # px, of MTCNN's first network: faces of least size are shrunk to it
BATCH = 32  # images of one size that a detector is given at once

# Finds faces in images (H, W, 3) of one size; the second argument is the least side of a face, px.
Search = Callable[[Sequence[np.ndarray], int], list[list[Face]]]


class Detector(NamedTuple):
    """image -> faces, the largest first; made by `make_detector`.

    Images are uint8, (H, W) or (H, W, 3); small ones are enlarged for the search, and what is found
    is told in the px of the given image.
    """

    name: str
    search: Search
    least_face: int = LEAST_FACE

    def __call__(self, image: np.ndarray) -> list[Face]:
        return self.many([image])[0]

    def many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of every image; those of one size are searched together."""
        alike = defaultdict(list)
        for position, image in enumerate(images):
            _check(image)
            alike[image.shape[:2]].append(position)
        found: list[list[Face]] = [[] for _ in images]
        for (height, width), positions in alike.items():
            scale = max(1.0, SHORTEST / min(height, width))
            least = max(self.least_face, round(LEAST_SHARE * scale * max(height, width)))
            for start in range(0, len(positions), BATCH):
                part = positions[start : start + BATCH]
                seen = [_enlarged(images[position], scale) for position in part]
                for position, faces in zip(part, self.search(seen, least), strict=True):
                    found[position] = sorted((_shrunk(f, scale) for f in faces), key=_large_first)
        return found


def _check(image: np.ndarray) -> None:
    colours = image.shape[2:] in ((), (3,)) and image.ndim in (2, 3)
    if image.dtype != np.uint8 or not colours or not image.size:
        raise InputError(
            f"image of {image.dtype} {image.shape}: expected uint8 (H, W) grey or (H, W, 3) RGB"
        )


def _enlarged(image: np.ndarray, scale: float) -> np.ndarray:
    """As (H, W, 3), each side times `scale`."""
    whole = Image.fromarray(image).convert("RGB")
    if scale > 1:
        size = (round(whole.width * scale), round(whole.height * scale))
        whole = whole.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(whole)


def _shrunk(face: Face, scale: float) -> Face:
    box = tuple(float(edge) / scale for edge in face.box)
    landmarks = None if face.landmarks is None else face.landmarks / scale
    return Face(box, landmarks, face.confidence)


def _large_first(face: Face) -> tuple[float, ...]:
    left, top, right, bottom = face.box
    return (-(right - left) * (bottom - top), left, top, -face.confidence)


def _mtcnn() -> Search:
    try:
        from facenet_pytorch import MTCNN
    except ImportError:
        raise InputError(
            "detector mtcnn: the package facenet-pytorch is missing; run: "
            "pip install --no-deps facenet-pytorch==2.6.0"
        ) from None
    network = MTCNN(keep_all=True)

    def search(images: Sequence[np.ndarray], least: int) -> list[list[Face]]:
        if min(images[0].shape[:2]) * (WINDOW / least) < WINDOW:  # so narrow that it would fail
            return [[] for _ in images]
        network.min_face_size = least
        found = network.detect(np.stack(images), landmarks=True)
        return [_faces_of_mtcnn(*one) for one in zip(*found, strict=True)]

    return search


def _faces_of_mtcnn(boxes: Any, confidences: Any, points: Any) -> list[Face]:
    """MTCNN's landmarks stand in the order of `Face` and count from the image's edge, as ours.

    Its boxes count pixels from 1, the last one included. Rounded to 0.01 px: another order of the
    network's sums shall not make another face.
    """
    if boxes is None or not len(boxes):
        return []
    edges = np.asarray(boxes, dtype=float) - [1, 1, 0, 0]
    points = np.asarray(points, dtype=float)
    return [
        Face(tuple(box), marks, round(float(confidence), 4))
        for box, marks, confidence in zip(
            edges.round(2).tolist(), points.round(2), confidences, strict=True
        )
    ]


def _cascade() -> Search:
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError:
        raise InputError(
            "detector cascade: the package scikit-image is missing; run: "
            "pip install 'scikit-image>=0.24'"
        ) from None
    cascade = Cascade(lbp_frontal_face_cascade_filename())

    def search(images: Sequence[np.ndarray], least: int) -> list[list[Face]]:
        largest = min(images[0].shape[:2])
        windows = {"min_size": (least, least), "max_size": (largest, largest)}
        return [
            [
                Face((f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]))
                for f in cascade.detect_multi_scale(image, 1.2, 1, **windows)
            ]
            for image in images
        ]

    return search


DETECTORS = {"mtcnn": _mtcnn, "cascade": _cascade}


def make_detector(name: str, *, least_face: int = LEAST_FACE) -> Detector:
    """A detector by name: "mtcnn" gives boxes and landmarks, "cascade" upright frontal boxes alone.

    least_face: the side, in px, of the smallest face to search for, in an image as large as
    SHORTEST at least; in large photographs LEAST_SHARE of the longer side, if that is more.
    Raises InputError, with the line that installs it, where the detector's package is missing.
    """
    if name not in DETECTORS:
        raise InputError(f"detector: expected one of {', '.join(DETECTORS)}, got {name!r}")
    return Detector(name, DETECTORS[name](), least_face)


def find_faces(
    image: np.ndarray, detector: Detector | None = None, *, assume_face: bool | None = None
) -> list[Face]:
    """The faces of an image, the largest first.

    assume_face: True takes the whole image for one face, without landmarks; False always asks the
    detector; None asks it where a side is over FACE_ITSELF px. Raises InputError where a detector
    would have to be asked and none is given.
    """
    _check(image)
    height, width = image.shape[:2]
    if assume_face is None:
        assume_face = max(height, width) <= FACE_ITSELF
    if assume_face:
        return [Face((0.0, 0.0, float(width), float(height)))]
    if detector is None:
        raise InputError(
            f"image of {width} x {height} px: too large to be taken for a face unasked; give a "
            "detector (gmelib.faces.make_detector) or assume_face=True"
        )
    return detector(image)
