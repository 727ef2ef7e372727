"""Attention-similarity distillation and the total loss (paper 3.4, eqs 9-13)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gmelib.config import InputError
from gmelib.model import Output


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine similarity of two maps flattened per sample: (N, ...) twice -> (N,) in [0, 2].

    1 where either is zero everywhere.
    """
    return 1 - F.cosine_similarity(a.flatten(1).float(), b.flatten(1).float(), dim=1)


def attention_similarity_loss(
    *,
    student: Output,
    teacher: Output,
    reduction: Literal["sum", "mean"] = "sum",
    maps: Literal["logit", "sigmoid"] = "logit",
) -> dict[str, Tensor]:
    """L_kd of eqs 9-11 over all blocks.

    Args:
        student, teacher: outputs whose maps have pairwise equal shapes, before the sigmoid.
        reduction: the paper gives eq. 11 for one block; blocks are summed as in A-SKD, or averaged.
        maps: compare the maps as they are (M in eqs 9-10) or after the sigmoid.

    Returns:
        ``kd`` (scalar; 0 for equal maps that are not zero everywhere, 1 per block for orthogonal
        ones under ``"sum"``), and the mean similarities ``similarity_channel`` and
        ``similarity_spatial`` in [-1, 1] to look at.

    Raises:
        InputError: where there are no maps, or teacher and student are of different architecture.
    """
    kinds = (
        (student.channel_maps, teacher.channel_maps),
        (student.spatial_maps, teacher.spatial_maps),
    )
    shapes = [[tuple(m.shape[1:]) for m in pair[i]] for i in (0, 1) for pair in kinds]
    if not shapes[0] or shapes[:2] != shapes[2:]:
        raise InputError(
            "distillation compares the attention maps of teacher and student block by block: "
            f"expected equal, non-empty sets of maps, got {len(shapes[0])} of the student and "
            f"{len(shapes[2])} of the teacher; give both the same architecture, with attention"
        )
    function = torch.sigmoid if maps == "sigmoid" else (lambda m: m)
    channel, spatial = (
        torch.stack(
            [
                cosine_distance(function(theirs.detach()), function(ours)).mean()
                for ours, theirs in zip(*pair, strict=True)
            ]
        )
        for pair in kinds
    )  # each (blocks,)
    per_block = (channel + spatial) / 2  # eq. 11
    return {
        "kd": per_block.sum() if reduction == "sum" else per_block.mean(),
        "similarity_channel": 1 - channel.detach().mean(),
        "similarity_spatial": 1 - spatial.detach().mean(),
    }


def logit_distillation_loss(
    *, student: Tensor, teacher: Tensor, temperature: float = 4.0
) -> Tensor:
    """T^2 KL(teacher || student) of softened class probabilities (Hinton et al. 2015, section 2).

    Args:
        student, teacher: logits (N, classes); no gradient reaches the teacher's.
        temperature: T > 0, divides both; T^2 keeps the gradient's size.

    Returns:
        Scalar >= 0, the mean over the faces.
    """
    ours = F.log_softmax(student.float() / temperature, dim=1)
    theirs = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    divergence = F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
    return temperature**2 * divergence


def distillation_loss(
    *,
    student: Output,
    labels: Tensor,
    teacher: Output | None = None,
    kd: Literal["attention", "logits"] = "attention",
    kd_weight: float = 5.0,
    kd_reduction: Literal["sum", "mean"] = "sum",
    kd_maps: Literal["logit", "sigmoid"] = "logit",
    kd_temperature: float = 4.0,
    label_smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """L = L_ce + lambda L_kd (eqs 12-13), or L_ce alone without a teacher.

    Args:
        labels: (N,) class indices, or (N, classes) distributions.
        kd: what is distilled: attention maps (eqs 9-11), or logits (Hinton).
        kd_weight: lambda of eq. 13, or of the logits' term.
        kd_temperature: of the logits' term.
        label_smoothing: of the cross-entropy; 0 gives eq. 12.

    Returns:
        Named terms: ``loss`` to minimize, ``ce``, and with a teacher ``kd`` or those of
        :func:`attention_similarity_loss`.
    """
    ce = F.cross_entropy(student.logits.float(), labels, label_smoothing=label_smoothing)
    if teacher is None:
        return {"loss": ce, "ce": ce}
    if kd == "logits":
        terms = {
            "kd": logit_distillation_loss(
                student=student.logits, teacher=teacher.logits, temperature=kd_temperature
            )
        }
    else:
        terms = attention_similarity_loss(
            student=student, teacher=teacher, reduction=kd_reduction, maps=kd_maps
        )
    return {"loss": ce + kd_weight * terms["kd"], "ce": ce} | terms
