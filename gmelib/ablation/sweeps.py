"""Free choices of the preset, one parameter at a time, judged on the validation faces.

The test faces decide nothing here, so they are not shown. One seed; all values meet the same
validation faces, but no prediction on them is kept, so differences are taken as unpaired, which
makes their intervals too wide rather than too narrow.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from gmelib.ablation.runs import Cell
from gmelib.config import Config
from gmelib.metrics.scores import LEVEL
from gmelib.variants import sweep_configs

Sweeps = Mapping[tuple[str, Any], Cell]  # (parameter, value) -> cell
Z = float(norm.ppf(0.5 + LEVEL / 200))


def sweep_students(cfg: Config) -> dict[tuple[str, Any], Config]:
    """(parameter, value) -> student, for ``cfg.sweeps``; ``sweep_epochs`` long, the first seed.

    Raises:
        InputError: a parameter that is not swept.
    """
    seeded = cfg.replace(seed=cfg.seeds[0])
    return {
        (parameter, value): student
        for parameter in dict.fromkeys(cfg.sweeps)
        for value, student in sweep_configs(seeded, parameter, epochs=cfg.sweep_epochs).items()
    }


def sweep_scores(cells: Sweeps, cfg: Config) -> pd.DataFrame:
    """A line a value, in per cent of the validation faces: NaN where it is not run.

    Returns:
        indexed by (parameter, value): accuracy (best epoch), low, high (95 %, Wilson), difference
        (from the preset's own value, in points), noise (half width of its 95 % interval), default
        (bool), hours (of training; of the student alone), missing (what is not run), n (faces).
    """
    lines = {key: _line(cell) for key, cell in cells.items()}
    for (parameter, value), line in lines.items():
        own = getattr(cfg, parameter)
        line |= {"default": value == own} | _difference(line, lines[parameter, own])
    index = pd.MultiIndex.from_tuples(list(lines), names=["parameter", "value"])
    columns = (
        "accuracy", "low", "high", "difference", "noise", "default", "hours", "missing", "n",
    )  # fmt: skip
    return pd.DataFrame(list(lines.values()), index=index, columns=columns)


def _line(cell: Cell) -> dict[str, Any]:
    if not cell.is_done:
        return {"missing": cell.state}
    facts = cell.run.facts()
    share = facts["validation"]["best_accuracy"]
    n = sum(facts["data"]["counts"]["validation"].values())
    interval = binomtest(round(share * n), n).proportion_ci(LEVEL / 100, method="wilson")
    return {
        "accuracy": 100 * share,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "hours": facts["wall_seconds"] / 3600,
        "missing": "",
        "n": n,
    }


def _difference(line: dict[str, Any], own: dict[str, Any]) -> dict[str, float]:
    if line is own or line["missing"] or own["missing"]:
        return {}
    variances = [x["accuracy"] * (100 - x["accuracy"]) / x["n"] for x in (line, own)]
    noise = Z * float(np.sqrt(sum(variances)))
    return {"difference": line["accuracy"] - own["accuracy"], "noise": noise}


def sweep_sentences(table: pd.DataFrame) -> list[str]:
    """A sentence a parameter: is the preset's own value best, within noise of it, or beaten?"""
    return [_sentence(name, part.droplevel(0)) for name, part in table.groupby(level=0, sort=False)]


def _sentence(parameter: str, part: pd.DataFrame) -> str:
    (own,) = part.index[part["default"].astype(bool)]
    run = part[part["missing"] == ""]
    lacking = [_named(v) for v in part.index if v not in run.index]
    if own not in run.index or len(run) < 2:
        return f"{parameter}: no verdict, for not run: {', '.join(lacking)}."
    best = run["accuracy"].idxmax()
    here = f"the preset's {_named(own)} ({run.accuracy[own]:.1f} %)"
    if best == own or run.accuracy[best] == run.accuracy[own]:
        found = f"{here} is best"
    else:
        gap, noise = run.difference[best], run.noise[best]
        how = "is within noise of the best," if gap <= noise else "is beaten by"
        found = f"{here} {how} {_named(best)} ({gap:+.1f} ± {noise:.1f} points)"
    rest = f"; not run: {', '.join(lacking)}" if lacking else ""
    return f"{parameter}: {found}{rest}."


def _named(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
