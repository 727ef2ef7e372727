"""Pictures by name, found and read one at a time: files, folders, .npz files and arrays."""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from gmelib.config import InputError
from gmelib.data.faceset import spelt

# What a folder's files must end in; a file that is named itself may end in anything.
SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp"
    .split()
)  # fmt: skip
SHAPES = "(N, H, W), (N, H, W, 3) or (N, C, H, W) with C 1 or 3"


class Picture(NamedTuple):
    """A picture to be read. source: a file, pixels (H, W) or (H, W, 3) uint8, or what reading it
    has already failed with."""

    name: str
    source: Path | np.ndarray | Exception


# -- finding --------------------------------------------------------------------------------------


def find_pictures(places: Iterable[str | Path]) -> Iterator[Picture]:
    """The pictures of files, folders (with all below them) and .npz files, by name in each folder.

    Nothing is read ahead but the names in one folder. Left out are files in a folder that do not
    end in one of SUFFIXES, hidden ones, and folders that are links. Raises InputError for a place
    that is not there, or an .npz file that holds no pictures.
    """
    for place in map(Path, places):
        if place.is_dir():
            yield from _in_folder(str(place))
        elif place.suffix.lower() == ".npz":
            yield from _in_archive(place)
        elif place.exists():
            yield _file(str(place))
        else:
            raise InputError(f"{place}: no such file; expected an image, a folder or an .npz file")


def count_pictures(places: Iterable[str | Path]) -> int:
    """How many :func:`find_pictures` finds, from names and headers alone; the same errors, and
    InputError where there is none."""
    places, count = list(map(Path, places)), 0
    for place in places:
        is_archive = place.suffix.lower() == ".npz" and place.is_file()
        count += _shape(place)[0] if is_archive else sum(1 for _ in find_pictures([place]))
    if not count:
        raise InputError(
            f"{', '.join(map(str, places))}: no picture found; expected files that end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return count


def _in_folder(folder: str) -> Iterator[Picture]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError:
        yield _file(folder)  # reading it tells why
        return
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if is_folder:
            yield from _in_folder(path)
        elif os.path.splitext(name)[1].lower() in SUFFIXES:
            yield _file(path)


def _file(path: str) -> Picture:
    """Carriage returns are spelt out, too: csv before Python 3.13 neither quotes nor reads them."""
    return Picture(spelt(path).replace("\r", "\\r"), Path(path))


def _in_archive(path: Path) -> Iterator[Picture]:
    """Reads the pictures one after the other: the whole array need not fit into memory.

    From a damaged place on, every picture is one that cannot be read.
    """
    shape = _shape(path)
    size, name = int(np.prod(shape[1:])), _file(str(path)).name
    damage: Exception | None = None
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
        _header(file)
        for index in range(shape[0]):
            if damage is None:
                try:
                    content = file.read(size)
                    if len(content) < size:
                        raise EOFError(f"the archive ends within picture {index}")
                except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:
                    damage = error
            if damage is None:
                pixels = np.frombuffer(content, np.uint8).reshape(shape[1:])
            yield Picture(f"{name}#{index}", as_picture(pixels) if damage is None else damage)


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of the pictures of an .npz file, from its header."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
            shape, is_fortran, dtype = _header(file)
    except KeyError:
        raise _no_archive(path, "it has no array `images`") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _no_archive(path, str(error)) from None
    if dtype != np.uint8 or is_fortran or not _is_stack(shape):
        order = " in Fortran's order" if is_fortran else ""
        raise _no_archive(path, f"`images` is {dtype} of shape {shape}{order}")
    return shape


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    return read[np.lib.format.read_magic(file)](file)


def _no_archive(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: cannot be read as pictures ({reason}); expected an .npz file with uint8 `images` "
        f"{SHAPES}, as np.savez(path, images=images) writes it"
    )


def _is_stack(shape: tuple[int, ...]) -> bool:
    return min(shape[1:], default=0) > 0 and (
        (len(shape) == 3 and shape[-1] > 4)  # a width of 3 or 4 is one of colour, no stack
        or (len(shape) == 4 and (shape[-1] in (1, 3) or shape[1] in (1, 3)))
    )


# -- arrays ---------------------------------------------------------------------------------------


def given_pictures(images: Any) -> Iterator[Picture]:
    """Pictures as they are given in Python.

    images: a path or PIL image; an array or tensor of many (uint8, SHAPES); an iterable of paths,
    PIL images and single arrays (H, W), (H, W, 3) or (C, H, W); or a mapping of names to those.
    What is no file and has no name is named by its number, from 0. Raises InputError for anything
    else.
    """
    if isinstance(images, str | Path | Image.Image):
        images = [images]
    if isinstance(images, np.ndarray | torch.Tensor):
        shape = tuple(images.shape)
        is_channels_first = isinstance(images, torch.Tensor) and images.ndim == 3 and shape[0] == 3
        if is_channels_first or not _is_stack(shape):
            raise InputError(
                f"images of shape {shape}: expected {SHAPES}; put a single picture into a list"
            )
    for name, image in images.items() if isinstance(images, Mapping) else enumerate(images):
        if isinstance(image, str | Path):
            yield from find_pictures([image])
        elif isinstance(image, Image.Image):
            yield Picture(str(name), _pixels_of(image))
        else:
            yield Picture(str(name), as_picture(image))


def _pixels_of(image: Image.Image) -> np.ndarray | Exception:
    """Pixels of a PIL image; what went wrong if it cannot be read, as it may be lazily."""
    try:
        return _eight_bits(ImageOps.exif_transpose(image))
    except Exception as error:  # damaged files make Pillow raise nearly anything
        return error


def as_picture(image: Any) -> np.ndarray:
    """An array or tensor (H, W), (H, W, 1 or 3) or (1 or 3, H, W) uint8 as (H, W) or (H, W, 3)."""
    pixels = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise InputError(
            f"picture of {pixels.dtype} and shape {pixels.shape}: expected uint8 (H, W), (H, W, 3) "
            "or (C, H, W)"
        )
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3):
        raise InputError(f"picture of shape {image.shape}: expected 1 or 3 channels")
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


# -- reading --------------------------------------------------------------------------------------


def read(source: Path | np.ndarray | Exception, *, enough: int = 0) -> tuple[np.ndarray, float]:
    """Pixels (H, W) or (H, W, 3) uint8, upright, and how many px of the photograph one of them is.

    16 bit becomes 8, and so does 32 where its values are those of 8 or 16; a palette becomes RGB,
    transparency white; of several frames the first is taken.

    enough: sides in px that will do: a JPEG of at least twice that is decoded at a half, quarter or
    eighth of its size, which saves most of the time; 0: every pixel. Raises what Pillow raises, and
    ValueError for values of more than 16 bit.
    """
    if isinstance(source, np.ndarray):
        return source, 1.0
    if isinstance(source, Exception):
        raise source
    with Image.open(source) as image:
        width = image.width
        if enough:
            image.draft(None, (enough, enough))
        scale = width / image.width
        image.load()
        return _eight_bits(ImageOps.exif_transpose(image)), scale


def _eight_bits(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # of 16 bit, or of 32 as some formats widen them
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its values exceed 16 bit; expected 8 or 16")
        if image.mode == "I" and values.max() <= 0xFF:  # 8 bit kept in 32; as 16 it would be black
            return values.astype(np.uint8)
        return np.round(values / 257).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("its values are floating-point; expected 8 or 16 bit")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)
