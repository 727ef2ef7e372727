"""Metrics of a table of predictions, with 95 % bootstrap intervals, and the paired comparison.

The paper reports accuracy alone (4.1, Tables 1-5); the rest says what accuracy hides: FER2013 has
one face of disgust for every sixteen of happiness.
"""

from gmelib.metrics.paired import Difference, paired_difference
from gmelib.metrics.predictions import checked, class_names
from gmelib.metrics.scores import (
    confusion_counts,
    expected_calibration_error,
    from_report,
    metrics,
    report,
    row_normalized,
)
from gmelib.metrics.seeds import holm, paired_t, seed_interval

__all__ = [
    "Difference", "checked", "class_names", "confusion_counts", "expected_calibration_error",
    "from_report", "holm", "metrics", "paired_difference", "paired_t", "report", "row_normalized",
    "seed_interval",
]  # fmt: skip
