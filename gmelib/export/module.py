"""A network with all that comes before and after it: 8-bit faces in, probabilities out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmelib.batches import View, make_view
from gmelib.checkpoint import load_weights
from gmelib.config import Config, InputError
from gmelib.data import native_faces
from gmelib.degrade import to_grey
from gmelib.record import Run


class Signature(NamedTuple):
    """What an exported network is given: uint8 (N, channels, size, size), N free."""

    channels: int
    size: int


class Deployable(nn.Module):
    """uint8 faces (N, C, S, S) -> probabilities (N, classes) float32.

    Args:
        model: a network of the workbook; put into eval mode, without gradients.
        view: makes the network's input of native faces (:func:`gmelib.batches.make_view`).
        flip_average: average the log-probabilities with those of the mirrored faces.
    """

    def __init__(self, model: nn.Module, view: View, *, flip_average: bool):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.view, self.flip_average = view, flip_average
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        if self.flip_average:  # in one pass, so that the graph holds the network once
            faces = torch.cat([faces, faces.flip(-1)])
        logits = self.model(self.view(faces)).logits.float()
        if self.flip_average:
            logits = logits.log_softmax(1).unflatten(0, (2, -1)).mean(0)
        return logits.softmax(1)


def deployable(
    run: Run, *, flip_average: bool | None = None, grey: bool = False
) -> tuple[Deployable, tuple[str, ...]]:
    """A finished teacher's or student's network on the CPU, and its classes.

    Args:
        flip_average: None is as the run says.
        grey: it is given colour faces and turns them grey first, as its training faces were.
    """
    model, cfg, classes = load_weights(run.folder / "model.safetensors")
    flip = cfg.flip_average if flip_average is None else flip_average
    view = make_view(cfg, run.stage)
    return Deployable(model, _of_grey(view) if grey else view, flip_average=flip), classes


def _of_grey(view: View) -> View:
    return lambda faces: view(to_grey(faces))


def signature(
    cfg: Config,
    stage: str,
    *,
    size: int = 0,
    channels: int = 0,
    native: tuple[int, int] | None = None,
) -> Signature:
    """What the exported network is to be given; 0 is the default.

    A student takes faces of ``lr_size``, or larger ones, which it shrinks first; a teacher takes
    those of its data set.

    Args:
        native: channels and side of the data set's faces, where they are known.

    Raises:
        InputError: no default, or a size below a student's lr_size.
    """
    known = native or native_faces(cfg)
    size = size or (known[1] if stage == "teacher" else cfg.lr_size)
    if not size:
        raise InputError(
            f"{cfg.dataset}: a teacher takes faces of its data set's size, which is not known here;"
            " give it in px, as --size 100, or the data, as --data-root data"
        )
    if stage != "teacher" and size < cfg.lr_size:
        raise InputError(
            f"--size {size}: this student reads faces of {cfg.lr_size} px; expected as "
            "many or more, for enlarging makes no low resolution"
        )
    return Signature(channels or known[0], size)
