"""A small RAF-DB in the published layout and in that of Kaggle's mirror."""

import numpy as np
from made_data import config
from PIL import Image

from gmelib.data import load_faces, rafdb

PUBLISHED = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
COUNTS = {"train": 4, "test": 2}  # faces of each class


def names_and_labels(split):
    digits = 5 if split == "train" else 4
    count = 7 * COUNTS[split]
    return [(f"{split}_{i + 1:0{digits}d}.jpg", i % 7 + 1) for i in range(count)]


ALL = names_and_labels("train") + names_and_labels("test")


def face(number, side=100):
    cells = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST)


def make_published(root, name="rafdb"):
    base = root / name
    (base / "EmoLabel").mkdir(parents=True)
    (base / "Image" / "aligned").mkdir(parents=True)
    lines = [f"{image} {label}" for image, label in ALL]
    (base / rafdb.LIST).write_text("\n".join(lines) + "\n")
    for number, (image, _) in enumerate(ALL):
        face(number).save(base / "Image" / "aligned" / image.replace(".jpg", "_aligned.jpg"))
    return base


def make_mirror(root, name="rafdb", csv=True):
    base = root / name
    for number, (image, label) in enumerate(ALL):
        place = base / "DATASET" / image.partition("_")[0] / str(label)
        place.mkdir(parents=True, exist_ok=True)
        face(number).save(place / image.replace(".jpg", "_aligned.jpg"))
    for split in COUNTS if csv else ():
        rows = [f"{i.replace('.jpg', '_aligned.jpg')},{n}" for i, n in names_and_labels(split)]
        (base / f"{split}_labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return base


def load(root, **values):
    return load_faces(config(root, "rafdb", **({"val_fraction": 0.25} | values)))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])
