"""Where a drawn face has its eyes, nose and mouth corners."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gmelib.synthetic.canvas import Canvas
from gmelib.synthetic.faces import BLOCK
from gmelib.synthetic.identity import sample_identity


def drawn_landmarks(
    count: int, *, size: int = 112, seed: int = 0, identity: Mapping[str, float] | None = None
) -> Tensor:
    """Landmarks (N, 5, 2) in px of the faces that `draw_faces` draws with the same arguments.

    In the order of `gmelib.faces.Face`: eyes, tip of the nose, mouth corners. Those of a face at
    rest: the mouth's corners do not follow its action units.
    """
    parts = []
    for block in range(-(-count // BLOCK)):
        rng = np.random.default_rng([seed, 2, block])  # as draw_faces, which draws identities first
        face = sample_identity(BLOCK, rng, identity)
        canvas = Canvas(face, size, masks=False)
        points = []
        # u, v of a window's middle, what the feature is away from it, how far it is raised
        for u, v, beside, below, raised in (
            (-face.eye_gap, face.eye_height, 0.0, 0.0, 0.0),
            (face.eye_gap, face.eye_height, 0.0, 0.0, 0.0),
            (0.0, 0.12, 0.0, face.nose_length - 0.12, 0.10),
            (0.0, face.mouth_height + 0.06, -face.mouth_width, -0.06, 0.0),
            (0.0, face.mouth_height + 0.06, face.mouth_width, -0.06, 0.0),
        ):
            at_u, at_v = (torch.as_tensor(x).expand_as(canvas.scale) for x in (u, v))
            at_u, at_v, narrow = canvas.project(at_u, at_v, raised)
            at_u, at_v = at_u + beside * narrow, at_v + below
            x = canvas.middle_x + canvas.scale * (canvas.cos * at_u - canvas.sin * at_v)
            y = canvas.middle_y + canvas.scale * (canvas.sin * at_u + canvas.cos * at_v)
            points.append(torch.cat([x, y], -1).flatten(1))
        parts.append(torch.stack(points, 1))
    return torch.cat(parts)[:count]
