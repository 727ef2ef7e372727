"""gmelib.worker with stand-ins for the kernels: which failures of a notebook are tried again."""

import pytest
import tiny
from nbclient.exceptions import DeadKernelError

from gmelib import worker
from gmelib.jobs import TEACHER, Job
from gmelib.run import NotebookFailed

DEATHS = [
    DeadKernelError("Kernel died"),
    RuntimeError("Kernel died before replying to kernel_info"),
    RuntimeError("Kernel didn't respond in 60 seconds"),
]


def attempts(tmp_path, monkeypatch, cause: Exception, *, failures: int, retries: int):
    """What becomes of a job whose notebook fails so often, and how often it is started."""
    started = []

    def run(path, parameters, *, progress):
        started.append(path)
        if len(started) <= failures:
            raise NotebookFailed("a notebook failed: why; see x.ipynb", "Any") from cause
        return path.with_name("report.html")

    monkeypatch.setattr(worker, "run", run)
    monkeypatch.setattr(worker, "check_parameters", lambda path, given: given)
    state, _ = worker._attempts(Job(TEACHER, tiny.config(tmp_path)), retries)
    return state, len(started)


@pytest.mark.parametrize("cause", DEATHS, ids=str)
def test_a_kernel_that_dies_is_started_again_also_when_it_dies_at_its_start(
    tmp_path, monkeypatch, cause
):
    assert attempts(tmp_path, monkeypatch, cause, failures=2, retries=2) == ("done", 3)
    assert attempts(tmp_path, monkeypatch, cause, failures=9, retries=1) == ("failed", 2)


def test_another_error_is_not_tried_again(tmp_path, monkeypatch):
    cause = RuntimeError("no event loop")
    assert attempts(tmp_path, monkeypatch, cause, failures=9, retries=5) == ("failed", 1)
