"""Who the face is and how it was photographed: every parameter that is not the expression.

Lengths are in face units: 1 is about the distance from the bridge of the nose to the chin.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from gmelib.config import InputError

# Uniform ranges. Resting brow tilt, mouth curve, lid opening and age lines overlap with weak
# action units on purpose: a coarse picture cannot tell them apart.
PARAMETERS: dict[str, tuple[float, float]] = {
    # pose
    "scale": (0.435, 0.475),  # face unit, in sides of the picture
    "angle": (-0.07, 0.07),  # in-plane rotation, rad
    "yaw": (-0.18, 0.18),  # rad
    "pitch": (-0.05, 0.05),  # rad
    "shift_x": (-0.018, 0.018),  # sides of the picture
    "shift_y": (-0.01, 0.03),
    # head
    "head_width": (0.66, 0.77),
    "head_top": (1.02, 1.14),
    "chin": (0.94, 1.06),
    "jaw_narrow": (0.22, 0.44),
    "age": (0.0, 1.0),  # resting strength of the lines
    # features
    "eye_gap": (0.29, 0.34),
    "eye_height": (-0.13, -0.08),
    "eye_width": (0.145, 0.180),
    "eye_open": (0.060, 0.090),
    "eye_tilt": (-0.06, 0.12),
    "iris_size": (0.068, 0.082),
    "gaze_x": (-0.040, 0.040),
    "gaze_y": (-0.012, 0.016),
    "lash": (0.0, 1.0),
    "brow_height": (0.17, 0.235),
    "brow_arch": (0.00, 0.06),
    "brow_tilt": (-0.15, 0.15),
    "brow_thick": (0.020, 0.042),
    "nose_length": (0.26, 0.36),
    "nose_width": (0.10, 0.15),
    "mouth_height": (0.53, 0.58),
    "mouth_width": (0.21, 0.28),
    "mouth_curve": (-0.035, 0.035),
    "lip_upper": (0.030, 0.058),
    "lip_lower": (0.040, 0.075),
    "smirk": (-1.0, 1.0),  # the sign says on which side AU14 acts
    # colours, each a position in a palette below
    "skin": (0.0, 1.0),
    "hair": (0.0, 1.0),
    "iris": (0.0, 1.0),
    "cloth": (0.0, 1.0),
    "frame": (0.0, 1.0),
    "lipstick": (-1.0, 1.0),
    "saturation": (0.45, 1.0),
    "warmth": (-0.06, 0.06),
    # hair, beard, glasses, occlusion: values under a chance, or amounts
    "hair_line": (0.62, 0.84),
    "hair_drop": (0.15, 0.75),
    "hair_part": (-0.30, 0.30),
    "hair_volume": (0.02, 0.16),
    "hair_length": (-0.35, 1.9),
    "grey": (0.0, 1.0),
    "bald": (0.0, 1.0),
    "beard": (0.0, 1.0),
    "moustache": (0.0, 1.0),
    "beard_line": (0.30, 0.62),
    "glasses": (0.0, 1.0),
    "occlusion": (0.0, 1.0),
    "occlusion_x": (-0.75, 0.75),
    "occlusion_y": (-0.6, 1.0),
    "occlusion_width": (0.14, 0.36),
    "occlusion_turn": (-1.0, 1.0),
    "occlusion_tone": (0.0, 1.0),
    # light and camera
    "light_x": (-0.18, 0.18),
    "light_y": (-0.12, 0.04),
    "gain": (0.88, 1.10),
    "lift": (-0.03, 0.05),
    "noise": (0.004, 0.026),
    "wall_edge": (-1.0, 2.0),
}
CHANCE = {"grey": 0.14, "bald": 0.08, "beard": 0.12, "moustache": 0.10, "glasses": 0.18,
          "occlusion": 0.09}  # fmt: skip

SKIN = ((255, 224, 200), (243, 201, 170), (226, 176, 138), (198, 140, 100), (152, 98, 66),
        (118, 76, 54), (92, 60, 46))  # fmt: skip
HAIR = ((22, 19, 20), (40, 28, 24), (72, 46, 32), (112, 70, 42), (140, 66, 36), (190, 148, 92),
        (216, 188, 136))  # fmt: skip
GREY = ((128, 126, 126), (214, 212, 208))
IRIS = ((58, 36, 22), (96, 62, 34), (112, 104, 52), (78, 116, 92), (74, 118, 158), (120, 140, 152))
CLOTH = ((36, 52, 84), (120, 44, 46), (66, 94, 72), (214, 206, 192), (58, 56, 60), (176, 128, 64),
         (92, 70, 118), (52, 110, 124))  # fmt: skip


def mix(palette: tuple[tuple[int, int, int], ...], position: Tensor) -> Tensor:
    """Colours (N, 3, 1, 1) in [0, 1] at positions (N, 1, 1) in [0, 1] along the palette."""
    stops = torch.tensor(palette, dtype=torch.float32) / 255
    at = position.flatten() * (len(palette) - 1)
    low = at.floor().long().clamp(max=len(palette) - 2)
    return torch.lerp(stops[low], stops[low + 1], (at - low)[:, None])[..., None, None]


def _colours(face: SimpleNamespace) -> None:
    """Adds the colours (N, 3, 1, 1) that follow from the positions in the palettes."""
    red = torch.tensor([0.72, 0.26, 0.28])[None, :, None, None]
    skin = mix(SKIN, face.skin)
    lips = torch.lerp(skin * torch.tensor([0.86, 0.62, 0.62])[None, :, None, None], red,
                      face.lipstick.clamp(min=0)[..., None] * 0.75)  # fmt: skip
    cloth = mix(CLOTH, face.cloth)
    # Dark skin goes with dark hair and eyes, save for grey hair.
    pale = (1.4 - 1.5 * face.skin).clamp(0.15, 1)
    hair = torch.lerp(mix(HAIR, face.hair * pale), mix(GREY, face.hair), face.grey[..., None])
    face.colour = {
        "skin": skin, "lips": lips, "mouth": red * 0.32, "tongue": red * 0.9,
        "hair": hair, "iris": mix(IRIS, face.iris * pale), "cloth": cloth,
        "wall": 0.45 * cloth.flip(1) + 0.42, "far": 0.5 * cloth.roll(1, 1) + 0.12,
        "fold": skin * torch.tensor([0.46, 0.35, 0.33])[None, :, None, None],
        "blush": skin * torch.tensor([1.0, 0.80, 0.78])[None, :, None, None],
        "bright": skin + (1 - skin) * 0.42,
        "white": torch.ones_like(skin) * 0.94, "dark": torch.ones_like(skin) * 0.07,
        "frame": mix(HAIR + CLOTH[:3], face.frame) * 0.7,
        "cover": torch.where(face.occlusion_tone[..., None] < 0.5, skin * 0.93,
                             mix(CLOTH, face.occlusion_tone)),
    }  # fmt: skip
    cast = torch.cat([1 + face.warmth, torch.ones_like(face.warmth), 1 - face.warmth], 1)[..., None]
    for name, colour in face.colour.items():
        grey = colour.mean(1, keepdim=True)
        face.colour[name] = (grey + (colour - grey) * face.saturation[..., None]) * cast


def sample_identity(
    count: int, rng: np.random.Generator, fixed: Mapping[str, float] | None = None
) -> SimpleNamespace:
    """Parameters of `count` faces: every name of PARAMETERS as a (N, 1, 1) tensor, and `colour`.

    `fixed` sets parameters to one value for all faces without changing the others; the switches in
    CHANCE are on at 0 and off at 1.
    """
    fixed = dict(fixed or {})
    for name in fixed:
        if name not in PARAMETERS:
            raise InputError(
                f"identity: unknown parameter {name!r}: expected one of {', '.join(PARAMETERS)}"
            )
    values = rng.random((count, len(PARAMETERS)), np.float32)
    face = SimpleNamespace()
    for column, (name, (low, high)) in enumerate(PARAMETERS.items()):
        value = torch.from_numpy(low + (high - low) * values[:, column])
        if name in fixed:
            value = torch.full_like(value, float(fixed[name]))
        setattr(face, name, value[:, None, None])
    for name, chance in CHANCE.items():
        setattr(face, name, (getattr(face, name) < chance).float())
    face.moustache = torch.maximum(face.moustache, face.beard)
    face.grown = 1 - face.bald
    _colours(face)
    return face
