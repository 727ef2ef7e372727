"""Networks for use outside the workbook: 8-bit faces in, probabilities out, in one file.

Resizing, blur and normalization are part of the graph, in the very arithmetic of
:mod:`gmelib.degrade`; the number of faces is free, their size is fixed.
"""

from gmelib.export.bundle import export_run, run_in, summary
from gmelib.export.module import Deployable, Signature, deployable, signature

__all__ = [
    "Deployable", "Signature", "deployable", "export_run", "run_in", "signature", "summary",
]  # fmt: skip
