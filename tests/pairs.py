"""Two processes that share a run as torchrun would start them, and what they do in tests.

They are forked from a process that has imported everything, so a pair starts in a moment.
"""

import multiprocessing
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path

import tiny
import torch
import yaml

from gmelib import launch, processes
from gmelib.checkpoint import load_checkpoint
from gmelib.config import PROJECT_ROOT, InputError
from gmelib.data import FaceSet
from gmelib.train import Trainer, fit, initial_model

HARD = {  # everything that has a state or draws random numbers
    "epochs": 3, "schedule": "onecycle", "ema": 0.9, "shift": 2, "dropout": 0.4,
    "label_smoothing": 0.1,
}  # fmt: skip
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pairs"])


def _start_server() -> None:
    """Once: what is forked has imported this file (before 3.13, sys.path is not handed on)."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(PROJECT_ROOT)])
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@dataclass(frozen=True)
class Ended:
    status: int | None  # None: it had to be killed
    text: str  # what it printed
    seconds: float


class Pair:
    """Calls a function of this module in two processes; a status other than None ends them."""

    def __init__(self, folder: Path, function, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        _start_server()
        self.logs = [folder / f"log-{rank}" for rank in (0, 1)]
        for log in self.logs:
            log.unlink(missing_ok=True)
        self.both = [
            _context.Process(target=_work, args=(rank, port, self.logs[rank], function, arguments))
            for rank in (0, 1)
        ]
        for process in self.both:
            process.start()
        limit = time.monotonic() + 120  # the first pair waits until the server has imported all
        while not all(log.exists() for log in self.logs) and time.monotonic() < limit:
            time.sleep(0.01)
        self.started = time.monotonic()

    def end(self, limit: float = 60) -> list[Ended]:
        """Waits for both; one that is still there after ``limit`` seconds is killed."""
        ended = []
        for process, log in zip(self.both, self.logs, strict=True):
            process.join(max(0, self.started + limit - time.monotonic()))
            status, seconds = process.exitcode, time.monotonic() - self.started
            process.kill()
            process.join()
            ended.append(Ended(status, log.read_text(), seconds))
        return ended

    def kill(self) -> None:
        for process in self.both:
            process.kill()
            process.join()


def _work(rank: int, port: int, log: Path, function, arguments) -> None:
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    if rank:  # whoever is not the first writes nothing
        os.replace = tiny.no_space
    status = function(*arguments)
    if status is not None:
        launch._end(status)


# -- what they do ---------------------------------------------------------------------------------


def each_saves(function, folder: Path, *arguments) -> None:
    with processes.joined():
        torch.save(function(folder, *arguments), folder / f"result-{processes.rank()}.pt")


def agreements(folder: Path) -> dict:
    number = processes.rank()
    order = folder / "order"

    def call(text):
        with open(order, "a") as file:
            file.write(text)
        return text

    found = {
        "rank": number,
        "world": processes.world(),
        "is_first": processes.is_first(),
        "agree": processes.agree({"from": number, "tensor": torch.full((2,), number)}),
        "total": processes.total(torch.tensor([1.0, number])),
        "own": processes.first_then_others(call, str(number)),
        "shares": [(processes.share(count)[0].indices(99)[:2], processes.share(count)[1])
                   for count in (8, 7, 4, 3, 2)],
    }  # fmt: skip
    processes.wait()
    return found | {"order": order.read_text(), "says": processes.is_first_to_fail()}


def kept_waiting(folder: Path) -> None:
    """The first process works for longer than a sum over both would wait."""
    processes.PATIENCE = timedelta(seconds=10)
    with processes.joined():
        pause = 12 if processes.is_first() else 0
        processes.first_then_others(time.sleep, pause)
        (folder / f"done-{processes.rank()}").touch()


def gradients(folder: Path, count: int, guided: bool) -> dict:
    """Of every step of an epoch, BatchNorm in eval mode; and the means of the epoch."""
    faces = tiny.faces(sizes={"train": count, "validation": 4, "test": 4})
    run = tiny.run_of(folder, dropout=0.0, label_smoothing=0.1, shift=2)
    teacher = tiny.shake(initial_model(run.cfg, 4)) if guided else None
    trainer = Trainer(run, initial_model(run.cfg, 4).eval(), faces, teacher)
    trainer.model.train = lambda: trainer.model
    steps, update = [], trainer.optimizer.step

    def watched():
        steps.append({name: p.grad.clone() for name, p in trainer.model.named_parameters()})
        update()

    trainer.optimizer.step, trainer.epoch = watched, 1
    row = trainer.train_epoch(lambda _: None)
    return {"steps": steps, "row": row, "seed": torch.initial_seed()}


def all_gradients(folder: Path, cases: list[tuple[int, bool]]) -> list[dict]:
    return [gradients(folder, *case) for case in cases]


def fitted(out_root: Path) -> dict:
    """A distilled run to its end: what each process is left with."""
    teacher = initial_model(tiny.config(seed=9), 4)
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    run = tiny.run_of(out_root, **HARD)
    model = initial_model(run.cfg, 4)
    history = fit(run, model, tiny.faces(), teacher=teacher)
    return {
        "weights": dict(model.state_dict()),
        "history": history.drop(columns="seconds").to_dict("list"),
        "teacher_is_as_before": tiny.states_equal(before, dict(teacher.state_dict())),
    }


def fitted_in_two_sessions(out_root: Path) -> dict:
    step, run = Trainer.step, tiny.run_of(out_root, **HARD)

    def stopping(self, batch):
        if self.epoch == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    Trainer.step = stopping
    try:
        fitted(out_root)
    except KeyboardInterrupt:
        processes.wait()
        held = {"locked": (run.folder / "lock.json").exists()}
        held["epoch"] = load_checkpoint(run.folder, run.id)["epoch"]
    Trainer.step = step
    torch.manual_seed(99)
    return fitted(out_root) | held


def both_ways(folder: Path) -> list[dict]:
    return [fitted(folder / "whole"), fitted_in_two_sessions(folder / "stopped")]


def overlay(folder: Path, **values) -> list[str]:
    """Arguments that mean a tiny run."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in (tiny.SMALL | values).items()}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values | {"out_root": str(folder), "overlays": []}))
    return ["-f", str(path)]


def launched(stage: str, arguments: list[str], trouble: str = "") -> int:
    """The command line on tiny faces; ``trouble`` names what happens in epoch 2."""
    launch.load_faces = _tiny_faces
    step = Trainer.step

    def troubled(self, batch):
        if self.epoch == 2 and trouble == f"in process {processes.rank()}":
            raise InputError("no such thing; do another")
        if self.epoch == 2 and trouble == "sleep":
            if processes.is_first():  # has kept epoch 1
                Path(self.run.folder / "in-epoch-2").touch()
            time.sleep(60)
        return step(self, batch)

    Trainer.step = troubled
    return launch.main([stage, *arguments])


def _tiny_faces(cfg) -> FaceSet:
    return tiny.faces()
