"""Jobs as tables: what there is and what it would take, and what came out."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pandas as pd

from gmelib.config import InputError
from gmelib.estimate import estimated_hours
from gmelib.jobs import STUDENT, TEACHER, Job
from gmelib.worker import Outcome


def overview(jobs: Sequence[Job]) -> pd.DataFrame:
    """One row a job: run, its state, and the hours of training that it still takes."""
    rows = []
    for job in jobs:
        state, run = job.state, job.run
        rows.append(
            {
                "data set": job.cfg.dataset,
                "what": job.what,
                "seed": job.cfg.seed,
                "run": run.id if run else job.notebook,
                "state": state,
                "hours": _hours_left(job, state),
            }
        )
    return pd.DataFrame(rows)


def _hours_left(job: Job, state: str) -> float | None:
    if job.notebook not in (TEACHER, STUDENT) or state in ("done", "report missing"):
        return 0.0
    hours = estimated_hours(job.cfg, "teacher" if job.notebook == TEACHER else "student")
    return None if hours is None else hours * (1 - trained_epochs(job) / job.cfg.epochs)


def trained_epochs(job: Job) -> int:
    """How many epochs of a run are trained."""
    with suppress(OSError, ValueError, AttributeError):
        return json.loads((job.run.folder / "training.json").read_text())["epoch"]
    return 0


def results(jobs: Sequence[Job], outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """One row a job: its figures, in per cent, and what became of it.

    The figures depend on the grid alone; ``outcome`` and ``hours`` on how it went. A run that tries
    a choice (a sweep) is judged on validation faces, so its test accuracy is left out.
    """
    rows = []
    for job in jobs:
        outcome = outcomes.get(job.key, Outcome(job.key, "not reached"))
        row = {"data set": job.cfg.dataset, "what": job.what, "seed": job.cfg.seed}
        row |= _figures(job) | {"outcome": outcome.state, "hours": outcome.seconds / 3600}
        rows.append(row | {"where": outcome.message})
    return pd.DataFrame(rows)


def _figures(job: Job) -> dict[str, float | None]:
    """Test accuracy with its interval over the faces, and validation accuracy."""
    found: dict[str, float | None] = dict.fromkeys(("accuracy", "low", "high", "validation"))
    run = job.run
    if run is None or not run.is_done or job.notebook not in (TEACHER, STUDENT):
        return found
    with suppress(InputError):  # a damaged record: its job has failed, and says so
        facts = run.facts()
        found["validation"] = 100 * facts["validation"]["best_accuracy"]
        if {name for name, _ in job.varied} <= {"lr_size", "epochs"}:
            accuracy = facts["metrics"]["all"]["accuracy"]
            found |= {"accuracy": 100 * accuracy["value"]}
            found |= {end: 100 * accuracy[end] for end in ("low", "high")}
    return found
