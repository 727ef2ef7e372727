"""Published results: records under outputs/published/, checked and printed into tables.

    python -m gmelib.published                  verify: every figure from its record, tables too
    python -m gmelib.published --write          write the tables from the records
    python -m gmelib.published --add RUN ...    copy finished runs, without what resumes them
        --without-weights                       nor their networks, which no figure needs

The tables stand in README.md and outputs/published/README.md (:mod:`gmelib.readme`). Verifying
needs no data set: metrics are recomputed from predictions.parquet.
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from gmelib import card, leaks, robustness
from gmelib.ablation import complete, contrasts, row_students, scores
from gmelib.comparison import compared_students, comparison, differences
from gmelib.config import PROJECT_ROOT, Config, InputError, resolve
from gmelib.evaluate import complexity, load_predictions
from gmelib.experiment import history
from gmelib.fields import ARCHITECTURE
from gmelib.listing import listing, published_runs
from gmelib.metrics import report
from gmelib.readme import filled
from gmelib.record import PUBLISHED, Run, read_facts, unwritable, write_atomic
from gmelib.train import initial_model

README = PROJECT_ROOT / "README.md"
WEIGHTS = card.WEIGHTS
LEFT_OUT = {"last.pt", "next.pt", "previous.pt", "lock.json", "training.json", "export"}
TOLERANCE = 1e-9  # of a recomputed figure
PLACES = ("data_root", "out_root", "teacher_run")  # parameters that name places on one machine


# -- verifying ------------------------------------------------------------------------------------


def problems_of(folder: Path) -> list[str]:
    """What is wrong with one published run; empty if every figure comes out again."""
    facts = read_facts(folder)
    wrong = []
    if facts["stage"] in ("teacher", "student"):
        wrong = [*_wrong_figures(folder, facts), *card.problems_of(folder)]
    elif facts["stage"] in ("ablation", "comparison"):
        wrong = _wrong_table(facts)
    elif facts["stage"] == "robustness":
        wrong = robustness.problems_of(folder)
    elif facts["stage"] == "data":
        wrong = leaks.problems_of(folder)
    named = [f"{path.name} names {'/'.join(n)}" for path, n in _places_named(folder) if n]
    wrong += [f"{name}, a place on one machine; publish it again" for name in named]
    if facts["run"] != folder.name:
        wrong.append(f"lies in {folder.name}")
    # a resumed run has several sessions, each by the code of its day
    revisions = [facts["revision"], *(one["revision"] for one in facts.get("sessions", ()))]
    if any(made["commit"] is None or made["dirty"] for made in revisions):
        wrong.append("was not made by a committed revision of the code")
    return [f"{facts['dataset']}/{facts['stage']}/{facts['run']}: {problem}" for problem in wrong]


def _wrong_figures(folder: Path, facts: dict[str, Any]) -> list[str]:
    """Test figures that the predictions do not give, a validation accuracy not of the history."""
    missing = [f for f in ("history.jsonl", "predictions.parquet") if not (folder / f).is_file()]
    if missing:
        return [f"{', '.join(missing)} is missing; publish the run again"]
    found = report(load_predictions(folder), resamples=facts["config"]["resamples"])
    wrong = [
        f"{scope} {metric} is {there} in run.json, recomputed {here}"
        for scope, metric, here, there in _pairs(found, facts["metrics"])
        if not _equal(here, there)
    ]
    wrong += [
        f"{scope} {metric} in run.json is no figure of the predictions"
        for scope, metrics in facts["metrics"].items()
        for metric in (metrics or {}).keys() - (found.get(scope) or {}).keys()
    ]
    run = Run(Config.make(**facts["config"]), facts["stage"], folder)
    costs = _costs_of(run.cfg, len(facts["classes"]))
    wrong += [
        f"{name} is {told} in run.json, counted {costs[name]}"
        for name, told in facts["complexity"].items()
        if costs.get(name, told) != told  # thop may not be here
    ]
    best, told = history(run)["validation_accuracy"].max(), facts["validation"]["best_accuracy"]
    if not _equal(best, told):
        wrong.append(f"validation best_accuracy is {told} in run.json, {best} in history.jsonl")
    return wrong


def _costs_of(cfg: Config, classes: int) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a run's network, counted once for all of its kind."""
    return _counted(json.dumps(cfg.model_dump(mode="json", include=set(ARCHITECTURE))), classes)


@lru_cache(maxsize=64)
def _counted(architecture: str, classes: int) -> dict[str, Any]:
    cfg = Config.make(**json.loads(architecture))
    return complexity(initial_model(cfg, classes), cfg.input_size)


def _wrong_table(facts: dict[str, Any]) -> list[str]:
    """Rows of 04's or 05's report that the published runs do not give (any more)."""
    here = {"out_root": str(PUBLISHED), "device": "cpu"}
    cfg = Config.make(**(facts["config"] | facts["tables"] | here))
    if facts["stage"] == "ablation":
        cells, notebook = complete(row_students(cfg), train=False), "05"
        found = {"rows": scores(cells), "contrasts": contrasts(cells)}
    else:
        cells, notebook = complete(compared_students(cfg), train=False), "04"
        found = {"rows": comparison(cells), "differences": differences(cells)}
    wrong = []
    for name, table in found.items():
        for row in facts[name]:
            key = row[table.index.name]
            for part in {"accuracy", "value", "low", "high"} & row.keys():
                here = table.loc[key, part]
                if not _equal(None if pd.isna(here) else here, row[part]):
                    wrong.append(f"{key} is not what the published runs give; run {notebook} again")
                    break
    return wrong


def _pairs(found: dict[str, Any], told: dict[str, Any]) -> Iterable[tuple[str, str, Any, Any]]:
    for scope, metrics in found.items():
        for metric, figures in (metrics or {}).items():
            there = (told.get(scope) or {}).get(metric, {})
            for part, value in figures.items():
                yield scope, f"{metric}.{part}", value, there.get(part)


def _equal(here: float | None, there: float | None) -> bool:
    if here is None or there is None:
        return here is there
    return math.isclose(here, there, abs_tol=TOLERANCE)


def verify() -> list[str]:
    """Problems of all published runs and of the tables."""
    wrong = [problem for folder in published_runs() for problem in problems_of(folder)]
    try:
        for path, text in tables().items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                name = path.relative_to(PROJECT_ROOT)
                wrong.append(f"{name}: a table differs from the records; run this with --write")
    except InputError as error:  # records that contradict each other
        wrong.append(f"README.md: its tables cannot be made: {error}")
    return wrong


def tables() -> dict[Path, str]:
    """The two files that show the records -> their text as the records have it."""
    readme = README.read_text(encoding="utf-8")
    return {README: filled(readme), PUBLISHED / "README.md": listing()}


# -- publishing -----------------------------------------------------------------------------------


def add(folder: Path, *, weights: bool = True) -> Path:
    """Copies a finished run into outputs/published/, whole or not at all; returns its place.

    Args:
        weights: the network too, which further students of a teacher, 06 and 07 need.

    Raises:
        InputError: if the run is not finished, is one that must not be published, or has a figure
            that does not come out again; nothing is changed then.
    """
    facts = read_facts(folder)
    if facts["stage"] == "predict":
        raise InputError(f"{folder}: shows pictures of its user's; such a report is not published")
    place = PUBLISHED / facts["dataset"] / facts["stage"] / facts["run"]
    staging = place.with_name(f".{place.name}.tmp")  # one level deeper than runs are looked for
    fresh = staging / place.name
    shutil.rmtree(staging, ignore_errors=True)

    def left_out(_: str, names: list[str]) -> set[str]:
        without = LEFT_OUT if weights else {*LEFT_OUT, WEIGHTS, *card.FILES}
        return {n for n in names if n in without or n.startswith(".")}

    try:
        shutil.copytree(folder, fresh, ignore=left_out)
        for path in fresh.glob("*.ipynb"):
            path.write_text(_without_places(path), encoding="utf-8")
        if wrong := problems_of(fresh):
            raise InputError(f"{'; '.join(wrong)}; it is not published")
        if place.exists():
            place.rename(staging / "before")
        fresh.rename(place)
    except OSError as error:
        raise unwritable(place, error, advice="change its permissions") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def is_report(folder: Path) -> bool:
    """Whether it is checked against other published runs, and so is published after these."""
    return read_facts(folder)["stage"] not in ("teacher", "student")


def _places_named(folder: Path) -> Iterable[tuple[Path, list[str]]]:
    for path in sorted(folder.glob("*.ipynb")):
        content = json.loads(path.read_text(encoding="utf-8"))
        given = content["metadata"].get("papermill", {}).get("parameters", {})
        yield path, [name for name in PLACES if name in given]


def _without_places(path: Path) -> str:
    """An executed notebook without the parameters that it was given of :data:`PLACES`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in PLACES:
        content["metadata"].get("papermill", {}).get("parameters", {}).pop(name, None)
    for cell in content["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", ()):
            lines = "".join(cell["source"]).splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(tuple(f"{n} =" for n in PLACES))]
            cell["source"] = kept
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.published",
        description="Verify the published results, or publish finished runs.",
    )
    parser.add_argument("--write", action="store_true", help="write the tables")
    parser.add_argument("--add", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--without-weights", action="store_true", help="--add: no networks")
    options = parser.parse_args()
    try:
        for folder in sorted(map(resolve, options.add or ()), key=is_report):
            place = add(folder, weights=not options.without_weights)
            print(f"published {place.relative_to(PROJECT_ROOT)}")
        if options.write or options.add:
            for path, text in tables().items():
                write_atomic(path, text.encode())
        wrong = verify()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    for problem in wrong:
        print(problem, file=sys.stderr)
    if not wrong:
        print(f"{len(published_runs())} published runs: every figure comes out again, tables agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
