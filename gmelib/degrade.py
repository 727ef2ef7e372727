"""From native faces to low-resolution ones and back: the paper's degradation (sections 3.1, 4.1).

A face of the data set (native size, 8 bit) is made small by an antialiased filter, rounded to 8
bit, enlarged to the input size of the network and blurred by a 5x5 Gaussian. Low resolution is
always made from the native face, never from one that was already enlarged. Everything is batched
and runs on the device of the tensor: resizing is two small matrix products. Their weights are
Pillow's, in Pillow's fixed point, so images made here and images written by Pillow are the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gmelib.config import InputError
from gmelib.data.faceset import FaceSet, shown
from gmelib.filters import BLUR_TAPS, KERNELS, blur_matrix, exact_dtype, fast_dtype, resize_matrix


def _round_to_bytes(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0.0, 255.0)  # halves go up, as in Pillow


def _check(images: Tensor, size: int, kernel: str) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise InputError(
            f"images: expected a uint8 tensor (N, C, H, W), got {images.dtype} of shape "
            f"{tuple(images.shape)}; pass the native 8-bit faces"
        )
    if kernel not in KERNELS:
        raise InputError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if size < 1:
        raise InputError(f"size: expected at least 1 px, got {size}")


def resize(images: Tensor, size: int, kernel: str = "bicubic") -> Tensor:
    """Resize as Pillow's `Image.resize` does, to the bit (Apple GPUs: within one grey level).

    images: (N, C, H, W) uint8; returns (N, C, size, size) uint8 on the same device. Horizontal
    pass first, rounded and clipped to 8 bit, then the vertical one. Raises InputError for an
    unknown kernel, another dtype or shape, or size < 1.
    """
    _check(images, size, kernel)
    height, width = images.shape[-2:]
    if height == width == size:
        return images
    dtype = exact_dtype(images.device)
    across = resize_matrix(width, size, kernel, dtype, images.device)
    down = resize_matrix(height, size, kernel, dtype, images.device)
    with torch.autocast(images.device.type, enabled=False):  # bf16 holds no 8-bit sums
        rows = _round_to_bytes(images.to(dtype) @ across.T)  # (N, C, H, size)
        return _round_to_bytes(down @ rows).to(torch.uint8)  # (N, C, size, size)


def to_low_resolution(images: Tensor, lr_size: int, *, kernel: str = "bicubic") -> Tensor:
    """Shrink native faces (N, C, H, W) uint8 to (N, C, lr_size, lr_size) uint8 (paper 4.1).

    Raises InputError where lr_size exceeds the native size: enlarging makes no low resolution.
    """
    native = min(images.shape[-2:])
    if lr_size > native:
        raise InputError(
            f"lr_size = {lr_size}: expected at most {native}, the native size of the faces in px"
        )
    return resize(images, lr_size, kernel)


def restore(
    low: Tensor, input_size: int, *, kernel: str = "bicubic", blur_sigma: float = 1.0
) -> Tensor:
    """Enlarge low-resolution faces to the input size and blur them (paper 3.1).

    low: (N, C, h, w) uint8; returns (N, C, input_size, input_size) float32 in [0, 255], not
    rounded. blur_sigma: standard deviation in px of the enlarged image, 5x5 window, reflect
    padding; 0 switches the blur off. Raises InputError as `resize`, and for a negative sigma.
    """
    _check(low, input_size, kernel)
    if not 0.0 <= blur_sigma < math.inf:
        raise InputError(f"blur_sigma: expected 0 (off) or more pixels, got {blur_sigma}")
    if blur_sigma > 0 and input_size <= BLUR_TAPS // 2:
        raise InputError(f"input_size: the blur needs at least 3 px, got {input_size}")
    height, width = low.shape[-2:]
    dtype = fast_dtype(low.device)
    across = resize_matrix(width, input_size, kernel, dtype, low.device)
    down = resize_matrix(height, input_size, kernel, dtype, low.device)
    with torch.autocast(low.device.type, enabled=False):
        image = (down @ (low.to(dtype) @ across.T)).clamp_(0.0, 255.0)
        if blur_sigma > 0:
            blur = blur_matrix(input_size, float(blur_sigma), dtype, low.device)
            image = blur @ (image @ blur.T)
        return image.to(torch.float32)


def normalize(images: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Grey levels (N, C, H, W) in [0, 255] to network input (N, 3, H, W) in [-1, 1].

    (x / 255 - 0.5) / 0.5; a grey image is repeated to 3 channels without a copy (expand).
    """
    scaled = (images.to(torch.float32) * (2.0 / 255.0) - 1.0).to(dtype)
    return scaled.expand(-1, 3, -1, -1)


def to_grey(images: Tensor) -> Tensor:
    """Colour (N, 3, H, W) uint8 to grey (N, 1, H, W): luma as Pillow's convert("L"), to the bit.

    Its weights (ITU-R 601) in 65536ths: every sum stays below 2^24, so float32 holds it exactly.
    """
    red, green, blue = images.to(torch.float32).split(1, dim=1)
    scaled = 19595.0 * red + 38470.0 * green + 7471.0 * blue
    return ((scaled + 32768.0) / 65536.0).floor().to(torch.uint8)


def high_resolution_view(images: Tensor, input_size: int) -> Tensor:
    """What a teacher sees: native faces (N, C, H, W) uint8 to (N, 3, input_size, input_size)."""
    return normalize(resize(images, input_size))


def low_resolution_view(
    images: Tensor,
    input_size: int,
    lr_size: int,
    kernel: str = "bicubic",
    blur_sigma: float = 1.0,
) -> Tensor:
    """What a student sees: native faces shrunk to lr_size and restored, (N, 3, S, S) in [-1, 1]."""
    low = to_low_resolution(images, lr_size, kernel=kernel)
    return normalize(restore(low, input_size, kernel=kernel, blur_sigma=blur_sigma))


def psnr(
    images: Tensor, input_size: int, lr_size: int, kernel: str = "bicubic", blur_sigma: float = 1.0
) -> float:
    """How close restored faces are to the full ones: peak signal-to-noise ratio in dB.

    images: native faces (N, C, H, W) uint8. The squared error is averaged over all faces, 255 is
    the peak; higher is closer. Infinite for equal images.
    """
    full = resize(images, input_size).to(torch.float32)
    low = to_low_resolution(images, lr_size, kernel=kernel)
    restored = restore(low, input_size, kernel=kernel, blur_sigma=blur_sigma)
    error = float((full - restored).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_npz(folder: Path, faces: FaceSet, low: np.ndarray) -> None:
    np.savez_compressed(
        folder / "faces.npz",
        images=low,
        labels=faces.labels.numpy(),
        split=faces.split,
        ids=faces.ids,
    )


def _write_png(folder: Path, faces: FaceSet, low: np.ndarray) -> None:
    """<split>/<class>/<id>.png; the separators of an id that is a path become dashes."""
    digits = len(str(faces.ids.max())) if faces.ids.dtype.kind == "i" else 0
    for face, label, split, name in zip(low, faces.labels, faces.split, faces.ids, strict=True):
        stem = str(name).zfill(digits).replace("/", "-")
        path = folder / split / faces.classes[label] / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:  # never two faces in one file
            pixels = face[0] if len(face) == 1 else face.transpose(1, 2, 0)
            Image.fromarray(pixels).save(file, "png")


_WRITERS = {"npz": _write_npz, "png": _write_png}


def _is_finished(folder: Path, expected: dict[str, Any]) -> bool:
    """Whether the folder holds this very export; InputError if it holds anything else."""
    if not folder.exists():
        return False
    advice = "give another folder, or delete this one"
    try:
        found = json.loads((folder / "manifest.json").read_text())
        files = dict(found.pop("files"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if folder.is_dir() and not any(folder.iterdir()):
            return False
        raise InputError(f"{shown(folder)}: exists and is no finished export; {advice}") from None
    differing = [name for name in expected if found.get(name) != expected[name]]
    if differing:
        raise InputError(
            f"{shown(folder)}: holds an export with another {', '.join(differing)}; {advice}"
        )
    for name, digest in files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise InputError(
                f"{shown(folder / name)}: missing or changed since it was exported; {advice}"
            )
    return True


def export_low_resolution(
    faces: FaceSet, folder: Path | str, lr_size: int, *, kernel: str = "bicubic", fmt: str = "npz"
) -> Path:
    """Write the low-resolution faces out and return the path of the folder's manifest.json.

    fmt "npz": faces.npz with images (N, C, lr_size, lr_size) uint8, labels, split, ids; "png":
    <split>/<class>/<id>.png. The manifest names the data set, its fingerprint, the degradation,
    the counts and every file's SHA-256. The folder appears when all is written, so what can be seen
    is complete; the same finished export is kept. Raises InputError where the folder holds anything
    else, or files that no longer match their manifest.
    """
    folder = Path(folder)
    if fmt not in _WRITERS:
        raise InputError(f"export: expected one of {', '.join(_WRITERS)}, got {fmt!r}")
    manifest = {
        "schema": 1,
        "dataset": faces.name,
        "fingerprint": faces.fingerprint,
        "native_shape": list(faces.images.shape[1:]),
        "lr_size": lr_size,
        "kernel": kernel,
        "format": fmt,
        "classes": list(faces.classes),
        "counts": faces.counts().to_dict(),
    }
    if _is_finished(folder, manifest):
        return folder / "manifest.json"
    chunks = faces.images.split(1024)
    low = torch.cat([to_low_resolution(c, lr_size, kernel=kernel) for c in chunks]).numpy()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}-{uuid4().hex[:12]}")
    partial.mkdir()
    try:
        _WRITERS[fmt](partial, faces, low)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest["files"] = {p.relative_to(partial).as_posix(): _sha256(p) for p in files}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        if folder.exists():
            folder.rmdir()  # empty, or _is_finished would have raised
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "manifest.json"
