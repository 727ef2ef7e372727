"""Finished runs without training: a record and predictions in which chosen faces are right."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gmelib.ablation import Cell
from gmelib.config import Config
from gmelib.evaluate import save_predictions
from gmelib.metrics import report
from gmelib.record import Run

CLASSES = ("anger", "happiness", "surprise")


def predictions(right: Sequence[bool], *, copies: int = 0) -> pd.DataFrame:
    """One row a face; the first ``copies`` faces also stand in training."""
    right = np.asarray(right, bool)
    label = np.arange(len(right)) % 3
    predicted = np.where(right, label, (label + 1) % 3)
    shares = np.where(predicted[:, None] == np.arange(3), 0.8, 0.1)
    table = pd.DataFrame({"id": np.arange(len(right)), "split": "test", "label": label,
                          "predicted": predicted})  # fmt: skip
    table["duplicate"] = np.arange(len(right)) < copies
    return table.assign(**{f"p_{name}": shares[:, i] for i, name in enumerate(CLASSES)})


def finish(
    cfg: Config, right: Sequence[bool], *, stage: str = "student", copies: int = 0,
    validation: float = 0.5, fingerprint: str = "ab" * 16,
) -> Run:  # fmt: skip
    """The finished run of ``cfg``, whose test faces are ``right`` or not."""
    run = Run.open(cfg.teacher() if stage == "teacher" else cfg, stage)
    table = predictions(right, copies=copies)
    run.folder.mkdir(parents=True, exist_ok=True)
    save_predictions(run.folder / "predictions.parquet", table)
    counts = {"train": {"anger": 300}, "validation": {"anger": 150, "happiness": 50}}
    run.finish(
        classes=CLASSES,
        metrics=report(table, resamples=100),
        validation={"best_epoch": 1, "best_accuracy": validation, "last_accuracy": validation},
        data={"fingerprint": fingerprint, "counts": counts, "duplicates": copies},
        complexity={"parameters": 10, "macs": 10},
        sessions=[{"device": "x, 1 threads"}],
        wall_seconds=360.0,
    )
    return run


def cells(students: dict, right: dict, **values) -> dict:
    """The cells of a table in which the students named in ``right`` are finished."""
    for key, faces in right.items():
        finish(students[key], faces, **values)
    return {key: Cell(Run.open(cfg, "student")) for key, cfg in students.items()}


def first(n: int, of: int = 200) -> np.ndarray:
    """The first ``n`` of ``of`` faces are right."""
    return np.arange(of) < n
