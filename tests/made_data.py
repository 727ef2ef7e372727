"""Small made data sets in the published layouts, for the tests of the loaders."""

import numpy as np
import torch
from PIL import Image

from gmelib.config import Config

HEADERS = {"fer2013.csv": "emotion,pixels,Usage", "icml_face_data.csv": "emotion, Usage, pixels"}
USAGE = ["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
EMOTION = list(range(7)) * 4
PIXELS = np.random.default_rng(0).integers(0, 256, (28, 48, 48), dtype=np.uint8)


def csv_lines(name="fer2013.csv", quote=""):
    order = [column.strip() for column in HEADERS[name].split(",")]
    lines = [HEADERS[name]]
    for emotion, usage, face in zip(EMOTION, USAGE, PIXELS, strict=True):
        pixels = quote + " ".join(map(str, face.ravel())) + quote
        row = {"emotion": str(emotion), "Usage": usage, "pixels": pixels}
        lines.append(",".join(row[column] for column in order))
    return lines


def write(root, lines, name="fer2013.csv", newline="\n"):
    path = root / "fer2013" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(newline.join(lines) + newline, newline="")
    return path


def config(root, dataset="fer2013", **values):
    return Config.make(
        dataset=dataset, data_root=str(root), out_root=str(root / "outputs"), **values
    )


def same(one, other):
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("split", "ids", "duplicate", "classes", "fingerprint")
        )
    )


def damaged(row, change):
    lines = csv_lines()
    lines[row] = change(lines[row])
    return lines


def write_expw(root, lines, photographs, newline="\n", bom=False):
    """ExpW in the short layout: label.lst and photographs (name -> (H, W, 3) uint8)."""
    folder = root / "expw" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    text = newline.join([*lines, ""])
    label_list = root / "expw" / "label.lst"
    label_list.write_text(("\ufeff" if bom else "") + text, encoding="utf-8", newline="")
    for name, pixels in photographs.items():
        Image.fromarray(pixels).save(folder / name)
    return label_list
