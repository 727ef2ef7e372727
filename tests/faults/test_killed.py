"""One outputs folder through a bad night: an epoch may be lost, never a finished run.

Three acts on drawn faces, with the real command line, workers, kernels and signals:

1. A batch with two workers. One worker is killed in mid-run; the kernels of another run are killed
   until no retry is left; a teacher finds the checkpoint of another run in its folder.
2. The cause of the last is gone; the same command again; the batch itself is killed in mid-run.
3. The last.pt of the run that was lost twice is truncated; the same command, twice at once.

Afterwards everything equals, bit for bit, what plain function calls make undisturbed.

Proved elsewhere, not here: the steps of saving (tests/test_checkpoint.py); two damaged checkpoints,
other data, a kill within an epoch (tests/test_resume.py); who holds a lock (tests/test_lock.py);
order, retries and waiting of a batch with stand-ins for kernels (tests/test_batch.py).
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import tiny
import yaml
from killing import (
    BatchProcess,
    all_ended,
    killed_kernels,
    killed_worker,
    orphaned,
    short_project,
    stopped_in,
    trained,
)
from safetensors.torch import load_file

from gmelib import lock
from gmelib.batch import results
from gmelib.checkpoint import load_checkpoint
from gmelib.data import load_faces
from gmelib.experiment import history, run_student, run_teacher
from gmelib.grid import read_jobs
from gmelib.jobs import TEACHER, Job
from gmelib.record import Run
from gmelib.run import UNFINISHED

pytestmark = pytest.mark.slow
EPOCHS = 4
GRID = {
    "overlays": ["params/base.yaml", "params/{dataset}.yaml", "params/smoke.yaml"],
    "datasets": ["synthetic"],
    "rows": ["Baseline", "DBAM+GM without KD", "GME-Net"],
    "parameters": {"epochs": EPOCHS, "num_threads": 1},  # bit-equal on equal threads
}
NAMES = ("worker_lost", "kernels_lost", "teacher", "student")  # in the grid's order


@dataclass
class Night:
    """The outputs folder, what was made undisturbed, and what the acts told."""

    project: Path
    grid: Path
    root: Path
    reference: Path

    def jobs(self, root: Path | None = None) -> dict[str, Job]:
        found = read_jobs(self.grid, out_root=str(root or self.root))
        return dict(zip(NAMES, found, strict=True))

    def run(self, name: str) -> Run:
        return self.jobs()[name].run

    def expected(self, name: str) -> Run:
        return self.jobs(self.reference)[name].run

    def start(self, act: str, *options: str) -> BatchProcess:
        arguments = [str(self.grid), "-p", "out_root", str(self.root), *options]
        return BatchProcess(self.project, arguments, self.root.parent / act)

    def half_notebooks(self) -> set[str]:
        return {path.name for path in (self.root / UNFINISHED).glob("*.ipynb")}

    def times(self, *names: str) -> dict[str, int]:
        """When the files that training writes were written."""
        files = ("last.pt", "model.safetensors", "predictions.parquet", "run.json")
        return {
            f"{name}/{file}": (self.run(name).folder / file).stat().st_mtime_ns
            for name in names
            for file in files
        }


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    project = short_project(folder / "project")
    night = Night(project, folder / "grid.yaml", folder / "outputs", folder / "reference")
    night.grid.write_text(yaml.safe_dump(GRID))
    for job in night.jobs(night.reference).values():
        make = run_teacher if job.notebook == TEACHER else run_student
        make(job.cfg, load_faces(job.cfg))
    return night


def put_foreign_checkpoint(night: Night) -> bytes:
    place = night.run("teacher").folder / "last.pt"
    place.parent.mkdir(parents=True)
    shutil.copy(night.expected("worker_lost").folder / "last.pt", place)
    return place.read_bytes()


@dataclass
class FirstAct:
    batch: BatchProcess
    status: int
    kernel_ended: bool  # of the worker that was lost
    epochs: list[int]  # that the lost kernels had trained
    is_untouched: bool  # the checkpoint of another run
    files: dict[str, set[str]]  # name -> what its folder held afterwards
    holders: list[str]  # of locks, afterwards
    left: list  # processes, afterwards


@pytest.fixture(scope="module")
def first(night):
    foreign = put_foreign_checkpoint(night)
    batch = night.start("first", "--workers", "2", "--retries", "1")
    try:
        with ThreadPoolExecutor() as hands:
            jobs = night.jobs()
            worker = hands.submit(killed_worker, batch, jobs["worker_lost"], 2)
            kernels = hands.submit(killed_kernels, batch, jobs["kernels_lost"], [1, 2])
        status = batch.ended()
        files = {n: {p.name for p in night.run(n).folder.glob("*")} for n in NAMES}
        locks = [*night.root.rglob("lock.json"), *night.root.rglob("*.lock")]
        held = [lock.holder(path) for path in locks]
        is_untouched = (night.run("teacher").folder / "last.pt").read_bytes() == foreign
        yield FirstAct(batch, status, worker.result(), kernels.result(), is_untouched, files,
                       [h for h in held if h], batch.members())  # fmt: skip
    finally:
        batch.stop_everything()


@pytest.fixture(scope="module")
def killed(night, first):
    """(times of finished files before, the batch, whether workers and kernel ended, its epoch)."""
    (night.run("teacher").folder / "last.pt").unlink()
    before = night.times("worker_lost")
    batch = night.start("second", "--workers", "1")
    try:
        kernel = stopped_in(batch, night.jobs()["kernels_lost"], first.epochs[-1])
        epoch = trained(night.run("kernels_lost"))
        others = [p for p in batch.members() if p.pid not in (batch.process.pid, kernel.pid)]
        ended = orphaned(kernel, batch.process) and all_ended(others)
        batch.ended()
        yield before, batch, len(others), ended, epoch
    finally:
        batch.stop_everything()


@pytest.fixture(scope="module")
def both(night, killed):
    """Two batches that ran at the same time, their exit statuses, and the half notebooks before."""
    last = night.run("kernels_lost").folder / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    halves = night.half_notebooks()
    batches = [night.start(act, "--workers", "1") for act in ("third", "fourth")]
    try:
        yield batches, [batch.ended() for batch in batches], halves
    finally:
        for batch in batches:
            batch.stop_everything()


def told(batch: BatchProcess, name: str) -> str:
    """The one line in which a batch says at its end what became of a run."""
    what = {"kernels_lost": "DBAM+GM without KD", "teacher": "teacher", "student": "GME-Net"}[name]
    pattern = re.compile(rf"(failed|skipped): synthetic:? {re.escape(what)}")
    lines = [line for line in batch.err.splitlines() if pattern.match(line)]
    assert len(lines) == 1, batch.err
    return lines[0]


def table(text: str) -> list[str]:
    """The rows of a batch's last table, without what became of each and how long it took."""
    rows = text[text.index("data set") :].splitlines()[1:]
    return [" ".join(row.split()[:-2]) for row in rows]


def same_bits(night: Night, name: str) -> bool:
    """Weights, predictions and history are those of an undisturbed run."""
    run, expected = night.run(name), night.expected(name)
    weights = [load_file(r.folder / "model.safetensors") for r in (run, expected)]
    rows = [history(r).drop(columns="seconds") for r in (run, expected)]
    frames = [pd.read_parquet(r.folder / "predictions.parquet") for r in (run, expected)]
    return tiny.states_equal(*weights) and rows[0].equals(rows[1]) and frames[0].equals(frames[1])


def sessions(run: Run) -> list[int]:
    """The first epoch of every session of training."""
    return [s["first_epoch"] for s in load_checkpoint(run.folder, run.id)["sessions"]]


# -- first act: a worker, kernels, a truncated and a foreign checkpoint ---------------------------


def test_the_run_of_a_killed_worker_goes_on_from_its_checkpoint(night, first):
    begun = sessions(night.run("worker_lost"))
    assert len(begun) == 2 and begun[0] == 1 and begun[1] >= 3, "killed after two epochs or later"
    assert same_bits(night, "worker_lost")


def test_kernels_and_locks_end_with_their_worker(first):
    assert first.kernel_ended
    assert first.left == [] and first.holders == []


def test_a_killed_kernel_is_tried_again_and_then_told(night, first):
    line = told(first.batch, "kernels_lost")
    assert line.startswith("failed") and "Kernel died" in line
    (half,) = re.findall(r"see (\S+\.ipynb)$", line)
    assert Path(half).parent.name == UNFINISHED and json.loads(Path(half).read_text())["cells"]
    assert len(first.epochs) == 2 and first.epochs[1] > first.epochs[0], "the second went on"


def test_what_failed_does_not_look_done(night, first):
    assert first.status == 1
    finished = {"run.json", "predictions.parquet", "report.html"}
    for name in ("kernels_lost", "teacher", "student"):
        assert not first.files[name] & finished, name
    assert first.files["worker_lost"] >= finished


def test_a_foreign_checkpoint_is_refused_in_one_line_and_left_as_it_is(night, first):
    line, other = told(first.batch, "teacher"), night.run("worker_lost").id
    assert f"is the checkpoint of run {other}, expected {night.run('teacher').id}" in line
    assert first.files["teacher"] == {"last.pt"} and first.is_untouched


def test_a_run_whose_teacher_failed_is_skipped_and_not_begun(night, first):
    line = told(first.batch, "student")
    assert line.startswith("skipped") and night.run("teacher").id in line
    assert first.files["student"] == set()


# -- second act: the batch itself -----------------------------------------------------------------


def test_workers_and_kernels_of_a_killed_batch_end_by_themselves(killed):
    _, batch, others, ended, _ = killed
    assert others >= 1, "there was a worker"
    assert ended and batch.members() == []


def test_a_killed_batch_leaves_nothing_half_done_that_looks_done(night, first, killed):
    assert killed[-1] >= first.epochs[-1]
    batch = killed[1]
    assert "data set" not in batch.out and batch.process.returncode < 0


# -- third act: two at once -----------------------------------------------------------------------


def test_the_same_command_finishes_twice_at_once_with_the_same_table(night, both):
    assert both[1] == [0, 0], [batch.err for batch in both[0]]
    one, other = (table(batch.out) for batch in both[0])
    jobs = list(night.jobs(night.reference).values())
    undisturbed = results(jobs, {}).drop(columns=["where", "outcome", "hours"])
    text = undisturbed.to_string(index=False, header=False, float_format="{:.2f}".format)
    assert one == other == [" ".join(row.split()) for row in text.splitlines()]


def test_no_epoch_was_trained_twice(night, both, killed, first):
    assert sessions(night.run("teacher")) == [1]
    assert sessions(night.run("student")) == [1]
    begun = sessions(night.run("kernels_lost"))
    assert begun == sorted(set(begun))
    for name in NAMES:
        assert list(history(night.run(name))["epoch"]) == list(range(1, EPOCHS + 1)), name


def test_no_notebook_was_started_twice(night, both):
    batches, _, halves = both
    made = [line.split(": ")[2] for b in batches for line in b.out.splitlines() if "done: " in line]
    assert len(made) == len(set(made)) == len(NAMES) - 1, made
    assert night.half_notebooks() == halves, "neither was any given up, as another had taken it"


def test_a_truncated_checkpoint_costs_an_epoch_and_is_told(night, both, killed):
    report = (night.run("kernels_lost").folder / "report.html").read_text()
    assert "last.pt: cannot be read as a checkpoint" in report
    assert sessions(night.run("kernels_lost"))[-1] == killed[-1], "the last epoch, once more"


def test_finished_runs_were_not_trained_again(night, both, killed):
    assert night.times("worker_lost") == killed[0]


@pytest.mark.parametrize("name", NAMES)
def test_everything_equals_an_undisturbed_night(night, both, name):
    assert same_bits(night, name)
    metrics = [run.facts()["metrics"] for run in (night.run(name), night.expected(name))]
    assert metrics[0] == metrics[1]


def test_nothing_is_left_behind(night, both):
    assert [batch.members() for batch in both[0]] == [[], []]
    for pattern in ("lock.json", "*.lock", ".next.pt.*"):
        assert not list(night.root.rglob(pattern))
