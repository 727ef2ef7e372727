"""How a training run went, epoch by epoch: on disk and in a line."""

from typing import Any

import pandas as pd
import torch

from gmelib import processes
from gmelib.compute import device_name
from gmelib.fields import PRIVATE
from gmelib.record import Run, code_revision, now, write_atomic, write_json


def new_session(device: torch.device, dtype: torch.dtype, first_epoch: int) -> dict[str, Any]:
    """What a record says of a stretch of training without a break; its seconds grow by epochs."""
    return {
        "started": now(),
        "revision": code_revision(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),  # plain, or weights_only refuses it
        "processes": processes.world(),
        "first_epoch": first_epoch,
        "seconds": 0.0,
    }


def write_history(run: Run, rows: list[dict[str, float]], **facts: Any) -> None:
    """``history.jsonl``, and ``training.json`` with ``facts`` about the run so far."""
    lines = pd.DataFrame(rows).to_json(orient="records", lines=True)
    write_atomic(run.folder / "history.jsonl", lines.encode())
    facts |= {"config": run.cfg.model_dump(exclude=PRIVATE)}
    write_json(run.folder / "training.json", facts)


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """One epoch for people: the loss and its parts, accuracies, seconds."""
    kd = f", kd {row['kd']:.3f}" if "kd" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.3f} (ce {row['ce']:.3f}{kd}), "
        f"train {row['train_accuracy']:.1%}, validation {row['validation_accuracy']:.1%}, "
        f"{row['seconds']:.0f} s"
    )
