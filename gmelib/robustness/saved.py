"""The record of a robustness report, and whether its figures come out of it again."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmelib.config import InputError
from gmelib.evaluate import load_predictions, save_predictions
from gmelib.record import Run, read_facts
from gmelib.robustness.measure import Measured, differences, majority, trained_at

PACKAGES = ("fer", "ai-edge-litert")  # the model, and what runs it
FACE = ("id", "split", "label", "duplicate")  # of predictions.parquet, beside the models' answers
TOLERANCE = 1e-9


def robustness_run(student_run: Run) -> Run:
    """Where the robustness report of a student lies."""
    cfg = student_run.cfg
    folder = cfg.path("out_root") / cfg.dataset / "robustness" / student_run.id
    return Run(cfg, "robustness", folder)


def finish(run: Run, student_run: Run, student: Measured, fer: Measured) -> None:
    """Writes predictions.parquet (what each model answered to each face at each size) and the
    record."""
    facts, cfg = student_run.facts(), student_run.cfg
    save_predictions(run.workplace / "predictions.parquet", _answers(student, fer))
    answer, share = majority(student, facts["classes"])
    run.finish(
        student=student_run.id,
        classes=facts["classes"],
        data=facts["data"],
        native_size=student.native,
        trained_at=trained_at(cfg, student.native),
        models=[
            {"name": m.name, "missing": m.missing, "seconds": m.seconds} for m in (student, fer)
        ],
        curves={m.name: m.curve.to_dict("records") for m in (student, fer)},
        differences=differences(student, fer).to_dict("records"),
        majority={"class": answer, "per_cent": share},
        unlike_record=unlike_record(student_run, student),
        fer_versions={name: _version(name) for name in PACKAGES},
        wall_seconds=student.seconds + fer.seconds,
    )


def unlike_record(student_run: Run, student: Measured) -> int:
    """How many test faces of the run's own size the student answers otherwise than in its record,
    as another device may: 0 on the one that it was evaluated on."""
    own = student.predictions[student_run.cfg.lr_size]["predicted"].to_numpy()
    return int((own != load_predictions(student_run.folder)["predicted"].to_numpy()).sum())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _answers(*measured: Measured) -> pd.DataFrame:
    """A row a face: what stands in :data:`FACE`, and a class number for every model and size."""
    table = next(iter(measured[0].predictions.values()))[list(FACE)]
    columns = {
        _column(m.name, size): part["predicted"].to_numpy(np.int8)
        for m in measured
        for size, part in m.predictions.items()
    }
    return table.assign(**columns)


def _column(name: str, size: int) -> str:
    return f"{name}, {size} px"


def _restored(answers: pd.DataFrame, facts: dict[str, Any], model: dict[str, Any]) -> Measured:
    """What was measured, as far as accuracy and F1 need it: every answer is given for certain."""
    tables = {}
    for size in (line["size"] for line in facts["curves"][model["name"]]):
        predicted = answers[_column(model["name"], size)].astype(int)
        certain = {f"p_{c}": (predicted == k) * 1.0 for k, c in enumerate(facts["classes"])}
        tables[size] = answers[list(FACE)].assign(predicted=predicted, **certain)
    resamples = facts["config"]["resamples"]
    return Measured(
        model["name"], tables, facts["native_size"], resamples, missing=model["missing"]
    )


def problems_of(folder: Path) -> list[str]:
    """Figures of a robustness record that its predictions do not give; empty if all come out."""
    facts = read_facts(folder)
    try:
        answers = load_predictions(folder)
        student, fer = (_restored(answers, facts, model) for model in facts["models"])
        pairs = {
            f"the curve of {m.name}": (m.curve, facts["curves"][m.name]) for m in (student, fer)
        }
        pairs["the difference"] = (differences(student, fer), facts["differences"])
    except (InputError, KeyError, ValueError) as error:
        return [f"its figures cannot be made again: {error}"]
    return [
        f"{name} in run.json is not what predictions.parquet gives"
        for name, (here, there) in pairs.items()
        if not _equal(here, there)
    ]


def _equal(here: pd.DataFrame, told: list[dict[str, Any]]) -> bool:
    there = pd.DataFrame(told, columns=here.columns)
    if len(here) != len(there):
        return False
    numbers, names = here.select_dtypes("number"), here.select_dtypes(exclude="number")
    return np.allclose(
        numbers, there[numbers.columns].astype(float), rtol=0, atol=TOLERANCE, equal_nan=True
    ) and names.equals(there[names.columns].astype(names.dtypes))
