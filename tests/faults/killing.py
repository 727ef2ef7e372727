"""Batches as processes, and the means to kill them, their workers and their kernels in mid-run."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil

from gmelib import lock
from gmelib.checkpoint import load_checkpoint
from gmelib.config import PROJECT_ROOT
from gmelib.grid import notebook_path
from gmelib.jobs import STUDENT, TEACHER, Job
from gmelib.record import Run

MARK = "GMELIB_FAULTS"  # an environment variable that a batch's workers and kernels inherit
PATIENCE = 600  # seconds for what takes some on a busy machine
SECONDS = 15  # in which what lost its parent must have ended
PARENT_LOOK = 1.2  # a kernel looks every second whether its parent lives


def short_project(folder: Path) -> Path:
    """A copy of the project whose notebooks end with the training: figures take longer than that.

    What runs is this code, by papermill, in real kernels; the report is filed as always.
    """
    for part in ("gmelib", "params"):
        shutil.copytree(PROJECT_ROOT / part, folder / part)
    # optional to jsonschema, slow to import, and imported by every process that reads notebooks
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    (folder / "notebooks").mkdir()
    for stem in (TEACHER, STUDENT):
        notebook = nbformat.read(notebook_path(stem), as_version=4)
        (end,) = [i for i, cell in enumerate(notebook.cells) if "run = run_" in cell.source]
        notebook.cells = [*notebook.cells[: end + 1], notebook.cells[-1]]
        for cell in notebook.cells:
            cell.source = cell.source.replace("from gmelib import figures, tables\n", "")
        assert "run.announce()" in notebook.cells[-1].source
        nbformat.write(notebook, folder / "notebooks" / f"{stem}.ipynb")
    return folder


@dataclass
class BatchProcess:
    """``python -m gmelib.batch`` in a project folder, and what it said."""

    project: Path
    arguments: list[str]
    log: Path  # without its ending
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        paths = [str(self.project), *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(f"{self.log}.out", "w") as out, open(f"{self.log}.err", "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gmelib.batch", *self.arguments],
                cwd=self.project,
                stdout=out,
                stderr=err,
                env=os.environ | {MARK: self.mark, "PYTHONPATH": os.pathsep.join(paths)},
            )

    @property
    def out(self) -> str:
        return Path(f"{self.log}.out").read_text()

    @property
    def err(self) -> str:
        return Path(f"{self.log}.err").read_text()

    def ended(self) -> int:
        """The exit status, once it has one."""
        return self.process.wait(PATIENCE)

    def members(self) -> list[psutil.Process]:
        """The living processes of this batch: itself, workers, kernels, and what they started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and lives(process):
                    found.append(process)
            except psutil.Error:
                continue  # it ended meanwhile, or is not ours
        return found

    def stop_everything(self) -> None:
        for process in self.members():
            process.kill()
        self.process.wait()


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_ended(processes: list[psutil.Process]) -> bool:
    deadline = time.monotonic() + SECONDS
    while any(map(lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(lives, processes))


# -- a run being trained --------------------------------------------------------------------------


def kernel_of(run: Run) -> psutil.Process | None:
    """The process that holds the run's lock, if one does."""
    told = lock.holder(run.folder / "lock.json")
    try:
        return psutil.Process(int(told.split()[1])) if told else None
    except (ValueError, psutil.NoSuchProcess):
        return None  # a lock being written, or just given back


def told_epoch(run: Run) -> int:
    """Epochs that training.json tells of; written after the checkpoint, and quicker to read."""
    try:
        return json.loads((run.folder / "training.json").read_text())["epoch"]
    except FileNotFoundError:
        return 0


def trained(run: Run) -> int:
    """Epochs in the newest checkpoint."""
    state = load_checkpoint(run.folder, run.id)
    return state["epoch"] if state else 0


def stopped_in(batch: BatchProcess, job: Job, epoch: int, but: int = 0) -> psutil.Process:
    """The run's kernel, made to stand still when so many epochs are trained and not all are.

    Args:
        but: a kernel of this process number is not meant.
    """
    run = job.run
    while batch.process.poll() is None:
        kernel = kernel_of(run)
        if kernel is not None and kernel.pid != but and told_epoch(run) >= epoch:
            kernel.suspend()
            assert trained(run) < job.cfg.epochs, "looked too late: it is trained to its end"
            return kernel
        time.sleep(0.01)
    raise AssertionError(f"ended before epoch {epoch} of {job.name}:\n{batch.out}\n{batch.err}")


def orphaned(kernel: psutil.Process, parent: psutil.Process) -> bool:
    """Kills a kernel's parent by SIGKILL; whether the kernel then ends by itself.

    It stands still until it would look for its parent, so that it trains no further meanwhile.
    """
    parent.kill()
    time.sleep(PARENT_LOOK)
    assert lives(kernel), "a kernel that stands still cannot have ended"
    kernel.resume()
    return all_ended([kernel])


def killed_worker(batch: BatchProcess, job: Job, epoch: int) -> bool:
    """Kills the worker of a run in mid-run; whether its kernel ended by itself."""
    kernel = stopped_in(batch, job, epoch)
    worker = kernel.parent()
    assert worker.ppid() == batch.process.pid, "the batch's own child is a worker"
    return orphaned(kernel, worker)


def killed_kernels(batch: BatchProcess, job: Job, epochs: list[int]) -> list[int]:
    """Kills one kernel of a run after the other; the epochs that were trained by then."""
    found, kernel = [], None
    for epoch in epochs:
        kernel = stopped_in(batch, job, epoch, but=kernel.pid if kernel else 0)
        found.append(trained(job.run))
        kernel.kill()
    return found
