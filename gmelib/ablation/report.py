"""The ablation's tables and sentences as the notebook shows them, and its record."""

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gmelib.ablation.contrasts import compare, contrasts
from gmelib.ablation.rates import rate_scores, rate_sentences
from gmelib.ablation.runs import Cell, other_code
from gmelib.ablation.scores import Cells, scores
from gmelib.ablation.sweeps import Sweeps, sweep_scores, sweep_sentences
from gmelib.config import Config, InputError
from gmelib.fields import TABLES
from gmelib.record import Run
from gmelib.variants import ROWS
from gmelib.wording import count, number

NOT_A_RESULT = "Drawn faces only show that everything works: this is not a result."


# -- tables ---------------------------------------------------------------------------------------


def scores_shown(cells: Cells) -> pd.DataFrame:
    """:func:`~gmelib.ablation.scores.scores` as text, with and without copies of training faces."""
    table, clean = scores(cells), scores(cells, "without_duplicates")
    lines = table.itertuples()
    shown = pd.DataFrame({"accuracy, % [95 %]": map(interval_text, lines)}, table.index)
    shown["interval over"] = [over_text(row) for row in table.itertuples()]
    if table["paper"].notna().any():
        shown["paper, %"] = [number(value, "{:.2f}") for value in table["paper"]]
        shown["ours − paper"] = [number(value, "{:+.1f}") for value in table["difference"]]
    if any(c.is_done and c.run.facts()["data"]["duplicates"] for c in cells.values()):
        shown["without copies, %"] = list(map(interval_text, clean.itertuples()))
    shown["missing"] = table["missing"]
    return shown


def contrasts_shown(cells: Cells) -> pd.DataFrame:
    """:func:`~gmelib.ablation.contrasts.contrasts` as text."""
    table = contrasts(cells)
    shown = pd.DataFrame({"rows": table["first"] + " − " + table["second"]})
    shown["ours, points [95 %]"] = [interval_text(row, "{:+.1f}") for row in table.itertuples()]
    shown["interval over"] = [over_text(row) for row in table.itertuples()]
    if table["paper"].notna().any():
        shown["paper"] = [number(value, "{:+.2f}") for value in table["paper"]]
    if table["clean"].notna().any():
        shown["without copies"] = [number(value, "{:+.1f}") for value in table["clean"]]
    shown["McNemar p (Holm)"] = [
        " / ".join(f"{p:.2g}" for p in found.values()) if isinstance(found, dict) else ""
        for found in table["faces_p"]
    ]
    shown["paired t p (Holm)"] = [
        number(row.seeds_p, "{:.2g}") or ("one seed" if row.n == 1 else "")
        for row in table.itertuples()
    ]
    shown["verdict"] = table["verdict"].where(table["n"] > 0, "not run")
    return shown


def sweeps_shown(cells: Sweeps, cfg: Config) -> pd.DataFrame:
    """:func:`~gmelib.ablation.sweeps.sweep_scores` as text."""
    table = sweep_scores(cells, cfg)
    lines = table.itertuples()
    shown = pd.DataFrame({"validation accuracy, % [95 %]": map(interval_text, lines)}, table.index)
    shown["from the preset's"] = [
        "preset" if row.default else number(row.difference, "{:+.1f}") + _noise(row.noise)
        for row in table.itertuples()
    ]
    shown["hours"] = [number(value, "{:.2f}") for value in table["hours"]]
    shown["missing"] = table["missing"]
    return shown


def _noise(value: float) -> str:
    return number(value, " ± {:.1f}")


def interval_text(row: Any, how: str = "{:.1f}") -> str:
    """A line's accuracy or value with its interval; empty where there is none."""
    value = getattr(row, "accuracy", None) if hasattr(row, "accuracy") else row.value
    if pd.isna(value):
        return ""
    return f"{how.format(value)} [{how.format(row.low)}, {how.format(row.high)}]"


def over_text(row: Any) -> str:
    """Where an interval comes from, and which seeds."""
    if not row.n:
        return ""
    seeds = ", ".join(map(str, row.by_seed))
    return f"faces (seed {seeds})" if row.over == "faces" else f"seeds {seeds}"


# -- sentences ------------------------------------------------------------------------------------


def order(cells: Cells) -> list[str]:
    """The order of our rows beside that of the paper's, and which differences are shown."""
    table = scores(cells).dropna(subset=["accuracy"])
    ranked = table["accuracy"].sort_values(ascending=False)
    sentences = [f"Our order, best first: {_listed(ranked, '{:.1f}')}."] if len(ranked) > 1 else []
    theirs = table["paper"].dropna()
    if len(theirs) < 2:
        return [*sentences, "No two rows that the paper reports: no order to compare."]
    pairs = {}  # the paper's better row first
    for one, other in itertools.combinations(theirs.sort_values(ascending=False).index, 2):
        pairs[f"{one} > {other}"] = (one, other)
    found = compare(cells, pairs)
    if not found:
        return [*sentences, "No two rows share a seed: no order to compare."]
    swapped = {n: (c.second, c.first) for n, c in found.items() if c.value < 0}
    agreeing = sum(c.value > 0 for c in found.values())
    tau = (agreeing - len(swapped)) / len(found)
    ranks = _listed(theirs.sort_values(ascending=False), "{:.1f}")
    sentences.append(f"The paper's: {ranks}.")
    sentences.append(
        f"{agreeing} of {len(found)} pairs of rows stand as in the paper (Kendall's tau {tau:.2f}; "
        "1 is the same order, 0 an unrelated one)."
    )
    for contrast in compare(cells, swapped).values():
        sentences.append(
            f"Swapped: {contrast.first} above {contrast.second} by {contrast.value:.1f} points: "
            f"{contrast.verdict}."
        )
    return sentences


def _listed(ranked: pd.Series, how: str) -> str:
    return ", ".join(f"{row} ({how.format(value)})" for row, value in ranked.items())


def conclusion(cells: Cells, sweeps: Sweeps, cfg: Config) -> str:
    """What the notebook shows, in sentences made from its figures."""
    table, added = scores(cells), contrasts(cells)
    done = table.dropna(subset=["accuracy"])
    sentences = [f"Finished runs: {len(done)} of {count(len(table), 'row')}."]
    if len(done):
        best = done["accuracy"].idxmax()
        sentences.append(f"Best: {best}, {interval_text(done.loc[best])} % of the test faces.")
    for name, row in added[added["n"] > 0].iterrows():
        theirs = "" if pd.isna(row["paper"]) else f" (paper: {row['paper']:+.2f})"
        gain = f"{interval_text(row, '{:+.1f}')} points{theirs}"
        sentences.append(f"{name}: {gain}: {row['verdict']}.")
    if table["paper"].notna().any():
        sentences.append(
            f"Ours are {count(cfg.epochs, 'epoch')} at width {cfg.width} and {cfg.input_size} px; "
            "the paper's 100 epochs at full size."
        )
    if sweeps:
        sentences += sweep_sentences(sweep_scores(sweeps, cfg))
    sentences += [f"{row}: {text}." for row, text in table["missing"].items() if text]
    sentences.append(other_code(cells))
    if cfg.select == "test":
        sentences.append("The epoch was picked on the test set: not comparable with others.")
    if cfg.dataset == "synthetic":
        sentences.append(NOT_A_RESULT)
    return "\n".join(filter(None, sentences))


# -- record ---------------------------------------------------------------------------------------


def ablation_run(cfg: Config) -> Run:
    """Where the report of this table lies: named by the preset and by which rows, seeds and sweeps
    are asked for. It is written anew each time, so it always lies under ``out_root``."""
    base = cfg.replace(attention="dbam", global_branch=True, seed=cfg.seeds[0])
    asked = {
        "rows": sorted(set(cfg.rows or ROWS)),
        "seeds": sorted(set(cfg.seeds)),
        "sweeps": sorted(set(cfg.sweeps)),
        "sweep_epochs": cfg.sweep_epochs if cfg.sweeps else None,
    }
    name = Run.open(base, "ablation", **{n: str(v) for n, v in asked.items()}).id
    return Run(base, "ablation", cfg.path("out_root") / cfg.dataset / "ablation" / name)


def finish(run: Run, cells: Cells, sweeps: Sweeps) -> None:
    """Writes the record: the figures shown, the runs that they come from, what is missing."""
    cfg = run.cfg
    done = {f"{row}, seed {seed}": c.run.id for (row, seed), c in cells.items() if c.is_done}
    done |= {f"{name} = {v}": c.run.id for (name, v), c in sweeps.items() if c.is_done}
    clean = scores(cells, "without_duplicates")
    run.finish(
        tables={name: getattr(cfg, name) for name in TABLES},
        rows=plain(scores(cells)),
        rows_without_duplicates=plain(clean.drop(columns=["paper", "difference", "missing"])),
        contrasts=plain(contrasts(cells)),
        order=order(cells),
        rates=rate_sentences(rate_scores(cfg), cfg),
        sweeps=plain(sweep_scores(sweeps, cfg)) if sweeps else [],
        runs=done,
        missing=[*lacking(cells), *lacking(sweeps)],
    )


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A list of the table's lines for JSON; what is undefined is null."""
    table = table.reset_index().astype(object)
    return table.where(table.notna(), None).to_dict("records")


def lacking(cells: Mapping[tuple[str, Any], Cell]) -> list[dict[str, Any]]:
    """What is not finished, for JSON."""
    return [
        {"cell": list(key), "state": c.state, "failure": c.failure, "hours": c.hours}
        for key, c in cells.items()
        if not c.is_done
    ]


def raise_failures(*tables: Mapping[Any, Cell]) -> None:
    """Ends the notebook with an error if a run failed, so that a batch notices.

    Raises:
        InputError: naming every run that failed and why.
    """
    failed = {c.run.id: c.failure for cells in tables for c in cells.values() if c.failure}
    if failed:
        reasons = "; ".join(f"{name} ({why})" for name, why in failed.items())
        raise InputError(f"{len(failed)} of the table's runs failed: {reasons}")
