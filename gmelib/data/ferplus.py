"""FERPlus (Barsoum et al., arXiv:1608.01041): ten taggers' votes over the faces of FER2013.

fer2013new.csv holds one row of votes for every row of fer2013.csv, in the same order. The digits
in its image names are not row numbers, so the two files are matched by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data import fer2013
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import FaceSet, expression_named, make_faces, shown

EMOTIONS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
)  # columns of votes that name one of the eight classes  # fmt: skip
OTHER = {"unknown": "unknown", "NF": "not_a_face"}  # the other columns -> reason of dropping
FILE = "fer2013new.csv"
LAYOUT = f"data_root/fer2013/{FILE} beside {fer2013.FILES[0]}"
SOURCE = "github.com/microsoft/FERPlus"
KEEP, TIE = "", "tie"


def read_votes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Usage (N,) as published and votes (N, 10) int64, columns EMOTIONS then OTHER."""
    file = shown(path)
    try:
        table = pd.read_csv(path, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: not readable as csv ({error}); download it again") from None
    table.columns = [str(column).strip() for column in table.columns]
    wanted = ["Usage", *EMOTIONS, *OTHER]
    missing = [column for column in wanted if column not in table]
    if missing:
        raise InputError(f"{file}: no column {', '.join(missing)}; expected {','.join(wanted)}")
    votes = table[[*EMOTIONS, *OTHER]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(~((votes >= 0) & (votes == np.floor(votes))).all(axis=1))
    if len(wrong):
        raise InputError(
            f"{file}, row {wrong[0] + 1} (the first after the header is row 1): expected ten "
            "whole numbers of votes; download the file again"
        )
    return table["Usage"].astype(str).str.strip().to_numpy(str), votes.astype(np.int64)


def majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column of the single largest vote (N,), and why a row is dropped (N,): "" keeps it.

    Kept: one largest count among all ten columns, and it is one of the eight emotions. Dropped:
    "tie", and a majority for "unknown" or "not_a_face".
    """
    winner = votes.argmax(axis=1)
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    reasons = np.array([KEEP] * len(EMOTIONS) + list(OTHER.values()))[winner]
    return winner, np.where(tied, TIE, reasons)


RULES = {"majority": majority}


def _match(faces: FaceSet, path: Path, rule: str) -> FaceSet:
    """FER2013's faces under FERPlus's labels; the rows without a label are left out."""
    usage, votes = read_votes(path)
    if len(usage) != len(faces):
        raise InputError(
            f"{shown(path)}: {len(usage)} rows, but the FER2013 file has {len(faces)}; expected "
            "one row of votes for every face; download both files again"
        )
    split = np.array([fer2013.USAGE.get(name, "") for name in usage])
    wrong = np.flatnonzero(split != faces.split)
    if len(wrong):
        raise InputError(
            f"{shown(path)}, row {wrong[0] + 1} (the first after the header is row 1): Usage "
            f"{usage[wrong[0]]!r}, but the FER2013 file has a {faces.split[wrong[0]]} face there; "
            "expected the same order in both files; download both again"
        )
    winner, reasons = RULES[rule](votes)
    kept = np.flatnonzero(reasons == KEEP)
    names = np.array([expression_named(emotion) for emotion in EMOTIONS])
    return make_faces(
        name="ferplus",
        images=faces.images.numpy()[kept],
        expressions=names[winner[kept]],
        split=faces.split[kept],
        ids=faces.ids[kept],
        classes=EXPRESSIONS,
        extras={
            "dropped": {r: int((reasons == r).sum()) for r in (TIE, *OTHER.values())},
            "rule": rule,
        },
    )


def load_ferplus(cfg: Config) -> FaceSet:
    """FERPlus labels (`ferplus_rule`) on FER2013's faces and splits; decoded once, then mapped."""
    data_root = cfg.path("data_root")
    pixels = fer2013.find_file(fer2013.FILES, data_root, fer2013.LAYOUT, fer2013.SOURCE)
    beside = pixels.with_name(FILE)
    votes = beside if beside.is_file() else fer2013.find_file((FILE,), data_root, LAYOUT, SOURCE)
    key = [file_stamp(pixels), file_stamp(votes), cfg.ferplus_rule]
    return cached_faces(
        cfg.cache_dir,
        "ferplus",
        key,
        lambda: _match(fer2013.load_fer2013(cfg), votes, cfg.ferplus_rule),
    )
