"""FaceSet: all faces of a data set as one contiguous 8-bit tensor, with labels and splits.

Loaders end in `make_faces`, which orders the classes, marks the validation and test faces that
also stand in the train split, and takes the fingerprint that goes into every run record.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmelib.config import EXPRESSIONS, PROJECT_ROOT, InputError

SPLITS = ("train", "validation", "test")

# Every name that a data set gives a class, by the expression it means; the one table for all.
SYNONYMS = {
    "anger": ("angry", "anger"),
    "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "fearful", "afraid"),
    "happiness": ("happy", "happiness", "joy"),
    "sadness": ("sad", "sadness"),
    "surprise": ("surprise", "surprised"),
    "neutral": ("neutral", "neutrality"),
    "contempt": ("contempt", "contemptuous"),
}
_EXPRESSION_OF = {name: expression for expression, names in SYNONYMS.items() for name in names}


class MissingData(InputError):
    """The files of a data set are not there at all."""


def expression_named(name: str) -> str | None:
    """The expression (of EXPRESSIONS) that a class name means, in any case; None if unknown."""
    return _EXPRESSION_OF.get(name.strip().lower())


def spelt(name: str | Path) -> str:
    """A file's name as any table or terminal takes it: bytes that are no UTF-8 are spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(path: Path) -> str:
    """A path as an error message prints it: relative to the project where it lies inside."""
    return spelt(path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path)


@dataclass(frozen=True)
class FaceSet:
    """Faces of one data set, train, validation and test together.

    images: (N, C, H, W) uint8, C 1 (grey) or 3 (RGB), native size; may be memory-mapped.
    labels: (N,) int64, index into `classes`; classes: in the order of EXPRESSIONS.
    split: (N,) str, one of SPLITS; ids: (N,) row of the published csv (int) or relative path.
    duplicate: (N,) bool, a validation or test face whose exact pixels also stand in train.
    fingerprint: hexadecimal SHA-256 of pixels, labels, splits, classes and targets.
    extras: what only some sets have. "targets": (N, classes) float32, distributions that training
    aims at in place of labels; "action_units": (N, A) float32; "dropped": counts; "notes":
    sentences for the check; "layout": key of the published counts, where it is not the name.
    """

    images: Tensor
    labels: Tensor
    split: np.ndarray
    classes: tuple[str, ...]
    name: str
    fingerprint: str
    ids: np.ndarray
    duplicate: np.ndarray
    extras: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, split: str) -> Tensor:
        """Positions (int64, ascending) of the faces of one split; InputError for another name."""
        if split not in SPLITS:
            raise InputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        return torch.from_numpy(np.flatnonzero(self.split == split))

    def counts(self) -> pd.DataFrame:
        """Number of faces: classes in the rows, splits in the columns."""
        table = pd.DataFrame(0, index=list(self.classes), columns=list(SPLITS))
        for split in SPLITS:
            labels = self.labels[self.indices(split)]
            table[split] = torch.bincount(labels, minlength=len(self.classes)).numpy()
        return table


def row_digests(images: np.ndarray) -> list[bytes]:
    """What tells images with equal pixels: 16 bytes for each of (N, ...) uint8."""
    return [hashlib.blake2b(image, digest_size=16).digest() for image in images]


def find_duplicates(images: np.ndarray, split: np.ndarray) -> np.ndarray:
    """(N,) bool: validation and test images with a pixel-equal image in the train split."""
    digests = row_digests(images)
    in_train = split == "train"
    known = {digest for digest, train in zip(digests, in_train, strict=True) if train}
    copies = np.fromiter((digest in known for digest in digests), bool, len(digests))
    return copies & ~in_train


def fingerprint(
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    classes: tuple[str, ...],
    targets: np.ndarray | None = None,
) -> str:
    """SHA-256 of what decides what is learnt: shape, pixels, labels, splits, classes, targets."""
    digest = hashlib.sha256(repr((images.shape, classes)).encode())
    digest.update(np.ascontiguousarray(images))
    digest.update(np.ascontiguousarray(labels, dtype="<i8"))
    digest.update("\n".join(split.tolist()).encode())
    if targets is not None:
        digest.update(np.ascontiguousarray(targets, dtype="<f4"))
    return digest.hexdigest()


def make_faces(
    *,
    name: str,
    images: np.ndarray,
    expressions: np.ndarray,
    split: np.ndarray,
    ids: np.ndarray,
    extras: dict[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
) -> FaceSet:
    """Build a FaceSet from images (N, C, H, W) uint8 and expression names (N,).

    classes: what the data set distinguishes; by default the expressions that occur.
    """
    occurring = set(np.unique(expressions).tolist())
    classes = tuple(e for e in EXPRESSIONS if e in (occurring if classes is None else classes))
    index = {expression: label for label, expression in enumerate(classes)}
    labels = np.array([index[e] for e in expressions.tolist()], dtype=np.int64)
    images, extras = np.ascontiguousarray(images), extras or {}
    return FaceSet(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        split=split,
        classes=classes,
        name=name,
        fingerprint=fingerprint(images, labels, split, classes, extras.get("targets")),
        ids=ids,
        duplicate=find_duplicates(images, split),
        extras=extras,
    )


def training_problems(faces: FaceSet) -> list[str]:
    """Why nothing can be trained on these faces: empty splits and classes, one sentence each."""
    return empty_parts(faces.name, faces.counts())


def empty_parts(name: str, counts: pd.DataFrame) -> list[str]:
    """A sentence for every empty split, and one for the classes without a train face.

    counts: as `FaceSet.counts`; name: of the data set.
    """
    problems = [
        f"{name}: the {split} split is empty; expected at least one face in each of "
        f"{', '.join(SPLITS)}"
        for split in SPLITS
        if counts[split].sum() == 0
    ]
    if counts["train"].sum() > 0:
        empty = [c for c in counts.index if counts.loc[c, "train"] == 0]
        if empty:
            problems.append(
                f"{name}: no train face of {', '.join(empty)}; expected at least one of "
                "every class; add faces or use the complete data set"
            )
    return problems
