"""Accuracies that the paper reports, in per cent, and which of them a run stands beside.

Typed from Tables 4 and 5. The paper's FERPlus and ExpW test sets are not known exactly (README).
"""

from collections.abc import Mapping
from typing import Any

from gmelib.variants import row_of

LR_SIZES = {"rafdb": 14, "expw": 14, "fer2013": 12, "ferplus": 12}  # px, 4.1

PARAMETERS, MACS = 18.75e6, 2.99e9  # Table 1

# Tables 4 and 5: row -> data set -> accuracy
ABLATION: dict[str, dict[str, float]] = {
    "Baseline": {"rafdb": 71.0654, "fer2013": 50.1254, "expw": 64.6136, "ferplus": 66.4195},
    "Baseline+CBAM": {"rafdb": 73.7288, "fer2013": 52.5216, "expw": 65.6898, "ferplus": 68.0214},
    "Baseline+DBAM": {"rafdb": 74.2940, "fer2013": 54.7506, "expw": 66.5942, "ferplus": 69.8902},
    "Baseline+GM": {"rafdb": 71.8383, "fer2013": 50.3283, "expw": 64.9685, "ferplus": 66.5295},
    "DBAM+GM without KD": {
        "rafdb": 71.5361, "fer2013": 50.9613, "expw": 65.1675, "ferplus": 66.5135,
    },
    "GME-Net": {"rafdb": 75.5215, "fer2013": 56.6174, "expw": 67.4528, "ferplus": 70.5725},
}  # fmt: skip


def accuracy_of(config: Mapping[str, Any], stage: str) -> float | None:
    """The paper's accuracy (per cent) of the row that a run stands in, None where it has none."""
    if stage != "student" or config["lr_size"] != LR_SIZES.get(config["dataset"]):
        return None
    return ABLATION.get(row_of(config, stage), {}).get(config["dataset"])
