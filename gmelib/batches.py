"""Faces on their way to the network: augmentation, what teacher and student see, batched logits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmelib import degrade, processes
from gmelib.compute import autocast
from gmelib.config import Config, InputError
from gmelib.data import FaceSet

View = Callable[[Tensor], Tensor]  # native uint8 faces (N, C, H, W) -> network input (N, 3, S, S)
See = Callable[[Tensor, Tensor], Tensor]  # native faces, (N,) which of them HR -> (N, 3, S, S)


class Plan(NamedTuple):
    """Which faces an epoch presents, in order; ``P`` presentations."""

    index: Tensor  # (P,) into the faces
    high: Tensor  # (P,) bool: presented in high resolution
    labelled: Tensor  # (P,) bool: False hides the label from a semi-supervised method


class Step(NamedTuple):
    """A part of a plan with its augmentation."""

    index: Tensor
    high: Tensor
    labelled: Tensor
    flips: Tensor  # (n,) bool
    shifts: Tensor  # (n, 2) down and right, native px


class Batch(NamedTuple):
    """Faces of a step on the device, flipped and shifted, before their resolution is lowered."""

    images: Tensor  # (n, C, H, W) uint8
    labels: Tensor  # (n,) class indices
    high: Tensor  # (n,) bool
    labelled: Tensor  # (n,) bool
    targets: Tensor | None = None  # (n, classes) distributions, where the faces have them

    @property
    def expected(self) -> Tensor:
        """What a cross-entropy compares the prediction with: the targets, or else the labels."""
        return self.labels if self.targets is None else self.targets


def make_batch(faces: FaceSet, step: Step, device: torch.device) -> Batch:
    """The faces of a step, augmented, on the device."""
    images = augment(faces.images[step.index], step.flips, step.shifts)
    told = [images, faces.labels[step.index], step.high, step.labelled]
    if "targets" in faces.extras:
        told.append(torch.from_numpy(faces.extras["targets"])[step.index])
    return Batch(*(t.to(device) for t in told))


def make_view(cfg: Config, stage: str) -> View:
    """What a network of this stage sees: the teacher HR, every student LR (paper 3.1)."""
    if stage == "teacher":
        return lambda images: degrade.high_resolution_view(images, cfg.input_size)
    return lambda images: degrade.low_resolution_view(
        images, cfg.input_size, cfg.lr_size, kernel=cfg.kernel, blur_sigma=cfg.blur_sigma
    )


def training_view(cfg: Config, stage: str) -> See:
    """What a network of this stage sees of faces some of which are presented in high resolution."""
    own, high_resolution = make_view(cfg, stage), make_view(cfg, "teacher")
    if stage == "teacher" or cfg.train_on == "lr":
        return lambda images, high: own(images)
    if cfg.train_on == "hr":
        return lambda images, high: high_resolution(images)
    # both are made of every face: a GPU need not wait to know how many are of either kind
    return lambda images, high: torch.where(
        high[:, None, None, None], high_resolution(images), own(images)
    )


def augment(images: Tensor, flips: Tensor, shifts: Tensor) -> Tensor:
    """Mirrors and shifts native faces (N, C, H, W), edges repeated.

    Done before degradation, so that teacher and student see the same face.

    Args:
        flips: (N,) bool.
        shifts: (N, 2) down and right, native pixels.
    """
    height, width = images.shape[-2:]
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    columns = (columns.gather(1, (torch.arange(width, device=images.device) - shifts[:, 1:])
                              .clamp(0, width - 1)))  # fmt: skip
    rows = (torch.arange(height, device=images.device) - shifts[:, :1]).clamp(0, height - 1)
    n = torch.arange(len(images), device=images.device)[:, None, None, None]
    c = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[n, c, rows[:, None, :, None], columns[:, None, None, :]]


def plan_epoch(indices: Tensor, train_on: str, generator: torch.Generator) -> Plan:
    """Every face once in random order; under ``lr+hr`` once in each resolution, all mixed."""
    count = len(indices)
    kinds = 2 if train_on == "lr+hr" else 1
    order = torch.randperm(kinds * count, generator=generator)
    high = order >= count if kinds == 2 else torch.full((count,), train_on == "hr")
    return Plan(indices[order % count], high, torch.ones(len(order), dtype=torch.bool))


def presentations(cfg: Config, stage: str, faces: int) -> int:
    """How many faces an epoch presents, of so many training faces."""
    return faces * (2 if stage != "teacher" and cfg.train_on == "lr+hr" else 1)


def epoch_steps(cfg: Config, epoch: int, plan: Callable[[torch.Generator], Plan]) -> list[Step]:
    """The steps of an epoch, from (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(epoch_seed(cfg.seed, epoch))
    planned = plan(generator)
    count = len(planned.index)
    flips = torch.rand(count, generator=generator) < (0.5 if cfg.flip else 0.0)
    shifts = torch.randint(-cfg.shift, cfg.shift + 1, (count, 2), generator=generator)
    parts = (t.split(cfg.batch_size) for t in (*planned, flips, shifts))
    # BatchNorm cannot learn from a single face
    return [Step(*step) for step in zip(*parts, strict=True) if len(step[0]) > 1]


def epoch_seed(seed: int, epoch: int, process: int = 0) -> int:
    # a CPU's generator reads the lower 32 bits alone; Knuth's factor spreads processes over them
    return seed * 100_003 + epoch + process * 2_654_435_761


def train_indices(cfg: Config, faces: FaceSet) -> Tensor:
    """The training faces, or the first ``limit_train`` of a fixed shuffle of them."""
    indices = faces.indices("train")
    if cfg.limit_train:
        order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
        indices = indices[order[: cfg.limit_train]]
    return indices


def require_two_faces(cfg: Config, name: str, count: int) -> None:
    """:class:`InputError` where BatchNorm would have less than two faces to learn from.

    Args:
        name, count: of the data set, and how many of its faces are trained on.
    """
    if count < 2:
        raise InputError(
            f"{name}: {count} face to train on (limit_train = {cfg.limit_train}); expected at "
            "least 2, which BatchNorm needs"
        )
    if cfg.batch_size < 2 * processes.world():
        raise InputError(
            f"parameter batch_size = {cfg.batch_size}: {processes.world()} processes share a "
            "batch, and BatchNorm needs 2 faces in each; start fewer processes or raise batch_size"
        )


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    images: Tensor,
    view: View,
    *,
    flip_average: bool = False,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 256,
) -> Tensor:
    """Logits of native faces, in eval mode, on the model's device.

    Args:
        images: (N, C, H, W) uint8.
        flip_average: average the log-probabilities with those of the mirrored faces.

    Returns:
        (N, classes) float32 on the CPU.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    results = []
    for batch in images.split(batch_size):
        batch = batch.to(device)
        with autocast(device, dtype):
            logits = model(channels_last(view(batch))).logits.float()
            if flip_average:
                mirrored = model(channels_last(view(batch.flip(-1)))).logits.float()
                logits = (logits.log_softmax(1) + mirrored.log_softmax(1)) / 2
        results.append(logits.cpu())
    model.train(was_training)
    return torch.cat(results)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
