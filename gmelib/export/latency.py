"""How long a batch takes, by each way of running a network."""

import statistics
import time
from collections.abc import Iterable, Mapping

import pandas as pd
from torch import Tensor

from gmelib.export.checks import Predict

BATCHES = (1, 8, 64)
SECONDS, LEAST, MOST = 2.0, 5, 100  # of repeating a batch, and how often at least and at most
COLUMNS = [
    "backend", "batch", "milliseconds", "cpu_milliseconds", "faces_per_second", "repeats",
]  # fmt: skip


def latency(backends: Mapping[str, Predict], faces: Tensor) -> pd.DataFrame:
    """Median time of a batch: a row for each backend and batch size.

    All are measured in this process, with the threads that they were given; a batch runs once
    before its time counts. Where the processor's time, summed over the threads, is far below the
    clock's, other processes kept it busy.

    Args:
        faces: (N, C, S, S) uint8, repeated where a batch needs more.

    Returns:
        backend, batch, milliseconds and cpu_milliseconds (of the batch), faces_per_second (by the
        clock), repeats.
    """
    rows = []
    for batch in BATCHES:
        given = faces[[i % len(faces) for i in range(batch)]]
        for name, predict in backends.items():
            seconds, busy = zip(*_repeat(predict, given), strict=True)
            clock, cpu = statistics.median(seconds), statistics.median(busy)
            rows.append((name, batch, 1000 * clock, 1000 * cpu, batch / clock, len(seconds)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _repeat(predict: Predict, faces: Tensor) -> Iterable[tuple[float, float]]:
    """Seconds by the clock and of the processor, time after time."""
    predict(faces)
    begun = time.perf_counter()
    for count in range(MOST):
        started, busy = time.perf_counter(), time.process_time()
        if count >= LEAST and started - begun > SECONDS:
            return
        predict(faces)
        yield time.perf_counter() - started, time.process_time() - busy
