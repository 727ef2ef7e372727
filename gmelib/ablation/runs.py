"""The runs behind a table: finished ones are loaded, missing ones trained or named as not run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd
from tqdm.auto import tqdm

from gmelib.config import Config, InputError
from gmelib.data import load_faces
from gmelib.estimate import estimated_hours
from gmelib.experiment import run_student, run_teacher
from gmelib.record import Run, code_revision

Key = TypeVar("Key")


@dataclass(frozen=True)
class Cell:
    """One student of a table."""

    run: Run
    hours: float | None = None  # of training that it still needs, its teacher's with it
    failure: str = ""  # why it could not be trained

    @property
    def is_done(self) -> bool:
        return self.run.is_done

    @property
    def state(self) -> str:
        """``done``, ``failed``, or ``not run (est. 0.6 h)``."""
        if self.failure:
            return "failed"
        return "done" if self.is_done else f"not run{estimate_text(self.hours)}"


def estimate_text(hours: float | None) -> str:
    """The estimate in brackets; nothing where no finished run tells."""
    if hours is None:
        return ""
    return f" (est. {hours:.1f} h)" if hours >= 0.1 else f" (est. {max(1, round(60 * hours))} min)"


def complete(students: Mapping[Key, Config], *, train: bool) -> dict[Key, Cell]:
    """Every student with its run, after the missing ones were trained.

    Each is preceded by its teacher, found by the hash of its parameters, so that each kind of
    attention has its own. The faces are loaded only if something is missing. A run that fails is
    named by its cell, and the others go on.

    Args:
        students: any key -> configuration of a student.
        train: False trains nothing.

    Raises:
        InputError: ``force`` or ``teacher_run``, which mean a single run.
    """
    for cfg in students.values():
        refuse_single(cfg)
    failures = _train(_missing(students)) if train else {}
    cells, counted = {}, set()
    for key, cfg in students.items():
        run = Run.open(cfg, "student")
        needed = _needed(cfg) if not run.is_done else []
        hours = [estimated_hours(n.cfg, n.stage) for n in needed if n.folder not in counted]
        counted |= {n.folder for n in needed}  # a teacher's hours stand with its first student
        total = None if None in hours else sum(hours)
        failure = "" if run.is_done else failures.get(run.folder, "")
        cells[key] = Cell(run, total, failure)
    _require_same_data(cells)
    return cells


def refuse_single(cfg: Config) -> None:
    """Raises :class:`InputError` for ``force`` and ``teacher_run``, which mean a single run."""
    if cfg.force:
        raise InputError(
            "force = True would train every run again; make a single one again with 02_teacher or "
            "03_student_distillation"
        )
    if cfg.teacher_run:
        raise InputError(
            f"teacher_run = {cfg.teacher_run}: the runs have several teachers, found by hash; "
            "leave it empty"
        )


def _needed(cfg: Config) -> list[Run]:
    """What must be trained for a student: its teacher, if it is distilled, and itself."""
    runs = [Run.open(cfg, "student")]
    if cfg.kd_weight and (cfg.kd == "logits" or cfg.attention != "none"):
        runs.insert(0, Run.open(cfg.teacher(), "teacher"))
    return [run for run in runs if not run.is_done]


def _missing(students: Mapping[Any, Config]) -> list[Run]:
    """All runs to train, each once and after its teacher."""
    todo = [cfg for cfg in students.values() if not Run.open(cfg, "student").is_done]
    return list({run.folder: run for cfg in todo for run in _needed(cfg)}.values())


def _train(runs: list[Run]) -> dict[Any, str]:
    """Trains them in order; why each of those failed that did, by its folder."""
    if not runs:
        return {}
    try:
        faces = load_faces(runs[0].cfg)
    except InputError as error:
        print(f"nothing is trained, for the faces are not here: {error}")
        return {}
    failures: dict[Any, str] = {}
    for run in tqdm(runs, desc="runs", unit="run"):
        teacher = Run.open(run.cfg.teacher(), "teacher")
        try:
            if run.stage == "teacher":
                run_teacher(run.cfg, faces)
            elif run.cfg.kd_weight and teacher.folder in failures:
                raise InputError(f"its teacher {teacher.id} failed")
            else:
                run_student(run.cfg, faces)
        except InputError as error:
            failures[run.folder] = str(error)
            print(f"{run.id} failed: {error}")
    return failures


def _require_same_data(cells: Mapping[Any, Cell]) -> None:
    made: dict[str, str] = {}
    for cell in cells.values():
        if cell.is_done:
            made.setdefault(cell.run.facts()["data"]["fingerprint"], cell.run.id)
    if len(made) > 1:
        (one, first), (other, second), *_ = made.items()
        raise InputError(
            f"{second} was made from other data than {first} (fingerprints {other[:8]}, "
            f"{one[:8]}): they cannot stand in one table; delete the folder of the wrong one"
        )


def overview(students: Mapping[tuple[str, int], Config]) -> pd.DataFrame:
    """What there is and what would be trained: the state of every (row, seed)."""
    cells = complete(students, train=False)
    states = [cell.state for cell in cells.values()]
    index = pd.MultiIndex.from_tuples(list(cells), names=["row", "seed"])
    return pd.DataFrame({"run": [c.run.id for c in cells.values()], "state": states}, index)


def other_code(cells: Mapping[Any, Cell]) -> str:
    """Says so where runs were made by other code than this; empty where none was."""
    here = code_revision()["commit"]
    made = [cell.run.facts()["revision"]["commit"] for cell in cells.values() if cell.is_done]
    others = [commit for commit in made if commit and here and commit != here]
    if not others:
        return ""
    names = ", ".join(sorted({commit[:8] for commit in others}))
    return f"{len(others)} of {len(made)} runs were made by other code ({names}; this: {here[:8]})."
