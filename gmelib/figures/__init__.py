"""Every figure of the workbook: each function takes data and returns a matplotlib Figure.

A Figure is not pyplot's, so nothing stays open: it shows itself as the last expression of a cell
and is written by ``figure.savefig(path)``.
"""

from gmelib.figures.ablation import ablation_contrasts, ablation_rows, ablation_sweeps
from gmelib.figures.attention import attention_maps, attribution_grid, class_mean_maps
from gmelib.figures.comparison import accuracy_against_cost
from gmelib.figures.curves import fidelity, map_agreement
from gmelib.figures.faces import class_balance, faces_grid, kernel_grid, resolution_grid
from gmelib.figures.predictions import predicted_faces
from gmelib.figures.robustness import robustness
from gmelib.figures.scores import (
    confusion_matrix,
    metric_intervals,
    probability_bars,
    recall_comparison,
)
from gmelib.figures.training import training_history

__all__ = [
    "ablation_contrasts", "ablation_rows", "ablation_sweeps", "accuracy_against_cost",
    "attention_maps", "attribution_grid", "class_balance", "class_mean_maps", "confusion_matrix",
    "faces_grid", "fidelity", "kernel_grid", "map_agreement", "metric_intervals",
    "predicted_faces", "probability_bars", "recall_comparison", "resolution_grid", "robustness",
    "training_history",
]  # fmt: skip
