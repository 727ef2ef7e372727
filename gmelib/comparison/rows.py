"""The rows of Tables 1-3, seed by seed: a method in a training mode, with what it was allowed."""

from collections.abc import Mapping

import pandas as pd

from gmelib.ablation import Cell, compare, scores
from gmelib.ablation.scores import Cells
from gmelib.config import Config, InputError
from gmelib.methods import title_of
from gmelib.variants import (
    ENTRIES,
    KD,
    MODES,
    compared_config,
    mode_of,
    modes_of,
    require_modes,
)

ALLOWED = ("parameters", "macs", "passes", "forward_backward", "hours")


def compared_students(cfg: Config) -> dict[tuple[str, int], Config]:
    """(row, seed) -> student, for ``cfg.methods`` and ``cfg.modes`` (all where empty) and
    ``cfg.seeds``; a mode that a method does not have is left out.

    Raises:
        InputError: no such method or mode, or nothing is left.
    """
    require_modes(cfg.modes)
    students = {}
    for method in sorted(dict.fromkeys(cfg.methods or ENTRIES), key=[*ENTRIES, *cfg.methods].index):
        for mode in (m for m in MODES if m in (cfg.modes or MODES)):
            for seed in dict.fromkeys(cfg.seeds):
                if method not in ENTRIES or mode in modes_of(method):
                    one = compared_config(cfg.replace(seed=seed), method, mode)
                    students[row_name(one), seed] = one
    if not students:
        raise InputError(
            f"methods = {cfg.methods} have none of the modes {cfg.modes}; lr, hr and lr+hr are "
            "every method's, kd only those of gmenet, resnet18 and mobilenet_v3_small"
        )
    return students


def row_name(cfg: Config) -> str:
    """A method and how it was trained, as ``POSTER-cpu, lr+hr``."""
    return f"{title_of(cfg)}, {mode_of(cfg.model_dump())}"


def comparison(cells: Cells, scope: str = "all") -> pd.DataFrame:
    """A line a method and mode: :func:`gmelib.ablation.scores` and what the runs were allowed.

    Returns:
        as scores, and: title, mode, method (parameter), parameters, macs (of one face), passes
        (presentations of faces per training face), forward_backward (faces that the network was run
        forward and backward on, per training face), hours (mean over the seeds); NaN if not run.
    """
    table, lines = scores(cells, scope), []
    for row in table.index:
        own = [cell for (name, _), cell in cells.items() if name == row]
        cfg = own[0].run.cfg
        line = {"title": title_of(cfg), "mode": mode_of(cfg.model_dump()), "method": cfg.method}
        lines.append(line | _allowed([cell for cell in own if cell.is_done]))
    return table.join(pd.DataFrame(lines, index=table.index))


def _allowed(done: list[Cell]) -> dict[str, float]:
    if not done:
        return dict.fromkeys(ALLOWED, float("nan"))
    facts = [cell.run.facts() for cell in done]
    budget, costs = facts[0]["budget"], facts[0]["complexity"]
    faces = budget["presentations"] / budget["passes"]
    return {
        "parameters": costs["parameters"],
        "macs": costs["macs"],
        "passes": budget["passes"],
        "forward_backward": budget["forward_backward"] / faces,
        "hours": sum(f["wall_seconds"] for f in facts) / 3600 / len(facts),
    }


def best_rows(cells: Cells) -> tuple[str | None, str | None]:
    """GME-Net's row, the distilled one if it is there, and the best row of another network; None
    where none is finished."""
    table = comparison(cells).dropna(subset=["accuracy"])
    own, others = table[table["method"] == "gmenet"], table[table["method"] != "gmenet"]
    distilled = own[own["mode"] == KD]
    ours = distilled if len(distilled) else own
    return tuple(part["accuracy"].idxmax() if len(part) else None for part in (ours, others))


def differences(cells: Cells) -> pd.DataFrame:
    """GME-Net (:func:`best_rows`) minus every other row, paired on the test faces, in points.

    Returns:
        indexed by the other row: first, value, low, high (95 %), faces_p (McNemar, adjusted by
        Holm's method, seed -> p), verdict. Empty where GME-Net is not finished.
    """
    ours, _ = best_rows(cells)
    others = [row for row in dict.fromkeys(row for row, _ in cells) if row != ours]
    found = compare(cells, {row: (ours, row) for row in others}) if ours else {}
    lines = {}
    for row, contrast in found.items():
        value, low, high = contrast.interval
        lines[row] = {
            "first": ours, "value": value, "low": low, "high": high,
            "faces_p": dict(contrast.faces_p), "verdict": contrast.verdict,
        }  # fmt: skip
    columns = ["first", "value", "low", "high", "faces_p", "verdict"]
    index = pd.Index(lines, name="other")
    return pd.DataFrame(list(lines.values()), index=index, columns=columns)


def unequal_budgets(cells: Mapping[tuple[str, int], Cell]) -> str:
    """Says so where the finished runs were not shown equally many faces; empty where they were."""
    table = comparison(cells)["passes"].dropna()
    if table.round(6).nunique() < 2:
        return ""
    least, most = table.idxmin(), table.idxmax()
    return (
        f"The budgets differ: {least} was shown every face {table[least]:g} times, {most} "
        f"{table[most]:g} times."
    )
