"""Batches: order, failures, held and lost runs, what is skipped, and the command line.

The cluster of these tests lives in this process and its jobs are stand-ins; tests/faults/ kills
real workers, kernels and batches.
"""

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import pandas as pd
import pytest
import tiny
import yaml
from distributed import Client
from test_grid import PLAIN

from gmelib import batch, worker
from gmelib.grid import read_jobs
from gmelib.jobs import STUDENT, TEACHER, Job, jobs_of
from gmelib.lock import RunLocked, release, take
from gmelib.run import NotebookFailed
from gmelib.worker import Outcome, pin_gpu, work


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(processes=False, **options) as client:
        yield client


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch, "POLL", 0.2)


@pytest.fixture
def two(tmp_path) -> list[Job]:
    """A teacher, its student, and a student without distillation."""
    cfg = tiny.config(tmp_path)
    return [*jobs_of(cfg, [STUDENT]), *jobs_of(cfg.replace(kd_weight=0), [STUDENT])]


class Kernel:
    """Stands for the execution of notebooks: what each call does is told beforehand."""

    def __init__(self, monkeypatch, **answers):
        self.calls, self.answers = [], {n: list(a) for n, a in answers.items()}
        monkeypatch.setattr(worker, "run", self)
        monkeypatch.setattr(worker, "check_parameters", lambda path, given: given)

    def __call__(self, path: Path, parameters, *, progress):
        self.calls.append((path.stem, parameters.get("kd_weight", 5.0)))
        answer = self.answers.get(path.stem, [])
        answer = answer.pop(0) if answer else None
        if isinstance(answer, Exception):
            raise answer
        return path.with_name("report.html")


def failed(name: str, cause: Exception | None = None) -> NotebookFailed:
    error = NotebookFailed(f"a notebook failed in cell [3]: {name}: why; see x.ipynb", name)
    error.__cause__ = cause
    return error


def test_a_student_is_run_after_its_teacher(client, two, monkeypatch):
    kernel = Kernel(monkeypatch)
    outcomes = batch.run_jobs(two, client)
    assert [o.state for o in outcomes.values()] == ["done"] * 3
    assert kernel.calls.index((TEACHER, 5.0)) < kernel.calls.index((STUDENT, 5.0))
    assert len(kernel.calls) == 3


def test_jobs_start_in_their_order_and_no_worker_idles(client, tmp_path, monkeypatch):
    """Six students, the third of them needing a teacher: as many at once as there are workers."""
    started, running, most = [], [], []

    def slow(path, parameters, *, progress):
        started.append((path.stem, parameters.get("seed", 0)))
        running.append(path)
        most.append(len(running))
        time.sleep(0.15)
        running.remove(path)
        return path

    monkeypatch.setattr(worker, "run", slow)
    monkeypatch.setattr(worker, "check_parameters", lambda path, given: given)
    monkeypatch.setattr(worker, "_one_at_a_time", nullcontext())  # the two share a process here
    cfg = tiny.config(tmp_path, kd_weight=0)
    cfgs = [cfg.replace(seed=n, kd_weight=5.0 if n == 2 else 0.0) for n in range(6)]
    jobs = [job for one in cfgs for job in jobs_of(one, [STUDENT])]
    batch.run_jobs(jobs, client)
    wanted = [(job.notebook, job.cfg.seed) for job in jobs]
    assert max(most) == 2 and sorted(started) == sorted(wanted)
    places = [wanted.index(one) for one in started]
    # the student of the teacher is passed by the one or two that wait for nothing
    assert all(abs(place - n) <= 2 for n, place in enumerate(places)), places


def test_one_that_fails_stops_only_those_that_need_it(client, two, monkeypatch):
    Kernel(monkeypatch, **{TEACHER: [failed("InputError")]})
    teacher, student, plain = batch.run_jobs(two, client).values()
    assert teacher.state == "failed" and "see x.ipynb" in teacher.message
    assert student.state == "skipped" and two[0].key in student.message
    assert plain.state == "done"


def test_a_kernel_that_dies_is_started_again_and_not_for_ever(client, two, monkeypatch):
    dead = worker.DeadKernelError("Kernel died")
    kernel = Kernel(monkeypatch, **{TEACHER: [failed("DeadKernelError", dead)] * 2})
    assert [o.state for o in batch.run_jobs(two[:1], client, retries=2).values()] == ["done"]
    assert len(kernel.calls) == 3
    kernel = Kernel(monkeypatch, **{TEACHER: [failed("DeadKernelError", dead)] * 9})
    assert [o.state for o in batch.run_jobs(two[:1], client, retries=1).values()] == ["failed"]
    assert len(kernel.calls) == 2


def test_a_mistake_is_not_tried_again(client, two, monkeypatch):
    kernel = Kernel(monkeypatch, **{TEACHER: [failed("InputError")] * 9})
    batch.run_jobs(two[:1], client, retries=5)
    assert len(kernel.calls) == 1


def test_a_held_run_is_waited_for(client, two, monkeypatch):
    kernel = Kernel(monkeypatch)
    path = two[0].run.folder / "lock.json"
    take(path)
    seen = []

    def look(self):
        seen.append(dict(self.held))
        if len(seen) == 3:
            release(path)
        return ""

    monkeypatch.setattr(batch.Batch, "progress", look)
    outcomes = batch.run_jobs(two, client)
    assert [o.state for o in outcomes.values()] == ["done"] * 3
    assert two[0].key in seen[1] and "process" in seen[1][two[0].key]
    assert kernel.calls.index((TEACHER, 5.0)) < kernel.calls.index((STUDENT, 5.0))


def test_a_run_that_is_taken_at_the_last_moment_is_waited_for(client, two, monkeypatch):
    kernel = Kernel(monkeypatch, **{TEACHER: [failed(RunLocked.__name__)]})
    assert [o.state for o in batch.run_jobs(two[:1], client).values()] == ["done"]
    assert len(kernel.calls) == 2


def test_what_is_done_is_not_run(client, smoke_root, monkeypatch):
    kernel = Kernel(monkeypatch)
    given = {"out_root": str(smoke_root), "rows": ["GME-Net"], "seeds": [0]}
    jobs = read_jobs("params/grids/smoke.yaml", **given)
    outcomes = batch.run_jobs(jobs, client)
    assert [o.state for o in outcomes.values()] == ["loaded"] * 2 and not kernel.calls
    table = batch.results(jobs, outcomes)
    assert table["accuracy"].between(0, 100).all()
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


def test_threads_are_the_batchs_unless_the_grid_says(client, two, monkeypatch):
    kernel, given = Kernel(monkeypatch), []
    monkeypatch.setattr(worker, "check_parameters", lambda _, told: given.append(told) or told)
    own = two[2].cfg.replace(num_threads=0)
    batch.run_jobs(jobs_of(own, [STUDENT]), client, threads=3)
    batch.run_jobs(two[2:], client, threads=3)
    assert [values["num_threads"] for values in given] == [3, tiny.SMALL["num_threads"]]
    assert len(kernel.calls) == 2


def test_a_worker_runs_one_notebook_at_a_time(client, two, monkeypatch):
    running, most = [], []

    def slow(path, parameters, *, progress):
        running.append(path)
        most.append(len(running))
        time.sleep(0.2)
        running.remove(path)
        return path

    monkeypatch.setattr(worker, "run", slow)
    monkeypatch.setattr(worker, "check_parameters", lambda path, given: given)
    batch.run_jobs([two[0], two[2]], client)  # two threads of one process
    assert max(most) == 1


def test_outcomes_of_lost_workers(two):
    class Lost:
        status = "error"

        def exception(self):
            return type("KilledWorker", (Exception,), {})("x")

    outcome = batch._outcome(two[0], Lost())
    assert outcome.state == "failed" and "lost too often" in outcome.message
    Lost.status = "cancelled"
    assert "scheduler was lost" in tiny.refusal(batch._outcome, two[0], Lost())


@pytest.mark.parametrize("error", [OSError("Timed out"), AttributeError("ncores")])
def test_a_scheduler_that_is_lost_between_two_runs_is_told_in_a_line(two, error):
    lost = SimpleNamespace(status="closed", nthreads=Mock(side_effect=error))
    waiting = batch.Batch(two, lost, retries=0, threads=0)
    for ask in (waiting.submit_next, waiting.progress):
        assert "the Dask scheduler was lost (closed); start" in tiny.refusal(ask)


@pytest.mark.parametrize(
    "visible, number, gpus, told",
    [
        (None, 1, 2, "1"),
        (None, 3, 2, "1"),
        ("4,6", 1, 2, "6"),
        ("6", 0, 1, "6"),
        (None, 0, 0, None),
    ],
)
def test_gpus_are_dealt_in_turn(monkeypatch, visible, number, gpus, told):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    pin_gpu(number, gpus)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == told


def test_kernels_do_not_inherit_dasks_malloc_setting(client, two, monkeypatch):
    monkeypatch.setenv(worker.DASKS_MALLOC, "65536")
    seen = []

    def look(path, parameters, *, progress):
        seen.append(os.environ.get(worker.DASKS_MALLOC))
        return path

    monkeypatch.setattr(worker, "run", look)
    monkeypatch.setattr(worker, "check_parameters", lambda _, told: told)
    batch.run_jobs(two[:1], client)
    assert seen == [None]
    assert dask.config.get(f"distributed.nanny.pre-spawn-environ.{worker.DASKS_MALLOC}")  # still so


def test_work_can_be_asked_without_a_cluster(two, monkeypatch):
    """What a failed need does, without running anything."""
    kernel = Kernel(monkeypatch)
    for state in ("failed", "skipped"):
        assert work(two[1], {}, 0, [Outcome(two[0].key, state)]).state == "skipped"
    assert not kernel.calls


# -- command line ---------------------------------------------------------------------------------


def grid_file(tmp_path: Path, **values) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(PLAIN | values))
    return str(path)


def test_dry_run_lists_and_starts_nothing(tmp_path, capsys, monkeypatch):
    kernel = Kernel(monkeypatch)
    out = tmp_path / "out"
    path = grid_file(tmp_path, rows=["Baseline", "GME-Net"])
    assert batch.main([path, "--dry-run", "--workers", "2", "-p", "out_root", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.count("missing") == 3 and "3 runs, 3 of them to do" in told
    assert "on 2 worker(s)" in told
    assert not kernel.calls and not out.exists()


def test_hours_left_shrink_with_the_epochs_that_are_trained(root):
    job = jobs_of(tiny.config(root, epochs=4), [STUDENT])[0]
    assert job.notebook == TEACHER
    before = batch.overview([job])["hours"][0]
    job.run.folder.mkdir(parents=True)
    (job.run.folder / "training.json").write_text(json.dumps({"epoch": 3}))
    assert batch.overview([job])["hours"][0] == pytest.approx(before / 4)


def test_mistakes_end_with_2_before_anything_starts(tmp_path, capsys):
    assert batch.main([grid_file(tmp_path, rows=["x"])]) == 2
    assert "row 'x'" in capsys.readouterr().err
    assert batch.main([str(tmp_path / "none.yaml")]) == 2
    assert batch.main([grid_file(tmp_path), "-p", "epochs", "0"]) == 2
    assert "parameter epochs = 0" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch, "CONNECT", "1s")
    assert batch.main([grid_file(tmp_path), "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "--scheduler tcp://127.0.0.1:9: no Dask scheduler answers" in capsys.readouterr().err


def test_failures_are_told_and_end_with_1(capsys):
    row = {"data set": "synthetic", "what": "Baseline", "seed": 0, "accuracy": 50.0}
    good = row | {"outcome": "done", "where": "report.html"}
    bad = row | {"outcome": "failed", "where": "cell [3]: why; see x.ipynb"}
    assert batch._told(pd.DataFrame([good])) == 0
    assert capsys.readouterr().err == ""
    assert batch._told(pd.DataFrame([good, bad])) == 1
    told = capsys.readouterr().err
    assert "failed: synthetic Baseline seed 0: cell [3]: why; see x.ipynb" in told


def test_a_notebook_cell_can_run_a_grid(client, tmp_path, monkeypatch):
    Kernel(monkeypatch)
    path = grid_file(tmp_path, rows=["Baseline"])
    table = batch.run_grid(path, client=client, out_root=str(tmp_path / "out"))
    assert list(table["outcome"]) == ["done"]
