"""What a method minimizes in a training step, and which faces a step holds: how methods differ.

:func:`gmelib.train.fit` is one loop for all. A method that trains in its own way gives a subclass
of :class:`Objective` (gmelib.methods): other losses, other views of a face, other faces in a step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from gmelib.batches import Batch, Plan, See, plan_epoch
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.losses import distillation_loss
from gmelib.model import Output

Forward = Callable[[Tensor], Output]  # (N, 3, S, S) in [-1, 1] -> Output, in the run's precision


class Options(BaseModel):
    """A method's own parameters (``method_options``); unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Terms(NamedTuple):
    """What a step gives."""

    loss: Tensor  # scalar, to be minimized
    logits: Tensor  # (M, classes), of the faces that the training accuracy is told of
    labels: Tensor  # (M,) theirs
    named: dict[str, Tensor]  # scalars for the history, such as "ce"; means over the faces


class Objective:
    """Cross-entropy, with a teacher also distillation (eqs 12-13); the base of all others.

    Args:
        cfg: of the run.
        options: the method's own, checked.
        classes: number of expressions.
        see: from native faces to what the network is given.
        teacher: frozen; native faces -> its Output on their high-resolution view.
    """

    views = 1  # forward-backward passes of the network for a face that is presented
    distils = True  # whether a teacher means anything to it

    def __init__(
        self,
        cfg: Config,
        options: Options,
        classes: int,
        see: See,
        *,
        teacher: Callable[[Tensor], Output] | None = None,
    ):
        if teacher is not None and not self.distils:
            raise InputError(
                f"parameter kd_weight = {cfg.kd_weight:g}: method {cfg.method!r} has its own "
                "losses and no distillation; set kd_weight = 0"
            )
        self.cfg, self.options, self.classes = cfg, options, classes
        self.see, self.teacher = see, teacher

    def plan(self, faces: FaceSet, indices: Tensor, generator: torch.Generator) -> Plan:
        """Which faces an epoch presents, in which order; from the generator alone.

        Args:
            indices: the training faces.
        """
        return plan_epoch(indices, self.cfg.train_on, generator)

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        """Forward pass and losses of one step; called twice a step under SAM.

        Random numbers come from torch's global generator, which is seeded for every epoch.
        """
        cfg = self.cfg
        output = forward(self.see(batch.images, batch.high))
        guide = None
        if self.teacher is not None:
            with torch.no_grad():
                guide = self.teacher(batch.images)
        named = distillation_loss(
            student=output,
            labels=batch.expected,
            teacher=guide,
            kd=cfg.kd,
            kd_weight=cfg.kd_weight,
            kd_reduction=cfg.kd_reduction,
            kd_maps=cfg.kd_maps,
            kd_temperature=cfg.kd_temperature,
            label_smoothing=cfg.label_smoothing,
        )
        return Terms(named.pop("loss"), output.logits, batch.labels, named)

    def end_epoch(self, network: nn.Module, faces: FaceSet, indices: Tensor) -> dict[str, float]:
        """Called after an epoch's last step; returns figures for the history.

        Args:
            network: the one that is evaluated (the averaged one under ``ema``).
        """
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside weights: tensors, numbers and strings only."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Takes what :meth:`state` gave."""
