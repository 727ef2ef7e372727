"""The rows of Tables 4 and 5, seed by seed: accuracy with its interval, beside the paper's."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gmelib import paper
from gmelib.ablation.runs import Cell, estimate_text
from gmelib.config import Config
from gmelib.metrics import seed_interval
from gmelib.variants import ROWS, row_config

Cells = Mapping[tuple[str, int], Cell]  # (row, seed) -> cell


def row_students(cfg: Config) -> dict[tuple[str, int], Config]:
    """(row, seed) -> student, for ``cfg.rows`` (all if empty) and ``cfg.seeds``.

    Raises:
        InputError: no such row, a seed that is none, or a distilled row without ``kd_weight``.
    """
    rows = sorted(dict.fromkeys(cfg.rows or ROWS), key=[*ROWS, *cfg.rows].index)
    seeds = dict.fromkeys(cfg.seeds)
    return {(row, seed): row_config(cfg, row, seed=seed) for row in rows for seed in seeds}


def scores(cells: Cells, scope: str = "all") -> pd.DataFrame:
    """A line a row, in per cent: where nothing is finished, NaN.

    Args:
        scope: ``all`` test faces, or ``without_duplicates``, those that are copies of training
            faces.

    Returns:
        indexed by row: accuracy (mean over the seeds), low, high (95 %: Student's t over two seeds
        or more; over the faces, by bootstrap, for one), over (``faces`` or ``seeds``), n (seeds),
        by_seed (seed -> accuracy), paper, difference (accuracy - paper), missing (what is not run).
    """
    rows = dict.fromkeys(row for row, _ in cells)
    return pd.DataFrame(
        [_score({s: c for (r, s), c in cells.items() if r == row}, scope) for row in rows],
        index=pd.Index(rows, name="row"),
    )


def _score(by_seed: Mapping[int, Cell], scope: str) -> dict[str, Any]:
    done = {seed: cell.run.facts() for seed, cell in by_seed.items() if cell.is_done}
    parts = {seed: facts["metrics"][scope] for seed, facts in done.items()}
    found = {seed: part["accuracy"] for seed, part in parts.items() if part}
    values = {seed: 100 * accuracy["value"] for seed, accuracy in found.items()}
    row: dict[str, Any] = {"accuracy": None, "low": None, "high": None, "over": ""}
    if len(found) > 1:
        mean, low, high = seed_interval(list(values.values()))
        row = {"accuracy": mean, "low": max(low, 0.0), "high": min(high, 100.0), "over": "seeds"}
    elif found:
        (only,) = found.values()
        row = {name: 100 * only[name] for name in ("low", "high")}
        row = {"accuracy": 100 * only["value"]} | row | {"over": "faces"}
    cfg = next(iter(by_seed.values())).run.cfg
    theirs = paper.accuracy_of(cfg.model_dump(), "student")
    gap = row["accuracy"] - theirs if theirs and found else None
    row |= {"n": len(found), "by_seed": values, "paper": theirs, "difference": gap}
    return row | {"missing": missing(by_seed)}


def missing(by_seed: Mapping[int, Cell]) -> str:
    """What is not run or failed, in words; empty where all is done."""
    parts = []
    lacking = {seed: c for seed, c in by_seed.items() if not c.is_done and not c.failure}
    failed = [seed for seed, cell in by_seed.items() if cell.failure]
    if lacking:
        hours = [cell.hours for cell in lacking.values()]
        total = estimate_text(None if None in hours else sum(hours))
        parts.append(f"not run{total}{_which(list(lacking), by_seed)}")
    if failed:
        parts.append(f"failed{_which(failed, by_seed)}")
    return "; ".join(parts)


def _which(seeds: list[int], of: Mapping[int, Cell]) -> str:
    """Which seeds, where it is not all of one or more."""
    return "" if len(seeds) == len(of) else f": seed {', '.join(map(str, seeds))}"
