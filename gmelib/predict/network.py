"""A trained network with what it must be given: faces as it saw them in training.

A network's *view* is the resolution that its training faces had. In the ``lr`` view (students) a
face larger than ``lr_size`` is shrunk to it by the run's own kernel, whatever its size; a smaller
one is enlarged to it, with a warning, for the network has never seen so little. Then it is restored
to the input size and blurred, as in training. In the ``hr`` view (teachers, and students of
``train_on`` hr) a face is resized to the input size; below three quarters of the training faces'
side there is a warning. A network of grey faces (as FER2013's) is given grey ones.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gmelib import degrade
from gmelib.batches import predict_logits
from gmelib.checkpoint import load_weights
from gmelib.compute import pick_device, pick_precision
from gmelib.config import Config, InputError, resolve
from gmelib.data import native_faces
from gmelib.record import PUBLISHED, Run, read_facts

VIEWS = ("auto", "hr", "lr")
WEIGHTS = "model.safetensors"
SMALL = 0.75  # hr: a face below this share of the training faces' side is given a warning


@dataclass(frozen=True)
class Predictor:
    """A network in eval mode on its device, and the faces that it was trained on.

    name: the run's id; weights: SHA-256 of its file; channels, native: of the faces that training
    started from, 1 (grey) or 3 and their side in px.
    """

    model: nn.Module
    cfg: Config
    classes: tuple[str, ...]
    view: Literal["hr", "lr"]
    name: str
    weights: str
    channels: int
    native: int

    @property
    def size(self) -> int:
        """Side in px to which a face is brought: ``lr_size``, or the input size."""
        return self.cfg.lr_size if self.view == "lr" else self.cfg.input_size

    @property
    def mode(self) -> Literal["L", "RGB"]:
        return "L" if self.channels == 1 else "RGB"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def precision(self) -> str:
        """Of the network's arithmetic: float32, bfloat16 or float16."""
        dtype = pick_precision(self.cfg.precision, self.device)
        return str(dtype).removeprefix("torch.")

    def see(self, square: np.ndarray) -> np.ndarray:
        """A square face (S, S) or (S, S, 3) uint8 at its own resolution, brought to `size`.

        Returns (1, C, size, size) uint8, or (2, C, size, size) with the mirrored face where the
        run averages both. Pillow does it, to the bit as :mod:`gmelib.degrade` in training.
        """
        face = Image.fromarray(square).convert(self.mode)
        views = [face]
        if self.cfg.flip_average:
            views.append(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        kernel = self.cfg.kernel if self.view == "lr" else "bicubic"
        sides = (self.size, self.size)
        small = [np.asarray(v.resize(sides, Image.Resampling[kernel.upper()])) for v in views]
        return np.stack([s.reshape(*sides, -1).transpose(2, 0, 1) for s in small])

    def warning(self, side: float) -> str:
        """What is doubtful about a face that measures so many px; empty if nothing is."""
        if self.view == "lr" and round(side) < self.size:
            return f"face of {side:.3g} px, enlarged to {self.size} px"
        if self.view == "hr" and side < SMALL * self.native:
            return f"face of {side:.3g} px, trained on {self.native} px"
        return ""

    def probabilities(self, seen: np.ndarray) -> np.ndarray:
        """(N, K) float64 of faces (N, 1 or 2, C, size, size) that :meth:`see` has made."""
        images = torch.from_numpy(seen)
        logits = predict_logits(
            self.model,
            images.flatten(0, 1),
            self._finish,
            dtype=pick_precision(self.cfg.precision, self.device),
            batch_size=images.shape[0] * images.shape[1],
        )
        both = logits.unflatten(0, images.shape[:2]).log_softmax(2)
        return both.mean(1).double().softmax(1).numpy()

    def _finish(self, images: Tensor) -> Tensor:
        if self.view == "hr":
            return degrade.normalize(images)
        cfg = self.cfg
        return degrade.normalize(
            degrade.restore(
                images, cfg.input_size, kernel=cfg.kernel, blur_sigma=cfg.blur_sigma
            )
        )  # fmt: skip


def load_predictor(
    run: Run | Predictor | str | Path, *, view: str = "auto", device: str = "auto"
) -> Predictor:
    """The network of a finished run.

    run: a Run, its folder (also relative to the project root), its file model.safetensors, or its
    id, looked for in outputs/ and outputs/published/. view: hr or lr; auto is what the network was
    trained on (``lr`` after training on both). Raises InputError where there is no such run, or
    where only a record could tell the view and there is none.
    """
    if isinstance(run, Predictor):
        return run
    if view not in VIEWS:
        raise InputError(f"view: expected one of {', '.join(VIEWS)}, got {view!r}")
    folder = run.folder if isinstance(run, Run) else _folder_of(run)
    model, cfg, classes = load_weights(folder / WEIGHTS)
    model = model.to(pick_device(device), memory_format=torch.channels_last)
    facts = read_facts(folder) if (folder / "run.json").is_file() else None
    channels, side = native_faces(cfg, facts)
    return Predictor(
        model=model,
        cfg=cfg,
        classes=classes,
        view=_view_of(folder, cfg, facts) if view == "auto" else view,
        name=folder.name,
        weights=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        channels=channels,
        native=side or cfg.input_size,
    )


def _folder_of(run: str | Path) -> Path:
    given = Path(run)
    given = given.parent if given.name == WEIGHTS else given
    for place in (given.resolve(), resolve(given)):
        if place.is_dir():
            return place
    roots = (resolve("outputs"), PUBLISHED)
    found = sorted({p.parent for root in roots for p in root.glob(f"*/*/{given}/{WEIGHTS}")})
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"run {run}: is in several places; name one: {', '.join(map(str, found))}")
    raise InputError(
        f"run {run}: no such folder, and no run of that id in outputs/ or outputs/published/; "
        f"expected the folder of a finished run with its {WEIGHTS}"
    )


def _view_of(folder: Path, cfg: Config, facts: dict[str, Any] | None) -> Literal["hr", "lr"]:
    if facts is None:
        raise InputError(
            f"{folder}: holds no run.json, which tells teacher from student; copy it there, or "
            "give the view (hr for a teacher, lr for a student)"
        )
    is_high = facts["stage"] == "teacher" or cfg.train_on == "hr"
    return "hr" if is_high else "lr"
