"""A run from its parameters to its record: done is loaded, broken resumed, missing trained."""

import json
import shlex
from typing import Any

import pandas as pd
from torch import nn

from gmelib import processes
from gmelib.batches import presentations, train_indices
from gmelib.checkpoint import discard, load_checkpoint, load_model
from gmelib.compute import pick_device
from gmelib.config import Config, InputError, resolve
from gmelib.data import FaceSet
from gmelib.evaluate import complexity, predict, save_predictions
from gmelib.fields import ARCHITECTURE
from gmelib.methods import passes_of
from gmelib.metrics import report
from gmelib.record import PUBLISHED, Run, read_facts
from gmelib.train import fit, initial_model


def run_teacher(cfg: Config, faces: FaceSet) -> Run:
    """The finished teacher that ``cfg`` means: a network on high-resolution faces."""
    return _finished(Run.open(cfg.teacher(), "teacher"), faces, teacher_run=None)


def run_student(cfg: Config, faces: FaceSet) -> Run:
    """The finished student that ``cfg`` means, distilled from its teacher if ``kd_weight`` > 0."""
    teacher_run = processes.agree(find_teacher(cfg, faces) if cfg.kd_weight else None)
    return _finished(open_student(cfg, teacher_run), faces, teacher_run=teacher_run)


def open_student(cfg: Config, teacher_run: Run | None = None) -> Run:
    """The student's run; its hash counts a teacher that its parameters do not imply."""
    implied = Run.open(cfg.teacher(), "teacher")
    if teacher_run is None or teacher_run.id == implied.id:
        return Run.open(cfg, "student")
    return Run.open(cfg, "student", teacher=teacher_run.id)


def teacher_of(student_run: Run) -> Run:
    """The finished teacher that a student was distilled from, or would have been.

    Looked for beside the student, in its outputs folder or among the published runs.

    Raises:
        InputError: if it is not there.
    """
    cfg = student_run.cfg.teacher()
    name = student_run.facts()["distillation"]["teacher"] or Run.open(cfg, "teacher").id
    roots = (cfg.path("out_root"), PUBLISHED)
    places = [student_run.folder.parents[1], *(root / cfg.dataset for root in roots)]
    for place in places:
        run = Run(cfg, "teacher", place / "teacher" / name)
        if run.is_done:
            return run
    raise InputError(
        f"{student_run.id}: its teacher {name} is not here; expected it in "
        f"{places[0] / 'teacher'}; copy it there, or train it with 02_teacher"
    )


def teacher_beside(student_run: Run) -> dict[str, Run]:
    """The teacher to compare a student with, under its name; empty if it is not finished."""
    try:
        return {"teacher (HR)": teacher_of(student_run)}
    except InputError:
        return {}


def without_distillation(cfg: Config) -> dict[str, Run]:
    """The same student without distillation, under its name; empty if it is not finished."""
    run = Run.open(cfg.replace(kd_weight=0.0), "student")
    return {"student without KD": run} if cfg.kd_weight and run.is_done else {}


def attention_run(student_run: Run) -> Run:
    """Where the attention report of a student lies."""
    cfg = student_run.cfg
    folder = cfg.path("out_root") / cfg.dataset / "attention" / student_run.id
    return Run(cfg, "attention", folder)


def find_teacher(cfg: Config, faces: FaceSet) -> Run:
    """The finished teacher of a student: ``teacher_run``, or found by the hash of its parameters.

    Raises:
        InputError: where there are no maps to distil, the teacher is not finished (the message is
            the command that makes it), or is of another architecture or data set.
    """
    if cfg.kd == "attention" and (cfg.attention == "none" or cfg.method != "gmenet"):
        raise InputError(
            f"parameter kd_weight = {cfg.kd_weight:g}: {_mapless(cfg)} has no maps to distil; "
            "set kd_weight = 0, kd = 'logits' or attention = 'dbam'"
        )
    if not cfg.teacher_run:
        run = Run.open(cfg.teacher().replace(force=False), "teacher")  # force is the student's
        if not run.is_done:
            raise InputError(
                f"the teacher {run.id} is {run.state}; train it first with: {_command(cfg)}"
            )
    else:
        folder = resolve(cfg.teacher_run)
        facts = read_facts(folder)
        if facts["stage"] != "teacher":
            raise InputError(f"teacher_run = {cfg.teacher_run}: is a {facts['stage']}, no teacher")
        run = Run(Config.make(**facts["config"]), "teacher", folder)
    facts = run.facts()
    ours = cfg.model_dump(mode="json")
    # a record lacks the parameters that came after it; their defaults are what it was made with
    theirs = Config.make(**facts["config"]).model_dump(mode="json")
    wrong = [n for n in ("dataset", *ARCHITECTURE) if ours[n] != theirs[n]]
    if wrong:
        listed = ", ".join(f"{n} = {theirs[n]} (expected {ours[n]})" for n in wrong)
        raise InputError(
            f"teacher {run.id}: does not fit this student: {listed}; give both the same values or "
            "name another teacher_run"
        )
    _check_data(run, facts, faces)
    return run


def _mapless(cfg: Config) -> str:
    return "attention = 'none'" if cfg.method == "gmenet" else f"method = {cfg.method!r}"


def _command(cfg: Config) -> str:
    places = {"data_root": cfg.data_root, "out_root": cfg.out_root, "overlays": []}
    values = shlex.quote(json.dumps(cfg.teacher().scientific() | places))
    return f"papermill notebooks/02_teacher.ipynb outputs/02_teacher.ipynb -y {values}"


def _finished(run: Run, faces: FaceSet, *, teacher_run: Run | None) -> Run:
    run = processes.agree(run)  # of a run's own processes, the first decides for all
    if processes.agree(run.cfg.force or not run.is_done):
        with processes.held_by_first(run.lock()):
            # another process may have finished it between the two looks
            if processes.agree(run.cfg.force or not run.is_done):
                _make(run, faces, teacher_run)
                return run
    if processes.is_first():
        run.note_other_code()
    _check_data(run, run.facts(), faces)
    return run


def _make(run: Run, faces: FaceSet, teacher_run: Run | None) -> None:
    pick_device(run.cfg.device)  # what can fail fails before a finished run is given up
    model = initial_model(run.cfg, len(faces.classes))
    teacher = load_model(teacher_run) if teacher_run else None
    processes.wait()
    if processes.is_first() and run.is_done:
        discard(run)
    fit(run, model, faces, teacher=teacher)
    if processes.is_first():
        _evaluate(run, model, faces, teacher_run)
    processes.wait()


def _evaluate(run: Run, model: nn.Module, faces: FaceSet, teacher_run: Run | None) -> None:
    """Reads the test split, once, and writes the record."""
    cfg, state = run.cfg, load_checkpoint(run.folder, run.id)
    assert state is not None  # fit has just written it
    predictions = predict(model, faces, cfg, run.stage)
    save_predictions(run.folder / "predictions.parquet", predictions)
    last_epoch = initial_model(cfg, len(faces.classes))
    last_epoch.load_state_dict(state["average"] or state["model"])
    last = predict(last_epoch, faces, cfg, run.stage)
    validation = [row["validation_accuracy"] for row in state["history"]]
    run.finish(
        classes=faces.classes,
        metrics=report(predictions, resamples=cfg.resamples),
        selection={
            "by": cfg.select,
            "epoch": cfg.epochs if cfg.select == "last" else state["best"]["epoch"],
            "accuracy_of_last_epoch": float((last["label"] == last["predicted"]).mean()),
        },
        validation={
            "best_epoch": 1 + validation.index(max(validation)),
            "best_accuracy": max(validation),
            "last_accuracy": validation[-1],
        },
        distillation={
            "teacher": teacher_run.id if teacher_run else None,
            "kd_weight_x_blocks": _weight_in_all(cfg) if teacher_run else 0.0,
        },
        budget=budget(cfg, run.stage, len(train_indices(cfg, faces))),
        data={
            "fingerprint": faces.fingerprint,
            "counts": faces.counts().to_dict(),
            "duplicates": int(faces.duplicate.sum()),
            "channels": faces.images.shape[1],
            "side": faces.images.shape[-1],
        },
        # not of `model`: training has given its small maps another arithmetic
        complexity=complexity(last_epoch.cpu().float(), cfg.input_size),
        revision=state["sessions"][-1]["revision"],
        sessions=state["sessions"],
        wall_seconds=sum(s["seconds"] for s in state["sessions"]),
    )


def _weight_in_all(cfg: Config) -> float:
    """The sum over blocks makes the weight of attention distillation grow with their number."""
    is_summed = cfg.kd == "attention" and cfg.kd_reduction == "sum"
    return cfg.kd_weight * (sum(cfg.blocks) if is_summed else 1)


def budget(cfg: Config, stage: str, faces: int) -> dict[str, Any]:
    """What a run was allowed, to compare methods by.

    Args:
        faces: so many training faces.

    Returns:
        ``presentations`` of faces in all epochs, ``passes`` over the training faces that this
        makes, and ``forward_backward``: faces that the network was run forward and backward on
        (a method that takes several views of a face, or steps twice, does more).
    """
    presented = cfg.epochs * presentations(cfg, stage, faces)
    return {
        "presentations": presented,
        "passes": presented / faces,
        "forward_backward": round(presented * passes_of(cfg)),
    }


def _check_data(run: Run, facts: dict[str, Any], faces: FaceSet) -> None:
    made = facts["data"]["fingerprint"]
    if made != faces.fingerprint:
        raise InputError(
            f"{run.id}: was made from other data (fingerprint {made[:8]}, here "
            f"{faces.fingerprint[:8]}); restore that data set, or set force = True "
            "to make the run again"
        )


def history(run: Run) -> pd.DataFrame:
    """One row an epoch: loss terms, accuracies, learning rate, seconds."""
    path = run.folder / "history.jsonl"
    try:
        return pd.read_json(path, orient="records", lines=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a history ({error})") from None
