"""Drawn faces, the embedded data set: expressions as mixtures of facial action units.

They make every notebook run without a download, and they come with what no photograph has: the
intensity of each action unit and a mask of each facial region. Never a result about real faces.
"""

from gmelib.synthetic.action_units import (
    ACTION_UNITS,
    AU_NAMES,
    AU_REGION,
    PROTOTYPES,
    REGIONS,
)
from gmelib.synthetic.faces import DrawnFaces, draw_faces
from gmelib.synthetic.identity import PARAMETERS
from gmelib.synthetic.landmarks import drawn_landmarks

__all__ = [
    "ACTION_UNITS", "AU_NAMES", "AU_REGION", "PARAMETERS", "PROTOTYPES", "REGIONS", "DrawnFaces",
    "draw_faces", "drawn_landmarks",
]  # fmt: skip
