"""Whether a method at its full size learns 32 drawn faces by heart, and what it costs.

    python benchmarks/overfit.py METHOD [--peers paper] [--mode lr] [--epochs 100]
        [--learning-rate 0.0003] [--batch-size 16] [--threads 2]

Trains the preset's network at its input, with its own objective, augmentation, optimizer and SAM.
Two things are not the preset's: the learning rate stays as it starts, for a decay per epoch means
nothing where an epoch is a step or two, and a step has at most 32 faces. Stops when the training
accuracy has been above 95 % for five epochs; the exit status is 1 if it never was.

The authors' learning rates are for pretrained weights and full data sets; POSTER's 4e-5 may need
--learning-rate 0.0003 to learn from random weights in a reasonable time. A full-size POSTER takes
most of a minute for a pass over the faces on a core.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from gmelib.batches import predict_logits
from gmelib.compute import device_name, reproducible
from gmelib.config import Config
from gmelib.data import load_faces
from gmelib.evaluate import complexity
from gmelib.methods import passes_of, title_of
from gmelib.record import Run
from gmelib.train import Trainer, initial_model
from gmelib.variants import ENTRIES, RESOLUTIONS, compared_config

FACES = 32
ENOUGH, STAYS = 0.95, 5  # training accuracy, and for how many epochs


def config(options: argparse.Namespace, out_root: str) -> Config:
    drawn = Config.load(
        "params/synthetic.yaml", out_root=out_root, drawn_train=FACES, drawn_validation=8,
        drawn_test=8, num_threads=options.threads, peers=options.peers, seed=options.seed,
    )  # fmt: skip
    cfg = compared_config(drawn, options.method, options.mode)
    return cfg.replace(
        epochs=options.epochs,
        batch_size=options.batch_size or min(cfg.batch_size, FACES),
        learning_rate=options.learning_rate or cfg.learning_rate,
        schedule="step",
        decay=1.0,
    )


def describe(cfg: Config, costs: dict[str, int]) -> str:
    sam = f", SAM rho {cfg.sam_rho:g}" if cfg.sam_rho else ""
    return (
        f"{title_of(cfg)}, {cfg.input_size} px, {cfg.train_on}: {FACES} drawn faces, batch "
        f"{cfg.batch_size}, {cfg.optimizer} {cfg.learning_rate:g}{sam}, "
        f"{passes_of(cfg):g} forward-backward passes a face\n"
        f"{costs['macs'] / 1e9:.2f} G multiply-accumulates, {parameters(costs)}"
    )


def parameters(costs: dict[str, int]) -> str:
    thop = f"{costs['parameters_thop']:,}" if "parameters_thop" in costs else "not installed"
    return f"{costs['parameters']:,} parameters (thop: {thop})"


def train(trainer: Trainer, epochs: int) -> list[float]:
    """Prints a line an epoch; the training accuracies up to where they stay high."""
    accuracies: list[float] = []
    for trainer.epoch in range(1, epochs + 1):
        started = time.perf_counter()
        row = trainer.train_epoch(lambda _: None)
        seconds = time.perf_counter() - started
        accuracies.append(row["train_accuracy"])
        print(f"{trainer.epoch:5d}  {row['loss']:8.4f}  {accuracies[-1]:14.3f}  {seconds:7.1f}",
              flush=True)  # fmt: skip
        if is_learnt(accuracies):
            break
    return accuracies


def is_learnt(accuracies: list[float]) -> bool:
    return len(accuracies) >= STAYS and min(accuracies[-STAYS:]) > ENOUGH


def accuracy_as_tested(trainer: Trainer) -> float:
    """Of the trained faces, in eval mode and low resolution, by the weights without averaging."""
    faces = trainer.faces
    index = faces.indices("train")
    logits = predict_logits(
        trainer.model, faces.images[index], trainer.view, dtype=trainer.dtype, batch_size=FACES
    )
    return float((logits.argmax(1) == faces.labels[index]).double().mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=ENTRIES)
    parser.add_argument("--peers", default="paper", help="a file of params/peers/")
    parser.add_argument("--mode", default="lr", choices=RESOLUTIONS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, help="in place of the preset's")
    parser.add_argument("--batch-size", type=int, help="in place of the preset's, at most 32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out_root:
        cfg = config(options, out_root)
        faces = load_faces(cfg)
        model = initial_model(cfg, len(faces.classes))
        costs = complexity(model, cfg.input_size)
        print(describe(cfg, costs), flush=True)
        with reproducible(cfg):
            trainer = Trainer(Run(cfg, "student", Path("unused")), model, faces, None)
            print(f"on {device_name(trainer.device)}, {trainer.dtype}")
            print("epoch      loss  train accuracy  seconds", flush=True)
            started = time.perf_counter()
            learnt = is_learnt(train(trainer, cfg.epochs))
            seconds, tested = time.perf_counter() - started, accuracy_as_tested(trainer)
    print(
        f"{title_of(cfg)}, {parameters(costs)}: {'overfits' if learnt else 'does NOT overfit'} "
        f"{FACES} faces, {trainer.epoch} epochs, {seconds / 60:.1f} min; in eval mode and low "
        f"resolution it knows {tested:.3f} of them"
    )
    return 0 if learnt else 1


if __name__ == "__main__":
    sys.exit(main())
