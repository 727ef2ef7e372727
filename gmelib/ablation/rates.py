"""Does the order of the rows hang on the learning rate? Rows at several rates, from finished runs.

The rate is one for all rows, so one that suits some better than others could make their order.
Runs that differ in nothing but rate, row and seed are set side by side, on the validation faces: a
rate is a choice, and the test faces decide none.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from gmelib.ablation.contrasts import CONTRASTS
from gmelib.config import Config
from gmelib.record import read_facts, record_paths
from gmelib.variants import ROWS, row_of
from gmelib.wording import count

VARIED = {"learning_rate", "seed", "attention", "global_branch", "kd_weight"}
LENGTH = {"epochs", "limit_train"}  # short runs try more rates; they are compared among themselves


def rate_scores(cfg: Config) -> pd.DataFrame:
    """Validation accuracy (best epoch, mean over the seeds, per cent) of rows at several rates.

    Only groups of equally long runs with two rows and two rates at least; one seed is in all of a
    group's cells or in none.

    Args:
        cfg: the preset; its lengths, its rate and what makes a row may differ in the runs.

    Returns:
        one line a row and rate, indexed by (training, row, rate): accuracy, seeds (tuple). Empty
        where no such runs are finished.
    """
    found = pd.DataFrame(
        list(dict.fromkeys(_runs(cfg))), columns=["training", "row", "rate", "seed", "accuracy"]
    )
    parts = [_shared(part) for _, part in found.groupby("training", sort=False)]
    kept = pd.concat(parts) if parts else found
    by = kept.groupby(["training", "row", "rate"], sort=False)
    table = by.agg(accuracy=("accuracy", "mean"), seeds=("seed", lambda s: tuple(sorted(s))))
    rank = {row: place for place, row in enumerate(ROWS)}
    return table.sort_index(key=lambda level: level.map(rank) if level.name == "row" else level)


def _runs(cfg: Config) -> Iterator[tuple[Any, ...]]:
    own = _compared(cfg)
    for path in record_paths(cfg.out_root):
        if path.parts[-4:-2] != (cfg.dataset, "student"):
            continue
        facts = read_facts(path.parent)
        config = facts["config"]
        row, theirs = row_of(config, "student"), Config.make(**config)
        distils = theirs.kd_weight in (0, cfg.kd_weight)
        if row in ROWS and distils and _compared(theirs) == own:
            accuracy = 100 * facts["validation"]["best_accuracy"]
            yield _training(theirs), row, theirs.learning_rate, theirs.seed, accuracy


def _compared(cfg: Config) -> dict[str, Any]:
    """What two runs must have in common."""
    values = cfg.replace(kd_weight=1.0, global_branch=True).scientific()
    return {name: value for name, value in values.items() if name not in VARIED | LENGTH}


def _training(cfg: Config) -> str:
    faces = count(cfg.limit_train, "face") if cfg.limit_train else "all faces"
    return f"{faces}, {count(cfg.epochs, 'epoch')}"


def _shared(part: pd.DataFrame) -> pd.DataFrame:
    """The rows that were run at every rate that two rows share, with the seeds common to all."""
    rates = part.groupby("rate")["row"].nunique()
    part = part[part["rate"].isin(rates[rates > 1].index)]
    full = part.groupby("row")["rate"].nunique()
    part = part[part["row"].isin(full[full == part["rate"].nunique()].index)]
    cells = part.groupby("seed").size()
    part = part[part["seed"].isin(cells[cells == len(part.groupby(["row", "rate"]))].index)]
    few = part["row"].nunique() < 2 or part["rate"].nunique() < 2
    return part.iloc[:0] if few else part


def rates_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A line a training and row, the rates side by side; per cent of the validation faces."""
    shown = _by_rate(table).map("{:.1f}".format, na_action="ignore").fillna("")
    return shown.rename(columns="{:g}".format).rename_axis(columns="learning rate")


def _by_rate(table: pd.DataFrame) -> pd.DataFrame:
    """A column a rate; the lines stay in the order of the rows."""
    wide = table["accuracy"].unstack("rate")
    return wide.reindex(table.index.droplevel("rate").unique())


def rate_sentences(table: pd.DataFrame, cfg: Config) -> list[str]:
    """For each length of training: each row's best rate, then the rows and gains at each rate."""
    sentences = []
    for training, part in table.groupby(level="training", sort=False):
        accuracy = _by_rate(part.droplevel("training"))
        seeds = ", ".join(map(str, part["seeds"].iloc[0]))
        best = ", ".join(f"{row} {rate:g}" for row, rate in accuracy.idxmax(axis=1).items())
        sentences.append(f"{training}, seed {seeds}: best learning rate: {best}.")
        if cfg.learning_rate in accuracy:
            lost = accuracy.max(axis=1) - accuracy[cfg.learning_rate]
            points = ", ".join(f"{row} {value:.1f}" for row, value in lost.items())
            sentences.append(f"The preset's {cfg.learning_rate:g} costs, in points: {points}.")
        sentences += [f"At {rate:g}: {_ranked(accuracy[rate])}." for rate in accuracy]
    return sentences


def _ranked(accuracy: pd.Series) -> str:
    """The rows, best first, and what each part brings."""
    ranked = accuracy.sort_values(ascending=False)
    rows = ", ".join(f"{row} ({value:.1f})" for row, value in ranked.items())
    gains = [
        f"{name} {accuracy[more] - accuracy[less]:+.1f}"
        for name, (more, less) in CONTRASTS.items()
        if {more, less} <= {*accuracy.index}
    ]
    return "; ".join(filter(None, [rows, ", ".join(gains)]))
