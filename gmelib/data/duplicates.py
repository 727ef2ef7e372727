"""The same photograph twice: copies across splits, exact or near, and training without them.

Two images count as near copies when their perceptual hashes differ in few bits and their grey
levels correlate. The limits were set by looking at pairs of FER2013: at them nearly all pairs are
one photograph with another crop, watermark, contrast or compression, some mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy.fft import dctn
from torch.nn.functional import adaptive_avg_pool2d
from tqdm.auto import tqdm

from gmelib.data.cache import write_images
from gmelib.data.faceset import SPLITS, FaceSet, find_duplicates, fingerprint, row_digests

SIDE = 32  # px, of what is hashed and compared
LOW = 8  # lowest frequencies of it, in each direction
MOST_BITS = 10  # of LOW^2 - 1 = 63 that may differ
LEAST_CORRELATION = 0.92  # of the grey levels at SIDE px
ROWS = 256  # hashes that are compared with all others at once
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
COLUMNS = {
    "first": int, "second": int, "exact": bool, "mirrored": bool, "bits": int,
    "correlation": float,
}  # fmt: skip


@dataclass(frozen=True)
class _Signs:
    """What images are compared by: small grey images of unit length, and hashes."""

    small: np.ndarray  # (N, SIDE, SIDE) float32: mean 0, length 1; zeros for a constant image
    hashes: np.ndarray  # (N,) uint64


def _small(images: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) uint8 -> (N, SIDE, SIDE) float32 grey levels."""
    parts = []
    for part in images.split(1024):
        part = part.float()
        if part.shape[1] == 3:
            part = (part * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        parts.append(adaptive_avg_pool2d(part, SIDE)[:, 0])
    return torch.cat(parts).numpy()


def _signs(small: np.ndarray) -> _Signs:
    centred = small - small.mean((1, 2), keepdims=True)
    length = np.sqrt((centred**2).sum((1, 2), keepdims=True))
    return _Signs(centred / np.maximum(length, 1e-6), perceptual_hashes(small))


def perceptual_hashes(small: np.ndarray) -> np.ndarray:
    """(N, S, S) grey levels -> (N,) uint64: which low frequencies exceed the image's median one.

    Contrast and brightness change no bit; a little noise or another crop, few.
    """
    if not len(small):
        return np.empty(0, dtype=np.uint64)
    low = dctn(small, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(small), -1)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    places = np.left_shift(np.uint64(1), np.arange(bits.shape[1], dtype=np.uint64))
    return (bits * places).sum(1, dtype=np.uint64)


def find_pairs(images: torch.Tensor, *, near: bool = True, progress: bool = False) -> pd.DataFrame:
    """All pairs of images that are exact or (`near`) near copies, mirrored ones too.

    images: (N, C, H, W) uint8. Every hash is compared with every other: seconds for FER2013, a
    minute for 90,000 faces. Constant images are copies of equal ones alone. Returns a row a pair,
    first < second: positions, whether the pixels are equal, whether one is mirrored, the number of
    bits that differ and the correlation.
    """
    exact = _exact_pairs(images)
    if not near:
        return exact
    small = _small(images)
    plain, mirrored = _signs(small), _signs(small[:, :, ::-1])
    shows = np.abs(plain.small).max((1, 2), initial=0) > 0
    found = []
    for start in tqdm(range(0, len(small), ROWS), desc="copies", disable=not progress):
        for other in (plain, mirrored):
            found.append(_pairs_of_rows(start, plain, other, shows, other is mirrored))
    table = pd.DataFrame(
        np.concatenate(found) if found else np.empty((0, 5)),
        columns=["first", "second", "mirrored", "bits", "correlation"],
    )
    table = pd.concat([table.assign(exact=False), exact], ignore_index=True)
    # of a pair found twice (a symmetrical face is its own mirror image) the closer finding stays
    table = table.sort_values(["first", "second", "exact", "correlation"], kind="stable")
    table = table.drop_duplicates(["first", "second"], keep="last", ignore_index=True)
    return table[list(COLUMNS)].astype(COLUMNS)


def _exact_pairs(images: torch.Tensor) -> pd.DataFrame:
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(row_digests(images.numpy())):
        groups.setdefault(digest, []).append(position)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2)]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    facts = {"mirrored": False, "bits": 0, "correlation": 1.0, "exact": True}
    table = pd.DataFrame({"first": first, "second": second}).assign(**facts)
    return table[list(COLUMNS)].astype(COLUMNS)


def _pairs_of_rows(
    start: int, plain: _Signs, other: _Signs, shows: np.ndarray, is_mirrored: bool
) -> np.ndarray:
    rows = plain.hashes[start : start + ROWS, None]
    bits = np.bitwise_count(rows ^ other.hashes[None, start:])
    i, j = np.nonzero(bits <= MOST_BITS)
    i, j = i[j > i] + start, j[j > i] + start
    seen = shows[i] & shows[j]
    i, j = i[seen], j[seen]
    correlation = np.einsum("nhw,nhw->n", plain.small[i], other.small[j])
    near = correlation >= LEAST_CORRELATION
    i, j = i[near], j[near]
    differing = bits[i - start, j - start]
    return np.column_stack([i, j, np.full(len(i), is_mirrored), differing, correlation[near]])


def find_copies(faces: FaceSet, *, near: bool = True, progress: bool = False) -> pd.DataFrame:
    """:func:`find_pairs` of a set's faces, with the id and split of both and ``same_label``."""
    table = find_pairs(faces.images, near=near, progress=progress)
    labels = faces.labels.numpy()
    for side in ("first", "second"):
        table[f"{side}_id"] = faces.ids[table[side]]
        table[f"{side}_split"] = faces.split[table[side]]
    table["same_label"] = labels[table["first"]] == labels[table["second"]]
    return table


def copies_between(copies: pd.DataFrame) -> pd.DataFrame:
    """How many faces of each split have a copy in each other split, or in their own.

    copies: as :func:`find_copies`. Rows: split, and where the copy stands. Columns: faces with an
    exact copy there, with an exact or near one, and those of the latter whose label differs from
    some copy's.
    """
    one, other = ["first", "first_split", "second_split"], ["second", "second_split", "first_split"]
    names = ["face", "of", "in"]
    kept = ["exact", "same_label"]
    both = pd.concat(
        [copies[[*side, *kept]].set_axis([*names, *kept], axis=1) for side in (one, other)]
    )
    rows = {}
    for where, of in combinations_with_replacement(SPLITS, 2):
        some = both[(both["of"] == of) & (both["in"] == where)]
        rows[of, where] = {
            "exact": some.loc[some["exact"], "face"].nunique(),
            "exact or near": some["face"].nunique(),
            "labelled differently": some.loc[~some["same_label"], "face"].nunique(),
        }
    index = pd.MultiIndex.from_tuples(rows, names=["faces of", "with a copy in"])
    return pd.DataFrame(list(rows.values()), index=index)


def leaked(copies: pd.DataFrame, *, near: bool) -> pd.DataFrame:
    """Validation and test faces with a copy in train, exact ones or near ones too.

    Returns a row a face, with its ``position``, ``id`` and ``split``.
    """
    return _beside(copies if near else copies[copies["exact"]], "train", inside=False)


def _beside(copies: pd.DataFrame, split: str, *, inside: bool) -> pd.DataFrame:
    """Faces of a split (or of the others) that have a copy in one of the others (or in it)."""
    sides = []
    for one, other in (("first", "second"), ("second", "first")):
        own, theirs = copies[f"{one}_split"] == split, copies[f"{other}_split"] == split
        some = copies[own & ~theirs if inside else theirs & ~own]
        columns = {one: "position", f"{one}_id": "id", f"{one}_split": "split"}
        sides.append(some[list(columns)].rename(columns=columns))
    return pd.concat(sides).drop_duplicates("position").sort_values("position", ignore_index=True)


def without_training_copies(
    faces: FaceSet, kind: Literal["exact", "near"], folder: Path | None = None
) -> FaceSet:
    """The faces less those of train that have a copy in validation or test; folder as in `take`.

    Validation and test stay whole, so figures of both trainings are of the same faces.
    """
    copies = find_copies(faces, near=kind == "near")
    kept = np.ones(len(faces), dtype=bool)
    kept[_beside(copies, "train", inside=True)["position"]] = False
    return take(faces, kept, dropped=f"training_copies_{kind}", folder=folder)


def take(faces: FaceSet, kept: np.ndarray, *, dropped: str, folder: Path | None = None) -> FaceSet:
    """A part of a set, with a fingerprint of its own; ``dropped`` names why the rest is left out.

    kept: (N,) bool. folder: the images are written there one by one and mapped, for a set larger
    than memory; None: they are copied.
    """
    images, labels = faces.images.numpy(), faces.labels.numpy()[kept]
    if folder is None:
        images = images[kept]
    else:
        shape = (len(labels), *images.shape[1:])
        images = write_images(folder, (images[i] for i in np.flatnonzero(kept)), shape)
    split = faces.split[kept]
    extras = {
        name: value[kept] if isinstance(value, np.ndarray) and len(value) == len(faces) else value
        for name, value in faces.extras.items()
    }
    number = int((~kept).sum())
    extras["dropped"] = faces.extras.get("dropped", {}) | {dropped: number}
    return replace(
        faces,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        split=split,
        fingerprint=fingerprint(images, labels, split, faces.classes, extras.get("targets")),
        ids=faces.ids[kept],
        duplicate=find_duplicates(images, split),
        extras=extras,
    )
