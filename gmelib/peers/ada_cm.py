"""Ada-CM: semi-supervised recognition with an adaptive confidence margin (Li et al., CVPR 2022).

Of the faces of a step some have labels. For the others the network's own prediction decides: where
it is confident it becomes the label of a strongly changed view, where it is not, two weakly changed
views are to have like features. What counts as confident is learnt for every class. Settings are
those of the authors' repository (hangyu94/Ada-CM, aca2b35).
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from gmelib import processes
from gmelib.batches import Batch, Plan, predict_logits, presentations
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.model import Output
from gmelib.objective import Forward, Objective, Options, Terms
from gmelib.peers.normalize import Normalize
from gmelib.peers.strong import random_shift, strong_view

FEATURES = 512
# of RAF-DB's 281 training faces of fear; the other classes share the rest equally
AUTHORS_LABELS, AUTHORS_FEAR = 4000, 250
LABEL_SEED = 5  # the authors' seed; which faces have labels is a part of the task, not of a run
CONFIDENCE_SCALE = 0.97  # of a class's mean confidence, in its threshold
AUTHORS_STEPS = 800  # of an epoch, by which thresholds count the time


class AdaCM(nn.Module):
    """ResNet-18, global average pooling, dropout, the feature at unit length, FC.

    Args:
        classes: number of expressions.
        input_size: side S of the square input in pixels, a multiple of 16, at least 32.
        dropout: before the feature is normalised.

    Raises:
        InputError: for another ``input_size``.
    """

    def __init__(self, *, classes: int, input_size: int = 224, dropout: float = 0.5):
        super().__init__()
        if input_size % 16 or input_size < 32:
            raise InputError(
                f"parameter input_size = {input_size}: Ada-CM expects a multiple of 16, at least "
                "32; its authors use 224"
            )
        self.normalize = Normalize("imagenet")
        layers = list(resnet18(weights=None).named_children())
        self.trunk = nn.Sequential(OrderedDict(layers[:-2]))  # without pooling and FC-1000
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(FEATURES, classes)

    @property
    def gradcam_layer(self) -> nn.Module:
        """The layer whose output Grad-CAM reads: the last stage, (N, 512, S / 32, S / 32)."""
        return self.trunk.layer4

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output; ``extras["feature"]`` (N, 512) of length 1."""
        pooled = self.pool(self.trunk(self.normalize(x))).flatten(1)
        feature = F.normalize(self.dropout(pooled).float(), dim=1)
        return Output(logits=self.classifier(feature), extras={"feature": feature})


class AdaCMOptions(Options):
    """The authors' settings; see the module."""

    labels: int = Field(
        AUTHORS_LABELS, ge=0, description="training faces that have labels; 0: every face has one"
    )
    ce_weight: float = Field(0.5, ge=0, description="of the labelled faces' cross-entropy")
    pseudo_weight: float = Field(1.0, ge=0, description="of the confident faces' cross-entropy")
    contrastive_weight: float = Field(0.1, ge=0, description="of the others' contrastive loss")
    temperature: float = Field(0.07, gt=0, description="of the contrastive loss")
    threshold: float = Field(
        0.8, gt=0, lt=1, description="confidence asked for at first, and the least ever after"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="before the feature is normalised")
    augmentation: Literal["authors", "plain"] = Field(
        "authors", description="plain: labelled faces without the random shift of a weak view"
    )

    @property
    def is_reduced(self) -> bool:
        """The network has one size, the authors'."""
        return False

    @property
    def note(self) -> str:
        """What tables add to the name."""
        return f"{self.labels:,} labels" if self.labels else ""


def build_ada_cm(cfg: Config, options: AdaCMOptions, classes: int) -> AdaCM:
    return AdaCM(classes=classes, input_size=cfg.input_size, dropout=options.dropout)


def label_counts(available: Sequence[int], total: int, fear: int | None) -> list[int]:
    """How many faces of each class have labels.

    The authors' 4,000 are 250 of fear and 625 of each other class. So they are here where classes
    and faces are as theirs: seven, fear too rare for an equal share, and enough of all others.
    Else every class gives equally many; what one lacks is shared among the more frequent ones.

    Args:
        available: training faces of each class.
        total: number of labels; no more than there are faces.
        fear: index of the class, None if there is none.
    """
    if total == AUTHORS_LABELS and len(available) == 7 and fear is not None:
        counts = [(AUTHORS_LABELS - AUTHORS_FEAR) // 6] * 7
        counts[fear] = AUTHORS_FEAR
        is_rare = available[fear] < AUTHORS_LABELS // 7
        if is_rare and all(a >= c for a, c in zip(available, counts, strict=True)):
            return counts
    counts, left = [0] * len(available), total
    ascending = sorted(range(len(available)), key=lambda c: available[c])
    for given, c in enumerate(ascending):
        counts[c] = min(available[c], left // (len(available) - given))
        left -= counts[c]
    return counts


def labelled_faces(faces: FaceSet, indices: Tensor, total: int) -> Tensor:
    """The training faces that have labels: the same in every run; all of them if ``total`` is 0.

    Args:
        indices: the training faces.
    """
    if total == 0:
        return indices
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(LABEL_SEED))
    shuffled = indices[order]
    labels = faces.labels[shuffled]
    available = torch.bincount(labels, minlength=len(faces.classes)).tolist()
    fear = faces.classes.index("fear") if "fear" in faces.classes else None
    counts = label_counts(available, total, fear)
    return torch.cat([shuffled[labels == c][:count] for c, count in enumerate(counts)])


def shuffled_passes(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many of the indices: pass after pass, each in a new random order."""
    passes = [
        indices[torch.randperm(len(indices), generator=generator)]
        for _ in range(math.ceil(count / len(indices)))
    ]
    return torch.cat(passes)[:count]


def contrastive_loss(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss: of 2M - 1 features a feature is to find the one of the same face's other view.

    Args:
        one, other: (M, D) of length 1, row by row of the same face; M may be 0.

    Returns:
        The mean over the 2M features, 0 for less than two faces.
    """
    features = torch.cat([one, other])
    count = len(one)
    if count == 0:
        return features.sum()
    similarity = features @ features.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=features.device)
    partner = torch.arange(2 * count, device=features.device).roll(count)
    return F.cross_entropy(similarity.masked_fill(itself, -math.inf), partner)


class AdaCMObjective(Objective):
    """Cross-entropy of labelled faces, pseudo-labels of confident and features of other faces.

    Attributes:
        thresholds: (classes,) confidence that makes a prediction of the class a label.
    """

    views = 2.0  # one of a labelled face, three of another; a step has half of each
    distils = False
    options: AdaCMOptions

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if 0 < self.options.labels < self.classes:
            raise InputError(
                f"parameter method_options: labels = {self.options.labels}: expected at least "
                f"{self.classes}, one for each class, or 0, which gives every face its label"
            )
        self.thresholds = torch.full((self.classes,), self.options.threshold)
        self.epochs = 0.0  # of the authors' length, that the thresholds have been learnt from

    # -- which faces ------------------------------------------------------------------------------

    def plan(self, faces: FaceSet, indices: Tensor, generator: torch.Generator) -> Plan:
        """Labelled and unlabelled faces in turn, so that every step has half of each.

        In one resolution there are as many presentations as training faces. Under ``lr+hr`` there
        are twice as many, the labelled ones in low, the unlabelled ones in high resolution.
        """
        both, total = self.cfg.train_on == "lr+hr", self.options.labels
        count = len(indices) * (2 if both else 1)
        even, odd = (count + 1) // 2, count // 2
        everyone = shuffled_passes(indices, len(indices), generator)
        if total == 0 and not both:  # a face is either with or without its label in an epoch
            told, untold = everyone[:even], everyone[even:]
        else:
            told = shuffled_passes(labelled_faces(faces, indices, total), even, generator)
            untold = everyone[:odd]
        labelled = torch.arange(count) % 2 == 0
        index = torch.empty(count, dtype=indices.dtype)
        index[0::2], index[1::2] = told, untold
        high = ~labelled if both else torch.full((count,), self.cfg.train_on == "hr")
        return Plan(index, high, labelled)

    # -- a step -----------------------------------------------------------------------------------

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        options = self.options
        x = self.see(batch.images, batch.high)
        known, unknown = x[batch.labelled], x[~batch.labelled]
        if options.augmentation == "authors":
            known = random_shift(known, flip=False)  # the batch's flip is theirs
        weak = [random_shift(unknown, flip=True) for _ in range(2)]
        strong = random_shift(strong_view(unknown), flip=True)
        parts = [known, *weak, strong]
        output = forward(torch.cat(parts))
        sizes = [len(part) for part in parts]
        logits = output.logits.float().split(sizes)
        features = output.extras["feature"].float().split(sizes)

        expected, smoothing = batch.expected[batch.labelled], self.cfg.label_smoothing
        ce = F.cross_entropy(logits[0], expected, reduction="sum", label_smoothing=smoothing)
        ce = ce / max(len(expected), 1)
        guess, confident = self.pseudo_labels(logits[1], logits[2])
        losses = F.cross_entropy(logits[3], guess, reduction="none")
        pseudo = (losses * confident).sum() / max(len(guess), 1)
        contrastive = contrastive_loss(
            features[1][~confident], features[2][~confident], options.temperature
        )
        loss = (
            options.ce_weight * ce
            + options.pseudo_weight * pseudo
            + options.contrastive_weight * contrastive
        )
        share = confident.float().sum() / max(len(guess), 1)
        named = {"ce": ce, "pseudo": pseudo, "contrastive": contrastive, "confident": share}
        return Terms(loss, logits[0], batch.labels[batch.labelled], named)

    @torch.no_grad()
    def pseudo_labels(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """What the two weak views say together, and where that is confident enough to be believed.

        Args:
            one, other: (U, classes) logits.

        Returns:
            (U,) class indices and (U,) bool.
        """
        confidence, guess = ((one.softmax(1) + other.softmax(1)) / 2).max(1)
        return guess, confidence >= self.thresholds.to(guess.device)[guess]

    # -- the thresholds ---------------------------------------------------------------------------

    def end_epoch(self, network: nn.Module, faces: FaceSet, indices: Tensor) -> dict[str, float]:
        """Learns each class's threshold from the labelled faces that are recognized correctly.

        It is their mean confidence times 0.97 / (1 + e^-t), t in epochs of the authors' 800 steps,
        or ``threshold`` if that is more or if there are none.
        """
        steps = math.ceil(presentations(self.cfg, "student", len(indices)) / self.cfg.batch_size)
        self.epochs += steps / AUTHORS_STEPS
        told = labelled_faces(faces, indices, self.options.labels)
        is_high = self.cfg.train_on == "hr"

        def view(images: Tensor) -> Tensor:
            return self.see(images, torch.full((len(images),), is_high, device=images.device))

        chunks = [predict_logits(network, faces.images[part], view) for part in told.split(256)]
        labels = faces.labels[told]
        confidence, guess = torch.cat(chunks).softmax(1).max(1)
        right = guess == labels
        sums = torch.zeros(self.classes).index_add_(0, labels[right], confidence[right])
        counts = torch.bincount(labels[right], minlength=self.classes)
        scale = CONFIDENCE_SCALE / (1 + math.exp(-self.epochs))
        learnt = (scale * sums / counts.clamp_min(1)).clamp_min(self.options.threshold)
        self.thresholds = processes.agree(learnt)
        return {
            "threshold": float(self.thresholds.mean()),
            "threshold_least": float(self.thresholds.min()),
            "threshold_most": float(self.thresholds.max()),
            "labelled_accuracy": float(right.float().mean()),
        }

    def state(self) -> dict[str, Any]:
        return {"thresholds": self.thresholds, "epochs": self.epochs}

    def resume(self, state: dict[str, Any]) -> None:
        self.thresholds, self.epochs = state["thresholds"], state["epochs"]
