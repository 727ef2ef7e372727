"""Training speed of the compared methods with and without gmelib.small_maps, as ratios in one run.

    python benchmarks/small_maps.py [--methods ma_net ada_cm ...] [--threads 1] [--steps 8]

Both ways run in turn in one process, several rounds, float32 and bfloat16; networks and batches are
those of params/peers/cpu.yaml.
"""

import argparse
import statistics
from unittest import mock

import torch
from training import noise, seconds_per_face

from gmelib import train
from gmelib.config import PROJECT_ROOT, Config, read_yaml
from gmelib.record import Run
from gmelib.train import Trainer, initial_model

CLASSES = 7
ROUNDS = 3


def make_trainer(cfg: Config, *, quick: bool) -> Trainer:
    model, run = initial_model(cfg, CLASSES).train(), Run(cfg, "student", PROJECT_ROOT / "unused")
    if quick:
        return Trainer(run, model, noise(), None)
    with mock.patch.object(train, "quicken_small_maps"):
        return Trainer(run, model, noise(), None)


def main() -> None:
    preset = read_yaml("params/peers/cpu.yaml")
    methods = [name for name in preset if name not in ("all", "gmenet")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for method in options.methods:
        for precision in ("float32", "bfloat16"):
            values = preset["all"] | preset[method] | {"precision": precision, "kd_weight": 0.0}
            cfg = Config(method=method, train_on="lr+hr", **values)
            trainers = {quick: make_trainer(cfg, quick=quick) for quick in (False, True)}
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(ROUNDS):
                for quick, trainer in trainers.items():
                    times[quick].append(seconds_per_face(trainer, options.steps))
            before, after = (statistics.median(times[quick]) for quick in (False, True))
            print(
                f"{method:20} {precision:9} {1 / before:7.1f} -> {1 / after:7.1f} faces/s   "
                f"{before / after:.2f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
