"""Whole tables overnight: the runs of a grid file as Dask tasks.

    python -m gmelib.batch params/grids/ablation.yaml --dry-run     what there is, what it takes
    python -m gmelib.batch params/grids/ablation.yaml --workers 2
    python -m gmelib.batch params/grids/ablation.yaml --scheduler tcp://host:8786

Each run is its notebook, executed by papermill in a process of its own and filed with its report. A
run that is done is skipped, a broken one resumed, one that another batch works on waited for; a
student waits for its teacher; a run whose worker is lost goes to another. One run that fails stops
only those that need it. Exit status: 0 all done, 1 some failed (a table says which and where their
notebooks lie), 2 nothing was started, 130 stopped. Stopped or killed, the same command goes on.
"""

import argparse
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from distributed import CancelledError, Client, Future, wait
from tqdm.auto import tqdm

from gmelib.arguments import read_parameters
from gmelib.config import InputError
from gmelib.grid import read_jobs
from gmelib.index import write_index
from gmelib.jobs import Job
from gmelib.overview import overview, results, trained_epochs
from gmelib.run import check_kernel
from gmelib.worker import Outcome, default_workers, holder_of, local_cluster, work

CONNECT = "20s"  # longest wait for a scheduler
POLL = 5  # seconds between looks at runs that other processes hold, and at epochs


# -- running --------------------------------------------------------------------------------------


class Batch:
    """Jobs on their way through a Dask cluster, in their order.

    A job is submitted when a worker is free for it, so that the first jobs come first and none
    waits behind a long one while another worker idles.
    """

    def __init__(self, jobs: Sequence[Job], client: Client, *, retries: int, threads: int):
        self.jobs = {job.key: job for job in jobs}
        self.client, self.retries = client, retries
        self.parameters = {"num_threads": threads} if threads else {}
        self.futures: dict[str, Future] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.held: dict[str, str] = {}  # by other processes: key -> by whom
        self.token = uuid.uuid4().hex  # or Dask would answer with what another batch found
        self.submitted = 0

    @property
    def open(self) -> list[Job]:
        return [job for key, job in self.jobs.items() if key not in self.outcomes]

    @property
    def running(self) -> list[Job]:
        return [job for job in self.open if job.key in self.futures]

    def workers(self) -> int:
        """How many have joined the scheduler; :class:`InputError` if it was lost."""
        try:
            return len(self.client.nthreads())
        except (OSError, AttributeError):  # the latter: the client has given it up
            raise _lost(self.client.status) from None

    def submit_next(self) -> None:
        """Gives free workers the next jobs that wait for nothing."""
        workers = max(1, self.workers())
        for job in self.open:
            if len(self.running) >= workers:
                return
            if job.key in self.futures or not all(key in self.outcomes for key in job.needs):
                continue
            if job.key in self.held and holder_of(job):
                continue
            self.submit(job)

    def submit(self, job: Job) -> None:
        self.held.pop(job.key, None)
        self.submitted += 1
        self.futures[job.key] = self.client.submit(
            work,
            job,
            {} if job.cfg.num_threads else self.parameters,
            self.retries,
            [self.outcomes[key] for key in job.needs],
            key=f"{job.key}-{self.submitted}-{self.token}",
            pure=False,
        )

    def collect(self) -> Iterator[Outcome]:
        """Waits a little; yields what has ended since."""
        started, running = time.monotonic(), self.running
        with suppress(TimeoutError, CancelledError):  # the latter: a lost scheduler, told below
            wait([self.futures[j.key] for j in running], POLL, return_when="FIRST_COMPLETED")
        for job in running:
            if not self.futures[job.key].done():
                continue
            # given up, or Dask would run a job again whose result was lost with a worker
            outcome = _outcome(job, self.futures.pop(job.key))
            if outcome.state == "held":
                self.held[job.key] = outcome.message
                continue
            self.outcomes[job.key] = outcome
            yield outcome
        if not running:  # all that is left is held
            time.sleep(max(0, POLL - (time.monotonic() - started)))

    def progress(self) -> str:
        """Which runs are at which epoch, and which are held."""
        if not self.workers():
            return "no worker has joined the scheduler yet: start one with dask worker ADDRESS"
        parts = [f"{j.what} {trained_epochs(j)}/{j.cfg.epochs}" for j in self.running]
        parts += [f"{self.jobs[key].what} is held by {who}" for key, who in self.held.items()]
        return "; ".join(parts[:4])


def _outcome(job: Job, future: Future) -> Outcome:
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        error = future.exception()
        lost = type(error).__name__ == "KilledWorker"
        reason = "its worker was lost too often" if lost else f"{type(error).__name__}: {error}"
        folder = f"; see {job.run.label}" if job.run is not None else ""
        return Outcome(job.key, "failed", f"{reason.splitlines()[0]}{folder}")
    raise _lost(future.status)


def _lost(status: str) -> InputError:
    return InputError(
        f"the Dask scheduler was lost ({status}); start the same command again: finished runs are "
        "skipped, broken ones resumed"
    )


def run_jobs(
    jobs: Sequence[Job], client: Client, *, retries: int = 2, threads: int = 0
) -> dict[str, Outcome]:
    """Runs the jobs on a Dask client's workers, with a progress bar; their outcomes by key.

    Args:
        jobs: each after those it needs (:func:`gmelib.grid.read_jobs`).
        retries: of a run whose kernel dies.
        threads: CPU threads of each run; 0 is torch's choice.

    Raises:
        InputError: the scheduler was lost.
    """
    batch = Batch(jobs, client, retries=retries, threads=threads)
    with tqdm(total=len(batch.jobs), unit="run", mininterval=1) as bar:
        while batch.open:
            batch.submit_next()
            for outcome in batch.collect():
                bar.update()
                if outcome.state != "loaded":
                    bar.write(f"{outcome.state}: {batch.jobs[outcome.key].name} {outcome.message}")
                    with suppress(InputError):
                        write_index(jobs[0].cfg.out_root)
            # in a log file every refresh is a line: there only when an epoch has passed
            text, shown = batch.progress(), bar.postfix
            bar.set_postfix_str(text, refresh=sys.stderr.isatty() or text != shown)
    return {key: batch.outcomes[key] for key in batch.jobs}


def run_grid(
    *paths: str | Path,
    client: Client | None = None,
    workers: int = 0,
    threads: int = 0,
    retries: int = 2,
    **given: Any,
) -> pd.DataFrame:
    """Runs grid files, also from a notebook cell; returns :func:`results`.

    Args:
        paths: grid files, the first one's runs first.
        client: of any Dask cluster whose machines share the project folder, such as
            ``dask_jobqueue.SLURMCluster(...).get_client()``; None: workers of this machine.
        workers: of this machine; 0 is one a GPU, or one for every two CPU cores.
        threads: CPU threads of each run; 0 shares out the cores of this machine.
        retries: of a run whose kernel dies or whose worker is lost.
        given: parameters over the files'.

    Raises:
        InputError: the grid is wrong; nothing was started.
    """
    jobs = read_jobs(*paths, **given)
    with _client(client, workers, retries) as connected:
        if client is None:
            threads = threads or max(1, (os.cpu_count() or 1) // (workers or default_workers()))
        outcomes = run_jobs(jobs, connected, retries=retries, threads=threads)
    return results(jobs, outcomes)


@contextmanager
def _client(client: Client | None, workers: int, retries: int) -> Iterator[Client]:
    if client is not None:
        yield client
        return
    with local_cluster(workers, retries=retries) as cluster, Client(cluster) as own:
        yield own


# -- command line ---------------------------------------------------------------------------------


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.batch", description="Run the runs of a grid file that are missing."
    )
    add = parser.add_argument
    add("grids", nargs="+", metavar="GRID.yaml", help="such as params/grids/ablation.yaml")
    add("-p", dest="pairs", metavar=("NAME", "VALUE"), nargs=2, action="append", default=[],
        help="over the files: dataset, rows, seeds, sweeps, or any parameter")  # fmt: skip
    add("--dry-run", action="store_true", help="list runs, their state and estimated hours")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster, as tcp://host:8786")
    add("--workers", type=int, default=0, help="on this machine; 0: one a GPU, or two cores each")
    add("--threads", type=int, default=0, help="CPU threads of each run; 0: the cores shared out")
    add("--retries", type=int, default=2, help="of a run whose kernel or worker dies")
    return parser.parse_args(argv)


def _dry_run(jobs: Sequence[Job], workers: int) -> None:
    table = overview(jobs)
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep="?"))
    hours, open_runs = table["hours"].sum(), (~table["state"].isin(["done"])).sum()
    unknown = " and those of unknown length" if table["hours"].isna().any() else ""
    print(
        f"{len(table)} runs, {open_runs} of them to do: about {hours:.1f} h of training{unknown}, "
        f"{hours / workers:.1f} h on {workers} worker(s)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        given = read_parameters([], args.pairs)
        check_kernel("python3")
        jobs = read_jobs(*args.grids, **given)
        if args.dry_run:
            _dry_run(jobs, args.workers or default_workers())
            return 0
        client = _connected(args.scheduler) if args.scheduler else None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options = {"client": client, "workers": args.workers, "threads": args.threads}
    try:
        table = run_grid(*args.grids, retries=args.retries, **options, **given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last finished epochs", file=sys.stderr)
        return 130
    return _told(table)


def _connected(address: str) -> Client:
    # when a scheduler is lost, one line says so, not Dask's attempts to reach it again
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers ({str(error).splitlines()[0]}); "
            "start one with: dask scheduler"
        ) from None


def _told(table: pd.DataFrame) -> int:
    """Prints what came out and what failed; the exit status."""
    shown = table.drop(columns="where")
    print(shown.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    failed = table[~table["outcome"].isin(["done", "loaded"])]
    for row in failed.to_dict("records"):
        name = f"{row['data set']} {row['what']} seed {row['seed']}"
        print(f"{row['outcome']}: {name}: {row['where']}", file=sys.stderr)
    return int(len(failed) > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Slurm and systemd stop
    sys.exit(main())
