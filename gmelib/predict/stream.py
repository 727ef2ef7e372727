"""Pictures through a network: read ahead by a few threads, answered a block at a time.

Every face is cut out and brought to the network's resolution where its picture was decoded, so what
waits for the network is a few kilobytes a face, however large the photograph and however many come.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gmelib import faces
from gmelib.config import InputError
from gmelib.faces import Face, crop
from gmelib.predict.network import Predictor, load_predictor
from gmelib.predict.pictures import Picture, given_pictures, read
from gmelib.record import Run

Detector = Callable[[np.ndarray], list[Face]]  # (H, W, 3) uint8 -> its faces
DETECTORS = ("none", *faces.DETECTORS)
WORKERS = min(4, os.cpu_count() or 1)  # threads that read pictures
BLOCK = 64  # pictures, and faces that the network answers at once
EXACT = 512  # px: a JPEG is decoded at a fraction of its size as long as this is left of each side
BOX = ("left", "top", "right", "bottom")

T, R = TypeVar("T"), TypeVar("R")


class Row(NamedTuple):
    """A face; or a picture without one, or that cannot be read (face 0).

    face: its number in the picture, from 1; box: in px of the photograph; seen: what
    :meth:`Predictor.see` made of it; probabilities: (K,), once it is answered.
    """

    name: str
    face: int = 0
    box: tuple[float, float, float, float] | None = None
    seen: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    warning: str = ""
    error: str = ""


def columns(classes: Iterable[str]) -> list[str]:
    """Of the table: path, face, left, top, right, bottom and size (px), expression, p_<class>,
    warning, error."""
    shares = [f"p_{name}" for name in classes]
    return ["path", "face", *BOX, "size", "expression", *shares, "warning", "error"]


def values(row: Row, classes: tuple[str, ...]) -> list[Any]:
    """A row in the order of :func:`columns`; None where there is no figure."""
    box = row.box or (None,) * 4
    side = Face(row.box).side if row.box else None
    if row.probabilities is None:
        answer = [None] * (1 + len(classes))
    else:
        answer = [classes[row.probabilities.argmax()], *row.probabilities.tolist()]
    return [row.name, row.face, *box, side, *answer, row.warning, row.error]


# -- faces of a picture ---------------------------------------------------------------------------


def make_detector(name: str) -> Detector | None:
    """A detector of :mod:`gmelib.faces`; None for ``none``: every picture is a face already."""
    if name not in DETECTORS:
        raise InputError(f"detector: expected one of {', '.join(DETECTORS)}, got {name!r}")
    return None if name == "none" else faces.make_detector(name)


def whole(pixels: np.ndarray) -> Face:
    """The picture as a face: its central square."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Face((left, top, left + side, top + side))


def find_faces(
    picture: Picture, predictor: Predictor, detect: Detector | None, margin: float
) -> list[Row]:
    """The faces of a picture, ready for the network; whatever is wrong with it becomes a row."""
    doing = "cannot be read"
    try:
        enough = 0 if detect else max(EXACT, 4 * predictor.size)
        pixels, scale = read(picture.source, enough=enough)
        doing = "its faces cannot be cut out"
        if detect:
            colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
            found = detect(colour)
        else:
            found = [whole(pixels)]
        rows = []
        for number, face in enumerate(found, 1):
            seen = predictor.see(crop(pixels, face.box, margin=margin))
            box = tuple(float(edge) * scale for edge in face.box)
            warning = predictor.warning(face.side * (1 + 2 * margin) * scale)
            rows.append(Row(picture.name, number, box, seen, warning=warning))
    except Exception as error:  # damaged files make Pillow raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        return [Row(picture.name, error=f"{doing}: {reason}")]
    return rows or [Row(picture.name, warning="no face found")]


def _one_at_a_time(detect: Detector | None) -> Detector | None:
    """Detectors are networks, and not made to be called from several threads at once."""
    if detect is None:
        return None
    lock = threading.Lock()

    def locked(image: np.ndarray) -> list[Face]:
        with lock:
            return detect(image)

    return locked


# -- many pictures --------------------------------------------------------------------------------


def ahead(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, most: int
) -> Iterator[R]:
    """Results in the order of the items, computed by threads, at most so many ahead."""
    pending = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= most:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def check_how(detect: Detector | None, margin: float, batch_size: int) -> None:
    """Raises InputError for values that :func:`answers` cannot take."""
    if batch_size < 1:
        raise InputError(f"batch_size = {batch_size}: expected at least 1")
    if not 0 <= margin < math.inf or (margin and detect is None):
        raise InputError(
            f"margin = {margin:g}: expected a share of at least 0 around a detected face; without "
            "a detector there is nothing around the face"
        )


def answers(
    predictor: Predictor,
    pictures: Iterable[Picture],
    *,
    detect: Detector | None = None,
    margin: float = 0.0,
    batch_size: int = BLOCK,
) -> Iterator[list[Row]]:
    """The rows of `batch_size` pictures at a time, in order.

    Blocks decide which faces go through the network together, so the same pictures in the same
    blocks have the same figures to the last digit. `margin` is a share of a detected box's side.
    """
    check_how(detect, margin, batch_size)
    seek = partial(find_faces, predictor=predictor, detect=_one_at_a_time(detect), margin=margin)
    with closing(ahead(seek, pictures, workers=WORKERS, most=batch_size)) as found:
        while block := list(islice(found, batch_size)):
            rows = [row for picture in block for row in picture]
            yield [*_answered(predictor, rows, batch_size)]


def _answered(predictor: Predictor, rows: list[Row], batch_size: int) -> Iterator[Row]:
    faces_seen = [row.seen for row in rows if row.seen is not None]
    parts = [
        predictor.probabilities(np.stack(faces_seen[start : start + batch_size]))
        for start in range(0, len(faces_seen), batch_size)
    ]
    found = (shares for part in parts for shares in part)
    for row in rows:
        yield row if row.seen is None else row._replace(seen=None, probabilities=next(found))


def predict_images(
    run: Run | Predictor | str,
    images: Any,
    *,
    detector: str | Detector = "none",
    margin: float = 0.0,
    batch_size: int = BLOCK,
    view: str = "auto",
    device: str = "auto",
) -> pd.DataFrame:
    """The expressions of faces in pictures, a face a row; see :func:`columns`.

    Args:
        run: a finished run, its folder or its id; or what :func:`load_predictor` has loaded.
        images: a path, an array or tensor of many, or an iterable of paths, arrays and PIL images;
            see :func:`gmelib.predict.pictures.given_pictures`.
        detector: none (every picture is a face), the name of another, or a function
            (H, W, 3) uint8 -> list of :class:`gmelib.faces.Face`.
        margin: added on every side of a detected box, as a share of its longer side.
        batch_size: pictures read, and faces answered, at once.
        view, device: see :func:`load_predictor`.
    """
    predictor = load_predictor(run, view=view, device=device)
    detect = make_detector(detector) if isinstance(detector, str) else detector
    given = tqdm(given_pictures(images), unit="picture", mininterval=1, delay=2)
    blocks = answers(predictor, given, detect=detect, margin=margin, batch_size=batch_size)
    rows = [values(row, predictor.classes) for block in blocks for row in block]
    table = pd.DataFrame(rows, columns=columns(predictor.classes))
    numbers = table.columns.drop(["path", "face", "expression", "warning", "error"])
    return table.astype(dict.fromkeys(numbers, float))
