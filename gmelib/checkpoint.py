"""Checkpoints: ``last.pt`` to resume a run, ``model.safetensors`` to share its network.

Both are read without unpickling code: torch.load with ``weights_only`` and safetensors.
"""

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.fields import PRIVATE
from gmelib.methods import build_model
from gmelib.record import Run, unwritable, write_atomic

KEYS = {"run", "data", "epoch", "model", "optimizer", "average", "best", "history", "sessions"}
FILED = ("[0-9][0-9]_*.ipynb", "[0-9][0-9]_*.html", "report.html")  # by gmelib.filing


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes ``last.pt`` atomically and keeps the one before it as ``previous.pt``."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    last = folder / "last.pt"
    fresh = folder / "next.pt"
    write_atomic(fresh, buffer.getvalue())
    try:
        if last.exists():
            os.replace(last, folder / "previous.pt")
        os.replace(fresh, last)
        for left in folder.glob(".next.pt.*.tmp"):  # by processes that were killed while they wrote
            left.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(last, error) from error


def load_checkpoint(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The newest readable checkpoint of a broken run, or None where there is none.

    A damaged ``last.pt`` is passed over, with a warning, for the one before it. One that the
    system does not give out is not: training would begin anew and write over it.

    Raises:
        InputError: if a checkpoint belongs to another run, or the system does not let it be read.
    """
    for name in ("last.pt", "next.pt", "previous.pt"):
        path = folder / name
        state, damage = _read(path)
        if damage:
            warnings.warn(
                f"{path}: cannot be read as a checkpoint ({damage}); "
                "going back to the one before it, or to the start",
                stacklevel=2,
            )
        if state is None:
            continue
        if state["run"] != run_id:
            raise InputError(
                f"{path}: is the checkpoint of run {state['run']}, expected {run_id}; "
                "put it back where it belongs or delete it"
            )
        return state
    return None


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint and what is wrong with it; None and nothing where there is no file."""
    try:
        content = path.read_bytes()  # first, so that what torch raises is about the content
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None, ""
    except (OSError, MemoryError) as error:
        raise _unread(path, error) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        if "tried to allocate" in str(error).lower():  # its own kind of MemoryError
            raise _unread(path, error) from None
        return None, type(error).__name__
    is_whole = isinstance(state, dict) and set(state) >= KEYS
    return (state, "") if is_whole else (None, "not a checkpoint")


def _unread(path: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else "not enough memory"
    return InputError(
        f"{path}: cannot be read ({reason or type(error).__name__}); expected a checkpoint that "
        "this user may read and memory to hold it; mend that and start again, it goes on, or "
        "delete the file to go back to the one before it"
    )


def discard(run: Run) -> None:
    """Removes what shows a finished run, its training state, and last of all its record.

    If what is made instead is broken off before its report, the old one does not stand for it.
    """
    for pattern in FILED:
        for path in run.folder.glob(pattern):
            path.unlink(missing_ok=True)
    for name in ("last.pt", "next.pt", "previous.pt", "run.json"):
        (run.folder / name).unlink(missing_ok=True)


def save_weights(path: Path, model: nn.Module, cfg: Config, classes: tuple[str, ...]) -> None:
    """Writes the network with its configuration and classes in the header."""
    header = {"config": cfg.model_dump_json(exclude=PRIVATE), "classes": json.dumps(classes)}
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_atomic(path, save(tensors, header))


def load_weights(path: Path) -> tuple[nn.Module, Config, tuple[str, ...]]:
    """Reads a network back: (model in eval mode on the CPU, its configuration, its classes).

    Raises:
        InputError: if the file is missing, damaged, or not one that this workbook wrote.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such weights; expected model.safetensors of a finished run. Train the run "
            "again (force = True) or name another one"
        )
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        cfg = Config.make(**json.loads(header["config"]))
        classes = tuple(json.loads(header["classes"]))
        if not classes or not set(classes) <= set(EXPRESSIONS):
            raise ValueError(f"its classes are {classes}")
        model = build_model(cfg, len(classes))
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["no more is known"])[0]
        raise InputError(
            f"{path}: cannot be read as a GME-Net network ({type(error).__name__}: {reason}); "
            "expected the model.safetensors of a finished run of this version; copy it again or "
            "train the run again with force = True"
        ) from None
    return model.eval(), cfg, classes


def load_model(run: Run) -> nn.Module:
    """The network of a finished run, in eval mode on the CPU."""
    return load_weights(run.folder / "model.safetensors")[0]
