"""Grids: many runs written down as data sets x rows x seeds, in a YAML file (params/grids/).

A file holds one grid, or a list of them under ``grids``, in the order in which to run them::

    overlays: [params/base.yaml, "params/{dataset}.yaml", params/cpu.yaml]
    datasets: [fer2013, ferplus]
    rows: all                    # of Tables 4, 5 (gmelib.variants.ROWS); absent: the preset itself
    methods: [ma_net, poster]    # compared methods, each by its preset in params/peers
    modes: [lr+hr]               # in which they are trained: lr, hr, lr+hr, kd
    seeds: [0, 1]
    vary: {lr_size: [8, 16]}     # every combination
    sweeps: [kd_weight]          # one parameter at a time (gmelib.variants.SWEEPS)
    parameters: {epochs: 4}      # the same for all, over the overlays
    notebooks: [03_student_distillation]   # what to run for each; teachers come by themselves
    then: [05_ablations]         # once per data set, after all of these
"""

import difflib
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gmelib.ablation.runs import refuse_single
from gmelib.config import PROJECT_ROOT, Config, InputError, read_yaml, resolve
from gmelib.jobs import Job, Varied, jobs_of
from gmelib.methods import options_of
from gmelib.variants import (
    ENTRIES,
    MODES,
    RESOLUTIONS,
    ROWS,
    SWEEPS,
    compared_config,
    modes_of,
    require_modes,
    row_config,
    sweep_configs,
)

NotebookName = Literal[
    "01_data_generation", "02_teacher", "03_student_distillation", "06_attention_visualization"
]


# Parameters that a grid has a key of its own for.
OWN_KEYS = {
    "seed": "seeds", "dataset": "datasets", "overlays": "overlays", "rows": "rows",
    "methods": "methods", "modes": "modes", "seeds": "seeds", "sweeps": "sweeps",
}  # fmt: skip


# -- reading --------------------------------------------------------------------------------------


def _all_of(names: Iterable[str]) -> BeforeValidator:
    return BeforeValidator(lambda value: list(names) if value == "all" else value)


def _named(path: str, dataset: str) -> str:
    try:
        return path.format(dataset=dataset)
    except (LookupError, ValueError, AttributeError):
        raise InputError(
            f"overlays: {path!r}: expected a YAML file, with nothing in braces but {{dataset}}"
        ) from None


class Grid(BaseModel):
    """One grid of a file; see the module's example. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    overlays: list[str] = Field(min_length=1)
    datasets: list[str] = Field(min_length=1)
    rows: Annotated[list[str], _all_of(ROWS)] = []
    methods: Annotated[list[str], _all_of(ENTRIES)] = []
    modes: Annotated[list[str], _all_of(MODES)] = list(RESOLUTIONS)
    seeds: list[int] = Field([0], min_length=1)
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    sweeps: Annotated[list[str], _all_of(SWEEPS)] = []
    parameters: dict[str, Any] = {}
    notebooks: list[NotebookName] = Field(["03_student_distillation"], min_length=1)
    then: list[str] = []

    def base(self, dataset: str, **values: Any) -> Config:
        """The configuration of a data set before rows and seeds; ``values`` over the file's."""
        overlays = [_named(path, dataset) for path in self.overlays]
        values = {"dataset": dataset} | self.parameters | values
        cfg = Config.load(*overlays, **values).replace(overlays=[], batch=True)
        refuse_single(cfg)
        return cfg

    def require_effect(self, given: Mapping[str, Any]) -> None:
        """Raises :class:`InputError` for a parameter that would silently change nothing."""
        for name in {**self.parameters, **self.vary, **given}:
            if name in OWN_KEYS:
                raise InputError(
                    f"parameter {name}: a grid's runs get theirs from its key {OWN_KEYS[name]!r}, "
                    "a list: set that instead"
                )
            if name == "train_missing":
                raise InputError(
                    "parameter train_missing: a grid's jobs train what is missing, and the "
                    "notebooks under `then` only read it; leave it out"
                )
            if name in given and name in self.vary:
                raise InputError(
                    f"parameter {name} = {given[name]!r}: the grid varies it, over "
                    f'{self.vary[name]}; choose among its values with: -p vary "{{{name}: [...]}}"'
                )

    def students(self, dataset: str, given: Mapping[str, Any]) -> Iterable[tuple[Config, Varied]]:
        """The configuration of every student, in order, and what sets it apart from its row."""
        for values in itertools.product(*self.vary.values()):
            cfg = self.base(dataset, **given, **dict(zip(self.vary, values, strict=True)))
            varied = tuple(zip(self.vary, values, strict=True))
            if self.methods:
                over = self.parameters | dict(given) | dict(varied)
                for one in self.compared(cfg, over):
                    yield one, varied
            if self.rows or not (self.sweeps or self.methods):
                for seed, row in itertools.product(self.seeds, self.rows or [""]):
                    seeded = cfg.replace(seed=seed)
                    yield (row_config(seeded, row) if row else seeded), varied
            for seed, name in itertools.product(self.seeds, self.sweeps):
                seeded = cfg.replace(seed=seed)
                for value, one in sweep_configs(seeded, name, epochs=cfg.sweep_epochs).items():
                    yield one, (*varied, (name, value))

    def compared(self, cfg: Config, over: Mapping[str, Any]) -> Iterable[Config]:
        """Every method in every mode that it has, seed by seed; ``over`` its preset."""
        for seed, method, mode in itertools.product(self.seeds, self.methods, self.modes):
            if method not in ENTRIES or mode in modes_of(method):  # an unknown one is refused there
                yield compared_config(cfg.replace(seed=seed), method, mode, **over)

    def jobs(self, given: Mapping[str, Any]) -> Iterable[Job]:
        """Every job, each after those it needs; the same one may come twice.

        Args:
            given: parameters over the file's.

        Raises:
            InputError: a row, a mode, a sweep or a parameter is wrong, or means a single run.
        """
        self.require_effect(given)
        require_modes(self.modes)  # else left out, like one that a method does not have
        for dataset in self.datasets:
            keys = []
            for cfg, varied in self.students(dataset, given):
                for job in jobs_of(cfg, self.notebooks, grid=self.title, varied=varied):
                    keys.append(job.key)
                    yield job
            for notebook in self.then:
                told = {"rows": self.rows, "seeds": self.seeds, "sweeps": self.sweeps}
                if self.methods:
                    told |= {"methods": self.methods, "modes": self.modes}
                cfg = self.base(dataset, **(told | given), train_missing=False)
                yield Job(notebook, cfg, tuple(dict.fromkeys(keys)), self.title)


def read_grids(path: str | Path, chosen: Mapping[str, Any] | None = None) -> list[Grid]:
    """The grids of a YAML file, with what is ``chosen`` in place of what they say.

    Raises:
        InputError: naming the file and the key that is wrong.
    """
    values = read_yaml(path)
    parts = values.pop("grids", None)
    if parts is not None and values:
        raise InputError(f"{path}: beside `grids` stands {', '.join(values)}; move it into a grid")
    if not isinstance(parts, list | None):
        raise InputError(f"{path}: grids: expected a list of grids")
    return [
        _grid(path, number, part, chosen or {}) for number, part in enumerate(parts or [values], 1)
    ]


def _grid(path: str | Path, number: int, values: Any, chosen: Mapping[str, Any]) -> Grid:
    where = f"{path}, grid {number}"
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected `name: value` lines, got {type(values).__name__}")
    try:
        grid = Grid(**(values | chosen))
    except ValidationError as error:
        raise InputError(f"{where}: {'; '.join(map(_one_line, error.errors()))}") from None
    if not grid.title:
        grid = grid.model_copy(update={"title": f"grid {number}"})
    for notebook in grid.then:
        if not (PROJECT_ROOT / "notebooks" / f"{notebook}.ipynb").is_file():
            raise InputError(f"{where}: then: {notebook}: no such notebook under notebooks/")
    return grid


def _one_line(error: Any) -> str:
    name = ".".join(part for part in error["loc"] if isinstance(part, str))  # no place in a list
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Grid.model_fields, n=1, cutoff=0.0)[0]
        return f"unknown key {name!r}: did you mean {near!r}?"
    if error["type"] == "missing":
        return f"{name} is missing: expected a list"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name} = {error['input']!r}: {message}"


def read_jobs(*paths: str | Path, **given: Any) -> list[Job]:
    """The jobs of grid files, each once, every one after those it needs.

    Args:
        given: over what the files say: ``dataset``, ``rows``, ``seeds``, ``sweeps``, and parameters
            such as ``out_root``.

    Raises:
        InputError: a file, a row, a mode, a sweep, a parameter or an option of a method is wrong,
            or nothing is left to run.
    """
    if "dataset" in given:
        given["datasets"] = [given.pop("dataset")]
    chosen = {name: given.pop(name) for name in set(given) & set(Grid.model_fields)}
    jobs: dict[str, Job] = {}
    for path in paths:
        for number, grid in enumerate(read_grids(path, chosen), 1):
            try:
                for job in grid.jobs(given):
                    if job.run is not None:
                        options_of(job.cfg)  # refused here, or its name would end a batch
                    jobs.setdefault(job.key, job)
            except InputError as error:
                raise InputError(f"{path}, grid {number}: {error}") from None
    if not jobs:
        raise InputError(
            f"{', '.join(map(str, paths))}: there is nothing to run, for no method has any of the "
            "`modes`; lr, hr and lr+hr are every method's, kd only those of gmenet, resnet18 and "
            "mobilenet_v3_small"
        )
    return list(jobs.values())


def notebook_path(notebook: str) -> Path:
    return resolve("notebooks") / f"{notebook}.ipynb"
