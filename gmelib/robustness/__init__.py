"""How small may a face be? A student of one resolution tested at many, beside the package `fer`."""

from gmelib.robustness.measure import (
    FER,
    SIZES,
    Measured,
    curves,
    differences,
    majority,
    measure_fer,
    measure_student,
    sizes_of,
    trained_at,
)
from gmelib.robustness.report import conclusion, differences_shown, shown
from gmelib.robustness.saved import finish, problems_of, robustness_run

__all__ = [
    "FER", "SIZES", "Measured", "conclusion", "curves", "differences", "differences_shown",
    "finish", "majority", "measure_fer", "measure_student", "problems_of", "robustness_run",
    "shown", "sizes_of", "trained_at",
]  # fmt: skip
