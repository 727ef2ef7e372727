"""FERPlus (Barsoum et al., arXiv:1608.01041): ten taggers' votes over the faces of FER2013.

fer2013new.csv holds one row of votes for every row of fer2013.csv, in the same order. The digits
in its image names are not row numbers, so the two files are matched by row. What votes mean is
decided in gmelib.data.votes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data import fer2013
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import FaceSet, expression_named, make_faces, shown
from gmelib.data.fer2013_csv import USAGE
from gmelib.data.fer2013_folders import find_folders
from gmelib.data.votes import CONTEMPT, EMOTIONS, KEEP, OTHER, Rule, count_rules, decide, targets

FILE = "fer2013new.csv"
LAYOUT = f"data_root/fer2013/{FILE} beside {fer2013.FILES[0]}"
SOURCE = "github.com/microsoft/FERPlus"


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


def rule_of(cfg: Config) -> Rule:
    """How the configuration reads votes."""
    return Rule(cfg.ferplus_rule, cfg.ferplus_ties, cfg.ferplus_unknown, cfg.ferplus_contempt)


def _match(faces: FaceSet, path: Path, rule: Rule) -> FaceSet:
    """FER2013's faces under FERPlus's labels; the rows without a label are left out."""
    usage, votes = read_votes(path)
    if len(usage) != len(faces):
        raise InputError(
            f"{shown(path)}: {len(usage)} rows, but the FER2013 file has {len(faces)}; expected "
            "one row of votes for every face; download both files again"
        )
    split = np.array([USAGE.get(name, "") for name in usage])
    wrong = np.flatnonzero(split != faces.split)
    if len(wrong):
        raise InputError(
            f"{shown(path)}, row {wrong[0] + 1} (the first after the header is row 1): Usage "
            f"{usage[wrong[0]]!r}, but the FER2013 file has a {faces.split[wrong[0]]} face there; "
            "expected the same order in both files; download both again"
        )
    winner, reasons = decide(votes, rule)
    kept = np.flatnonzero(reasons == KEEP)
    names = np.array([expression_named(emotion) for emotion in EMOTIONS])
    classes = tuple(e for e in EXPRESSIONS if rule.contempt or e != CONTEMPT)
    extras = {
        "dropped": {r: int((reasons == r).sum()) for r in rule.reasons},
        "rule": rule.name,
        "notes": [f"{note}, {path.name}" for note in faces.extras.get("notes", [])],
    }
    if rule.name == "soft":
        extras["targets"] = targets(votes[kept], [names.tolist().index(c) for c in classes])
    return make_faces(
        name="ferplus",
        images=faces.images.numpy()[kept],
        expressions=names[winner[kept]],
        split=faces.split[kept],
        ids=faces.ids[kept],
        classes=classes,
        extras=extras,
    )


def _find_files(cfg: Config) -> tuple[Path, Path]:
    """The csv of the faces and that of the votes, beside it or where it would be looked for."""
    data_root = cfg.path("data_root")
    pixels = fer2013.first_of(fer2013.FILES, data_root)
    if pixels is None:
        found = find_folders(data_root)
        if not found:
            raise fer2013.missing(fer2013.FILES, data_root, fer2013.LAYOUT, fer2013.SOURCE)
        raise InputError(
            f"{shown(found['train'].parent)}: FERPlus's votes are matched by row, and image "
            f"folders keep no row order; expected {' or '.join(fer2013.FILES)} there: ask for it "
            f"at {fer2013.SOURCE}"
        )
    beside = pixels.with_name(FILE)
    votes = beside if beside.is_file() else fer2013.first_of((FILE,), data_root)
    if votes is None:
        raise fer2013.missing((FILE,), data_root, LAYOUT, SOURCE)
    return pixels, votes


def count_labels(cfg: Config) -> pd.DataFrame:
    """What every rule makes of the votes under data_root; see gmelib.data.votes.count_rules."""
    usage, votes = read_votes(_find_files(cfg)[1])
    return count_rules(votes, np.array([USAGE.get(name, name) for name in usage]))


def load_ferplus(cfg: Config) -> FaceSet:
    """FERPlus labels (`ferplus_rule` and its kin) on FER2013's faces and splits.

    Decoded once, then memory-mapped. `soft` gives extras["targets"], (N, classes) float32. Raises
    InputError naming the file and row that is missing, damaged or in another order.
    """
    pixels, votes = _find_files(cfg)
    rule = rule_of(cfg)
    key = [file_stamp(pixels), file_stamp(votes), *rule]
    return cached_faces(
        cfg.cache_dir, "ferplus", key, lambda: _match(fer2013.load_fer2013(cfg), votes, rule)
    )
