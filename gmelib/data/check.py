"""Is the data there, and is it what was published? Counts side by side, problems as sentences."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data import expw, fer2013, ferplus, folder, synthetic
from gmelib.data.faceset import SPLITS, FaceSet, MissingData, training_problems
from gmelib.data.registry import load_all

# Faces of each class (order of EXPRESSIONS) in train, validation and test of the complete files.
PUBLISHED = {
    "fer2013": {
        "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
        "validation": (467, 56, 496, 895, 653, 415, 607),
        "test": (491, 55, 528, 879, 594, 416, 626),
    },
    "ferplus": {  # totals 26940 / 3396 / 3376: rule "majority" on the official votes
        "train": (2399, 175, 648, 7410, 3403, 3378, 9365, 162),
        "validation": (310, 31, 73, 880, 395, 441, 1242, 24),
        "test": (316, 22, 92, 909, 424, 421, 1166, 26),
    },
}
_LOADERS = {
    "expw": expw,
    "fer2013": fer2013,
    "ferplus": ferplus,
    "folder": folder,
    "synthetic": synthetic,
}


@dataclass(frozen=True)
class DataReport:
    """What `check_dataset` found; shows itself as text and, in a notebook, as a table.

    counts: classes and "all" in the rows, splits in the columns, beside the published numbers where
    there are any; empty if nothing could be loaded. problems: one sentence each, empty if all is
    well. notes: facts worth knowing that are no problem. layout, source: where the files are
    expected, and where to ask for them.
    """

    dataset: str
    counts: pd.DataFrame
    problems: list[str]
    notes: list[str]
    layout: str
    source: str
    fingerprint: str = ""
    faces: FaceSet | None = field(default=None, repr=False)
    is_missing: bool = False  # its files are not there at all

    @property
    def usable(self) -> bool:
        """Whether a run on this data set could start."""
        return self.faces is not None and not training_problems(self.faces)

    def _lines(self) -> list[str]:
        found = f"fingerprint {self.fingerprint[:12]}" if self.fingerprint else "not loaded"
        lines = [f"{self.dataset}: {found}"]
        lines += [f"problem: {problem}" for problem in self.problems] or ["no problem found"]
        lines += [f"note: {note}" for note in self.notes]
        if self.problems:
            lines += [f"expected: {self.layout}", f"ask for the data at: {self.source}"]
        return lines

    def __str__(self) -> str:
        table = [] if self.counts.empty else [self.counts.to_string()]
        return "\n".join([*self._lines(), *table])

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self._lines())
        return f"<ul>{lines}</ul>{'' if self.counts.empty else self.counts.to_html()}"


def _published(dataset: str) -> pd.DataFrame | None:
    if dataset not in PUBLISHED:
        return None
    columns = PUBLISHED[dataset]
    return pd.DataFrame(columns, index=list(EXPRESSIONS[: len(columns["train"])]))


def _count_table(counts: pd.DataFrame, published: pd.DataFrame | None) -> pd.DataFrame:
    table = counts
    if published is not None:
        both = {"found": counts, "published": published}
        table = pd.concat(both, axis=1).swaplevel(axis=1)[list(SPLITS)]
    table = table.copy()
    table.loc["all"] = table.sum()
    return table


def _count_problems(
    counts: pd.DataFrame, published: pd.DataFrame, splits: Sequence[str]
) -> list[str]:
    problems = []
    for split in splits:
        found, expected = counts[split], published[split]
        differing = [
            f"{name} {found[name]} instead of {expected[name]}"
            for name in published.index
            if found[name] != expected[name]
        ]
        if differing:
            problems.append(
                f"{split} has {found.sum()} faces, published are {expected.sum()}: "
                f"{', '.join(differing)}; the file is a subset or was changed, so results are not "
                "comparable with published ones"
            )
    return problems


def _notes(faces: FaceSet) -> list[str]:
    parts = [part.flatten(1) for part in faces.images.split(1024)]  # read piece by piece if mapped
    constant = sum(int((flat == flat[:, :1]).all(dim=1).sum()) for flat in parts)
    notes = [f"{len(faces)} faces of {' x '.join(map(str, faces.images.shape[1:]))} (C x H x W)"]
    if constant:
        notes.append(f"constant images (one grey level): {constant}")
    for split in ("validation", "test"):
        copies = int(faces.duplicate[faces.split == split].sum())
        if copies:
            notes.append(f"{split} faces that equal a train face pixel by pixel: {copies}")
    for reason, number in faces.extras.get("dropped", {}).items():
        notes.append(f"rows dropped, {reason.replace('_', ' ')}: {number}")
    return notes + faces.extras.get("notes", [])


def check_dataset(cfg: Config) -> DataReport:
    """Look at cfg.dataset without ever failing: what is missing, damaged or unlike the published.

    A missing or damaged file becomes a problem in the report, not an exception.
    """
    about: dict[str, Any] = {
        "layout": _LOADERS[cfg.dataset].LAYOUT,
        "source": _LOADERS[cfg.dataset].SOURCE,
    }
    try:
        faces = load_all(cfg)
    except (InputError, OSError) as error:
        about["is_missing"] = isinstance(error, MissingData)
        return DataReport(cfg.dataset, pd.DataFrame(), [str(error)], [], **about)
    counts, published = faces.counts(), _published(cfg.dataset)
    problems = training_problems(faces)
    if published is not None:
        whole = [s for s in SPLITS if s != "train" or cfg.drop_duplicates == "none"]
        problems += _count_problems(counts, published, whole)
    return DataReport(
        dataset=cfg.dataset,
        counts=_count_table(counts, published),
        problems=problems,
        notes=_notes(faces),
        fingerprint=faces.fingerprint,
        faces=faces,
        **about,
    )
