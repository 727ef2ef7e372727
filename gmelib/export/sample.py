"""The faces on which an export is checked, calibrated and measured."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gmelib import degrade
from gmelib.config import Config, InputError
from gmelib.data import FaceSet, load_faces
from gmelib.export.module import Signature
from gmelib.record import Run
from gmelib.synthetic import draw_faces

CALIBRATION = 512  # training faces that the ranges of 8-bit activations are learnt from
DRAWN = 256  # faces drawn in place of a data set, to check on; as many others to calibrate with
DRAWN_SIDE = 112  # px


class Sample(NamedTuple):
    """Faces as the exported network takes them, (n, channels, size, size) uint8 each."""

    test: Tensor
    labels: np.ndarray | None  # of the test faces; None for drawn ones, on which nothing is known
    calibration: Tensor
    told: str  # what the test faces are


def find_faces(run: Run, data_root: str | None) -> FaceSet | None:
    """The faces that a run was made from; None where they are not here.

    Args:
        data_root: where they must lie; None looks in the usual folder.

    Raises:
        InputError: ``data_root`` does not hold them.
    """
    try:
        faces = load_faces(run.cfg.replace(**({"data_root": data_root} if data_root else {})))
        made = run.facts()["data"]["fingerprint"]
        if faces.fingerprint != made:
            raise InputError(
                f"{run.id}: was made from other data (fingerprint {made[:8]}, here "
                f"{faces.fingerprint[:8]}); give the folder of that data set, or none"
            )
    except InputError as error:
        if data_root:
            raise
        print(f"note: drawn faces stand in for {run.cfg.dataset}: {error}")
        return None
    return faces


def take(faces: FaceSet | None, cfg: Config, taken: Signature) -> Sample:
    """Test and calibration faces of a data set, or drawn ones where it is not here."""
    if faces is None:
        count = 2 * DRAWN
        drawn = _fitted(draw_faces(count, size=DRAWN_SIDE, seed=0).images, cfg, taken)
        return Sample(drawn[:DRAWN], None, drawn[DRAWN:], "drawn faces")
    train, test = faces.indices("train"), faces.indices("test")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return Sample(
        _fitted(faces.images[test], cfg, taken),
        faces.labels[test].numpy(),
        _fitted(faces.images[train[order[:CALIBRATION]]], cfg, taken),
        f"test faces of {faces.name}",
    )


def _fitted(images: Tensor, cfg: Config, taken: Signature) -> Tensor:
    """Faces of the size and with the channels that the network takes.

    Shrunk by the run's own kernel, as its low-resolution faces are.
    """
    chunks = [degrade.resize(chunk, taken.size, cfg.kernel) for chunk in images.split(1024)]
    sized = torch.cat(chunks)
    if taken.channels == sized.shape[1]:
        return sized
    if taken.channels == 1:
        return degrade.to_grey(sized)
    return sized.expand(-1, taken.channels, -1, -1).contiguous()
