"""draw_faces: labelled faces from a seed, with their action units and a mask per region."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from gmelib.config import EXPRESSIONS, InputError
from gmelib.synthetic.action_units import ACTION_UNITS, sample_action_units
from gmelib.synthetic.canvas import Canvas
from gmelib.synthetic.features import draw_features
from gmelib.synthetic.head import (
    Head,
    develop,
    draw_beard,
    draw_behind,
    draw_fringe,
    draw_glasses,
    draw_occlusion,
    draw_skin,
    smooth_noise,
)
from gmelib.synthetic.identity import sample_identity
from gmelib.synthetic.regions import mark_regions

BLOCK = 64  # faces drawn at once; a part of what a seed means, so never a parameter


@dataclass(frozen=True)
class DrawnFaces:
    """images uint8 (N, 3, S, S); labels int64 (N,) into classes, -1 where the action units were
    given; action_units float32 (N, A) in [0, 1], columns as ACTION_UNITS; masks bool (N, R, S, S)
    in the order of REGIONS, or None; classes in the order of EXPRESSIONS."""

    images: Tensor
    labels: Tensor
    action_units: Tensor
    masks: Tensor | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def draw_labels(count: int, classes: int, seed: int) -> np.ndarray:
    """Labels (N,): every run of `classes` faces holds each class once, in a random order."""
    rng = np.random.default_rng([seed, 0])
    return rng.random((-(-count // classes), classes)).argsort(axis=1).ravel()[:count]


def _fill(rows: np.ndarray) -> np.ndarray:
    """Pads to BLOCK rows: a block is drawn whole, so that its noise never depends on count."""
    return np.pad(rows, [(0, BLOCK - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _checked(action_units: Tensor | np.ndarray, count: int) -> np.ndarray:
    units = np.asarray(action_units, np.float32)
    shape = (count, len(ACTION_UNITS))
    if units.shape != shape or not ((units >= 0) & (units <= 1)).all():  # nan is neither
        raise InputError(
            f"action_units of shape {units.shape}: expected {shape} with values in [0, 1], columns "
            "as ACTION_UNITS"
        )
    return units


def _draw_block(
    units: np.ndarray, rng: np.random.Generator, size: int, masks: bool,
    identity: Mapping[str, float] | None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Draws BLOCK faces; all randomness but the action units comes from rng."""
    face = sample_identity(BLOCK, rng, identity)
    columns = torch.from_numpy(units).T[:, :, None, None]
    au = SimpleNamespace(**dict(zip(ACTION_UNITS, columns, strict=True)))
    canvas = Canvas(face, size, masks)
    strands = smooth_noise(rng, BLOCK, 4, 26, size)
    head = Head(canvas, au)
    draw_behind(canvas, smooth_noise(rng, BLOCK, 4, 4, size))
    draw_skin(canvas, head, smooth_noise(rng, BLOCK, 9, 9, size))
    draw_beard(canvas, head, strands)
    draw_features(canvas, au)
    draw_fringe(canvas, head, strands)
    draw_glasses(canvas)
    draw_occlusion(canvas)
    if masks:
        mark_regions(canvas, head)
    return develop(canvas, head, rng), canvas.masks


@contextmanager
def _one_thread() -> Iterator[None]:
    """A block is too small to share: more threads would wait, on a busy machine for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def draw_faces(
    count: int, *, size: int = 112, seed: int = 0, contempt: bool = False, masks: bool = False,
    action_units: Tensor | np.ndarray | None = None, identity: Mapping[str, float] | None = None,
) -> DrawnFaces:  # fmt: skip
    """Draws `count` labelled faces of `size` px; the same arguments give the same bytes.

    Face i depends on (seed, i) alone: a smaller count is a prefix of a larger one. Classes are the
    seven basic ones, with contempt eight, balanced to within one face. `action_units` (N, A) in
    [0, 1] replaces the sampled ones and leaves everything else as it was; `identity` sets
    parameters of identity.PARAMETERS for all faces, e.g. {"glasses": 1, "occlusion": 1, "noise": 0}
    (switches: 0 always on, 1 off).

    Raises InputError for a count below 1, a size below 32, a negative seed, or action units of
    another shape or outside [0, 1].
    """
    if count < 1 or size < 32 or seed < 0:
        raise InputError(
            f"draw_faces(count={count}, size={size}, seed={seed}): expected count >= 1, size >= 32 "
            "and seed >= 0"
        )
    classes = EXPRESSIONS if contempt else EXPRESSIONS[:-1]
    labels = draw_labels(count, len(classes), seed)
    given = None if action_units is None else _checked(action_units, count)
    parts = []
    for block in range(-(-count // BLOCK)):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        if given is None:
            rng = np.random.default_rng([seed, 1, block])
            units = sample_action_units(_fill(labels[rows]), rng)
        else:
            units = _fill(given[rows])
        rng = np.random.default_rng([seed, 2, block])
        block_images, block_masks = _draw_block(units, rng, size, masks, identity)
        parts.append((block_images, torch.from_numpy(units), block_masks))
    images, units, marks = zip(*parts, strict=True)
    return DrawnFaces(
        torch.cat(images)[:count].contiguous(),
        torch.from_numpy(labels if given is None else np.full_like(labels, -1)),
        torch.cat(units)[:count],
        torch.cat(marks)[:count] if masks else None,
        classes,
    )
