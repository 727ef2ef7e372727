"""One flat configuration: its fields are the notebooks' parameters and the keys of params/*.yaml.

Defaults are the paper's settings where it states them and the README's table of decisions where it
does not. A published default is frozen: the hash that names a run covers what differs from it.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gmelib import fields
from gmelib import namespace as ns
from gmelib.parameters import DataParameters, group

EXPRESSIONS = (
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt",
)  # the one order of classes, everywhere  # fmt: skip

SCHEMA = 1  # part of every run's hash; raised when the meaning of a field changes
PROJECT_ROOT = Path(__file__).resolve().parent.parent


class InputError(ValueError):
    """A mistake in what was given: one line saying what, where, what was expected, what to do."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook: a notebook shows the line alone
        return [f"{type(self).__name__}: {self}"]


class Config(DataParameters):
    """All parameters of a run; frozen, unknown keys refused. Units stand in the descriptions."""

    method: Literal[fields.METHOD_NAMES] = Field(
        "gmenet", description="network: gmenet, or a compared one (04)", **group("network"))
    method_options: dict[str, Any] = Field({}, description="of a compared method, name: value")
    attention: Literal["dbam", "cbam", "none"] = Field("dbam", description="attention of the MABs")
    global_branch: bool = Field(True, description="branch 2, the MCBs (3.3)")
    width: int = Field(32, ge=4, multiple_of=4, description="initial channels (4.1: 32)")
    blocks: tuple[int, int, int, int] = Field((3, 4, 14, 3), description="MABs in each stage")
    global_blocks: tuple[int, int] = Field((6, 3), description="MCBs of 4 and 8 x width channels")
    head: Literal["flatten", "gap"] = Field("flatten", description="flatten-FC-512 or light gap")
    reduction: int = Field(16, ge=1, description="reduction ratio of the channel MLP")
    dbam_kernel: Literal[1, 3, 5] = Field(1, description="DBAM's depthwise kernel (3.2's prose: 1)")
    mcb_order: Literal["equation", "prose"] = Field(
        "equation", description="MCB: add after the conv (eqs 5, 7) or before it (text)")
    dropout: float = Field(0.4, ge=0, lt=1, description="before the classifier")

    kd_weight: float = Field(
        5.0, ge=0, description="lambda of eq. 13; 0 is no distillation", **group("distillation"))
    kd: Literal["attention", "logits"] = Field(
        "attention", description="what is distilled: attention maps (eqs 9-11), or logits (Hinton)")
    kd_temperature: float = Field(4.0, gt=0, description="logits: softens both distributions")
    kd_reduction: Literal["sum", "mean"] = Field("sum", description="eq. 11 over the blocks")
    kd_maps: Literal["logit", "sigmoid"] = Field(
        "logit", description="maps compared before or after the sigmoid (eqs 9-10: before)")

    train_on: Literal["lr", "hr", "lr+hr"] = Field(
        "lr", description="resolution of a student's training faces; tests are on low (Tables 1-3)",
        **group("training"))
    epochs: int = Field(100, ge=1, description="passes over the training set (4.1)")
    batch_size: int = Field(64, ge=2, description="faces per step (4.1)")
    learning_rate: float = Field(0.1, gt=0, description="initial, or peak for one-cycle (4.1)")
    schedule: Literal["step", "onecycle", "cosine"] = Field("step", description="learning rate's")
    decay: float = Field(0.4, gt=0, le=1, description="step schedule: factor (4.1)")
    decay_every: int = Field(20, ge=1, description="step schedule: epochs between decays (4.1)")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="4.1: sgd")
    sam_rho: float = Field(0.0, ge=0, description="sharpness-aware step's radius; 0 is off")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, no nesterov (4.1)")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty (A-SKD's)")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the cross-entropy")
    flip: bool = Field(True, description="random horizontal flip, the same for HR and LR")
    shift: int = Field(0, ge=0, description="random shift, native px, same for HR and LR")
    ema: float = Field(0.0, ge=0, lt=1, description="weight average's decay per step; 0 is off")
    seed: int = Field(
        0, ge=0, lt=2**32, description="of initialization, order, augmentation, dropout")
    deterministic: bool = Field(True, description="deterministic algorithms, or a warning")
    limit_train: int = Field(0, ge=0, description="use so many training faces only; 0 is all")

    select: Literal["validation", "last", "test"] = Field(
        "validation", description="epoch that is evaluated; test repeats the field's habit, marked",
        **group("evaluation"))
    flip_average: bool = Field(True, description="average the prediction with the mirrored face's")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of every interval")

    rows: list[str] = Field([], description="05: rows of the ablation; empty is all",
                            **group("tables"))
    seeds: list[int] = Field(
        [0], min_length=1, description="04, 05: seeds of every row, in place of seed")
    methods: list[str] = Field([], description="04: compared methods; empty is all")
    modes: list[str] = Field([], description="04: their training modes, as lr+hr; empty is all")
    peers: Literal["cpu", "paper", "smoke"] = Field(
        "cpu", description="04: the compared methods' presets, in params/peers")
    sweeps: list[str] = Field(["kd_weight"], description="05: parameters to sweep")
    sweep_epochs: int = Field(4, ge=1, description="05: epochs of every run of a sweep")
    train_missing: bool = Field(
        True, description="04, 05: False reports missing runs as not run, with estimated hours")

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps", **group("machine"))
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto is bfloat16 on a GPU that has it, float32 on a CPU")
    compile: bool = Field(False, description="torch.compile; for a GPU, was slower on a CPU")
    num_threads: int = Field(0, ge=0, description="CPU threads; 0 is torch's choice")
    out_root: str = Field("outputs", description="folder of the runs, from project root")
    teacher_run: str = Field("", description="run folder of the teacher; empty: found by its hash")
    faces_shown: Literal["dataset", "drawn"] = Field(
        "dataset", description="faces in figures; drawn for reports that are published")
    export: Literal["none", "npz", "png"] = Field(
        "none", description="01: write the low-resolution set out, with a manifest")
    predict_paths: list[str] = Field(
        [], description="08: images, folders, .npz files, from project root; empty: drawn")
    overlays: list[str] = Field(
        ["params/synthetic.yaml", "params/cpu.yaml"],
        description="start from these YAML files")
    force: bool = Field(False, description="train again although a finished run exists")
    batch: bool = Field(False, description="set by python -m gmelib.run: a misspelt name stops it")

    _listed = field_validator("rows", "seeds", "sweeps", "methods", "modes", "predict_paths",
                              mode="before")(ns.as_list)  # fmt: skip
    _files = field_validator("overlays", mode="before")(ns.as_files)
    _mapped = field_validator("method_options", mode="before")(ns.as_mapping)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lr_size > self.input_size:
            raise ValueError(
                f"lr_size = {self.lr_size}: expected at most input_size = {self.input_size}"
            )
        if min(self.blocks) < 1 or min(self.global_blocks) < 1:
            raise ValueError("blocks and global_blocks: expected at least 1 block a stage")
        return self

    # -- making one ---------------------------------------------------------------------------

    @classmethod
    def make(cls, **values: Any) -> Self:
        """Like the constructor, but raises :class:`InputError` in one line that names the field."""
        unknown = [name for name in values if name not in cls.model_fields]
        if unknown:
            raise InputError("; ".join(ns.unknown(n, cls.model_fields) for n in unknown))
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError("; ".join(map(ns.refusal, error.errors()))) from None

    @classmethod
    def load(cls, *paths: str | Path, **values: Any) -> Self:
        """Reads YAML overlays in order (later wins), then ``values`` over them.

        Raises:
            InputError: a file or a value is wrong.
        """
        merged: dict[str, Any] = {}
        for path in paths:
            merged |= read_yaml(path)
        return cls.make(**(merged | values))

    @classmethod
    def files(cls, overlays: Any) -> list[str]:
        """``overlays`` as given, be it one file or nothing; :class:`InputError` if neither."""
        return cls.make(overlays=overlays).overlays

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Builds the configuration from a notebook's ``globals()``, in the cell after `parameters`.

        Every plain value in a fresh kernel is a parameter, so one that is no field is misspelt:
        in batch it raises :class:`InputError` naming the nearest field; in JupyterLab, where other
        variables may exist by then, it warns. What papermill was given is refused there, too: a
        papermill that was started from within JupyterLab looks like a session of it.
        ``overlays`` are loaded first; a parameter that papermill was given, or that was edited in
        the cell, wins over them.
        """
        given = {name: namespace[name] for name in cls.model_fields if name in namespace}
        strays = ns.strays(namespace, cls.model_fields)
        injected = ns.injected(namespace)
        if strays:
            message = "; ".join(ns.unknown(n, cls.model_fields) for n in strays)
            is_given = not injected.isdisjoint(strays)
            if is_given or given.get("batch") or not ns.is_interactive(namespace):
                raise InputError(message)
            warnings.warn(message, stacklevel=2)
        files = cls.files(given.get("overlays"))
        if not files:
            return cls.make(**given)
        defaults = cls().model_dump()
        chosen = {
            name: value
            for name, value in given.items()
            if name in injected or _plain(value) != _plain(defaults[name])
        }
        return cls.load(*files, **(chosen | {"overlays": files}))

    def overview(self) -> pd.DataFrame:
        """The parameters that differ from their defaults, to be shown at the top of a notebook."""
        hidden = fields.PRIVATE - set(fields.TABLES)
        values, defaults = self.model_dump(exclude=hidden), type(self)().model_dump()
        changed = {n: str(v) for n, v in values.items() if v != defaults[n]}
        return pd.DataFrame({"value": changed, "default": {n: str(defaults[n]) for n in changed}})

    def replace(self, **changes: Any) -> Self:
        """A checked copy with some fields changed."""
        return type(self).make(**(self.model_dump() | changes))

    # -- what it means for a run ----------------------------------------------------------------

    def teacher(self) -> Self:
        """The teacher's configuration: high resolution, so nothing of the student's alone counts.

        Students that differ in resolution or distillation share one teacher.
        """
        defaults = type(self)().model_dump()
        return self.replace(**{name: defaults[name] for name in fields.STUDENT_ONLY})

    def data(self) -> Self:
        """Only what decides the low-resolution data set; all else at its default."""
        kept = {*fields.DATASET_ONLY.get(self.dataset, ()), *fields.DATA, *fields.PLUMBING}
        return self.make(**{n: v for n, v in self.model_dump().items() if n in kept})

    def scientific(self) -> dict[str, Any]:
        """The fields that decide a run's figures, where they differ from their defaults."""
        values, defaults = self.model_dump(mode="json"), type(self)().model_dump(mode="json")
        of_some = {name for names in fields.DATASET_ONLY.values() for name in names}
        ignored = of_some - set(fields.DATASET_ONLY.get(self.dataset, ())) | set(fields.PLUMBING)
        ignored |= {
            name
            for names, has_meaning in (
                (("kd",), self.kd_weight),
                (("kd_reduction", "kd_maps"), self.kd_weight and self.kd == "attention"),
                (("kd_temperature",), self.kd_weight and self.kd == "logits"),
                (("decay", "decay_every"), self.schedule == "step"),
                (("momentum",), self.optimizer == "sgd"),
                (("global_blocks", "mcb_order"), self.global_branch),
                (fields.GMENET_ONLY, self.method == "gmenet"),
                (("method_options",), self.method != "gmenet"),
            )
            if not has_meaning
            for name in names
        }
        return {n: v for n, v in values.items() if n not in ignored and v != defaults[n]}

    def digest(self, stage: str, **more: str) -> str:
        """8 hexadecimal digits that name this configuration at a stage of the work."""
        content = {"schema": SCHEMA, "stage": stage} | self.scientific() | more
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def path(self, field: Literal["data_root", "out_root"]) -> Path:
        """A folder parameter resolved against the project root, wherever the notebook runs."""
        return resolve(getattr(self, field))

    @property
    def cache_dir(self) -> Path:
        """Where decoded data sets and cached teacher maps lie; can be deleted at any time."""
        return self.path("out_root") / ".cache"


def resolve(path: str | Path) -> Path:
    """Relative paths count from the project root: papermill and JupyterLab mean the same file."""
    return PROJECT_ROOT / Path(path).expanduser()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML overlay as a flat mapping; :class:`InputError` if it is missing or no mapping."""
    file = resolve(path)
    if not file.is_file():
        raise InputError(f"{path}: no such YAML file; expected one of params/*.yaml")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, OSError) as error:  # no UTF-8, a date that there is not
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected `name: value` lines, got {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def parameters_cell() -> str:
    """The notebooks' `parameters` cell, made from the fields so that they cannot drift apart."""
    lines = []
    for name, field in Config.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "group" in extra:
            lines.append(f"# {extra['group']}")
        kind = {tuple: "list"}.get(type(field.default), type(field.default).__name__)
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        is_text = isinstance(value, str | list | dict)
        text = json.dumps(value) if is_text else repr(value)
        lines.append(f"{name}: {kind} = {text}  # {field.description}")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
