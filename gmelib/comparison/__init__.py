"""The comparison of 4.2 (Tables 1-3, Figure 1) from runs: methods in their training modes.

Finished runs are loaded, from outputs/ or outputs/published/, and need no data set; missing ones
are trained, or reported as not run. Every figure is in per cent, every difference in points.
"""

from gmelib.comparison.costs import full_size_costs, measured_speed, preset_networks
from gmelib.comparison.lines import comparison_lines, cost_lines
from gmelib.comparison.report import (
    comparison_run,
    comparison_shown,
    conclusion,
    differences_shown,
    finish,
    peer_of,
)
from gmelib.comparison.rows import best_rows, compared_students, comparison, differences, row_name

__all__ = [
    "best_rows", "compared_students", "comparison", "comparison_lines", "comparison_run",
    "comparison_shown", "conclusion", "cost_lines", "differences", "differences_shown", "finish",
    "full_size_costs", "measured_speed", "peer_of", "preset_networks", "row_name",
]  # fmt: skip
