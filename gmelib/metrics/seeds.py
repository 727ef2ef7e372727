"""Several seeds, and several tests: intervals over seeds, the paired t test, Holm's correction."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from gmelib.metrics.scores import LEVEL


def seed_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of one figure a seed, and its 95 % Student-t interval; two seeds at least.

    The interval answers "another seed", where a bootstrap over faces answers "other faces". Two
    seeds give a very wide one: their factor is 12.7 standard errors, that of three is 4.3.
    """
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        raise ValueError("an interval over seeds needs two of them")
    reach = stats.t.ppf(0.5 + LEVEL / 200, len(found) - 1) * stats.sem(found)
    mean = float(found.mean())
    return mean, mean - float(reach), mean + float(reach)


def paired_t(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test over seeds; None for one seed, or for equal differences."""
    found = np.asarray(differences, np.float64)
    if len(found) < 2 or np.allclose(found, found[0], rtol=0, atol=1e-12):
        return None
    return float(stats.ttest_1samp(found, 0).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment: below 0.05 each, the chance of any false alarm stays under 5 %.

    None, a test that could not be made, stays None and does not count.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[i] = running
    return adjusted
