"""Two runs on the same faces: is one more accurate?"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gmelib.config import InputError
from gmelib.metrics.predictions import checked
from gmelib.metrics.scores import percentile_interval


class Difference(NamedTuple):
    """Accuracy of ``a`` minus accuracy of ``b`` on the same n faces."""

    value: float  # in [-1, 1]
    low: float  # 95 % paired bootstrap interval
    high: float
    p_value: float  # exact McNemar test, two-sided
    only_a: int  # faces that a alone has right
    only_b: int  # faces that b alone has right
    n: int
    verdict: str


def _aligned(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which faces (N,) each of the two has right, face by face."""
    for name, table in (("first", a), ("second", b)):
        if table["id"].duplicated().any():
            twice = table["id"][table["id"].duplicated()].iloc[0]
            raise InputError(f"{name} predictions: id {twice} stands twice; expected unique ids")
    a, b = a.set_index("id"), b.set_index("id")
    strangers = a.index.symmetric_difference(b.index)
    if len(strangers):
        raise InputError(
            f"the two runs were not evaluated on the same faces: {len(strangers)} ids stand in one"
            f" only, such as {strangers[0]}; compare runs of one data set and split"
        )
    b = b.loc[a.index]
    other = a["label"] != b["label"]
    if other.any():
        raise InputError(
            f"the two runs' labels differ for {int(other.sum())} faces, such as id"
            f" {other.idxmax()}; compare runs of one data set and label rule"
        )
    right_a, right_b = (t["label"].to_numpy() == t["predicted"].to_numpy() for t in (a, b))
    return right_a, right_b


def paired_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    names: tuple[str, str] = ("a", "b"),
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Is ``a`` more accurate than ``b`` on the same faces?

    Rows are matched by id. Faces are resampled in pairs; since a face counts +1, 0 or -1, that is a
    multinomial draw of three numbers. McNemar's test is the exact (binomial) one.

    Args:
        a, b: tables of predictions of two runs on one split of one data set.
        names: of the two runs, for the verdict.
        resamples, seed: of the bootstrap.

    Raises:
        InputError: a table is malformed, or ids or labels of the two differ.
    """
    right_a, right_b = _aligned(checked(a), checked(b))
    n = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n, np.array([only_a, only_b, n - only_a - only_b]) / n, size=resamples)
    low, high = percentile_interval((draws[:, 0] - draws[:, 1]) / n)
    discordant = only_a + only_b
    p_value = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    value = (only_a - only_b) / n
    found = f"{names[0] if value > 0 else names[1]} is more accurate"
    if low <= 0 <= high:
        found = "no difference shown"
    points = f"{100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    verdict = f"{names[0]} minus {names[1]}: {points}: {found}"
    return Difference(value, low, high, p_value, only_a, only_b, n, verdict)
