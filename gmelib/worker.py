"""What a worker of a batch does with one job, and the workers of this machine.

A worker runs one notebook at a time, in a kernel of its own: papermill's working folder belongs to
the process, and a kernel that dies takes nothing with it.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import LocalCluster, get_worker
from nbclient.exceptions import DeadKernelError

from gmelib import lock
from gmelib.config import InputError
from gmelib.grid import Job, notebook_path
from gmelib.record import unwritable
from gmelib.run import UNFINISHED, NotebookFailed, check_parameters, run

_one_at_a_time = threading.Lock()
# Dask sets it for its workers, whose kernels would inherit it: every tensor that is freed would go
# back to the system at once, and training take twice as long (measured: 270 against 155 faces/s)
DASKS_MALLOC = "MALLOC_TRIM_THRESHOLD_"
START_FAILED = re.compile("Kernel (died before replying|didn't respond in)")  # jupyter_client's


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    ``state`` is ``done`` (made now), ``loaded`` (was done), ``failed``, ``skipped`` (what it needs
    failed) or ``held`` (another process works on it: ask again later).
    """

    key: str
    state: str
    message: str = ""  # the report's path, or why not
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.state in ("done", "loaded")


def work(job: Job, parameters: dict[str, Any], retries: int, needs: Sequence[Outcome]) -> Outcome:
    """Runs a job's notebook, unless it is done, held, or lacks what it needs.

    Never raises for what is wrong with the job: that is the outcome's message. A kernel that dies
    is started again, at most ``retries`` times; training goes on from its last checkpoint.

    Args:
        parameters: over the job's own; where files lie on this machine, threads.
        needs: outcomes of the jobs before it.
    """
    for outcome in needs:
        if not outcome.is_good:
            return Outcome(job.key, "skipped", f"needs {outcome.key}")
    job = replace(job, cfg=job.cfg.replace(**parameters))
    with _one_at_a_time:
        os.environ.pop(DASKS_MALLOC, None)
        name = get_worker().name
        if isinstance(name, int):  # of a local cluster: 0, 1, ...
            pin_gpu(name, torch.cuda.device_count())
        started = time.perf_counter()
        state, message = _claimed(job, retries)
        return Outcome(job.key, state, message, time.perf_counter() - started)


def claim_of(job: Job) -> Path:
    """The lock of the worker that runs a job's notebook.

    It stands until the report is filed; the run's own lock, taken in the kernel, stands while it is
    trained. Without it two batches would start kernels for the same run, and both write its report.
    """
    name = re.sub(r"[^\w.-]+", "-", job.key)
    return job.cfg.path("out_root") / UNFINISHED / f"{name}.lock"


def holder_of(job: Job) -> str | None:
    """Who works on a job, if anybody does: a batch's worker, or a kernel anybody started."""
    return lock.holder(claim_of(job)) or (job.run.holder if job.run else None)


def _claimed(job: Job, retries: int) -> tuple[str, str]:
    if job.state == "done":
        return "loaded", job.run.label
    claim = claim_of(job)
    try:
        lock.take(claim)
    except lock.RunLocked:
        return "held", holder_of(job) or "another process, a moment ago"
    except OSError as error:
        return "failed", str(unwritable(claim, error))
    try:
        return _attempts(job, retries)
    finally:
        lock.release(claim)


def _attempts(job: Job, retries: int) -> tuple[str, str]:
    for attempt in range(retries + 1):
        made = job.run
        if made is not None:
            if job.state == "done":
                return "loaded", made.label
            if made.holder:
                return "held", made.holder
        path = notebook_path(job.notebook)
        try:
            report = run(path, check_parameters(path, job.parameters), progress=False)
            return "done", str(report)
        except NotebookFailed as error:
            if error.name == lock.RunLocked.__name__:
                return "held", "taken meanwhile"
            if not _is_dead_kernel(error.__cause__) or attempt == retries:
                return "failed", str(error)
        except InputError as error:
            return "failed", str(error)
    raise AssertionError("the last attempt returns")


def _is_dead_kernel(error: BaseException | None) -> bool:
    """Whether a kernel died in a cell, or while it started: Jupyter only has a text for that."""
    is_start = isinstance(error, RuntimeError) and START_FAILED.match(str(error))
    return isinstance(error, DeadKernelError) or bool(is_start)


# -- workers of this machine ----------------------------------------------------------------------


def default_workers() -> int:
    """One a GPU, or one for every two CPU cores."""
    return torch.cuda.device_count() or max(1, (os.cpu_count() or 1) // 2)


def local_cluster(workers: int = 0, *, retries: int = 2) -> LocalCluster:
    """Worker processes on this machine.

    They and their kernels end with this process, also when it is killed.

    Args:
        workers: how many; 0 is :func:`default_workers`.
        retries: how many workers may be lost with one job before it counts as failed.
    """
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": retries,
            "distributed.comm.timeouts.connect": "60s",  # a busy machine starts workers slowly
            "distributed.worker.profile.enabled": False,  # or it looks at the stack every 10 ms
        }
    )
    return LocalCluster(
        n_workers=workers or default_workers(),
        threads_per_worker=1,
        memory_limit=0,  # the kernels' memory is not the worker's
        dashboard_address=":0",  # any free port: two batches may run on a machine
        silence_logs=logging.CRITICAL,
    )


def pin_gpu(number: int, gpus: int) -> None:
    """Lets this worker's kernels see one GPU, in turn; does nothing where there is none."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = seen.split(",") if seen else [str(i) for i in range(gpus)]
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
