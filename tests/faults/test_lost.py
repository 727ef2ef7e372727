"""What Dask has given up: a job that takes its workers with it, or all jobs with the scheduler."""

import pytest
import tiny
from distributed.client import FuturesCancelledError
from distributed.scheduler import KilledWorker

from gmelib import batch
from gmelib.jobs import STUDENT, TEACHER, jobs_of


class Lost:
    """The future of a task that Dask gave up, as it took its worker with it each time."""

    status = "error"

    def done(self) -> bool:
        return True

    def exception(self) -> Exception:
        return KilledWorker("task", None, 3)


class Ended(Lost):
    status = "finished"

    def __init__(self, outcome):
        self.outcome = outcome

    def result(self):
        return self.outcome


class Client:
    """One worker, in this process, that is lost with every teacher."""

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}

    def submit(self, work, job, parameters, retries, needs, **_):
        return Lost() if job.notebook == TEACHER else Ended(work(job, parameters, retries, needs))


@pytest.fixture
def jobs(tmp_path):
    return jobs_of(tiny.config(tmp_path), [STUDENT])


def test_a_student_whose_teacher_took_its_workers_with_it_is_skipped(jobs, monkeypatch):
    monkeypatch.setattr(batch, "wait", lambda *_, **__: None)
    teacher, student = batch.run_jobs(jobs, Client(), retries=2).values()
    assert teacher.state == "failed" and "lost too often" in teacher.message
    assert student.state == "skipped" and teacher.key in student.message


def test_a_lost_scheduler_is_told_in_one_line(jobs, monkeypatch):
    def lost(*_, **__):
        raise FuturesCancelledError([])

    monkeypatch.setattr(batch, "wait", lost)
    monkeypatch.setattr(Lost, "status", "cancelled")
    assert "start the same command again" in tiny.refusal(batch.run_jobs, jobs, Client())
