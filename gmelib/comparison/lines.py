"""Tables 1-3 as lines of a README: column -> text."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from gmelib.ablation import scores
from gmelib.ablation.scores import Cells
from gmelib.comparison.costs import full_size_costs
from gmelib.comparison.rows import comparison
from gmelib.wording import number

Line = dict[str, str]


def comparison_lines(cells: Cells, place: Callable[[Path], str]) -> list[Line]:
    """A line a method and mode, ours beside the paper's.

    Args:
        place: of a run's folder, for the link to its record.
    """
    table, clean = comparison(cells), scores(cells, "without_duplicates")
    lines = []
    for name, row in table.iterrows():
        runs = {s: c.run for (r, s), c in cells.items() if r == name and c.is_done}
        links = (f"[seed {seed}]({place(run.folder)}/run.json)" for seed, run in runs.items())
        lines.append({
            "method": row["title"],
            "trained on": row["mode"],
            "ours": "; ".join(filter(None, [_score(row), row["missing"]])),
            "n": str(row["n"] or ""),
            "without copies": _score(clean.loc[name]),
            "paper": number(row["paper"], "{:.2f}"),
            "M parameters": number(row["parameters"] / 1e6, "{:.2f}"),
            "G MACs": number(row["macs"] / 1e9, "{:.3f}"),
            "passes": number(row["passes"], "{:g}"),
            "network passes": number(row["forward_backward"], "{:g}"),
            "hours": number(row["hours"], "{:.1f}"),
            "records": " ".join(links),
        })  # fmt: skip
    return lines


def cost_lines() -> list[Line]:
    """A line a full network: parameters and MACs as Table 1 counts them, and the true ones."""
    return [
        {
            "method": str(method),
            "input": f"{row['input']:g} px",
            "parameters": f"{row['parameters (thop)']:.2f} M",
            "paper": f"{row['parameters (paper)']:.2f} M",
            "MACs": f"{row['MACs (thop)']:.2f} G",
            "paper's MACs": f"{row['MACs (paper)']:.2f} G",
            "all parameters": f"{row['parameters (true)']:.2f} M",
        }
        for method, row in full_size_costs().iterrows()
    ]


def _score(row: pd.Series) -> str:
    if pd.isna(row["accuracy"]):
        return ""
    return f"{row['accuracy']:.2f} [{row['low']:.1f}, {row['high']:.1f}]"
