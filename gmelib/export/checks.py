"""Whether exported files say what the workbook says, and what 8 bit costs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmelib.batches import predict_logits
from gmelib.config import InputError
from gmelib.export.graphs import INPUT
from gmelib.export.module import Deployable, Signature

TOLERANCE = 1e-5  # of a probability: float32 adds in another order
BATCHES = (1, 7, 64)  # one, a prime, and a full one

Predict = Callable[[Tensor], np.ndarray]  # faces (N, C, S, S) uint8 -> probabilities (N, classes)


def by_torch(module: Callable[[Tensor], Tensor]) -> Predict:
    def predict(faces: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return module(faces).numpy()

    return predict


def by_onnx(session: Any) -> Predict:
    return lambda faces: session.run(None, {INPUT: faces.numpy()})[0]


def reference(module: Deployable, faces: Tensor) -> np.ndarray:
    """The workbook's own probabilities of these faces (N, classes), as its records are made."""
    logits = predict_logits(module.model, faces, module.view, flip_average=module.flip_average)
    return logits.double().softmax(1).float().numpy()


def noise(count: int, taken: Signature) -> Tensor:
    """Grey levels at random, (count, channels, size, size) uint8: an input far from any face."""
    shape = (count, taken.channels, taken.size, taken.size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def greatest_differences(
    module: Deployable, backends: dict[str, Predict], faces: Tensor
) -> dict[str, float]:
    """How far each backend's probabilities are from the workbook's, at most, in every batch size.

    Args:
        faces: 64 or more of some kind; batches are its first ones.

    Raises:
        InputError: one is further than :data:`TOLERANCE`, or gives no probabilities.
    """
    expected = reference(module, faces[: max(BATCHES)])
    found = {}
    for name, predict in backends.items():
        gaps = [np.abs(predict(faces[:n]) - expected[:n]).max() for n in BATCHES]
        found[name] = float(max(gaps))
        if not found[name] <= TOLERANCE:  # NaN is refused too
            raise InputError(
                f"export: {name} differs from the network by {found[name]:.2g} in a probability; "
                f"expected at most {TOLERANCE:g}; nothing was written"
            )
    return found


def in_batches(predict: Predict, faces: Tensor, batch_size: int = 64) -> np.ndarray:
    return np.concatenate([predict(batch) for batch in faces.split(batch_size)])


def cost_of_eight_bits(
    full: np.ndarray, small: np.ndarray, labels: Sequence[int] | None
) -> dict[str, float]:
    """What 8-bit probabilities (N, classes) lose against float32's, as shares of the N faces.

    ``agreement`` of the two answers, greatest and mean ``difference`` of a probability, and with
    labels both accuracies and ``accuracy_loss`` (positive: 8 bit is worse).
    """
    gap = np.abs(full - small)
    found = {
        "faces": len(full),
        "agreement": float((full.argmax(1) == small.argmax(1)).mean()),
        "greatest_difference": float(gap.max()),
        "mean_difference": float(gap.mean()),
    }
    if labels is None:
        return found
    right, kept = (float((p.argmax(1) == labels).mean()) for p in (full, small))
    return found | {
        "accuracy_float32": right,
        "accuracy_int8": kept,
        "accuracy_loss": right - kept,
    }
