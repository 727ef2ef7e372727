"""One training loop for teacher, student (paper 4.1) and the compared methods: :func:`fit`.

Random numbers of an epoch come from (seed, epoch) alone, so a run that is killed at any moment and
started again ends with the same weights as one that never stopped (bit-exact on a CPU with an equal
number of threads).

Where torchrun started several processes (:mod:`gmelib.processes`), each takes its share of every
batch of ``batch_size`` faces; the gradients are those of one process with the whole batch.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from gmelib import processes
from gmelib.batches import (
    Batch,
    Plan,
    Step,
    channels_last,
    epoch_seed,
    epoch_steps,
    make_batch,
    make_view,
    predict_logits,
    presentations,
    require_two_faces,
    train_indices,
    training_view,
)
from gmelib.checkpoint import load_checkpoint, save_checkpoint, save_weights
from gmelib.compute import autocast, pick_device, pick_precision, reproducible
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.history import epoch_line, new_session, write_history
from gmelib.methods import build_model, make_objective
from gmelib.model import Output
from gmelib.objective import Terms
from gmelib.optimize import descend, make_optimizer
from gmelib.record import Run
from gmelib.schedule import learning_rate_at
from gmelib.small_maps import quicken_small_maps

CHECK_EVERY = 25  # steps between looks at the loss; a look makes a GPU wait


class DivergedError(InputError):
    """The loss is no longer a finite number."""


def initial_model(cfg: Config, classes: int) -> nn.Module:
    """A fresh network whose random weights depend on ``cfg.seed`` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        return build_model(cfg, classes)


class Trainer:
    """The state of a training run: network, optimizer, averaged weights, history, best epoch."""

    def __init__(self, run: Run, model: nn.Module, faces: FaceSet, teacher: nn.Module | None):
        cfg = self.cfg = run.cfg
        self.run, self.faces = run, faces
        self.device = pick_device(cfg.device)
        self.dtype = pick_precision(cfg.precision, self.device)
        model = processes.with_joint_statistics(model, self.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        quicken_small_maps(model)
        network = processes.parallel(self.model)
        self.network = torch.compile(network) if cfg.compile else network
        self.teacher = teacher
        if teacher is not None:
            teacher.to(self.device, memory_format=torch.channels_last).eval()
        self.optimizer = make_optimizer(cfg, model)
        self.average = None
        if cfg.ema:
            # buffers too: averaged weights go with averaged statistics of BatchNorm
            average = get_ema_multi_avg_fn(cfg.ema)
            self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self.view, self.teacher_view = make_view(cfg, run.stage), make_view(cfg, "teacher")
        self.objective = make_objective(
            cfg,
            len(faces.classes),
            training_view(cfg, run.stage),
            teacher=self.guide if teacher is not None else None,
        )
        self.indices = train_indices(cfg, faces)
        require_two_faces(cfg, faces.name, len(self.indices))
        self.part = 1 / processes.world()  # of the step's batch that this process stands for
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"epoch": 0, "accuracy": -1.0, "model": {}}
        self.sessions: list[dict[str, Any]] = []

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the averaged one where ``ema`` is on."""
        return self.model if self.average is None else self.average.module

    def evaluated_weights(self) -> dict[str, Tensor]:
        return {n: t.detach().cpu().clone() for n, t in self.evaluated.state_dict().items()}

    def state(self) -> dict[str, Any]:
        return {
            "run": self.run.id,
            "data": self.faces.fingerprint,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "objective": self.objective.state(),
            "best": self.best,
            "history": self.history,
            "sessions": self.sessions,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on where a checkpoint stands; :class:`InputError` if it is of other data."""
        if state["data"] != self.faces.fingerprint:
            raise InputError(
                f"{self.run.folder / 'last.pt'}: was trained on other data (fingerprint "
                f"{state['data'][:8]}, here {self.faces.fingerprint[:8]}); restore that data set, "
                "or delete the folder to train the run again"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])
                self.average.n_averaged.fill_(1)  # at 0 the next update would start it anew
            self.objective.resume(state.get("objective", {}))
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.run.folder / 'last.pt'}: does not fit this network "
                f"({str(error).splitlines()[0]}); delete the folder to train the run again"
            ) from None
        self.epoch, self.best = state["epoch"], state["best"]
        self.history, self.sessions = state["history"], state["sessions"]

    def train_epoch(self, on_step: Callable[[int], None]) -> dict[str, float]:
        """All that the objective plans for an epoch; returns the loss terms' means over it."""
        cfg = self.cfg
        torch.manual_seed(epoch_seed(cfg.seed, self.epoch, processes.rank()))  # dropout, views
        steps = epoch_steps(cfg, self.epoch, self.plan)
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        self.model.train()
        seen = 0
        for number, step in enumerate(steps):
            count = (self.epoch - 1) * len(steps) + number
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(cfg, count, len(steps))
            own, self.part = processes.share(len(step.index))
            named = self.step(self.batch(Step(*(t[own] for t in step))))
            for name, value in named.items():
                sums[name] += value.detach() * (self.part * len(step.index))
            seen += len(step.index)
            if (number + 1) % CHECK_EVERY == 0 or number + 1 == len(steps):
                self.check_finite(processes.total(sums["loss"]), count)
            on_step(len(step.index))
        row = {n: float(processes.total(value)) / seen for n, value in sums.items()}
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        return row | self.objective.end_epoch(self.evaluated, self.faces, self.indices)

    def plan(self, generator: torch.Generator) -> Plan:
        return self.objective.plan(self.faces, self.indices, generator)

    def batch(self, step: Step) -> Batch:
        """The faces of a step, augmented, on the device."""
        return make_batch(self.faces, step, self.device)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Forward, backward and update; returns the loss and its named terms."""

        def backward() -> Terms:
            terms = self.objective.terms(self.forward, batch)
            # the gradients become the mean over the processes: each counts by its part of the faces
            (terms.loss * (self.part * processes.world())).backward()
            return terms

        terms = descend(self.optimizer, backward, sam_rho=self.cfg.sam_rho)
        if self.average is not None:
            self.average.update_parameters(self.model)
        right = (terms.logits.argmax(1) == terms.labels).float()
        accuracy = right.mean() if len(right) else right.sum()
        return {"loss": terms.loss, **terms.named, "train_accuracy": accuracy}

    def forward(self, x: Tensor) -> Output:
        """The network in the run's precision: (N, 3, S, S) in [-1, 1] -> Output."""
        with autocast(self.device, self.dtype):
            return self.network(channels_last(x))

    def guide(self, images: Tensor) -> Output:
        """What the teacher makes of native faces in high resolution."""
        assert self.teacher is not None
        with autocast(self.device, self.dtype):
            return self.teacher(channels_last(self.teacher_view(images)))

    def check_finite(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            self.stop_diverged(f"the loss is not finite in epoch {self.epoch} (step {step})")

    def check_weights(self) -> None:
        """The last update of an epoch is not followed by a loss that would show what it broke."""
        state = self.model.state_dict()
        broken = [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
        if broken := processes.agree(broken):
            self.stop_diverged(f"weights are not finite after epoch {self.epoch} ({broken[0]})")

    def stop_diverged(self, what: str) -> NoReturn:
        kept = f"the checkpoint of epoch {self.epoch - 1}" if self.epoch > 1 else "nothing"
        raise DivergedError(
            f"{self.run.id}: {what}; {kept} is kept. Lower learning_rate "
            f"({self.cfg.learning_rate:g}) or kd_weight ({self.cfg.kd_weight:g})"
        )

    def validate(self, split: str) -> dict[str, float]:
        """Accuracy and cross-entropy on a split, without flip averaging."""
        index = self.faces.indices(split)
        logits = predict_logits(
            self.evaluated, self.faces.images[index], self.view, dtype=self.dtype
        )
        labels = self.faces.labels[index]
        return {
            f"{split}_accuracy": float((logits.argmax(1) == labels).double().mean()),
            f"{split}_loss": float(nn.functional.cross_entropy(logits, labels)),
        }


def fit(
    run: Run, model: nn.Module, faces: FaceSet, *, teacher: nn.Module | None = None
) -> pd.DataFrame:
    """Trains ``model`` into the run's folder, from its last checkpoint if there is one.

    Writes ``last.pt`` after every epoch, ``history.jsonl``, and at the end ``model.safetensors``
    with the weights of the epoch that ``select`` names. ``model`` ends with those weights. Of
    several processes, the first validates and writes; all must call this.

    Args:
        run: its stage decides what the network sees: ``teacher`` HR, others LR.
        faces: with train and validation splits.
        teacher: a frozen network for distillation, keyword-only because it is of the student's
            own class; its weights and buffers never change.

    Returns:
        The history: one row an epoch with every loss term, accuracies and seconds.

    Raises:
        DivergedError: if the loss stops being finite; the last good checkpoint stays.
        InputError: if the folder is locked, not writable, or holds a foreign or unread checkpoint.
    """
    cfg = run.cfg
    with processes.held_by_first(run.lock()), reproducible(cfg):
        trainer = Trainer(run, model, faces, teacher)
        state = processes.agree(load_checkpoint(run.folder, run.id))
        if state is not None:
            trainer.resume(state)
        if trainer.epoch < cfg.epochs:
            trainer.sessions.append(new_session(trainer.device, trainer.dtype, trainer.epoch + 1))
            _run_epochs(trainer)
        chosen = trainer.evaluated_weights() if cfg.select == "last" else trainer.best["model"]
        model.load_state_dict(processes.agree(chosen))
        if processes.is_first():
            _write_history(trainer)
            save_weights(run.folder / "model.safetensors", model, cfg, faces.classes)
    return pd.DataFrame(processes.agree(trainer.history))


def _run_epochs(trainer: Trainer) -> None:
    cfg = trainer.cfg
    splits = ("validation", "test") if cfg.select == "test" else ("validation",)
    per_epoch = presentations(cfg, trainer.run.stage, len(trainer.indices))
    bar = tqdm(
        total=cfg.epochs * per_epoch,
        initial=trainer.epoch * per_epoch,
        desc=trainer.run.id,
        unit="face",
        unit_scale=True,
        mininterval=10 if cfg.batch else 1,
        disable=not processes.is_first(),
    )
    with bar:
        while trainer.epoch < cfg.epochs:
            started = time.perf_counter()
            trainer.epoch += 1
            row: dict[str, float] = {"epoch": trainer.epoch} | trainer.train_epoch(bar.update)
            trainer.check_weights()
            if not processes.is_first():
                continue  # and wait in the next step for the first
            for split in splits:
                row |= trainer.validate(split)
            row["seconds"] = time.perf_counter() - started
            _keep_epoch(trainer, row, accuracy=row[f"{splits[-1]}_accuracy"])
            bar.write(epoch_line(row, cfg.epochs))


def _keep_epoch(trainer: Trainer, row: dict[str, float], accuracy: float) -> None:
    trainer.sessions[-1]["seconds"] += row["seconds"]
    trainer.history.append(row)
    if accuracy > trainer.best["accuracy"]:
        weights = trainer.evaluated_weights()
        trainer.best = {"epoch": trainer.epoch, "accuracy": accuracy, "model": weights}
    save_checkpoint(trainer.run.folder, trainer.state())
    _write_history(trainer)


def _write_history(trainer: Trainer) -> None:
    write_history(
        trainer.run,
        trainer.history,
        epoch=trainer.epoch,
        best_epoch=trainer.best["epoch"],
        sessions=trainer.sessions,
    )
