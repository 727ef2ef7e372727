"""Figures as text."""

from collections.abc import Iterable

import pandas as pd


def percent(value: float, low: float, high: float, *, digits: int = 1) -> str:
    """A figure in [0, 1] with its interval, in per cent; ``digits`` are the figure's own."""
    return f"{100 * value:.{digits}f} [{100 * low:.1f}, {100 * high:.1f}]"


def number(value: float | None, how: str) -> str:
    """``how`` filled with a figure, and nothing where there is none."""
    return "" if pd.isna(value) else how.format(value)


def count(number: int, noun: str) -> str:
    """``1 epoch``, ``8 epochs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def markdown(lines: Iterable[dict[str, str]]) -> str:
    """A Markdown table, without the columns that are empty in every line."""
    table = list(lines)
    names = [name for name in table[0] if any(line[name] for line in table)]
    rows = [names, ["---"] * len(names), *([line[name] for name in names] for line in table)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
