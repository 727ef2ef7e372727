"""What each part brings: differences between two rows, paired by face and by seed, as in 4.3."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from gmelib import paper
from gmelib.ablation.scores import Cells
from gmelib.evaluate import load_predictions
from gmelib.metrics import Difference, holm, paired_difference, paired_t, seed_interval

ALPHA = 0.05

# What is added -> (row with it, row without it). The first two are 4.3's own; "DBAM without KD",
# which the paper lacks, allows those that split attention and distillation.
CONTRASTS: dict[str, tuple[str, str]] = {
    "branch 2": ("GME-Net", "Baseline+DBAM"),
    "KD": ("GME-Net", "DBAM+GM without KD"),
    "attention alone": ("DBAM without KD", "Baseline"),
    "branch 2 alone": ("Baseline+GM", "Baseline"),
    "KD without branch 2": ("Baseline+DBAM", "DBAM without KD"),
    "branch 2 without KD": ("DBAM+GM without KD", "DBAM without KD"),
    "DBAM for CBAM": ("Baseline+DBAM", "Baseline+CBAM"),
}


@dataclass(frozen=True)
class Contrast:
    """Row ``first`` minus row ``second``, in points, over the seeds that both have.

    The p-values are adjusted by Holm's method for all contrasts that were asked for together.
    """

    first: str
    second: str
    by_seed: Mapping[int, Difference]
    faces_p: Mapping[int, float] = field(default_factory=dict)  # McNemar, of each seed
    seeds_p: float | None = None  # paired t; None for one seed

    @property
    def values(self) -> list[float]:
        """Of each seed, in points."""
        return [100 * difference.value for difference in self.by_seed.values()]

    @cached_property
    def interval(self) -> tuple[float, float, float]:
        """Mean and 95 % interval: over seeds, or for one seed over the faces."""
        if len(self.by_seed) > 1:
            return seed_interval(self.values)
        (only,) = self.by_seed.values()
        return 100 * only.value, 100 * only.low, 100 * only.high

    @property
    def value(self) -> float:
        return float(np.mean(self.values))

    @property
    def verdict(self) -> str:
        """What is shown, and of what: of training anew, or of these faces with these networks."""
        if self.seeds_p is not None and self.seeds_p < ALPHA:
            return "shown over seeds"
        same_sign = len({np.sign(value) for value in self.values}) == 1
        if same_sign and all(p < ALPHA for p in self.faces_p.values()):
            return f"shown on the faces, {self._seeds()}"
        return "not shown"

    def _seeds(self) -> str:
        n = len(self.by_seed)
        return f"with each of {n} seeds" if n > 1 else f"with one seed ({next(iter(self.by_seed))})"

    @property
    def is_shown(self) -> bool:
        return self.verdict != "not shown"


def compare(cells: Cells, pairs: Mapping[str, tuple[str, str]]) -> dict[str, Contrast]:
    """The contrasts whose two rows share a finished seed, with p-values adjusted together.

    Args:
        pairs: name -> (first row, second row).
    """
    tables = {key: load_predictions(c.run.folder) for key, c in cells.items() if c.is_done}
    found = {}
    for name, (first, second) in pairs.items():
        seeds = [s for row, s in tables if row == first and (second, s) in tables]
        by_seed = {
            s: paired_difference(tables[first, s], tables[second, s], names=(first, second))
            for s in seeds
        }
        if by_seed:
            found[name] = Contrast(first, second, by_seed)
    return _adjusted(found)


def _adjusted(found: dict[str, Contrast]) -> dict[str, Contrast]:
    over_seeds = holm([paired_t(c.values) for c in found.values()])
    by_seed: dict[int, dict[str, float]] = {}
    for seed in dict.fromkeys(s for c in found.values() for s in c.by_seed):
        names = [name for name, c in found.items() if seed in c.by_seed]
        p_values = holm([found[name].by_seed[seed].p_value for name in names])
        by_seed[seed] = dict(zip(names, p_values, strict=True))
    return {
        name: Contrast(
            c.first, c.second, c.by_seed, {s: by_seed[s][name] for s in c.by_seed}, seeds_p
        )
        for (name, c), seeds_p in zip(found.items(), over_seeds, strict=True)
    }


def paper_difference(dataset: str, first: str, second: str) -> float | None:
    """First row minus second in the paper's Tables 4 and 5, in points; None where it lacks one."""
    ours = [paper.ABLATION.get(row, {}).get(dataset) for row in (first, second)]
    return None if None in ours else ours[0] - ours[1]


def contrasts(cells: Cells) -> pd.DataFrame:
    """A line for every contrast of :data:`CONTRASTS` whose rows are asked for, in points.

    Returns:
        indexed by name: first, second (rows), value, low, high (95 %, paired), over, n (seeds),
        by_seed, faces_p (McNemar, Holm-adjusted, of each seed), seeds_p (paired t, Holm-adjusted),
        verdict, clean (value without the test faces that are copies of training faces; NaN if there
        are none), paper (the same difference of the paper's). NaN where no seed of both is done.
    """
    rows = {row for row, _ in cells}
    asked = {name: pair for name, pair in CONTRASTS.items() if rows.issuperset(pair)}
    found = compare(cells, asked)
    lines = {name: _line(cells, asked[name], found.get(name)) for name in asked}
    columns = (
        "first", "second", "value", "low", "high", "over", "n", "by_seed", "faces_p", "seeds_p",
        "verdict", "clean", "paper",
    )  # fmt: skip
    index = pd.Index(lines, name="what is added")
    return pd.DataFrame(list(lines.values()), index=index, columns=columns)


def _line(cells: Cells, pair: tuple[str, str], found: Contrast | None) -> dict:
    first, second = pair
    cfg = next(cell.run.cfg for (row, _), cell in cells.items() if row == first)
    is_theirs = cfg.lr_size == paper.LR_SIZES.get(cfg.dataset)
    line = {"first": first, "second": second, "n": 0, "over": "", "verdict": ""}
    line["paper"] = paper_difference(cfg.dataset, first, second) if is_theirs else None
    if found is None:
        return line
    value, low, high = found.interval
    return line | {
        "value": value,
        "low": low,
        "high": high,
        "over": "seeds" if len(found.by_seed) > 1 else "faces",
        "n": len(found.by_seed),
        "by_seed": dict(zip(found.by_seed, found.values, strict=True)),
        "faces_p": dict(found.faces_p),
        "seeds_p": found.seeds_p,
        "verdict": found.verdict,
        "clean": _without_copies(cells, found),
    }


def _without_copies(cells: Cells, found: Contrast) -> float | None:
    """The same difference from the records' figures without copies; None where there are none."""
    gaps = []
    for seed in found.by_seed:
        facts = [cells[row, seed].run.facts() for row in (found.first, found.second)]
        parts = [f["metrics"]["without_duplicates"] for f in facts]
        if not all(parts) or not facts[0]["data"]["duplicates"]:
            return None
        gaps.append(100 * (parts[0]["accuracy"]["value"] - parts[1]["accuracy"]["value"]))
    return float(np.mean(gaps))
