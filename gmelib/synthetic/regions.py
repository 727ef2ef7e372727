"""Masks of the facial regions, in the pose of each face."""

from gmelib.synthetic.action_units import REGIONS
from gmelib.synthetic.canvas import Canvas
from gmelib.synthetic.head import Head


def mark_regions(canvas: Canvas, head: Head) -> None:
    """Fills canvas.masks (N, R, S, S). Regions are anatomical: a mask stays where glasses, hair or
    something held before the face hides it. Where two meet, the one listed first below has it."""
    face = canvas.face
    brow = face.eye_height - face.brow_height + 0.01
    # region, u, v, half width, half height, both sides?, raised
    shapes = (
        ("mouth", 0.0, face.mouth_height + 0.04, 0.42, 0.20, False, 0.0),
        ("eyes", face.eye_gap + 0.05, face.eye_height + 0.01, 0.29, 0.15, True, 0.0),
        ("nose", 0.0, 0.12, 0.21, 0.34, False, 0.10),
        ("brows", face.eye_gap - 0.02, brow, 0.33, 0.17, True, 0.0),
        ("cheeks", 0.36, 0.34, 0.29, 0.37, True, 0.0),
        ("jaw", 0.0, face.chin - 0.14, 0.76, 0.48, False, 0.0),
        ("forehead", 0.0, face.eye_height - 0.52, 0.52, 0.24, False, 0.0),
    )
    for name, u, v, half_u, half_v, paired, raised in shapes:
        for side in (-1.0, 1.0) if paired else (1.0,):
            w = canvas.window(u * side, v, half_u, half_v, side=side, raised=raised)
            # Between an ellipse and a box: the regions fill the face with little left over.
            inside = (w.x / half_u).square().square() + (w.y / half_v).square().square() < 1
            mask = canvas.masks[:, REGIONS.index(name)].flatten(1)
            index = w.index[:, 0]
            mask.scatter_(1, index, mask.gather(1, index) | inside.flatten(1))
    # The face and a little beyond, but not the neck: what is outside counts as taken.
    taken = head.round > 1.15
    for name in dict.fromkeys(shape[0] for shape in shapes):
        mask = canvas.masks[:, REGIONS.index(name)]
        mask &= ~taken
        taken = taken | mask
