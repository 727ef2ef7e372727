"""Expressions of faces in pictures: in Python, and whole folders from the command line.

`python -m gmelib.predict RUN PATH...` streams any number of pictures through a finished run's
network; :func:`predict_images` does the same for a notebook.
"""

from gmelib.predict.network import Predictor, load_predictor
from gmelib.predict.report import (
    command,
    conclusion,
    faces_of,
    finish,
    pictures_of,
    predict_run,
    student_of,
    summary,
)
from gmelib.predict.stream import predict_images

__all__ = [
    "Predictor", "command", "conclusion", "faces_of", "finish", "load_predictor", "pictures_of",
    "predict_images", "predict_run", "student_of", "summary",
]  # fmt: skip
