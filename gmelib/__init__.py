"""GME-Net: low-resolution facial expression recognition as a research workbook."""

__version__ = "0.1.0"
