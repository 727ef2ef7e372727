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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gmelib.config import PROJECT_ROOT, Config, InputError, read_yaml, resolve
from gmelib.experiment import attention_run
from gmelib.fields import STUDENT_ONLY
from gmelib.record import Run
from gmelib.variants import (
    ENTRIES,
    KD,
    RESOLUTIONS,
    ROWS,
    SWEEPS,
    compared_config,
    modes_of,
    row_config,
    row_of,
    sweep_configs,
)

DATA, TEACHER, STUDENT, ATTENTION = (
    "01_data_generation", "02_teacher", "03_student_distillation", "06_attention_visualization",
)  # fmt: skip
NotebookName = Literal[
    "01_data_generation", "02_teacher", "03_student_distillation", "06_attention_visualization"
]


Varied = tuple[tuple[str, Any], ...]  # parameters and values


@dataclass(frozen=True)
class Job:
    """One notebook to run with one configuration, and the jobs that must be done before it."""

    notebook: str
    cfg: Config
    needs: tuple[str, ...] = ()
    grid: str = field(default="", compare=False)  # the title of the grid that asks for it
    varied: Varied = field(default=(), compare=False)  # beside its row

    @property
    def run(self) -> Run | None:
        """The run that the notebook makes; None for one that only makes tables of others."""
        return run_of(self.notebook, self.cfg)

    @property
    def key(self) -> str:
        """Equal for equal work, whichever grid asks for it."""
        run = self.run
        if run is None:
            return f"{self.cfg.dataset}/{self.notebook}/{self.grid}"
        return f"{self.cfg.dataset}/{run.stage}/{run.id}"

    @property
    def what(self) -> str:
        """For people: the row of the tables, the kind of teacher, or the notebook."""
        if self.notebook == TEACHER:
            return self._varied(self._teacher, {*STUDENT_ONLY})
        if self.notebook == STUDENT:
            row = row_of(self.cfg.model_dump(), "student")
            return self._varied(f"{row}, {self.cfg.lr_size} px", {"lr_size"})
        return self.notebook

    @property
    def _teacher(self) -> str:
        if self.cfg.method != "gmenet":
            return row_of(self.cfg.model_dump(), "teacher")
        branches = "two branches" if self.cfg.global_branch else "local"
        return f"teacher ({self.cfg.attention}, {branches})"

    def _varied(self, name: str, without: set[str]) -> str:
        told = [f"{n} {v:g}" if isinstance(v, float) else f"{n} {v}"
                for n, v in self.varied if n not in without]  # fmt: skip
        return ", ".join([name, *told])

    @property
    def name(self) -> str:
        return f"{self.cfg.dataset}: {self.what}, seed {self.cfg.seed}"

    @property
    def state(self) -> str:
        """``done`` (run and report), ``report missing``, ``running``, ``broken`` or ``missing``;
        ``unreadable`` where run.json is damaged or another run's."""
        run = self.run
        if run is None:
            return "missing"  # cheap, and only it knows what has changed: made anew each time
        if run.is_done:
            try:
                run.facts()
            except InputError:
                return "unreadable"  # by any notebook, too: it says why
            folders = (run.folder, run.workplace)
            filed = any((f / f"{self.notebook}.ipynb").is_file() for f in folders)
            return "done" if filed else "report missing"
        return "running" if run.holder else run.state

    @property
    def parameters(self) -> dict[str, Any]:
        """What papermill is given: every value that differs from its default, and no overlays."""
        values = self.cfg.model_dump(mode="json")
        defaults = Config().model_dump(mode="json")
        return {n: v for n, v in values.items() if v != defaults[n]} | {"overlays": []}


def run_of(notebook: str, cfg: Config) -> Run | None:
    if notebook == DATA:
        return Run.open(cfg.data(), "data")
    if notebook == TEACHER:
        return Run.open(cfg.teacher(), "teacher")
    if notebook == STUDENT:
        return Run.open(cfg, "student")
    if notebook == ATTENTION:
        return attention_run(Run.open(cfg, "student"))
    return None


# -- reading --------------------------------------------------------------------------------------


def _all_of(names: Iterable[str]) -> BeforeValidator:
    return BeforeValidator(lambda value: list(names) if value == "all" else value)


class Grid(BaseModel):
    """One grid of a file; see the module's example. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    overlays: list[str] = Field(min_length=1)
    datasets: list[str] = Field(min_length=1)
    rows: Annotated[list[str], _all_of(ROWS)] = []
    methods: Annotated[list[str], _all_of(ENTRIES)] = []
    modes: Annotated[list[str], _all_of((*RESOLUTIONS, KD))] = list(RESOLUTIONS)
    seeds: list[int] = Field([0], min_length=1)
    vary: dict[str, list[Any]] = {}
    sweeps: Annotated[list[str], _all_of(SWEEPS)] = []
    parameters: dict[str, Any] = {}
    notebooks: list[NotebookName] = Field(["03_student_distillation"], min_length=1)
    then: list[str] = []

    def base(self, dataset: str, **values: Any) -> Config:
        """The configuration of a data set before rows and seeds; ``values`` over the file's."""
        overlays = [path.format(dataset=dataset) for path in self.overlays]
        values = {"dataset": dataset} | self.parameters | values
        return Config.load(*overlays, **values).replace(overlays=[], batch=True)

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
            if mode in modes_of(method):
                own = {name: value for name, value in over.items() if name != "seed"}
                yield compared_config(cfg.replace(seed=seed), method, mode, **own)

    def jobs(self, given: Mapping[str, Any]) -> Iterable[Job]:
        """Every job, each after those it needs; the same one may come twice.

        Args:
            given: parameters over the file's.
        """
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


def jobs_of(
    cfg: Config, notebooks: Iterable[str], *, grid: str = "", varied: Varied = ()
) -> list[Job]:
    """The notebooks for one student, with what they need: teacher before student before report."""
    jobs: dict[str, Job] = {}

    def need(notebook: str) -> str:
        needs: tuple[str, ...] = ()
        if notebook == STUDENT and cfg.kd_weight:
            needs = (need(TEACHER),)
        if notebook == ATTENTION:
            needs = (need(TEACHER), need(STUDENT))
        own = cfg.teacher() if notebook == TEACHER else cfg
        job = Job(notebook, own, needs, grid, varied)
        jobs.setdefault(job.key, job)
        return job.key

    for notebook in notebooks:
        need(notebook)
    return list(jobs.values())


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
    name = str(error["loc"][0])
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
        InputError: a file, a row, a sweep or a parameter is wrong.
    """
    if "dataset" in given:
        given["datasets"] = [given.pop("dataset")]
    chosen = {name: given.pop(name) for name in set(given) & set(Grid.model_fields)}
    jobs: dict[str, Job] = {}
    for path in paths:
        for number, grid in enumerate(read_grids(path, chosen), 1):
            try:
                for job in grid.jobs(given):
                    jobs.setdefault(job.key, job)
            except InputError as error:
                raise InputError(f"{path}, grid {number}: {error}") from None
    return list(jobs.values())


def notebook_path(notebook: str) -> Path:
    return resolve("notebooks") / f"{notebook}.ipynb"
