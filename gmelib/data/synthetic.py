"""The embedded default: drawn faces, so that every notebook runs without any data set.

The faces depend on their number, size and classes, never on the seed of training.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gmelib import synthetic
from gmelib.config import Config
from gmelib.data.cache import cached_faces
from gmelib.data.faceset import FaceSet, make_faces

DRAWING_SEEDS = {"train": 2013, "validation": 2014, "test": 2015}  # fixed: the data never changes
LAYOUT = "nothing: the faces are drawn"
SOURCE = "gmelib.synthetic.draw_faces"


def _draw(cfg: Config) -> FaceSet:
    numbers = {"train": cfg.drawn_train, "validation": cfg.drawn_validation, "test": cfg.drawn_test}
    drawn = [
        synthetic.draw_faces(
            number, size=cfg.drawn_size, seed=DRAWING_SEEDS[split], contempt=cfg.drawn_contempt
        )
        for split, number in numbers.items()
    ]
    names = np.array(drawn[0].classes)
    return make_faces(
        name="synthetic",
        images=np.concatenate([part.images.numpy() for part in drawn]),
        expressions=np.concatenate([names[part.labels.numpy()] for part in drawn]),
        split=np.repeat(list(numbers), list(numbers.values())),
        ids=np.arange(sum(numbers.values())),
        classes=tuple(drawn[0].classes),
        extras={"action_units": np.concatenate([np.asarray(p.action_units) for p in drawn])},
    )


def load_synthetic(cfg: Config) -> FaceSet:
    """Drawn faces: images (N, 3, drawn_size, drawn_size); extras["action_units"] (N, A) float32."""
    sources = sorted(path for place in synthetic.__path__ for path in Path(place).glob("*.py"))
    drawing = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    numbers = [cfg.drawn_train, cfg.drawn_validation, cfg.drawn_test]
    key = [drawing, cfg.drawn_size, numbers, cfg.drawn_contempt, DRAWING_SEEDS]
    return cached_faces(cfg.cache_dir, "synthetic", key, lambda: _draw(cfg))
