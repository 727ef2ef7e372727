"""Image files as Pillow reads them: what is damaged is told apart from what cannot be reached."""

from __future__ import annotations

import errno
from pathlib import Path

from PIL import Image, ImageOps

from gmelib.config import InputError
from gmelib.data.faceset import shown


class Damaged(InputError):
    """An image file whose content cannot be read: no later try will."""


def open_image(path: Path, *, upright: bool = True, mode: str = "") -> Image.Image:
    """An image, decoded to its last pixel.

    upright: turned as its EXIF data ask for, where those can be read; False: as stored. mode: what
    it is converted to, "": as stored. Raises Damaged for a file that is no readable image, and
    InputError where the system does not let it be read, as for want of permission.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if upright:
                _turn_upright(image)
            return image.convert(mode) if mode else image
    except Exception as error:  # damaged files make Pillow raise nearly anything
        if _is_of_the_system(error):
            raise InputError(
                f"{shown(path)}: cannot be read ({getattr(error, 'strerror', 'too little memory')})"
                "; see to its permissions, its disk and the memory, then start again"
            ) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(
            f"{shown(path)}: not a readable image ({reason}); replace or remove the file"
        ) from None


def _is_of_the_system(error: Exception) -> bool:
    """False for what content causes: Pillow's own OSErrors have no number, and a damaged offset
    makes it seek before the beginning, which is EINVAL."""
    if isinstance(error, OSError):
        return error.errno not in (None, errno.EINVAL)
    return isinstance(error, MemoryError)


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)  # cameras store rotation beside pixels
    except Exception:  # damaged EXIF data, of which Pillow makes nearly anything, too
        pass  # the pixels are whole
