"""MA-Net with diversified features (Heidari and Iosifidis, arXiv 2210.09381), from random weights.

Source: negarhdr/Diversified-Facial-Expression-Recognition at 808a02a. MA-Net's skeleton, with two
differences: both chains of a multi-scale block run forward, and three determinants join the loss.

The defaults are the authors' RAF-DB setting. For FERPlus they feed faces in [0, 1]
(``normalize = "unit"``) in batches of 32, at most 5,000 of a label, and augment by colour jitter
(brightness and contrast 0.5) and an affine map (30 degrees, shift 0.1, scale 1-1.25) in place of
the rotation, crop and erasing here; that augmentation is not implemented.
"""

from functools import reduce
from itertools import combinations, permutations
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from gmelib.batches import Batch
from gmelib.config import Config
from gmelib.model import Output
from gmelib.objective import Forward, Terms
from gmelib.peers.erasing import erase
from gmelib.peers.ma_net import MANet, MANetObjective, MANetOptions
from gmelib.peers.normalize import Kind

WARP_SHARE, ROTATION, CROP_PADDING = 0.2, 20.0, 32 / 224  # degrees; share of the side
ERASING_SHARE, ERASED_AREA = 0.5, (0.02, 0.25)


class DiversifiedOptions(MANetOptions):
    """``method_options`` of Heidari and Iosifidis' method; defaults are their RAF-DB settings."""

    augmentation: Literal["authors", "plain"] = Field(
        "authors",
        description="authors: rotation, padded crop, erasing; plain: none beside flip and shift",
    )
    normalize: Literal["imagenet", "unit"] = Field(
        "imagenet", description="faces by ImageNet's statistics, or in [0, 1] (theirs for FERPlus)"
    )
    kernel_constant: float = Field(
        10.0,
        gt=0,
        description="similarity is exp(-constant x squared distance); at full width and random "
        "weights 10 leaves some similarities 0 in float32, which a smaller one remedies",
    )
    spatial_weight: float = Field(1.0, ge=0, description="of the quadrants' maps' determinant")
    channel_weight: float = Field(1.0, ge=0, description="of the quadrants' vectors' determinant")
    branch_weight: float = Field(1.0, ge=0, description="of the two branches' determinant")


class Diversified(MANet):
    """MA-Net with both chains forward, which also returns what is diversified.

    Args:
        normalize: what the authors' faces are normalised to.
        other: MA-Net's but for ``directions``; errors are MA-Net's.
    """

    def __init__(self, *, normalize: Kind = "imagenet", **other: Any):
        super().__init__(normalize=normalize, directions=("forward", "forward"), **other)

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output.

        ``extras``, with C = 8 width and H = ceil(S / 32): ``local`` and ``global`` (N, classes);
        ``spatial`` (N, 4, H, H), the quadrants' maps averaged over channels; ``channel``
        (N, 4, C), the same averaged over space; ``branches`` (N, 2, C), local and global.
        """
        maps, local_vector, global_vector = self.features(x)
        output = self.classify(local_vector, global_vector)
        floats = [m.float() for m in maps]  # a distance of means in half precision is mostly noise
        diversified = {
            "spatial": torch.stack([m.mean(1) for m in floats], 1),
            "channel": torch.stack([m.mean((2, 3)) for m in floats], 1),
            "branches": torch.stack([local_vector.float(), global_vector.float()], 1),
        }
        return output._replace(extras=output.extras | diversified)


def build_diversified(cfg: Config, options: DiversifiedOptions, classes: int) -> Diversified:
    """The network of ``cfg.input_size``; :class:`InputError` where that does not suit."""
    return Diversified(
        classes=classes,
        input_size=cfg.input_size,
        width=options.width,
        local_weight=options.local_weight,
        normalize=options.normalize,
    )


class DiversifiedObjective(MANetObjective):
    """MA-Net's cross-entropy minus three determinants of similarity matrices.

    ``diversity_spatial``, ``diversity_channel`` and ``diversity_branches`` in the history are the
    negative determinants before their weights.
    """

    options: DiversifiedOptions

    def augment(self, x: Tensor) -> Tensor:
        if self.options.augmentation == "plain":
            return x
        return erase(random_warp(x), ERASING_SHARE, ERASED_AREA)

    def terms(self, forward: Forward, batch: Batch) -> Terms:
        output = forward(self.augment(self.see(batch.images, batch.high)))
        named = self.cross_entropy(output, batch.expected)
        loss, options = named["ce"], self.options
        for name, weight in (
            ("spatial", options.spatial_weight),
            ("channel", options.channel_weight),
            ("branches", options.branch_weight),
        ):
            alike = similarity(output.extras[name].float(), options.kernel_constant)
            named[f"diversity_{name}"] = -determinant(alike)
            loss = loss + weight * named[f"diversity_{name}"]
        return Terms(loss, output.logits, batch.labels, named)


def similarity(features: Tensor, constant: float) -> Tensor:
    """Mean over the faces of exp(-constant x squared distance); the diagonal is 0.

    The authors' code leaves the diagonal at 0, where exp(0) would be 1. Of two branches the
    determinant is then -s^2, largest where they differ. Of four it is 0 where all differ, and
    largest, 1, where they are alike in two pairs and the pairs differ.

    Args:
        features: (N, B, ...), B features of every face.

    Returns:
        (B, B), symmetric, values in [0, 1].
    """
    x = features.flatten(2)
    squared = (x[:, :, None] - x[:, None]).square().sum(-1)  # (N, B, B)
    return torch.exp(-constant * squared).mean(0) * (1 - torch.eye(x.shape[1], device=x.device))


def determinant(matrix: Tensor) -> Tensor:
    """det of a small (B, B) matrix by Leibniz's sum over B! permutations, B up to about 5.

    ``torch.linalg.det`` has no finite gradient where a matrix is singular, as similarities that
    underflow make it; this one is a polynomial.
    """
    size = len(matrix)
    orders = list(permutations(range(size)))
    signs = [(-1.0) ** sum(a > b for a, b in combinations(order, 2)) for order in orders]
    columns = torch.tensor(orders, device=matrix.device)  # (B!, B)
    picked = matrix[torch.arange(size, device=matrix.device), columns]
    return (matrix.new_tensor(signs) * reduce(torch.mul, picked.unbind(1))).sum()


def random_warp(x: Tensor) -> Tensor:
    """With probability 0.2, a face turned by up to 20 degrees, then shifted by up to S / 7.

    Nearest pixels, black outside, as torchvision's ``RandomRotation`` and ``RandomCrop`` with
    padding do for PIL images; the authors' padding is 32 of 224 px. Draws on the CPU.

    Args:
        x: (N, C, S, S) in [-1, 1].
    """
    count, side = len(x), x.shape[-1]
    chosen = torch.rand(count) < WARP_SHARE
    angle = torch.empty(count).uniform_(-ROTATION, ROTATION).deg2rad()
    pixels = round(CROP_PADDING * side)
    shift = torch.randint(-pixels, pixels + 1, (2, count)) * (2 / side)
    one, zero = torch.ones(count), torch.zeros(count)
    turned = warp(x, (angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero))
    moved = warp(turned, (one, zero, shift[0], zero, one, shift[1]))
    return torch.where(chosen[:, None, None, None].to(x.device), moved, x)


def warp(x: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    """Nearest pixels at an affine map of the coordinates: six (N,), row by row; black outside."""
    theta = torch.stack(coefficients, 1).view(-1, 2, 3).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    sampled = F.grid_sample(x + 1, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return sampled - 1
