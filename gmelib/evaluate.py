"""Predictions of a trained network, and what it costs: parameters, MACs, faces a second."""

import copy
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gmelib.batches import channels_last, make_view, predict_logits
from gmelib.compute import pick_device, pick_precision, reproducible
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.record import write_atomic


def predict(
    model: nn.Module, faces: FaceSet, cfg: Config, stage: str, *, split: str = "test"
) -> pd.DataFrame:
    """A table of predictions (see :mod:`gmelib.metrics`) of a split, on the device of ``cfg``.

    Args:
        stage: ``teacher`` sees the faces in high resolution, any other stage in low resolution.
    """
    index = faces.indices(split)
    with reproducible(cfg):
        device = pick_device(cfg.device)
        logits = predict_logits(
            model.to(device, memory_format=torch.channels_last),
            faces.images[index],
            make_view(cfg, stage),
            flip_average=cfg.flip_average,
            dtype=pick_precision(cfg.precision, device),
        )
    probabilities = logits.double().softmax(1).float().numpy()
    rows = index.numpy()
    table = pd.DataFrame(
        {
            "id": faces.ids[rows],
            "split": split,
            "label": faces.labels[index].numpy(),
            "predicted": probabilities.argmax(1),
            "duplicate": faces.duplicate[rows],
        }
    )
    return table.assign(**{f"p_{c}": probabilities[:, k] for k, c in enumerate(faces.classes)})


def save_predictions(path: Path, table: pd.DataFrame) -> None:
    write_atomic(path, table.to_parquet(index=False))


def load_predictions(folder: Path) -> pd.DataFrame:
    """The test predictions of a finished run; :class:`InputError` if they are not readable."""
    again = "restore it, or make the run again with force = True"
    return read_table(folder / "predictions.parquet", "predictions", again)


def read_table(path: Path, what: str, advice: str) -> pd.DataFrame:
    """A parquet file beside a record; :class:`InputError` naming it, and what to do, if damaged."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a table of {what} ({type(error).__name__}); {advice}"
        ) from None


def complexity(model: nn.Module, input_size: int) -> dict[str, Any]:
    """What one face costs: parameters and multiply-accumulates (MACs).

    ``parameters`` are all of the network's, ``macs`` those of torch's own counter (half its FLOPs:
    convolutions and matrix products). Where the extra `thop` is installed, ``parameters_thop`` and
    ``macs_thop`` are its counts, which reproduce the paper's column (Table 1).
    """
    device = next(model.parameters()).device
    face = torch.zeros(1, 3, input_size, input_size, device=device)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(face)
    costs: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counter.get_total_flops() // 2,
    }
    costs |= _thop(model, face)
    model.train(was_training)
    return costs


def _thop(model: nn.Module, face: torch.Tensor) -> dict[str, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thop warns about its own old calls
        try:
            from thop import profile
        except ImportError:
            return {}
        # thop leaves counters on the modules it has seen
        macs, parameters = profile(copy.deepcopy(model), (face,), verbose=False)
    return {"parameters_thop": int(parameters), "macs_thop": int(macs)}


def throughput(
    model: nn.Module, input_size: int, *, batch_size: int = 64, repeats: int = 5
) -> float:
    """Faces a second of the network alone, the median of some batches after one to warm up."""
    device = next(model.parameters()).device
    faces = channels_last(torch.zeros(batch_size, 3, input_size, input_size, device=device))
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(faces)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
    return batch_size / sorted(times[1:])[repeats // 2]
