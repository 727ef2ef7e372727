"""Photographs with drawn faces in ExpW's published layout, to try the whole way without the data.

    python benchmarks/made_expw.py DATA_ROOT [--photographs 2000] [--seed 0] [--bom] [--crlf]

writes DATA_ROOT/expw/{data/label/label.lst, data/image/origin/*.jpg, landmarks.csv}. A photograph
has 1 to 4 faces of several sizes, turned up to 30 degrees, before a made background. Where
DATA_ROOT/expw exists nothing is written, and the exit status is 2.
"""

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from gmelib.config import InputError
from gmelib.synthetic import draw_faces, drawn_landmarks

DRAWN = 112  # px of a face before it is scaled
WIDTH, HEIGHT = 480, 360  # px of a photograph; a face has a quarter of it to itself
TURN, SCALE = 30, (0.5, 1.25)  # degrees to each side; of DRAWN


class Placed(NamedTuple):
    """A drawn face in its photograph: where its landmarks (5, 2) and its box came to stand."""

    landmarks: np.ndarray
    box: tuple[int, int, int, int]  # left, top, right, bottom


def background(rng: np.random.Generator) -> Image.Image:
    """Coarse coloured blotches, blurred, and a little grain."""
    blotches = Image.fromarray(rng.integers(30, 226, (4, 5, 3), dtype=np.uint8))
    whole = np.asarray(blotches.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-6, 7, (HEIGHT, WIDTH, 1), dtype=np.int16)
    return Image.fromarray((whole + grain).clip(0, 255).astype(np.uint8))


def oval() -> Image.Image:
    """What of a drawn face is pasted: the head with a soft edge, little of its own background."""
    y, x = (np.mgrid[:DRAWN, :DRAWN] + 0.5) / DRAWN * 2 - 1
    mask = Image.fromarray(np.uint8(255 * ((x / 0.8) ** 2 + (y / 0.96) ** 2 < 1)))
    return mask.filter(ImageFilter.GaussianBlur(2))


def paste(
    photograph: Image.Image, face: Image.Image, marks: np.ndarray, cell: int,
    rng: np.random.Generator,
) -> Placed:  # fmt: skip
    """Turns, scales and pastes a face into a quarter of the photograph."""
    turn = rng.uniform(*SCALE) * np.exp(1j * np.deg2rad(rng.uniform(-TURN, TURN)))
    half = DRAWN * abs(turn) / 2
    corner = np.array([cell % 2 * WIDTH, cell // 2 * HEIGHT]) / 2
    room = np.array([WIDTH, HEIGHT]) / 2
    middle = complex(*(corner + rng.uniform(half, room - half)))
    back = 1 / turn  # from the photograph to the drawn face
    shift = DRAWN / 2 * (1 + 1j) - back * middle
    matrix = (back.real, -back.imag, shift.real, back.imag, back.real, shift.imag)
    placed, mask = (
        part.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        for part in (face, oval())
    )
    photograph.paste(placed, mask=mask)
    z = (marks[:, 0] + 1j * marks[:, 1] - DRAWN / 2 * (1 + 1j)) * turn + middle
    centre, reach = z.mean(), 1.25 * abs(z[:2].mean() - z[3:].mean())
    edges = [centre.real - reach, centre.imag - reach, centre.real + reach, centre.imag + reach]
    return Placed(np.stack([z.real, z.imag], 1), tuple(round(edge) for edge in edges))


def make_expw(
    data_root: Path, photographs: int, *, seed: int = 0, bom: bool = False, newline: str = "\n"
) -> int:
    """Writes the made data set; the number of its faces. The same arguments give the same bytes.

    Raises InputError where data_root/expw exists: it may be the real one, with landmarks of its
    own.
    """
    root = Path(data_root) / "expw"
    if root.exists():
        raise InputError(
            f"{root}: exists, and nothing in it is overwritten; name another DATA_ROOT (and give "
            "it to the notebooks by -p data_root), or delete this folder if it was made here"
        )
    folder = root / "data" / "image" / "origin"
    folder.mkdir(parents=True)
    (root / "data" / "label").mkdir()
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 5, photographs)
    drawn = draw_faces(int(numbers.sum()), size=DRAWN, seed=seed)
    images = drawn.images.permute(0, 2, 3, 1).numpy()
    marks = drawn_landmarks(len(drawn), size=DRAWN, seed=seed).numpy()
    lines, rows, face = [], io.StringIO(), 0
    table = csv.writer(rows, lineterminator=newline)
    table.writerow(["image_name", "face_id", *(f"{a}{i}" for i in range(1, 6) for a in "xy")])
    for position, number in enumerate(numbers):
        name, photograph = f"drawn_{position}.jpg", background(rng)
        for face_id, cell in enumerate(rng.permutation(4)[:number]):
            placed = paste(photograph, Image.fromarray(images[face]), marks[face], cell, rng)
            left, top, right, bottom = placed.box
            confidence, label = rng.uniform(10, 100), drawn.labels[face]
            # the classes' order is the published one
            lines.append(f"{name} {face_id} {top} {left} {right} {bottom} {confidence:.4f} {label}")
            table.writerow([name, face_id, *placed.landmarks.round(2).ravel().tolist()])
            face += 1
        photograph.save(folder / name, quality=92)
    text = ("\ufeff" if bom else "") + newline.join(lines) + newline
    (root / "data" / "label" / "label.lst").write_text(text, encoding="utf-8", newline="")
    (root / "landmarks.csv").write_text(rows.getvalue(), encoding="utf-8", newline="")
    return face


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bom", action="store_true", help="label.lst opens with a byte-order mark")
    parser.add_argument("--crlf", action="store_true", help="lines end as on Windows")
    options = parser.parse_args()
    newline = "\r\n" if options.crlf else "\n"
    try:
        faces = make_expw(
            options.data_root, options.photographs,
            seed=options.seed, bom=options.bom, newline=newline,
        )  # fmt: skip
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.data_root / 'expw'}: {options.photographs} photographs, {faces} faces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
