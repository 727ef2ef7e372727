"""Networks with random weights in run folders, made without training, and pictures for them."""

from pathlib import Path

import numpy as np
import tiny
import torch
from PIL import Image

from gmelib.checkpoint import save_weights
from gmelib.methods import build_model
from gmelib.record import Run

CLASSES = ("anger", "happiness", "surprise", "neutral")


def network(folder: Path, stage: str = "student", *, seed: int = 0, **values) -> Run:
    """A finished run whose network answers arbitrarily; reads faces of 8 px, input 32 px."""
    cfg = tiny.config(**({"dataset": "fer2013", "device": "cpu"} | values))
    run = Run(cfg, stage, folder)
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = build_model(cfg, len(CLASSES))
    _settle(model)
    save_weights(folder / "model.safetensors", model, cfg, CLASSES)
    run.finish(classes=CLASSES)
    return run


def _settle(model: torch.nn.Module) -> None:
    """BatchNorm's statistics from made faces: else every face gets nearly the same answer."""
    seen = [face(32, seed) for seed in range(32)]
    inputs = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2) / 127.5 - 1
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(inputs)
    model.eval()


def face(side: int, seed: int = 0, *, width: int = 0, channels: int = 3) -> np.ndarray:
    """A smooth picture (side, width, channels), or (side, width) for one channel, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, channels), dtype=np.uint8).squeeze()
    size = (width or side, side)
    return np.array(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def write_faces(folder: Path, sides, *, suffix: str = ".png") -> list[Path]:
    """A picture of every side, named by its number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}{suffix}" for number in range(len(sides))]
    for seed, (path, side) in enumerate(zip(paths, sides, strict=True)):
        Image.fromarray(face(side, seed)).save(path)
    return paths
