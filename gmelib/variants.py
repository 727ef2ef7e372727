"""Variants of a run as data: the rows of the ablation (Tables 4 and 5), the compared methods in
their training modes (Tables 1-3), and sweeps of free choices.

A variant is what it changes in a configuration; all else stays as the preset says, so every row
goes with every data set, size and preset.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from gmelib.config import Config, InputError, read_yaml
from gmelib.fields import GMENET_ONLY
from gmelib.methods import title_of
from gmelib.peers.ada_cm import AdaCMOptions

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


# -- compared methods -----------------------------------------------------------------------------

COMPARED = ("ma_net", "ada_cm", "eac", "poster", "diversified")  # as in Tables 1-3
FEW_LABELS = "ada_cm_4000"  # Ada-CM as its authors use it, with so many labels
ENTRIES = ("gmenet", *COMPARED, FEW_LABELS, "resnet18", "mobilenet_v3_small")  # of the comparison
RESOLUTIONS = ("lr", "hr", "lr+hr")  # what a network is trained on; tests are on lr
KD = "kd"  # trained on lr, distilled from a teacher of its own kind
MODES = (*RESOLUTIONS, KD)
# Method -> what distilling it means.
DISTILLED: dict[str, dict[str, Any]] = {
    "gmenet": {"kd": "attention"},
    "resnet18": {"kd": "logits", "kd_weight": 1.0},
    "mobilenet_v3_small": {"kd": "logits", "kd_weight": 1.0},
}


def require_modes(modes: Iterable[str]) -> None:
    """Raises :class:`InputError` for one that is none of :data:`MODES`."""
    wrong = [mode for mode in modes if mode not in MODES]
    if wrong:
        raise InputError(f"mode {wrong[0]!r}: expected one of {', '.join(MODES)}")


def modes_of(method: str) -> tuple[str, ...]:
    """In which ways a method can be trained for the comparison."""
    return MODES if method in DISTILLED else RESOLUTIONS


def compared_config(cfg: Config, method: str, mode: str, **over: Any) -> Config:
    """The student of a method and a mode, by its preset in ``params/peers/<cfg.peers>.yaml``.

    A preset's ``epochs`` are those on one resolution; on both there are half as many, so that
    every mode presents as many faces.

    Args:
        cfg: data set, resolution, seed and machine; what makes a network and its training comes
            from the preset.
        over: parameters over the preset's.

    Raises:
        InputError: no such method or mode, a preset that does not have the method, or an ``over``
            of what method and mode decide.
    """
    if method not in ENTRIES:
        raise InputError(f"method {method!r}: expected one of {', '.join(ENTRIES)}")
    modes = modes_of(method)
    if mode not in modes:
        raise InputError(f"mode {mode!r} of {method}: expected one of {', '.join(modes)}")
    decided = [name for name in ("kd_weight", "train_on", "method") if name in over]
    if decided:  # else every mode would be distilled, say
        raise InputError(
            f"parameter {decided[0]} = {over[decided[0]]!r}: of a compared run its method and mode "
            "decide; leave it out and choose by `methods` and `modes` (kd is distilled)"
        )
    values = _preset(cfg.peers, method)
    if values["method"] != "gmenet":
        values = {name: Config.model_fields[name].default for name in GMENET_ONLY} | values
    values |= DISTILLED[method] if mode == KD else {"kd_weight": 0.0}
    values |= over | {"train_on": "lr" if mode == KD else mode}
    if mode == "lr+hr":
        values["epochs"] = -(-values["epochs"] // 2)
    return cfg.replace(**values)


def _preset(name: str, method: str) -> dict[str, Any]:
    """What a preset says of a method, and which network that is."""
    presets = _presets(name)
    network = "ada_cm" if method == FEW_LABELS else method
    if network not in presets:
        raise InputError(
            f"params/peers/{name}.yaml: has no {network}; expected `{network}: {{...}}`"
        )
    values = presets.get("all", {}) | presets[network] | {"method": network}
    if method == FEW_LABELS:
        labels = AdaCMOptions().labels
        options = values.get("method_options", {}) | {"labels": labels}
        values = values | {"method_options": options} | presets.get(FEW_LABELS, {})
    return values


@lru_cache(maxsize=8)
def _presets(name: str) -> dict[str, dict[str, Any]]:
    path = f"params/peers/{name}.yaml"
    presets = read_yaml(path)
    wrong = [m for m, v in presets.items() if m not in ("all", *ENTRIES) or not v]
    if wrong:
        raise InputError(f"{path}: {wrong[0]}: expected a method with its parameters")
    return presets


def mode_of(config: Mapping[str, Any]) -> str:
    """A run's training mode, by the parameters of its record; no mode of the comparison's, such as
    ``lr+hr, kd``, where it is distilled and trained on more than lr."""
    seen = config.get("train_on", "lr")
    if config["kd_weight"] > 0:
        return KD if seen == "lr" else f"{seen}, {KD}"
    return seen


def row_of(config: Mapping[str, Any], stage: str) -> str:
    """What a run is called in the tables: a row of the ablation, or a description of its own.

    Args:
        config: the parameters of a record.
    """
    method, mode = config.get("method", "gmenet"), mode_of(config)
    if method != "gmenet":
        title = title_of(Config.make(method=method, method_options=config["method_options"]))
        return f"teacher ({title})" if stage == "teacher" else f"{title}, {mode}"
    if stage == "teacher":
        return "teacher"
    if mode not in (KD, "lr"):
        return f"{_row_of_lr(config)}, {mode}"
    return _row_of_lr(config)


def _row_of_lr(config: Mapping[str, Any]) -> str:
    distilled = config["kd_weight"] > 0
    for row, changes in ROWS.items():
        same = all(config[n] == v for n, v in changes.items() if n != "kd_weight")
        if same and distilled == ("kd_weight" not in changes):
            return row
    name = {"none": "Baseline", "cbam": "CBAM", "dbam": "DBAM"}[config["attention"]]
    gm = "+GM" if config["global_branch"] else ""
    return f"{name}{gm} {'with' if distilled else 'without'} KD"
