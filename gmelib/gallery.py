"""Faces to show in figures: one or more of every class, real ones or drawn stand-ins."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from gmelib import degrade
from gmelib.config import EXPRESSIONS, Config
from gmelib.data import FaceSet
from gmelib.synthetic import draw_faces

DRAWN_SEED = 2  # none of the drawn data set's


@dataclass(frozen=True)
class Gallery:
    """Faces in the order of their classes.

    images: (n, C, H, W) uint8, of the data set's native size and colour; labels: (n,) int64 into
    ``classes``; drawn: whether they stand in for photographs that may not be published.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    drawn: bool

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The expression of every face."""
        return [self.classes[label] for label in self.labels]


def pick_faces(
    cfg: Config,
    faces: FaceSet,
    *,
    per_class: int = 1,
    split: str = "test",
    only: Sequence[str] = EXPRESSIONS,
) -> Gallery:
    """The first ``per_class`` faces of every class of a split, as ``faces_shown`` says.

    Constant images (FER2013 has 12) show nothing and are passed over. A class that the split lacks,
    that cannot be drawn, or that is not among ``only``, is left out; where none of ``only`` is
    there, all are taken.
    """
    if cfg.faces_shown == "drawn":
        images, labels = _drawn(faces, per_class)
    else:
        index = faces.indices(split)
        flat = faces.images[index].flatten(1)
        index = index[flat.amax(1) > flat.amin(1)]
        images, labels = faces.images[index], faces.labels[index]
    present = [k for k in range(len(faces.classes)) if (labels == k).any()]
    wanted = [k for k in present if faces.classes[k] in only] or present
    chosen = [torch.nonzero(labels == k)[:per_class, 0] for k in wanted]
    order = torch.cat(chosen)
    return Gallery(
        images[order].clone(), labels[order], faces.classes, drawn=cfg.faces_shown == "drawn"
    )


def _drawn(faces: FaceSet, per_class: int) -> tuple[Tensor, Tensor]:
    """Drawn faces in the size and colour of ``faces``, labelled by its classes."""
    contempt = "contempt" in faces.classes
    drawn = draw_faces(40 * per_class, size=112, seed=DRAWN_SEED, contempt=contempt)
    names = [drawn.classes[label] for label in drawn.labels]
    known = [i for i, name in enumerate(names) if name in faces.classes]
    images = degrade.resize(drawn.images[known], faces.images.shape[-1])
    if faces.images.shape[1] == 1:
        images = degrade.to_grey(images)
    return images, torch.tensor([faces.classes.index(names[i]) for i in known])


def some_of(index: Tensor, most: int = 1000) -> Tensor:
    """So many of the faces at most, the same in every run, in their order; folders hold them class
    by class, so the first ones would be of a few classes."""
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    return index[order[:most].sort().values]


def at_sizes(
    images: Tensor, cfg: Config, sizes: Sequence[int]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Native faces at several low resolutions: as stored, and restored to the input size."""
    low = {s: degrade.to_low_resolution(images, s, kernel=cfg.kernel) for s in sizes}
    return low, {s: _restored(small, cfg, cfg.kernel) for s, small in low.items()}


def with_kernels(
    images: Tensor, cfg: Config, kernels: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Native faces at ``lr_size`` by several kernels: as stored, and restored to the input size."""
    low = {k: degrade.to_low_resolution(images, cfg.lr_size, kernel=k) for k in kernels}
    return low, {k: _restored(small, cfg, k) for k, small in low.items()}


def _restored(low: Tensor, cfg: Config, kernel: str) -> Tensor:
    return degrade.restore(low, cfg.input_size, kernel=kernel, blur_sigma=cfg.blur_sigma)


def fidelity(
    images: Tensor, cfg: Config, sizes: Sequence[int], kernels: Sequence[str]
) -> pd.DataFrame:
    """PSNR in dB of restored against full faces: low resolutions in rows, kernels in columns."""
    table = {
        k: [degrade.psnr(images, cfg.input_size, s, k, cfg.blur_sigma) for s in sizes]
        for k in kernels
    }
    return pd.DataFrame(table, index=pd.Index(sizes, name="low resolution, px"))
