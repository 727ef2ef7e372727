"""The comparison's tables and sentences as the notebook shows them, and its record."""

from typing import Any

import pandas as pd

from gmelib.ablation.report import NOT_A_RESULT, interval_text, lacking, over_text, plain
from gmelib.ablation.runs import other_code
from gmelib.ablation.scores import Cells, scores
from gmelib.comparison.rows import best_rows, comparison, differences, unequal_budgets
from gmelib.config import Config
from gmelib.fields import TABLES
from gmelib.record import Run
from gmelib.variants import COMPARED, KD
from gmelib.wording import count, number


def comparison_shown(cells: Cells) -> pd.DataFrame:
    """:func:`~gmelib.comparison.rows.comparison` as text, with and without copies of training
    faces; *passes* counts presentations per training face, *network passes* what these cost."""
    table, clean = comparison(cells), scores(cells, "without_duplicates")
    lines = list(table.itertuples())
    shown = pd.DataFrame({"accuracy, % [95 %]": map(interval_text, lines)}, table.index)
    shown["interval over"] = [over_text(row) for row in lines]
    if table["paper"].notna().any():
        shown["paper, %"] = [number(value, "{:.2f}") for value in table["paper"]]
        shown["ours − paper"] = [number(value, "{:+.1f}") for value in table["difference"]]
    if any(c.is_done and c.run.facts()["data"]["duplicates"] for c in cells.values()):
        shown["without copies, %"] = list(map(interval_text, clean.itertuples()))
    shown["M parameters"] = [number(value / 1e6, "{:.2f}") for value in table["parameters"]]
    shown["G MACs"] = [number(value / 1e9, "{:.3f}") for value in table["macs"]]
    shown["passes"] = [number(value, "{:g}") for value in table["passes"]]
    shown["network passes"] = [number(value, "{:g}") for value in table["forward_backward"]]
    shown["hours"] = [number(value, "{:.2f}") for value in table["hours"]]
    shown["missing"] = table["missing"]
    return shown


def differences_shown(cells: Cells) -> pd.DataFrame:
    """:func:`~gmelib.comparison.rows.differences` as text."""
    table = differences(cells)
    shown = pd.DataFrame(index=table.index)
    shown["points [95 %]"] = [interval_text(row, "{:+.1f}") for row in table.itertuples()]
    shown["McNemar p (Holm)"] = [
        " / ".join(f"{p:.2g}" for p in by_seed.values()) for by_seed in table["faces_p"]
    ]
    shown["verdict"] = table["verdict"]
    return shown


def conclusion(cells: Cells, cfg: Config) -> str:
    """What the notebook shows, in sentences made from its figures."""
    table = comparison(cells)
    done = table.dropna(subset=["accuracy"])
    sentences = [f"Finished runs: {len(done)} of {count(len(table), 'row')}."]
    if len(done):
        best = done["accuracy"].idxmax()
        sentences.append(f"Best: {best}, {interval_text(done.loc[best])} % of the test faces.")
    ours, other = best_rows(cells)
    if ours:
        rank = 1 + int((done["accuracy"] > done.loc[ours, "accuracy"]).sum())
        sentences.append(
            f"GME-Net ({ours}) reaches {interval_text(done.loc[ours])} % and is number {rank} of "
            f"{len(done)}."
        )
    sentences += _against(differences(cells), ours)
    sentences += _resolutions(done)
    sentences.append(unequal_budgets(cells) or _budget(done))
    if table["paper"].notna().any():
        sentences.append(
            f"The networks and budgets are those of params/peers/{cfg.peers}.yaml, not the "
            "paper's, and learning rates were chosen by short tries: a method's place here need "
            "not be its place there."
        )
    sentences += [f"{row}: {text}." for row, text in table["missing"].items() if text]
    sentences.append(other_code(cells))
    if cfg.dataset == "synthetic":
        sentences.append(NOT_A_RESULT)
    return "\n".join(filter(None, sentences))


def _against(table: pd.DataFrame, ours: str | None) -> list[str]:
    """Which rows GME-Net is shown to be better or worse than."""
    shown = table[table["verdict"] != "not shown"]
    sentences = []
    for word, part in (("above", shown[shown["value"] > 0]), ("below", shown[shown["value"] < 0])):
        if len(part):
            rows = "; ".join(f"{row} ({value:+.1f} points)" for row, value in part["value"].items())
            sentences.append(f"{ours} is shown to be {word}: {rows}.")
    rest = table.index[table["verdict"] == "not shown"]
    if len(rest):
        sentences.append(f"No difference is shown from: {'; '.join(rest)}.")
    return sentences


def _resolutions(done: pd.DataFrame) -> list[str]:
    """What training on both resolutions, and on the high one, gives a method."""
    sentences = []
    for title, part in done.groupby("title", sort=False):
        by_mode = part.set_index("mode")["accuracy"]
        if {"lr", "lr+hr"} <= {*by_mode.index}:
            text = f"{title}: lr+hr {by_mode['lr+hr'] - by_mode['lr']:+.1f} points from lr"
            if "hr" in by_mode:
                text += f", hr {by_mode['hr'] - by_mode['lr']:+.1f}"
            sentences.append(f"{text}.")
    return sentences


def _budget(done: pd.DataFrame) -> str:
    if done.empty:
        return ""
    least, most = done["forward_backward"].min(), done["forward_backward"].max()
    costs = f"between {least:g} and {most:g}" if least < most else f"{least:g}"
    passes, distils = done["passes"].iloc[0], (done["mode"] == KD).any()
    return (
        f"Every row was shown {passes:g} faces for each training face; what its method makes of "
        f"that costs {costs} passes of its network per face."
    ) + (" The teachers of the distilled rows were shown as many again." if distils else "")


def peer_of(cells: Cells) -> str | None:
    """The best finished row of the five compared methods."""
    table = comparison(cells).dropna(subset=["accuracy"])
    part = table[table["method"].isin(COMPARED)]
    return part["accuracy"].idxmax() if len(part) else None


# -- record ---------------------------------------------------------------------------------------


def comparison_run(cfg: Config) -> Run:
    """Where the report of these tables lies: named by the presets and by which methods, modes and
    seeds are asked for. It is written anew each time, so it always lies under ``out_root``."""
    base = cfg.replace(seed=cfg.seeds[0])
    asked = {"peers": cfg.peers}
    asked |= {n: str(sorted(set(getattr(cfg, n)))) for n in ("methods", "modes", "seeds")}
    name = Run.open(base, "comparison", **asked).id
    return Run(base, "comparison", cfg.path("out_root") / cfg.dataset / "comparison" / name)


def finish(run: Run, cells: Cells, **tables: Any) -> None:
    """Writes the record: the figures shown, the runs that they come from, what is missing.

    Args:
        tables: more tables to keep, by name.
    """
    done = {f"{row}, seed {seed}": c.run.id for (row, seed), c in cells.items() if c.is_done}
    clean = scores(cells, "without_duplicates")
    run.finish(
        tables={name: getattr(run.cfg, name) for name in TABLES},
        rows=plain(comparison(cells)),
        rows_without_duplicates=plain(clean.drop(columns=["paper", "difference", "missing"])),
        differences=plain(differences(cells)),
        runs=done,
        missing=lacking(cells),
        **{name: plain(table) for name, table in tables.items()},
    )
