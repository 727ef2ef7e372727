"""ExpW before a face is cut out: what label.lst, landmarks.csv and the photographs tell.

For a look that takes minutes, needs no detector and writes nothing.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data.cache import read_if_sound
from gmelib.data.expw import (
    DROPPED_FILE,
    LOW_CONFIDENCE,
    REPEATED,
    Source,
    counted,
    method_of,
    outcomes,
    place_of,
    shared_note,
    size_note,
    source_of,
    splits_of,
)
from gmelib.data.expw.prepare import KEPT, LIST, MISSING, UNREADABLE, Method, read_photograph
from gmelib.data.faceset import SPLITS, FaceSet, shown


class Survey(NamedTuple):
    """What is known of the faces that a configuration means, before they are cut out.

    counts: of the faces that nothing speaks against yet; classes in the rows, splits in the
    columns. dropped: number of the others, by reason. unreadable: a line a photograph.
    """

    counts: pd.DataFrame
    dropped: dict[str, int]
    unreadable: list[str]
    notes: list[str]


def prepared(cfg: Config) -> FaceSet | None:
    """The faces that a configuration means, if they are cut out already; errors as load_expw."""
    return read_if_sound(place_of(source_of(cfg)))


def survey(cfg: Config) -> Survey:
    """Reads the lists and every photograph; shows progress.

    Raises InputError where files are missing or a line is damaged.
    """
    source = source_of(cfg)
    method = method_of(source)
    if method.source != "landmarks":  # a detector's face is not asked for, a box's is not needed
        method = Method(LIST, method.size, {})
    told, unreadable = _look(source, method)
    asked = [label for photograph in source.photographs for label in photograph.labels]
    reasons, _ = outcomes(told, asked, cfg.expw_confidence)
    kept = [label for label, reason in zip(asked, reasons, strict=True) if reason == KEPT]
    splits = splits_of(source.labels, cfg.val_fraction)
    split = np.array([splits[label.id] for label in kept], dtype=str)
    counts = Counter(zip((label.expression for label in kept), split.tolist(), strict=True))
    classes = list(EXPRESSIONS[:7])
    rows = [[counts[name, split] for split in SPLITS] for name in classes]
    total = len(asked) + len(source.repeated)
    return Survey(
        counts=pd.DataFrame(rows, index=classes, columns=list(SPLITS)),
        dropped=counted([*reasons, *[REPEATED] * len(source.repeated)]),
        unreadable=unreadable,
        notes=[source.layout, size_note(total), shared_note(kept, split)],
    )


def _look(source: Source, method: Method) -> tuple[list[str], list[str]]:
    """For every face KEPT or why it is dropped, and a line for every wanted photograph that cannot
    be read."""
    reasons: list[str] = []
    unreadable: list[str] = []
    for photograph in tqdm(source.photographs, unit="photograph", desc="ExpW", mininterval=1):
        if all(x.confidence < source.cfg.expw_confidence for x in photograph.labels):
            reasons += [LOW_CONFIDENCE] * len(photograph.labels)
            continue
        if photograph.path is None:
            reasons += [MISSING] * len(photograph.labels)
            continue
        try:
            image = read_photograph(photograph.path)
        except InputError as error:
            unreadable.append(str(error))
            reasons += [UNREADABLE] * len(photograph.labels)
            continue
        faces = method.faces(image, photograph.labels)
        reasons += [face if isinstance(face, str) else KEPT for face in faces]
    return reasons, unreadable


def unreadable_when_prepared(cfg: Config) -> Iterator[str]:
    """A line for every photograph whose faces are not among the prepared ones, for it is damaged.

    Raises InputError where the list of dropped faces cannot be read.
    """
    source = source_of(cfg)
    place = place_of(source)
    try:
        with open(place / DROPPED_FILE, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["reason"] == UNREADABLE]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(
            f"{shown(place / DROPPED_FILE)}: cannot be read ({type(error).__name__}); delete "
            "the folder, and its faces are put together anew"
        ) from None
    named = {row["image_name"] for row in rows}
    for photograph in source.photographs:
        if photograph.labels[0].photograph not in named:
            continue
        try:
            read_photograph(photograph.path)
        except InputError as error:
            yield str(error)
        else:
            yield (
                f"{shown(photograph.path)}: can be read, but could not when the faces were cut "
                f"out; delete {shown(place)} and expw-chunks beside it to do that again"
            )
