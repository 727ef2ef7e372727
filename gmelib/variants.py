"""Variants of a run as data: the rows of the ablation (Tables 4 and 5), and sweeps of free choices.

A variant is what it changes in a configuration; all else stays as the preset says, so every row
goes with every data set, size and preset.
"""

from collections.abc import Mapping
from typing import Any

from gmelib.config import Config, InputError

# Row -> what it changes. The paper's sums show that its CBAM and DBAM rows are distilled; the
# baseline has no attention, so no maps to distil. "DBAM without KD" is ours: it splits the gain of
# the paper's DBAM row into that of the attention and that of the distillation.
ROWS: dict[str, dict[str, Any]] = {
    "Baseline": {"attention": "none", "global_branch": False, "kd_weight": 0.0},
    "Baseline+CBAM": {"attention": "cbam", "global_branch": False},
    "DBAM without KD": {"attention": "dbam", "global_branch": False, "kd_weight": 0.0},
    "Baseline+DBAM": {"attention": "dbam", "global_branch": False},
    "Baseline+GM": {"attention": "none", "global_branch": True, "kd_weight": 0.0},
    "DBAM+GM without KD": {"attention": "dbam", "global_branch": True, "kd_weight": 0.0},
    "GME-Net": {"attention": "dbam", "global_branch": True},
}

# Parameter -> values to try beside the preset's own, one parameter at a time.
SWEEPS: dict[str, tuple[Any, ...]] = {
    "kd_weight": (0.0, 1.0, 15.0),
    "kd_reduction": ("sum", "mean"),
    "kd_maps": ("logit", "sigmoid"),
    "blur_sigma": (0.0, 1.0),
    "mcb_order": ("equation", "prose"),
    "head": ("flatten", "gap"),
    "input_size": (32, 48, 64),
    "learning_rate": (0.03, 0.1),
}


def row_config(cfg: Config, row: str, *, seed: int | None = None) -> Config:
    """The student of a row: ``cfg`` with what :data:`ROWS` changes.

    Args:
        cfg: the preset; its ``kd_weight`` is that of the distilled rows.
        seed: of the run; None is ``cfg.seed``.

    Raises:
        InputError: no such row, or a distilled row of a ``cfg`` without distillation.
    """
    if row not in ROWS:
        raise InputError(f"row {row!r}: expected one of {', '.join(ROWS)}")
    if "kd_weight" not in ROWS[row] and not cfg.kd_weight:
        raise InputError(f"row {row!r} is distilled, and kd_weight is 0: give it its weight, as 5")
    return cfg.replace(**ROWS[row], seed=cfg.seed if seed is None else seed)


def sweep_configs(cfg: Config, parameter: str, *, epochs: int) -> dict[Any, Config]:
    """Value -> student, over one parameter: the values of :data:`SWEEPS` and ``cfg``'s own.

    Args:
        cfg: the preset, all of whose other values stay.
        epochs: of every student and of the teacher that it is distilled from.

    Raises:
        InputError: a parameter that is not swept.
    """
    if parameter not in SWEEPS:
        raise InputError(f"sweep {parameter!r}: expected one of {', '.join(SWEEPS)}")
    values = sorted({*SWEEPS[parameter], getattr(cfg, parameter)})
    return {value: cfg.replace(**{parameter: value}, epochs=epochs) for value in values}


def row_of(config: Mapping[str, Any], stage: str) -> str:
    """What a run is called in the tables: a row of the ablation, or a description of its own.

    Args:
        config: the parameters of a record.
    """
    if stage == "teacher":
        return "teacher"
    distilled = config["kd_weight"] > 0
    for row, changes in ROWS.items():
        same = all(config[n] == v for n, v in changes.items() if n != "kd_weight")
        if same and distilled == ("kd_weight" not in changes):
            return row
    name = {"none": "Baseline", "cbam": "CBAM", "dbam": "DBAM"}[config["attention"]]
    gm = "+GM" if config["global_branch"] else ""
    return f"{name}{gm} {'with' if distilled else 'without'} KD"
