"""A network and faces small enough to train in a second, for tests of the loop around them."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gmelib.config import PROJECT_ROOT, Config, InputError
from gmelib.data import FaceSet
from gmelib.data.faceset import make_faces
from gmelib.record import Run

NATIVE = 32  # px
CLASSES = ("anger", "happiness", "surprise", "neutral")
SIZES = {"train": 32, "validation": 12, "test": 20}
SMALL = {
    "input_size": 32,
    "lr_size": 8,
    "width": 4,
    "blocks": (1, 1, 1, 1),
    "global_blocks": (1, 1),
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.02,
    "num_threads": 1,
    "resamples": 100,
    "device": "cpu",
    "batch": True,
}


def config(out_root: Path | str = "outputs", **values) -> Config:
    return Config.make(**(SMALL | {"out_root": str(out_root)} | values))


def faces(seed: int = 0, sizes: dict[str, int] = SIZES) -> FaceSet:
    """Grey faces (N, 1, 32, 32): each class is a coarse pattern of 4 x 4 cells, plus noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).integers(0, 256, (len(CLASSES), 4, 4))
    patterns = patterns.repeat(NATIVE // 4, 1).repeat(NATIVE // 4, 2)
    total = sum(sizes.values())
    labels = np.arange(total) % len(CLASSES)
    noise = rng.normal(0, 20, (total, NATIVE, NATIVE))
    images = (0.5 * patterns[labels] + 64 + noise).clip(0, 255).astype(np.uint8)
    split = np.repeat(list(sizes), list(sizes.values()))
    first_test = int(np.flatnonzero(split == "test")[0])
    images[first_test] = images[0]  # as in FER2013: a test face that stands in training too
    labels[first_test] = labels[0]
    return make_faces(
        name="synthetic",
        images=images[:, None],
        expressions=np.array(CLASSES)[labels],
        split=split,
        ids=np.arange(total),
        classes=CLASSES,
    )


def run_of(out_root: Path, stage: str = "student", **values) -> Run:
    cfg = config(out_root, **values)
    return Run.open(cfg.teacher() if stage == "teacher" else cfg, stage)


def shake(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights, BatchNorm statistics and PReLU slopes, in eval mode: no part is neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)
    return module.eval()


def states_equal(one: dict, other: dict) -> bool:
    """Bit-equal tensors and equal values, however deeply nested."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(states_equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def refusal(call, *args, **kwargs) -> str:
    """The one line of the InputError that a call must end in."""
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


class FullDisk:
    """Stands for ``open``: the file opens, and nothing can be written into it."""

    def __init__(self, *args):
        self.file = open(*args)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def start(source: str, *arguments: str) -> subprocess.Popen:
    """Another Python process that can import gmelib and this module; talks by its pipes."""
    paths = os.pathsep.join([str(PROJECT_ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content; empty where there is no folder."""
    return {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file()}
