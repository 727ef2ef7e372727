"""Is the data there, and is it what was published? Counts side by side, problems as sentences."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data import expw, fer2013, ferplus, folder, rafdb, synthetic
from gmelib.data.expw import survey
from gmelib.data.faceset import FaceSet, MissingData, empty_parts, training_problems
from gmelib.data.fer2013_folders import MERGED
from gmelib.data.registry import load_all

RULES = "faces under every rule of FERPlus labels"
HELD_OUT = "train+validation"  # what is published where validation is held out of train here
# Faces of each class (order of EXPRESSIONS) in every split of the complete files.
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
    "rafdb": {
        HELD_OUT: (705, 717, 281, 4772, 1982, 1290, 2524),
        "test": (162, 160, 74, 1185, 478, 329, 680),
    },
}
_FER2013 = PUBLISHED["fer2013"]
PUBLISHED[MERGED] = {
    HELD_OUT: _FER2013["train"],
    "test": tuple(map(sum, zip(_FER2013["validation"], _FER2013["test"], strict=True))),
}
_LOADERS = {
    "expw": expw, "fer2013": fer2013, "ferplus": ferplus, "folder": folder, "rafdb": rafdb,
    "synthetic": synthetic,
}  # fmt: skip


@dataclass(frozen=True)
class DataReport:
    """What `check_dataset` found; shows itself as text and, in a notebook, as a table.

    counts: classes and "all" in the rows, splits in the columns, beside the published numbers where
    there are any; empty if nothing could be loaded. problems: one sentence each, empty if all is
    well. notes: facts worth knowing that are no problem. layout, source: where the files are
    expected, and where to ask for them. tables: more of them, by their titles.
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
    tables: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

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
        more = [f"{title}:\n{table.to_string()}" for title, table in self.tables.items()]
        return "\n".join([*self._lines(), *table, *more])

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self._lines())
        more = "".join(
            f"<p>{html.escape(title)}</p>{table.to_html()}" for title, table in self.tables.items()
        )
        return f"<ul>{lines}</ul>{'' if self.counts.empty else self.counts.to_html()}{more}"


def _published(cfg: Config, faces: FaceSet) -> pd.DataFrame | None:
    """Published numbers of the faces' classes; None where there are none of these labels."""
    if cfg.dataset == "ferplus" and not ferplus.rule_of(cfg).is_published:
        return None
    columns = PUBLISHED.get(faces.extras.get("layout", cfg.dataset))
    if columns is None:
        return None
    table = pd.DataFrame(columns, index=list(EXPRESSIONS[: len(columns["test"])]))
    return table.loc[list(faces.classes)]


def _count_table(counts: pd.DataFrame, published: pd.DataFrame | None) -> pd.DataFrame:
    table = counts
    if published is not None:
        both = {"found": counts, "published": published}
        table = pd.concat(both, axis=1).swaplevel(axis=1)[list(counts)]
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
    return notes + _dropped(faces.extras.get("dropped", {})) + faces.extras.get("notes", [])


def _dropped(numbers: dict[str, int]) -> list[str]:
    return [f"rows dropped, {reason.replace('_', ' ')}: {n}" for reason, n in numbers.items()]


def _about(cfg: Config) -> dict[str, Any]:
    return {"layout": _LOADERS[cfg.dataset].LAYOUT, "source": _LOADERS[cfg.dataset].SOURCE}


def _not_loaded(cfg: Config, error: Exception) -> DataReport:
    is_missing = isinstance(error, MissingData)
    nothing = pd.DataFrame()
    return DataReport(cfg.dataset, nothing, [str(error)], [], is_missing=is_missing, **_about(cfg))


def check_dataset(cfg: Config) -> DataReport:
    """Look at cfg.dataset without ever failing: what is missing, damaged or unlike the published.

    A missing or damaged file becomes a problem in the report, not an exception.
    """
    try:
        faces = load_all(cfg)
    except (InputError, OSError) as error:
        return _not_loaded(cfg, error)
    counts, published = faces.counts(), _published(cfg, faces)
    if published is not None and HELD_OUT in published:
        counts.insert(2, HELD_OUT, counts["train"] + counts["validation"])
    problems = training_problems(faces)
    if published is not None:
        whole = [s for s in published if "train" not in s or cfg.drop_duplicates == "none"]
        problems += _count_problems(counts, published, whole)
    return DataReport(
        dataset=cfg.dataset,
        counts=_count_table(counts, published),
        problems=problems,
        notes=_notes(faces),
        fingerprint=faces.fingerprint,
        faces=faces,
        tables={RULES: ferplus.count_labels(cfg).T} if cfg.dataset == "ferplus" else {},
        **_about(cfg),
    )


def check_photographs(cfg: Config) -> tuple[DataReport, list[str]]:
    """Look at ExpW as `check_dataset` does, but without cutting faces out: that takes hours.

    Where the faces that the configuration means are prepared, the report is of them, else of the
    list and the photographs. The second is a line for every photograph that cannot be read.
    """
    try:
        if survey.prepared(cfg) is not None:
            return check_dataset(cfg), list(survey.unreadable_when_prepared(cfg))
        found = survey.survey(cfg)
    except (InputError, OSError) as error:
        return _not_loaded(cfg, error), []
    later = (
        f"no face was cut out (expw_align = {cfg.expw_align}): copies across splits, and what a "
        "detector finds no face in, are told when 01_data_generation has prepared the faces"
    )
    report = DataReport(
        dataset=cfg.dataset,
        counts=_count_table(found.counts, None),
        problems=empty_parts(cfg.dataset, found.counts),
        notes=[*_dropped(found.dropped), *found.notes, later],
        **_about(cfg),
    )
    return report, found.unreadable
