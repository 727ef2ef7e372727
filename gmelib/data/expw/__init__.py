"""ExpW (Zhang et al., "From Facial Expression Recognition to Interpersonal Relation Prediction",
IJCV 2018): photographs of the web, 91,793 faces told by boxes in label.lst.

The paper (4.1) finds landmarks, aligns, drops what is no face and keeps 87,305 of 112 px, a tenth
of them for testing. It publishes neither the list nor the split: ours is drawn over all lines of
label.lst, so that a face stands on the same side whatever else is dropped.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data.cache import cache_folder, file_stamp, mapped_faces, write_images
from gmelib.data.expw.labels import Label, file_name, read_labels, read_landmarks
from gmelib.data.expw.prepare import KEPT, SCHEMA, Method, Photograph, Preparation
from gmelib.data.faceset import FaceSet, MissingData, make_faces, shown
from gmelib.data.folder import SPLIT_SEED, hold_out

LISTS = ("data/label/label.lst", "label/label.lst", "label.lst")
FOLDERS = ("data/image/origin", "image/origin", "origin", "data/image", "image")
LANDMARKS = "landmarks.csv"
LAYOUT = (
    f"data_root/expw/{LISTS[0]} (or {LISTS[-1]}) and the unpacked photographs in data_root/expw/"
    f"{FOLDERS[0]} (or image); for expw_align landmarks also data_root/expw/{LANDMARKS}"
)
SOURCE = "mmlab.ie.cuhk.edu.hk/projects/socialrelation (the Chinese University of Hong Kong)"
SIDE = 112  # px of an aligned face (4.1)
PUBLISHED = 91_793  # lines of label.lst, of which the paper keeps PAPER
PAPER = 87_305
TEST_SHARE, TEST_SEED = 0.1, 0  # fixed: part of the data, not of a training run
LOW_CONFIDENCE = "low confidence"
REPEATED = "line repeated"
DROPPED_FILE = "dropped.csv"  # beside the prepared faces


class Files(NamedTuple):
    """Where ExpW lies; landmarks is None where no file of them is asked for."""

    labels: Path
    photographs: Path
    landmarks: Path | None


def _first(
    root: Path, names: tuple[str, ...], what: str, error: type[InputError] = InputError
) -> Path:
    for name in names:
        if (root / name).exists():
            return root / name
    looked = ", ".join(shown(root / name) for name in names)
    raise error(
        f"ExpW's {what} is missing: looked for {looked}; expected {LAYOUT}; ask for the data at "
        f"{SOURCE}"
    )


def _find(cfg: Config) -> Files:
    root = cfg.path("data_root") / "expw"
    labels = _first(root, LISTS, "label.lst", MissingData)
    folder = _first(root, FOLDERS, "folder of photographs")
    if cfg.expw_align != "landmarks":
        return Files(labels, folder, None)
    return Files(labels, folder, _first(root, (LANDMARKS,), f"{LANDMARKS} (expw_align landmarks)"))


def _photographs(labels: Sequence[Label], files: Files) -> list[Photograph]:
    """In the order of the list, each once with all its faces; InputError if all are missing."""
    stamps: dict[str, tuple[Path, list]] = {}
    with os.scandir(files.photographs) as entries:
        for entry in filter(os.DirEntry.is_file, entries):
            status, name = entry.stat(), file_name(entry.name)
            stamps[name] = Path(entry.path), [name, status.st_size, status.st_mtime_ns]
    photographs: dict[str, Photograph] = {}
    for label in labels:
        if label.photograph not in photographs:
            found = stamps.get(label.photograph, (None, None))
            photographs[label.photograph] = Photograph(*found, [])
        photographs[label.photograph].labels.append(label)
    if all(photograph.path is None for photograph in photographs.values()):
        raise InputError(
            f"{shown(files.photographs)}: holds none of the photographs of {shown(files.labels)} "
            f"(such as {labels[0].photograph}); expected {LAYOUT}"
        )
    return list(photographs.values())


def splits_of(labels: Sequence[Label], val_fraction: float) -> dict[str, str]:
    """`Label.id` -> split: stratified by expression over all faces of the list."""
    expressions = np.array([label.expression for label in labels])
    split = np.where(hold_out(expressions, TEST_SHARE, TEST_SEED), "test", "train").astype("U10")
    train = np.flatnonzero(split == "train")
    split[train[hold_out(expressions[train], val_fraction, SPLIT_SEED)]] = "validation"
    return dict(zip((label.id for label in labels), split.tolist(), strict=True))


def _write_dropped(folder: Path, rows: Sequence[tuple[Label, str]]) -> None:
    with open(folder / DROPPED_FILE, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image_name", "face_id", "line", "reason"))
        writer.writerows((x.photograph, x.face, x.line, reason) for x, reason in rows)


def size_note(total: int) -> str:
    whole = "as published" if total == PUBLISHED else f"published are {PUBLISHED:,}"
    return f"faces in label.lst: {total:,}, {whole}"


def shared_note(kept: Sequence[Label], split: np.ndarray) -> str:
    sides = {name: {x.photograph for x, s in zip(kept, split, strict=True) if s == name}
             for name in ("train", "test")}  # fmt: skip
    shared = sides["train"] & sides["test"]
    leaked = sum(x.photograph in shared for x, s in zip(kept, split, strict=True) if s == "test")
    return f"test faces whose photograph has a train face, too: {leaked}"


def outcomes(
    told: Sequence[str], asked: Sequence[Label], least_confidence: float
) -> tuple[list[str], list[bool]]:
    """For each face KEPT or why it is dropped, and for each face cut out whether it is kept.

    told: the first of the two as the photographs tell it.
    """
    reasons, wanted = list(told), []
    for position, label in enumerate(asked):
        if reasons[position] == KEPT:
            wanted.append(label.confidence >= least_confidence)
        if label.confidence < least_confidence:
            reasons[position] = LOW_CONFIDENCE
    return reasons, wanted


def counted(reasons: Sequence[str]) -> dict[str, int]:
    """How many faces are dropped for each reason."""
    return {reason: reasons.count(reason) for reason in sorted(set(reasons)) if reason != KEPT}


class Source(NamedTuple):
    """All that decides the set: what the files tell, and the parameters."""

    labels: list[Label]
    repeated: list[Label]
    photographs: list[Photograph]
    files: Files
    cfg: Config

    @property
    def layout(self) -> str:
        return f"layout: {shown(self.files.labels)}, {shown(self.files.photographs)}"


def source_of(cfg: Config) -> Source:
    """Finds the files and reads label.lst; InputError where one is missing or a line is damaged."""
    files = _find(cfg)
    labels, repeated = read_labels(files.labels)
    return Source(labels, repeated, _photographs(labels, files), files, cfg)


def place_of(source: Source) -> Path:
    """The folder of the prepared faces, whether they are there or not."""
    _, _, photographs, files, cfg = source
    key = [
        SCHEMA[cfg.expw_align], file_stamp(files.labels),
        [photograph.stamp for photograph in photographs],
        files.landmarks and file_stamp(files.landmarks),
        cfg.expw_align, cfg.expw_confidence, cfg.face_size or SIDE, cfg.val_fraction,
    ]  # fmt: skip
    return cache_folder(cfg.cache_dir, "expw", key)


def method_of(source: Source) -> Method:
    """How the faces are to be cut out; InputError for a damaged line of landmarks.csv."""
    landmarks = read_landmarks(source.files.landmarks) if source.files.landmarks else {}
    return Method(source.cfg.expw_align, source.cfg.face_size or SIDE, landmarks)


def _build(folder: Path, place: Path, source: Source) -> FaceSet:
    """Prepares the faces in `folder`, which will become `place`."""
    labels, repeated, photographs, files, cfg = source
    method = method_of(source)
    preparation = Preparation(photographs, method, cfg.cache_dir / "expw-chunks")
    asked = [label for photograph in photographs for label in photograph.labels]
    reasons, wanted = outcomes(preparation.reasons(), asked, cfg.expw_confidence)
    if not any(wanted):
        told = ", ".join(f"{reason}: {count}" for reason, count in counted(reasons).items())
        raise InputError(f"{shown(files.labels)}: no face is left ({told}); expected {LAYOUT}")
    ends = [*zip(asked, reasons, strict=True), *((label, REPEATED) for label in repeated)]
    _write_dropped(folder, [(label, reason) for label, reason in ends if reason != KEPT])
    kept = [label for label, reason in ends if reason == KEPT]
    splits = splits_of(labels, cfg.val_fraction)
    split = np.array([splits[label.id] for label in kept])
    cut = (face for face, want in zip(preparation.images(), wanted, strict=True) if want)
    total = f"{size_note(len(ends))}; kept: {len(kept):,}, the paper keeps {PAPER:,}"
    listed = f"every dropped face: {shown(place / DROPPED_FILE)}"
    return make_faces(
        name="expw",
        images=write_images(folder, cut, (len(kept), 3, method.size, method.size)),
        expressions=np.array([label.expression for label in kept]),
        split=split,
        ids=np.array([label.id for label in kept]),
        classes=EXPRESSIONS[:7],
        extras={
            "dropped": counted([reason for _, reason in ends]),
            "notes": [source.layout, total, shared_note(kept, split)]
            + [listed] * (len(ends) > len(kept)),
        },
    )


def load_expw(cfg: Config) -> FaceSet:
    """ExpW's faces cut out and aligned as `expw_align` says, at `face_size` px (0: 112), in RGB.

    The first call works for minutes to hours, shows how far it is, and goes on where it was killed;
    later ones map the result. ids are the photograph's name and the face's number in it. Raises
    InputError where files are missing, a line is damaged, or no face is left.
    """
    source = source_of(cfg)
    place = place_of(source)
    return mapped_faces(place, lambda folder: _build(folder, place, source))
