"""Jobs: one notebook with one configuration, and what must be done before it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gmelib.config import Config, InputError
from gmelib.experiment import attention_run
from gmelib.fields import STUDENT_ONLY, TABLES
from gmelib.record import Run
from gmelib.variants import row_of

DATA, TEACHER, STUDENT, ATTENTION = (
    "01_data_generation", "02_teacher", "03_student_distillation", "06_attention_visualization",
)  # fmt: skip

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
            tables = json.dumps({name: getattr(self.cfg, name) for name in TABLES})
            digest = self.cfg.digest("tables", tables=tables)
            return f"{self.cfg.dataset}/{self.notebook}/{self.grid}-{digest}"
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
