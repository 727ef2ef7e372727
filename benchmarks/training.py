"""Training speed of a preset, in faces a second: float32 beside bfloat16, alone and with a teacher.

    python benchmarks/training.py [--preset cpu] [--threads 2] [--steps 12]

Every variant runs in one process, in turn, several rounds; ratios are of medians, so a machine
whose speed drifts still gives them.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from gmelib.batches import epoch_steps
from gmelib.config import EXPRESSIONS, Config
from gmelib.data.faceset import FaceSet, make_faces
from gmelib.record import Run
from gmelib.train import Trainer, initial_model

CLASSES = 7
FACES = 1024
ROUNDS = 3


def noise() -> FaceSet:
    """Noise in place of faces: the arithmetic takes as long."""
    rng = np.random.default_rng(0)
    return make_faces(
        name="noise",
        images=rng.integers(0, 256, (FACES, 1, 48, 48), dtype=np.uint8),
        expressions=np.array([EXPRESSIONS[i % CLASSES] for i in range(FACES)]),
        split=np.array(["train"] * FACES),
        ids=np.arange(FACES),
    )


def make_trainer(cfg: Config, faces: FaceSet, *, teacher: bool) -> Trainer:
    run = Run(cfg, "student", Path("unused"))
    guide = initial_model(cfg, CLASSES) if teacher else None
    return Trainer(run, initial_model(cfg, CLASSES).train(), faces, guide)


def seconds_per_face(trainer: Trainer, steps: int) -> float:
    """Median over some steps of one training step, from native faces to the updated weights."""
    times = []
    for step in epoch_steps(trainer.cfg, 1, trainer.plan)[:steps]:
        started = time.perf_counter()
        float(trainer.step(trainer.batch(step))["loss"])  # waits for a GPU
        times.append((time.perf_counter() - started) / len(step.index))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", help="a file of params/")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cfg, faces = Config.load(f"params/{options.preset}.yaml"), noise()
    variants = {
        (precision, teacher): make_trainer(
            cfg.replace(precision=precision), faces, teacher=teacher
        )
        for precision in ("float32", "bfloat16")
        for teacher in (False, True)
    }
    times: dict[tuple[str, bool], list[float]] = {key: [] for key in variants}
    for _ in range(ROUNDS):
        for key, trainer in variants.items():
            times[key].append(seconds_per_face(trainer, options.steps))
    base = statistics.median(times["float32", False])
    print(f"preset {options.preset}, {options.threads} threads, batch {cfg.batch_size}")
    for (precision, teacher), measured in times.items():
        speed = 1 / statistics.median(measured)
        name = f"{precision}, {'with' if teacher else 'without'} teacher"
        print(f"{name:28} {speed:7.1f} faces/s   {speed * base:.2f} x float32 without teacher")


if __name__ == "__main__":
    main()
