"""FER2013 for tests, where it is present: GMELIB_FER2013, or ../shared/data/fer2013.

The folder holds either fer2013.csv, or the same faces as lossless mosaics (images-*.webp, 96 faces
across, in the published order) with labels.csv; fer2013new.csv (FERPlus) lies beside them.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE, ACROSS = 48, 96  # px of a face, faces in a row of a mosaic
USAGE = ("Training", "PublicTest", "PrivateTest")
_BESIDE_PROJECT = Path(__file__).resolve().parents[2] / "shared" / "data" / "fer2013"


def folder() -> Path:
    """Where FER2013 lies; skips the calling test, and says so, where it does not."""
    place = Path(os.environ.get("GMELIB_FER2013", _BESIDE_PROJECT))
    if not (place / "labels.csv").is_file() and not (place / "fer2013.csv").is_file():
        pytest.skip("FER2013 is not here: set GMELIB_FER2013 to the folder of fer2013.csv")
    return place


@lru_cache(maxsize=1)
def _mosaics(place: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    emotion, usage = np.loadtxt(place / "labels.csv", delimiter=",", skiprows=1, dtype=np.uint8).T
    images = []
    for path in sorted(place.glob("images-*.webp")):
        mosaic = np.asarray(Image.open(path).convert("L"))
        cells = mosaic.reshape(-1, SIDE, ACROSS, SIDE).swapaxes(1, 2)
        images.append(cells.reshape(-1, SIDE, SIDE))
    return np.concatenate(images)[: len(emotion)], emotion, usage


def some_faces(count: int = 64) -> np.ndarray:
    """(count, 48, 48) uint8: the first faces of FER2013."""
    place = folder()
    if (place / "labels.csv").is_file():
        return _mosaics(place)[0][:count]
    with open(place / "fer2013.csv") as lines:
        next(lines)
        rows = [next(lines).split(",")[1].split() for _ in range(count)]
    return np.array(rows, dtype=np.uint8).reshape(-1, SIDE, SIDE)


def write_csv(target: Path) -> Path:
    """fer2013.csv and fer2013new.csv under target/fer2013/, as users hold them; returns target."""
    place, out = folder(), target / "fer2013"
    out.mkdir(parents=True, exist_ok=True)
    (out / "fer2013new.csv").symlink_to(place / "fer2013new.csv")
    if (place / "fer2013.csv").is_file():
        (out / "fer2013.csv").symlink_to(place / "fer2013.csv")
        return target
    digits = [b"%d " % level for level in range(256)]
    with open(out / "fer2013.csv", "wb") as file:
        file.write(b"emotion,pixels,Usage\n")
        for image, emotion, usage in zip(*_mosaics(place), strict=True):
            pixels = b"".join(map(digits.__getitem__, image.tobytes()))[:-1]
            file.write(b"%d,%b,%b\n" % (emotion, pixels, USAGE[usage].encode()))
    return target
