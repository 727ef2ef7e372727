"""The ablation of 4.3 (Tables 4 and 5) from runs: rows, what each part brings, free choices.

Finished runs are loaded, from outputs/ or outputs/published/, and need no data set; missing ones
are trained, or reported as not run. Every figure is in per cent, every difference in points.
"""

from gmelib.ablation.contrasts import CONTRASTS, Contrast, compare, contrasts, paper_difference
from gmelib.ablation.rates import rate_scores, rate_sentences, rates_shown
from gmelib.ablation.report import (
    ablation_run,
    conclusion,
    contrasts_shown,
    finish,
    order,
    raise_failures,
    scores_shown,
    sweeps_shown,
)
from gmelib.ablation.runs import Cell, complete, overview
from gmelib.ablation.scores import row_students, scores
from gmelib.ablation.sweeps import sweep_scores, sweep_sentences, sweep_students

__all__ = [
    "CONTRASTS", "Cell", "Contrast", "ablation_run", "compare", "complete", "conclusion",
    "contrasts", "contrasts_shown", "finish", "order", "overview", "paper_difference",
    "raise_failures", "rate_scores", "rate_sentences", "rates_shown", "row_students", "scores",
    "scores_shown", "sweep_scores", "sweep_sentences", "sweep_students", "sweeps_shown",
]  # fmt: skip
